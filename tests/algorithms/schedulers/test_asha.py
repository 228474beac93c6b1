"""ASHA as a scheduler: rungs, promotions, stops."""

from __future__ import annotations

import pytest

from mutandis.algorithms.schedulers import ASHA, Directive
from mutandis.errors import SettingError
from mutandis.testing import SchedulerContract

LOSSES = (0.9, 0.5, 0.7, 0.3, 0.8, 0.6, 0.2, 0.4)
CONTINUE, PAUSE, STOP, COMPLETE = Directive.CONTINUE, Directive.PAUSE, Directive.STOP, Directive.COMPLETE


class TestPromoting(SchedulerContract):
    scheduler = ASHA(1, 27)


class TestStopping(SchedulerContract):
    scheduler = ASHA(2, 16, eta=2, variant="stop")


class TestOddLengths(SchedulerContract):
    scheduler = ASHA(1.5, 20, eta=2.5)


def promoting(eta=2, lengths=(1, 8), num_objectives=1):
    return ASHA(*lengths, eta).start(seed=0, num_objectives=num_objectives)


def rest(pacing, trial, step, *rewards):
    """Trains a trial up to a step at which it is paused."""
    pacing.begin(trial)
    assert pacing.report(trial, step, rewards) is PAUSE
    pacing.pause(trial)


def test_a_serial_run_promotes_as_the_algorithm_says():
    pacing, trace, started = promoting(), [], 0
    while len(trace) < 16:
        trial = pacing.promote()
        if trial is None:
            trial, started = started, started + 1
        target = pacing.begin(trial)
        directive = pacing.report(trial, target, (-LOSSES[trial],))
        trace.append(f"{trial}:{(1, 2, 4, 8).index(target)}")
        if directive is PAUSE:
            pacing.pause(trial)
        else:
            assert directive is COMPLETE and target == 8
            pacing.finish(trial, (-LOSSES[trial],))
    assert " ".join(trace) == "0:0 1:0 1:1 2:0 3:0 3:1 3:2 4:0 5:0 5:1 6:0 6:1 6:2 6:3 7:0 7:1"


def test_a_rung_is_reached_by_the_first_report_at_its_step_or_beyond():
    pacing = promoting(lengths=(4, 16), eta=4)
    assert [pacing.report(0, step, (1.0,)) for step in (1, 3)] == [CONTINUE, CONTINUE]
    assert pacing.report(0, 6, (1.0,)) is PAUSE


def test_a_report_beyond_several_rungs_counts_for_the_highest():
    pacing = promoting()
    for trial in (0, 1):
        rest(pacing, trial, 4, -trial)
    assert pacing.promote() == 0
    assert pacing.begin(0) == 8
    rest(pacing, 2, 1, 0.0)
    rest(pacing, 3, 1, 1.0)
    assert pacing.promote() == 3  # The lowest rung holds only these two.


def test_the_highest_rung_is_served_first():
    pacing = promoting()
    for trial, step in ((0, 2), (1, 2), (2, 1), (3, 1)):
        rest(pacing, trial, step, float(trial))
    assert [pacing.promote(), pacing.promote(), pacing.promote()] == [1, 3, None]


def test_ties_go_to_the_one_that_arrived_first():
    pacing = promoting()
    rest(pacing, 5, 1, 1.0)
    rest(pacing, 2, 1, 1.0)
    assert pacing.promote() == 5


def test_a_failed_trial_takes_its_place_without_a_rank():
    pacing = promoting()
    rest(pacing, 0, 1, 1.0)
    assert pacing.promote() is None
    pacing.begin(1)
    pacing.finish(1, None)
    assert pacing.promote() == 0


def test_a_paused_trial_that_fails_does_not_count_for_the_rung_above():
    pacing = promoting()
    for trial in range(4):
        rest(pacing, trial, 1, float(trial))
    assert pacing.promote() == 3
    rest(pacing, 3, 2, 3.0)
    pacing.finish(0, None)  # It was not on its way to the second rung.
    assert pacing.promote() == 2
    pacing.begin(2)
    assert pacing.promote() is None
    pacing.finish(2, None)  # This one was.
    assert pacing.promote() == 3


