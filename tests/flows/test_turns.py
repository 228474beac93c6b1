"""A turn: what the scheduler hears of a trial, and what becomes of the record."""

from __future__ import annotations

import pytest

import mutandis as mu
from mutandis.algorithms.schedulers import ASHA, Directive, Median, Pacing, Patience
from mutandis.flows.studies import Trial
from mutandis.flows.studies.objectives import parse_objectives
from mutandis.flows.turns import Turn

CONTINUE, PAUSE, STOP, COMPLETE = Directive.CONTINUE, Directive.PAUSE, Directive.STOP, Directive.COMPLETE
DNA = mu.space(mu.boolv()).default()


class Heard(Pacing):
    """Keeps what it hears; answers from a list, and then lets the trial go on."""

    def __init__(self, *answers, target=None):
        self.answers, self.target, self.calls = list(answers), target, []

    def begin(self, trial):
        self.calls.append(("begin", trial))
        return self.target

    def report(self, trial, step, rewards):
        self.calls.append((trial, step, *rewards))
        return self.answers.pop(0) if self.answers else CONTINUE

    def pause(self, trial):
        self.calls.append(("pause", trial))

    def finish(self, trial, rewards):
        self.calls.append(("finish", trial, rewards))

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


def turn_of(pacing=None, objectives="reward", trial=7, **asked):
    turn = Turn(DNA, number=0, **asked)
    turn.begin(trial, parse_objectives(objectives), pacing)
    return turn


def asha(target=4):
    return ASHA(target, 2 * target, 2).start(seed=0)


# What the scheduler hears.


def test_a_scheduler_hears_of_every_objective_with_its_sign():
    pacing = Heard()
    turn_of(pacing, ("accuracy", "-latency")).report(3, {"latency": 2.0, "accuracy": 0.5, "other": 9.0})
    assert pacing.calls == [("begin", 7), (7, 3, 0.5, -2.0)]


def test_reports_of_one_step_are_put_together():
    pacing = Heard()
    turn = turn_of(pacing, ("a", "b"))
    turn.report(1, {"a": 1.0})
    assert pacing.calls == [("begin", 7)]
    turn.report(1, {"b": 2.0})
    assert pacing.calls[1:] == [(7, 1, 1.0, 2.0)]


def test_reports_of_two_steps_are_not_put_together():
    pacing = Heard()
    turn = turn_of(pacing, ("a", "b"))
    turn.report(1, {"a": 1.0})
    turn.report(2, {"b": 2.0})
    assert pacing.calls == [("begin", 7)]


def test_the_last_word_of_the_scheduler_is_in_force():
    turn = turn_of(Heard(PAUSE, CONTINUE))
    turn.report(1, {"reward": 1.0})
    assert turn.directive is PAUSE
    turn.report(2, {"loss": 1.0})
    assert turn.directive is PAUSE
    turn.report(3, {"reward": 1.0})
    assert turn.directive is CONTINUE


def test_a_trial_that_goes_on_keeps_its_number():
    pacing = Heard()
    turn = turn_of(pacing, trial=9, root=2)
    turn.report(1, {"reward": 1.0})
    assert pacing.calls == [("begin", 2), (2, 1, 1.0)]


@pytest.mark.parametrize(
    ("planned", "target", "expected"), [(None, None, None), (3, None, 3), (None, 4, 4), (3, 4, 3), (5, 4, 4)]
)
def test_the_shorter_plan_is_asked_for(planned, target, expected):
    assert turn_of(Heard(target=target), planned=planned).fidelity == expected


def test_without_a_scheduler_the_proposal_plans():
    assert turn_of(planned=3).fidelity == 3
    assert turn_of().fidelity is None


# State and fidelity of the record.


@pytest.mark.parametrize(
    ("planned", "steps", "told", "expected"),
    [
        (None, (), None, ("completed", None)),
        (None, (1, 2), None, ("completed", None)),
        (None, (1, 2), STOP, ("stopped", 2)),
        (None, (), STOP, ("stopped", None)),
        (9, (), None, ("completed", 9)),
        (9, (0, 8), None, ("completed", 9)),
        (9, (1, 12), None, ("completed", 9)),
        (9, (1, 3), STOP, ("stopped", 3)),
        (9, (3, 1), STOP, ("stopped", 3)),
    ],
)
def test_without_a_scheduler_the_fidelity_is_what_was_asked_for_or_where_it_was_cut(planned, steps, told, expected):
    turn = turn_of(planned=planned)
    for step in steps:
        turn.report(step, {"reward": 1.0})
    assert turn.answer(told, (1.0,)) == expected


