"""Random search: priors, and one stream per decision (card MT-1)."""

from __future__ import annotations

import collections
import math

import pytest

import mutandis as mu
from mutandis.algorithms.random_search import draw_with
from mutandis.testing import run


def drawn(program, trials, seed=0):
    search = mu.algorithms.Random().start(mu.space(program).bare(), seed=seed)
    return run(search, trials)


def test_uniforms_decide_by_equal_shares():
    space = mu.space([mu.oneof([1, 2, 3]) for _ in range(3)])
    stream = iter([0.0, 0.34, 0.99])
    assert draw_with(space, lambda point: point.from_unit(next(stream))).to_numbers() == [0, 1, 2]


def test_a_log_scale_is_uniform_in_the_logarithm():
    point = mu.space(mu.floatv(1e-4, 1e-1, scale="log")).points[0]
    assert point.from_unit(0.5) == pytest.approx(3.1622776602e-3, rel=1e-10)


def test_draws_on_a_log_scale_fall_equally_into_decades():
    values = [dna.to_numbers()[0] for dna in drawn(mu.floatv(1e-4, 1.0, scale="log"), 4000)]
    decades = collections.Counter(math.floor(math.log10(value)) for value in values)
    assert set(decades) == {-4, -3, -2, -1}
    assert all(abs(count - 1000) < 4 * math.sqrt(4000 * 0.25 * 0.75) for count in decades.values())


def test_candidates_are_drawn_equally_often():
    counts = collections.Counter(dna.to_numbers()[0] for dna in drawn(mu.oneof(list("abcde")), 5000))
    assert all(abs(counts[i] - 1000) < 4 * math.sqrt(5000 * 0.2 * 0.8) for i in range(5))


def test_another_decision_leaves_the_draws_of_the_others_as_they_were():
    few = {"a": mu.oneof([1, 2, 3]), "o": mu.permutate([1, 2, 3, 4]), "z": mu.floatv(0.0, 1.0)}
    first = [dna.to_dict() for dna in drawn(few, 30)]
    second = [dna.to_dict() for dna in drawn({"a": few["a"], "b": mu.intv(1, 9), "o": few["o"], "z": few["z"]}, 30)]
    assert [{key: row[key] for key in first[0]} for row in second] == first


def test_only_active_decisions_are_drawn():
    program = mu.oneof(["none", {"rate": mu.floatv(0.0, 1.0)}])
    for dna in drawn(program, 30):
        assert len(dna.to_dict()) == 1 + (dna[""] == 1)


def test_distinct_picks_are_drawn_without_replacement_and_equally_often():
    counts = collections.Counter(dna[""] for dna in drawn(mu.manyof(2, list("abc")), 3000))
    assert len(counts) == 6
    assert all(abs(count - 500) < 4 * math.sqrt(3000 / 6 * 5 / 6) for count in counts.values())
