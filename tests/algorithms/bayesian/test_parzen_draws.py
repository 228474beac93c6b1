from __future__ import annotations

import numpy as np
import pytest

import mutandis as mu
from mutandis.algorithms.bayesian.parzen import Mixture
from mutandis.algorithms.bayesian.parzen_axes import Axes
from mutandis.algorithms.bayesian.parzen_draws import joint_rows, separate_row

SHARED = mu.floatv(0.0, 1.0, name="shared")
AXES = Axes(mu.space(mu.oneof([{"no": 0}, {"one": SHARED}, {"two": SHARED, "k": mu.oneof([0, 1])}])).bare())


def mixture(*decisions, weight=1.0, axes=AXES):
    rows = [axes.encode(axes.space.dna(each)) for each in decisions]
    floats = np.array([row for row, _ in rows]).reshape(len(rows), -1)
    ints = np.array([row for _, row in rows], dtype=np.int64).reshape(len(rows), -1)
    return Mixture(axes, (floats, ints), np.full(len(rows), weight))


NO = {"": 0}
ONES = [{"": 1, "shared": place} for place in (0.1, 0.11, 0.12)]


def drawn(made, count=4000, imposed=()):
    return joint_rows(made, count, imposed, np.random.default_rng(0))


def two(place=0.9, k=1):
    return {"": 2, "shared": place, "candidates[2]['k']": k}


TWOS = [two(place) for place in (0.9, 0.91, 0.92)]


def test_rows_have_what_their_choices_make_active():
    floats, ints = drawn(mixture(NO, ONES[0], two()))
    assert (np.isnan(floats[:, 0]) == (ints[:, 0] == 0)).all()
    assert ((ints[:, 1] >= 0) == (ints[:, 0] == 2)).all()


def test_imposed_arms_are_taken_by_all_rows():
    floats, ints = drawn(mixture(NO, ONES[0], two()), imposed=[(0, 2)])
    assert (ints[:, 0] == 2).all()
    assert not np.isnan(floats).any()


def test_a_branch_that_is_entered_is_filled_from_the_trials_that_were_in_it():
    floats, _ = drawn(mixture(*[NO] * 9, *TWOS, weight=100.0), imposed=[(0, 2)])
    strangers = np.median(floats)
    assert strangers > 0.7  # From the prior it would be a half.


def test_trials_of_the_same_branch_count_more_than_others_of_the_decision():
    made = mixture(*[NO] * 8, *ONES, *TWOS, weight=100.0)
    assert np.median(drawn(made, imposed=[(0, 2)])[0]) > 0.7
    assert np.median(drawn(made, imposed=[(0, 1)])[0]) < 0.3


def test_a_branch_that_nobody_was_in_is_filled_from_the_prior():
    floats, ints = drawn(mixture(*[NO] * 5, weight=100.0), imposed=[(0, 2)])
    assert floats.mean() == pytest.approx(0.5, abs=0.03)
    assert (ints[:, 1] == 1).mean() == pytest.approx(0.5, abs=0.03)


def test_separate_decisions_take_the_best_ratio_each():
    good, bad = mixture(*TWOS), mixture(NO, NO, two(0.1, 0), two(0.2, 0))
    floats, ints = separate_row(good, bad, 24, np.random.default_rng(0))
    assert floats[0, 0] > 0.7
    assert list(ints[0]) == [2, 1]


def test_a_separate_decision_is_drawn_from_the_trials_that_had_it():
    made = mixture(*[NO] * 20, *TWOS, weight=100.0)
    found = [separate_row(made, made, 1, np.random.default_rng(seed))[0][0, 0] for seed in range(200)]
    assert np.median(found) > 0.6
