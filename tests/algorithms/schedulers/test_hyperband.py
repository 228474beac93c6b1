"""Hyperband as a scheduler: its brackets, and how trials are dealt to them."""

from __future__ import annotations

from collections import Counter

import pytest

from mutandis.algorithms.schedulers import Directive, Hyperband
from mutandis.algorithms.schedulers.hyperband import brackets
from mutandis.errors import SettingError
from mutandis.testing import SchedulerContract


class TestOfPromotions(SchedulerContract):
    scheduler = Hyperband(1, 27)


class TestOfStops(SchedulerContract):
    scheduler = Hyperband(1, 27, variant="stop")


class TestOfHalving(SchedulerContract):
    scheduler = Hyperband(3, 27, variant="halving")


def test_the_brackets_are_those_of_the_paper():
    found = brackets(1, 81, 3)
    assert [size for size, _ in found] == [81, 34, 15, 8, 5]
    assert [steps for _, steps in found] == [(1, 3, 9, 27, 81), (3, 9, 27, 81), (9, 27, 81), (27, 81), (81,)]


def test_the_shortest_length_need_not_be_a_power():
    found = brackets(1, 12, 3)
    assert [size for size, _ in found] == [9, 5, 3]
    assert found[0][1] == (pytest.approx(4 / 3), 4, 12)


@pytest.mark.parametrize("eta", [2, 3, 1.5])
def test_rounding_costs_no_bracket(eta):
    assert len(brackets(1, eta**5, eta)) == 6


def test_one_length_is_one_bracket():
    assert brackets(5, 5, 3) == [(1, (5,))]


def test_brackets_are_drawn_in_proportion_to_their_sizes():
    pacing = Hyperband(1, 81).start(seed=0)
    found = Counter(pacing.begin(trial) for trial in range(3000))
    shares = {1: 81 / 143, 3: 34 / 143, 9: 15 / 143, 27: 8 / 143, 81: 5 / 143}
    assert {step: found[step] / 3000 for step in found} == pytest.approx(shares, abs=0.03)


def test_the_seed_draws_the_brackets():
    drawn = [[Hyperband(1, 81).start(seed=seed).begin(trial) for trial in range(20)] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_synchronous_brackets_are_filled_one_after_the_other():
    pacing = Hyperband(1, 9, variant="halving").start(seed=0)
    found = [pacing.begin(trial) for trial in range(9 + 5 + 3 + 9)]
    assert found == [1] * 9 + [3] * 5 + [9] * 3 + [1] * 9


def test_a_trial_competes_within_its_bracket_alone():
    pacing = Hyperband(1, 3, variant="promote").start(seed=0)
    steps = {trial: pacing.begin(trial) for trial in range(40)}
    short = [trial for trial in steps if steps[trial] == 1]
    for trial, step in steps.items():
        directive = pacing.report(trial, step, (float(trial),))
        assert directive is (Directive.COMPLETE if step == 3 else Directive.PAUSE)
        pacing.pause(trial)
    promoted = []
    while (trial := pacing.promote()) is not None:
        promoted.append(trial)
    assert promoted == sorted(short, reverse=True)[: len(short) // 3]


def test_an_unknown_variant_is_refused():
    with pytest.raises(SettingError) as error:
        Hyperband(1, 9, variant="asha")
    assert str(error.value) == (
        "cannot use a setting\n"
        "  at:       Hyperband.variant\n"
        "  got:      'asha' (str)\n"
        "  expected: 'halving' or 'promote' or 'stop'\n"
        "  fix:      use 'promote' where trials have checkpoints"
    )


@pytest.mark.parametrize("arguments", [(0, 9), (9, 1), (1, 9, 1)])
def test_impossible_settings_are_refused(arguments):
    with pytest.raises(SettingError, match="cannot use a setting"):
        Hyperband(*arguments)
