"""The contract catches schedulers that break it; each is planted here with one defect."""

from __future__ import annotations

import inspect
import random

import pytest

from mutandis.algorithms import settings
from mutandis.algorithms.schedulers import ASHA, Directive, Pacing, Scheduler
from mutandis.errors import SettingError
from mutandis.hyper import Rng
from mutandis.testing.scheduler_contract import Loop, SchedulerContract, reward_at


class Plain(Pacing):
    """A correct run: ASHA behind the scenes."""

    def __init__(self, settings, num_objectives):
        self.settings = settings
        self.inner = ASHA(1, 27).start(seed=0, num_objectives=num_objectives)

    def begin(self, trial):
        return self.inner.begin(trial)

    def report(self, trial, step, rewards):
        return self.inner.report(trial, step, rewards)

    def pause(self, trial):
        self.inner.pause(trial)

    def finish(self, trial, rewards):
        self.inner.finish(trial, rewards)

    def promote(self, *, last=False):
        return self.inner.promote(last=last)

    def state_dict(self):
        return self.inner.state_dict()

    def load_state_dict(self, state):
        self.inner.load_state_dict(state)


@settings
class Planted(Scheduler):
    pacing: type = Plain
    says_it_pauses: bool = True

    @property
    def pauses(self):
        return self.says_it_pauses

    def start(self, *, seed, num_objectives=1):
        return self.pacing(self, num_objectives)


class UsesTheGlobalGenerator(Plain):
    def report(self, trial, step, rewards):
        found = super().report(trial, step, rewards)
        return Directive.STOP if random.random() < 0.3 else found  # noqa: TID251 - the planted defect


class ForgetsItsState(Plain):
    def load_state_dict(self, state):
        pass


class CountsEveryReport(Plain):
    count = 0

    def report(self, trial, step, rewards):
        self.count += 1
        return super().report(trial, step, rewards)

    def state_dict(self):
        return {**super().state_dict(), "count": self.count}


class HearsTheDead(Plain):
    def report(self, trial, step, rewards):
        super().report(trial, step, rewards)
        return Directive.CONTINUE if step == 5 else super().report(trial, step, rewards)


class ChangesItsMind(Plain):
    def report(self, trial, step, rewards):
        found = super().report(trial, step, rewards)
        return Directive.CONTINUE if found is Directive.COMPLETE and step > 27 else found


class NeedsAnAnnouncement(Plain):
    def __init__(self, settings, num_objectives):
        super().__init__(settings, num_objectives)
        self.known = set()

    def begin(self, trial):
        self.known.add(trial)
        return super().begin(trial)

    def finish(self, trial, rewards):
        self.known.remove(trial)
        super().finish(trial, rewards)


class KeepsANan(Plain):
    last = None

    def report(self, trial, step, rewards):
        self.last = rewards[-1]
        return super().report(trial, step, rewards)

    def state_dict(self):
        return {**super().state_dict(), "last": self.last}


class WaitsForEveryone(Plain):
    def __init__(self, settings, num_objectives):
        super().__init__(settings, num_objectives)
        self.silent = set()

    def begin(self, trial):
        self.silent.add(trial)
        return super().begin(trial)

    def report(self, trial, step, rewards):
        self.silent.discard(trial)
        return super().report(trial, step, rewards)

    def promote(self, *, last=False):
        return None if self.silent else super().promote(last=last)


class PromotesTwice(Plain):
    last = None

    def promote(self, *, last=False):
        if self.last is not None:
            found, self.last = self.last, None
            return found
        self.last = super().promote(last=last)
        return self.last


class PromotesWhoRuns(Plain):
    def report(self, trial, step, rewards):
        found = super().report(trial, step, rewards)
        if found is Directive.PAUSE:
            super().pause(trial)
        return found


class NeverRunsDry(Plain):
    def promote(self, *, last=False):
        return 0 if last else super().promote()


class ChangesItsSettings(Plain):
    def report(self, trial, step, rewards):
        object.__setattr__(self.settings, "says_it_pauses", False)
        return super().report(trial, step, rewards)