@pytest.mark.parametrize(
    ("planned", "steps", "told", "expected"),
    [
        (None, (1, 4), PAUSE, ("paused", 4)),
        (None, (1, 4), None, ("paused", 4)),  # The body trained for feedback.fidelity and never asked.
        (None, (), None, ("paused", 4)),  # It did not even report.
        (None, (0, 3), None, ("paused", 4)),  # It counts steps from 0.
        (None, (3, 5), None, ("paused", 5)),
        (None, (4, 5), PAUSE, ("paused", 5)),  # What it was told holds, whatever it reports afterwards.
        (None, (4, 5), None, ("completed", 5)),  # It ignored the pause.
        (None, (4, 8), None, ("completed", 8)),
        (None, (2,), STOP, ("stopped", 2)),
        (2, (1, 2), None, ("completed", 2)),  # The algorithm asked for less than the rung.
        (2, (), None, ("completed", 2)),
        (4, (1, 4), PAUSE, ("paused", 4)),
        (4, (), None, ("paused", 4)),
        (9, (), None, ("paused", 4)),
    ],
)
def test_with_rungs_a_trial_is_paused_where_it_reaches_one(planned, steps, told, expected):
    turn = turn_of(asha(), planned=planned)
    for step in steps:
        turn.report(step, {"reward": 1.0})
    assert turn.answer(told, (1.0,)) == expected


def test_a_trial_that_is_as_good_as_it_gets_is_completed_without_a_fidelity():
    turn = turn_of(Patience(1).start(seed=0))
    for step in (1, 2):
        turn.report(step, {"reward": 1.0})
    assert turn.directive is COMPLETE
    assert turn.answer(COMPLETE, (1.0,)) == ("completed", None)


def test_a_trial_that_was_completed_before_its_plan_has_the_step_it_came_to():
    turn = turn_of(Heard(COMPLETE, target=9))
    turn.report(2, {"reward": 1.0})
    assert turn.answer(COMPLETE, (1.0,)) == ("completed", 2)


def test_an_answer_is_no_report_where_the_target_was_reached():
    pacing = Heard(target=4)
    turn = turn_of(pacing)
    turn.report(4, {"reward": 1.0})
    turn.answer(None, (2.0,))
    assert pacing.calls[1:] == [(7, 4, 1.0)]


def test_an_answer_short_of_the_target_is_the_report_there():
    pacing = Heard(target=4)
    turn = turn_of(pacing)
    turn.report(3, {"reward": 1.0})
    turn.answer(None, (2.0,))
    assert pacing.calls[1:] == [(7, 3, 1.0), (7, 4, 2.0)]


# The end, and the replay.


def record(state, rewards=(1.0,), curve=(), fidelity=None):
    return Trial(7, DNA, state, rewards, curve=curve, fidelity=fidelity)


@pytest.mark.parametrize(
    ("state", "rewards", "call"),
    [
        ("paused", (1.0,), ("pause", 7)),
        ("completed", (1.0,), ("finish", 7, (1.0,))),
        ("stopped", (1.0,), ("finish", 7, (1.0,))),
        ("failed", None, ("finish", 7, None)),
        ("skipped", None, ("finish", 7, None)),
        ("abandoned", None, ("finish", 7, None)),
    ],
)
def test_the_scheduler_hears_how_a_trial_ends(state, rewards, call):
    pacing = Heard()
    turn_of(pacing).end(record(state, rewards), rewards)
    assert pacing.calls[1:] == [call]


def test_of_a_trial_that_still_runs_no_end_is_told():
    pacing = Heard()
    turn_of(pacing).end(record("running", None), None)
    assert pacing.calls[1:] == []


@pytest.mark.parametrize("steps", [(), (3,), (4,), (1, 4), (5,), (4, 5), (4, 8), (0, 3)])
@pytest.mark.parametrize("told", [None, PAUSE, STOP, COMPLETE])
@pytest.mark.parametrize("planned", [None, 2, 4, 9])
def test_a_replayed_trial_says_what_the_trial_said(steps, told, planned):
    first, second = Heard(*[PAUSE] * len(steps), target=4), Heard(*[PAUSE] * len(steps), target=4)
    turn = turn_of(first, planned=planned)
    for step in steps:
        turn.report(step, {"reward": float(step)})
    state, fidelity = turn.answer(told, (9.0,))
    curve = tuple((step, {"reward": float(step)}) for step in steps)
    turn_of(second, planned=planned).replay(record(state, (9.0,), curve, fidelity), (9.0,))
    assert first.calls == second.calls


def test_a_trial_without_a_reward_is_replayed_by_its_reports():
    pacing = Heard(target=4)
    turn_of(pacing).replay(record("failed", None, ((1, {"reward": 2.0}),)), None)
    assert pacing.calls[1:] == [(7, 1, 2.0)]


def test_a_median_hears_of_the_whole_curve():
    pacing = Median(1).start(seed=0)
    turn = turn_of(pacing)
    turn.replay(record("completed", (1.0,), tuple((s, {"reward": 1.0}) for s in (1, 2))), (1.0,))
    turn.end(record("completed"), (1.0,))
    assert pacing.report(8, 2, (0.5,)) is STOP
