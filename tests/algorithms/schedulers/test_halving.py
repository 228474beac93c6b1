"""Synchronous successive halving: brackets that fill, halve and end."""

from __future__ import annotations

import pytest

from mutandis.algorithms.schedulers import Directive, SuccessiveHalving
from mutandis.errors import SettingError
from mutandis.testing import SchedulerContract


class TestHalving(SchedulerContract):
    scheduler = SuccessiveHalving(9, 1, 27)


class TestFewerTrialsThanRungs(SchedulerContract):
    scheduler = SuccessiveHalving(2, 1, 27)


class TestOneRung(SchedulerContract):
    scheduler = SuccessiveHalving(3, 4, 4)


def start(num_trials=4, longest=4, eta=2, num_objectives=1):
    return SuccessiveHalving(num_trials, 1, longest, eta).start(seed=0, num_objectives=num_objectives)


def turn(pacing, trial, *rewards):
    """Trains a trial for as long as it is planned, and rests or ends it."""
    target = pacing.begin(trial)
    directive = pacing.report(trial, target, rewards)
    if directive is Directive.PAUSE:
        pacing.pause(trial)
    else:
        pacing.finish(trial, rewards)
    return target


def test_nobody_is_promoted_before_the_rung_is_full():
    pacing = start()
    for trial in range(3):
        turn(pacing, trial, float(trial))
        assert pacing.promote() is None
    turn(pacing, 3, 3.0)
    assert pacing.promote() == 3


def test_a_whole_bracket_halves_down_to_one():
    pacing, trace, started = start(8, 8), [], 0
    while len(trace) < 8 + 4 + 2 + 1:
        trial = pacing.promote()
        if trial is None:
            trial, started = started, started + 1
        trace.append((trial, turn(pacing, trial, float(-((trial - 3) ** 2)))))
    assert trace[8:] == [(3, 2), (2, 2), (4, 2), (1, 2), (3, 4), (2, 4), (3, 8)]
    assert pacing.promote() is None


def test_while_a_rung_waits_new_trials_begin_the_next_bracket():
    pacing = start(2, 2)
    turn(pacing, 0, 0.0)
    pacing.begin(1)  # It is late.
    for trial in (2, 3):
        turn(pacing, trial, float(trial))
    assert pacing.promote() == 3
    assert pacing.promote() is None
    assert pacing.report(1, 1, (1.0,)) is Directive.PAUSE
    pacing.pause(1)
    assert pacing.promote() == 1


def test_a_failed_trial_completes_its_rung_without_a_rank():
    pacing = start(2, 2)
    turn(pacing, 0, 1.0)
    pacing.begin(1)
    pacing.finish(1, None)
    assert pacing.promote() == 0


def test_a_failure_after_a_promotion_completes_the_rung_above():
    pacing = start(4, 4)
    for trial in range(4):
        turn(pacing, trial, float(trial))
    assert pacing.promote() == 3
    pacing.begin(3)
    assert pacing.promote() == 2
    turn(pacing, 2, 2.0)
    assert pacing.promote() is None
    pacing.finish(3, None)
    assert pacing.promote() == 2


def test_a_chosen_trial_that_ends_makes_room():
    pacing = start(4, 4)
    for trial in range(4):
        turn(pacing, trial, float(trial))
    assert pacing.promote() == 3
    turn(pacing, 3, 3.0)
    pacing.finish(2, None)  # It was chosen, and waits no longer.
    assert pacing.promote() == 3


def test_a_trial_that_ended_is_not_chosen():
    pacing = start(2, 2)
    turn(pacing, 0, 5.0)
    pacing.finish(0, (5.0,))
    turn(pacing, 1, 1.0)
    assert pacing.promote() is None
    assert pacing.state_dict()["brackets"] == []  # Nobody goes on, so that it is over.
    turn(pacing, 2, 1.0)
    turn(pacing, 3, 2.0)
    assert pacing.promote() == 3


def test_a_bracket_of_failures_gives_way():
    pacing = start(2, 2)
    for trial in (0, 1):
        pacing.begin(trial)
        pacing.finish(trial, None)
    assert pacing.promote() is None
    assert pacing.state_dict()["brackets"] == []


def test_at_least_one_goes_on_from_every_rung():
    pacing = start(2, 27, 3)
    assert [turn(pacing, trial, float(trial)) for trial in (0, 1)] == [1, 1]
    lengths = []
    while (trial := pacing.promote()) is not None:
        lengths.append(turn(pacing, trial, 1.0))
    assert lengths == [3, 9, 27]


def test_when_nothing_new_will_come_a_bracket_is_judged_as_it_stands():
    pacing = start(8, 2)
    for trial in range(4):
        turn(pacing, trial, float(trial))
    assert pacing.promote() is None
    assert [pacing.promote(last=True), pacing.promote(last=True), pacing.promote(last=True)] == [3, 2, None]


def test_when_nothing_new_will_come_running_trials_are_waited_for():
    pacing = start(8, 2)
    turn(pacing, 0, 0.0)
    pacing.begin(1)
    assert pacing.promote(last=True) is None
    turn(pacing, 1, 1.0)
    assert pacing.promote(last=True) == 1


def test_a_bracket_that_has_ended_is_forgotten():
    pacing = start(4, 2)
    sizes = []
    for _ in range(6):
        for _ in range(4):
            trial = len(sizes)
            turn(pacing, trial, float(trial % 3))
            sizes.append(0)
        while (trial := pacing.promote()) is not None:
            turn(pacing, trial, 1.0)
        sizes[-1] = len(str(pacing.state_dict()))
    assert sizes[-1] <= sizes[3] + 4
    assert pacing.report(0, 9, (1.0,)) is Directive.STOP


def test_a_rung_that_was_passed_has_a_place_without_a_rank():
    pacing = start(2, 4)
    pacing.begin(0)
    assert pacing.report(0, 2, (9.0,)) is Directive.PAUSE
    pacing.pause(0)
    turn(pacing, 1, 1.0)
    assert pacing.promote() == 1


def test_two_objectives_promote_the_front():
    pacing = start(4, 2, num_objectives=2)
    for trial, point in enumerate([(0.0, 1.0), (0.4, 0.4), (1.0, 0.0), (0.1, 0.1)]):
        turn(pacing, trial, *point)
    assert [pacing.promote(), pacing.promote(), pacing.promote()] == [0, 2, None]


@pytest.mark.parametrize("arguments", [(0, 1, 9), (2.5, 1, 9), (4, 0, 9), (4, 9, 1), (4, 1, 9, 1)])
def test_impossible_settings_are_refused(arguments):
    with pytest.raises(SettingError, match="cannot use a setting"):
        SuccessiveHalving(*arguments)
