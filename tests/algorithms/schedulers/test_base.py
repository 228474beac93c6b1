"""The protocol: directives, defaults, the ledger."""

from __future__ import annotations

import json
import pickle

import pytest

import mutandis as mu
from mutandis.algorithms import settings
from mutandis.algorithms.schedulers import ASHA, Directive, Median, Pacing, Scheduler
from mutandis.algorithms.schedulers.base import Ledger, ranked


class Silent(Pacing):
    def report(self, trial, step, rewards):
        return Directive.CONTINUE

    def finish(self, trial, rewards):
        pass

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


def test_what_a_scheduler_leaves_out_plans_and_pauses_nothing():
    @settings
    class Mine(Scheduler):
        def start(self, *, seed, num_objectives=1):
            return Silent()

    pacing = Mine().start(seed=0)
    assert (pacing.begin(0), pacing.pause(0), pacing.promote(), Mine().pauses) == (None, None, None, False)


def test_a_scheduler_is_symbolic():
    space = mu.space(ASHA(1, 81, mu.oneof([2, 3, 4])))
    assert [child.eta for child in map(space.materialize, space.enumerate())] == [2, 3, 4]
    assert mu.from_json(mu.to_json(Median(3))) == Median(3)


def test_a_directive_pickles_to_itself():
    assert pickle.loads(pickle.dumps(Directive.PAUSE)) is Directive.PAUSE


@pytest.fixture
def ledger():
    return Ledger()


def test_a_report_counts_beyond_the_last_step_alone(ledger):
    assert ledger.counts(0, 3)
    ledger.note(0, 3, Directive.CONTINUE)
    assert [ledger.counts(0, step) for step in (2, 3, 3.5, float("nan"))] == [False, False, True, False]


@pytest.mark.parametrize("directive", Directive)
def test_nothing_counts_after_a_final_word(ledger, directive):
    ledger.note(0, 1, directive)
    assert ledger.counts(0, 2) is (directive in (Directive.CONTINUE, Directive.PAUSE))
    assert ledger.verdict(0) is directive


def test_a_resumed_trial_is_no_longer_told_to_pause(ledger):
    ledger.note(0, 1, Directive.PAUSE)
    ledger.resume(0)
    assert ledger.verdict(0) is Directive.CONTINUE
    assert not ledger.counts(0, 1)


def test_a_final_word_survives_a_resumption(ledger):
    ledger.note(0, 1, Directive.STOP)
    ledger.resume(0)
    assert ledger.verdict(0) is Directive.STOP


def test_who_has_ended_shall_stop(ledger):
    ledger.end(5)
    assert ledger.has_ended(5) and not ledger.has_ended(4)
    assert (ledger.verdict(5), ledger.counts(5, 9)) == (Directive.STOP, False)
    assert ledger.verdict(4) is Directive.CONTINUE


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 0, 3, 2), (0, 0, 2, 1, 3, 2)])
def test_trials_that_ended_in_a_row_are_kept_as_one_number(ledger, order):
    for trial in order:
        ledger.end(trial)
    assert ledger.state_dict() == {"open": [], "all_below": 4, "ended": []}


def test_a_ledger_goes_through_json(ledger):
    for trial in (0, 1, 4):
        ledger.end(trial)
    ledger.note(2, 1.5, Directive.PAUSE)
    other = Ledger()
    other.load_state_dict(json.loads(json.dumps(ledger.state_dict())))
    assert other.state_dict() == ledger.state_dict()
    assert other.verdict(2) is Directive.PAUSE


@pytest.mark.parametrize(
    ("rewards", "expected"),
    [((1, 2.0), (1.0, 2.0)), (None, None), ((1.0, float("nan")), None), ((float("inf"),), None), ([3], (3.0,))],
)
def test_what_is_not_finite_has_no_rank(rewards, expected):
    assert ranked(rewards) == expected