class DependsOnIdentity(Plain):
    def __init__(self, settings, num_objectives):
        super().__init__(settings, num_objectives)
        self.rng = Rng(id(self))

    def report(self, trial, step, rewards):
        found = super().report(trial, step, rewards)
        return Directive.STOP if self.rng.random() < 0.3 else found


def check(pacing, name, arguments, **options):
    class Contract(SchedulerContract):
        scheduler = Planted(pacing, **options)

    getattr(Contract(), name)(2, **arguments)


@pytest.mark.parametrize(
    ("pacing", "name", "arguments", "caught"),
    [
        (UsesTheGlobalGenerator, "test_global_generators_stay_untouched", {}, AssertionError),
        (DependsOnIdentity, "test_same_seed_gives_same_answers", {}, AssertionError),
        (ForgetsItsState, "test_a_run_resumes_exactly_through_json", {"turns": 7}, AssertionError),
        (ForgetsItsState, "test_a_run_resumes_in_the_middle_of_its_trials", {}, AssertionError),
        (CountsEveryReport, "test_a_repeated_report_changes_nothing", {}, AssertionError),
        (HearsTheDead, "test_reports_after_the_end_change_nothing", {}, AssertionError),
        (ChangesItsMind, "test_who_was_stopped_stays_stopped", {}, AssertionError),
        (NeedsAnAnnouncement, "test_strangers_are_taken", {}, KeyError),
        (KeepsANan, "test_a_number_that_is_not_finite_is_taken", {"bad": float("nan")}, ValueError),
        (WaitsForEveryone, "test_failures_and_silence_hold_up_nobody", {}, AssertionError),
        (PromotesTwice, "test_only_resting_trials_are_promoted_and_each_goes_further", {}, KeyError),
        (PromotesWhoRuns, "test_a_trial_that_has_not_paused_yet_is_not_promoted", {}, AssertionError),
        (NeverRunsDry, "test_at_the_end_promotions_run_dry", {}, AssertionError),
        (NeverRunsDry, "test_a_trial_that_has_not_paused_yet_is_not_promoted", {}, AssertionError),
        (ChangesItsSettings, "test_settings_are_not_changed_by_a_run", {}, AssertionError),
        (PromotesWhoRuns, "test_a_loop_that_ignores_every_answer_is_taken", {}, AssertionError),
    ],
)
def test_a_planted_defect_is_caught(pacing, name, arguments, caught):
    random.seed(1)  # noqa: TID251 - a planted scheduler uses the generator that the contract forbids
    with pytest.raises(caught):
        check(pacing, name, arguments)


def test_a_scheduler_that_pauses_without_saying_so_is_caught():
    name = "test_only_resting_trials_are_promoted_and_each_goes_further"
    with pytest.raises(AssertionError):
        check(Plain, name, {}, says_it_pauses=False)


def test_a_number_of_objectives_that_is_refused_is_skipped_with_its_reason():
    class Refuses(Plain):
        def __init__(self, settings, num_objectives):
            raise SettingError("cannot weigh so many", at="x", got=2, expected="one", fix="give one")

    class Contract(SchedulerContract):
        scheduler = Planted(Refuses)

    class Request:
        param = 2

    with pytest.raises(pytest.skip.Exception, match="refused at start: cannot weigh so many"):
        inspect.unwrap(SchedulerContract.num_objectives)(Contract(), Request())


class TestTheCorrectOne(SchedulerContract):
    scheduler = Planted()


def test_rewards_grow_with_the_step_and_trade_objectives_off():
    assert reward_at(3, 5, 2)[0] > reward_at(3, 4, 2)[0]
    first, second = (reward_at(trial, 9, 2) for trial in (1, 2))
    assert (first[0] > second[0]) != (first[1] > second[1])


def test_a_loop_keeps_every_report_with_its_answer():
    loop = Loop(ASHA(1, 4, 2).start(seed=0), 1, 9)
    assert loop.run(2) == [(0, 1, "pause"), (1, 1, "pause")]
    assert loop.run(1)[2:] == [(1, 2, "pause")]