def test_a_paused_trial_that_ends_is_not_promoted():
    pacing = promoting()
    for trial in range(4):
        rest(pacing, trial, 1, float(trial))
    pacing.finish(3, None)
    assert pacing.promote() == 2


def test_a_diverged_trial_is_stopped_at_its_rung_and_not_before():
    pacing = promoting(lengths=(2, 8))
    assert pacing.report(0, 1, (float("nan"),)) is CONTINUE
    assert pacing.report(0, 2, (float("nan"),)) is STOP


def test_a_trial_that_starts_afresh_repeats_its_steps_without_effect():
    pacing = promoting()
    rest(pacing, 0, 1, 1.0)
    rest(pacing, 1, 1, 0.0)
    assert pacing.promote() == 0
    assert pacing.begin(0) == 2
    assert pacing.report(0, 1, (9.0,)) is CONTINUE
    assert pacing.report(0, 2, (1.0,)) is PAUSE


def test_with_two_objectives_the_front_goes_on_and_its_ends_first():
    pacing = promoting(eta=2, num_objectives=2)
    points = [(0.0, 1.0), (0.5, 0.6), (1.0, 0.0), (0.4, 0.5), (0.1, 0.1), (0.2, 0.0)]
    for trial, point in enumerate(points):
        rest(pacing, trial, 1, *point)
    assert [pacing.promote() for _ in range(4)] == [0, 2, 1, None]


def stopping(eta=2):
    return ASHA(1, 4, eta, "stop").start(seed=0)


def test_the_stopping_variant_plans_the_whole_length():
    assert stopping().begin(0) == 4


def test_the_stopping_variant_lets_the_best_share_go_on_at_once():
    pacing = stopping()
    found = [pacing.report(trial, 1, (reward,)) for trial, reward in enumerate([1.0, 2.0, 1.5, 1.8, 0.0, 1.9])]
    assert found == [CONTINUE, CONTINUE, STOP, CONTINUE, STOP, CONTINUE]


def test_the_stopping_variant_completes_at_the_top():
    pacing = stopping()
    assert [pacing.report(0, step, (1.0,)) for step in range(1, 5)] == [CONTINUE, CONTINUE, CONTINUE, COMPLETE]


def test_a_stopped_trial_does_not_count_for_the_rung_above():
    pacing = stopping()
    for trial, reward in enumerate([2.0, 1.0]):
        pacing.report(trial, 1, (reward,))
    pacing.finish(1, (1.0,))
    assert len(pacing.state_dict()["rungs"][1]["trials"]) == 0


@pytest.mark.parametrize(
    ("make", "at", "got", "expected", "fix"),
    [
        (lambda: ASHA(0, 9), "ASHA.min_fidelity", "0 (int)", "a finite number > 0",
         "give the shortest training that tells anything"),
        (lambda: ASHA(1, "9"), "ASHA.max_fidelity", "'9' (str)", "a finite number >= 1",
         "give the length of a full training"),
        (lambda: ASHA(1, 9, 1), "ASHA.eta", "1 (int)", "a finite number > 1", "use 3: a third of each rung goes on"),
        (lambda: ASHA(1, 9, float("inf")), "ASHA.eta", "inf (float)", "a finite number > 1",
         "use 3: a third of each rung goes on"),
        (lambda: ASHA(9, 1), "ASHA.max_fidelity", "1 (int)", "a finite number >= 9",
         "give the length of a full training"),
        (lambda: ASHA(1, 9, variant="promotion"), "ASHA.variant", "'promotion' (str)",
         "'promote' or 'stop'; did you mean 'promote'?",
         "use 'promote' where trials have checkpoints"),
    ],
)  # fmt: skip
def test_impossible_settings_are_refused(make, at, got, expected, fix):
    with pytest.raises(SettingError) as error:
        make()
    assert str(error.value) == (
        f"cannot use a setting\n  at:       {at}\n  got:      {got}\n  expected: {expected}\n  fix:      {fix}"
    )
