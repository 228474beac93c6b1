"""The contract of a scheduler, as a pytest class: inherit it and say what `scheduler` is.

    class TestMine(mutandis.testing.SchedulerContract):
        scheduler = Mine()

Every test runs with one objective and with two; a number that the scheduler refuses at `start` with a `SettingError`
is skipped, for that is how it says what it cannot do. Trials report at steps 1, 2, 3 and so on up to `length`.
"""

from __future__ import annotations

import json
import pickle
import random
from typing import Any, ClassVar

import pytest

from mutandis.algorithms.schedulers import Directive, Pacing, Scheduler
from mutandis.errors import SettingError
from mutandis.symbolic.compare import equal

NUM_TURNS = 60
NAN = float("nan")

Entry = tuple[int, float, str]


def reward_at(trial: int, step: float, num_objectives: int = 1) -> tuple[float, ...]:
    """Returns rewards that differ between trials, grow with the step, and trade the objectives off."""
    level = (trial * 7919 % 101) / 100
    return tuple((level if m % 2 == 0 else 1 - level**2) - 1 / (step + m) for m in range(num_objectives))


class Loop:
    """A loop of one trial at a time, as a flow runs it.

    Args:
        pacing: The run under test.
        num_objectives: How many rewards a report carries.
        length: After which step a trial ends by itself.
    """

    def __init__(self, pacing: Pacing, num_objectives: int, length: int) -> None:
        self.pacing = pacing
        self.num_objectives = num_objectives
        self.length = length
        self.done: dict[int, int] = {}
        self.trace: list[Entry] = []

    def turn(self) -> None:
        """Runs one turn: of a trial that is promoted, or else of a new one."""
        trial = self.pacing.promote()
        if trial is None:
            trial = len(self.done)
            self.done[trial] = 0
        self.pacing.begin(trial)
        directive = Directive.CONTINUE
        while directive is Directive.CONTINUE and self.done[trial] < self.length:
            self.done[trial] += 1
            step = self.done[trial]
            directive = self.pacing.report(trial, step, reward_at(trial, step, self.num_objectives))
            self.trace.append((trial, step, directive.value))
        if directive is Directive.PAUSE:
            self.pacing.pause(trial)
        else:
            self.pacing.finish(trial, reward_at(trial, self.done[trial], self.num_objectives))

    def run(self, turns: int) -> list[Entry]:
        """Runs some turns; returns every report with its answer, from the first turn on."""
        for _ in range(turns):
            self.turn()
        return self.trace


class SchedulerContract:
    """What every scheduler must do.

    Attributes:
        scheduler: The settings under test.
        length: At which step a trial that nobody ends, ends by itself.
    """

    scheduler: ClassVar[Scheduler]
    length: ClassVar[int] = 30

    @pytest.fixture(params=[1, 2])
    def num_objectives(self, request: pytest.FixtureRequest) -> int:
        """One objective, and two."""
        try:
            self.scheduler.start(seed=0, num_objectives=request.param)
        except SettingError as error:
            pytest.skip(f"refused at start: {error.problem}")
        return int(request.param)

    def _start(self, num_objectives: int) -> Pacing:
        return self.scheduler.start(seed=1, num_objectives=num_objectives)

    def _loop(self, num_objectives: int, turns: int = 0) -> Loop:
        loop = Loop(self._start(num_objectives), num_objectives, self.length)
        loop.run(turns)
        return loop

    def test_same_seed_gives_same_answers(self, num_objectives: int) -> None:
        """A run is a function of settings, seed and reports."""
        assert self._loop(num_objectives, NUM_TURNS).trace == self._loop(num_objectives, NUM_TURNS).trace

    def test_global_generators_stay_untouched(self, num_objectives: int) -> None:
        """All randomness derives from the seed."""
        before = random.getstate()
        self._loop(num_objectives, NUM_TURNS)
        assert random.getstate() == before

    @pytest.mark.parametrize("turns", [0, 1, 7, 23])
    def test_a_run_resumes_exactly_through_json(self, num_objectives: int, turns: int) -> None:
        """A fresh run that loads the state goes on as the first one does."""
        loop = self._loop(num_objectives, turns)
        other = self._loop(num_objectives)
        other.pacing.load_state_dict(json.loads(json.dumps(loop.pacing.state_dict(), allow_nan=False)))
        other.done = dict(loop.done)
        start = len(loop.trace)
        assert loop.run(NUM_TURNS)[start:] == other.run(NUM_TURNS)
        assert loop.pacing.state_dict() == other.pacing.state_dict()

    def test_a_run_resumes_in_the_middle_of_its_trials(self, num_objectives: int) -> None:
        """Trials that run while the state is taken go on as if nothing had happened."""
        first, second = self._start(num_objectives), self._start(num_objectives)
        self._together(first, num_objectives, 1, 4)
        second.load_state_dict(json.loads(json.dumps(first.state_dict(), allow_nan=False)))
        rest = [self._together(pacing, num_objectives, 4, self.length + 1) for pacing in (first, second)]
        assert rest[0] == rest[1]
        assert first.state_dict() == second.state_dict()

    @staticmethod
    def _together(pacing: Pacing, num_objectives: int, first: int, last: int) -> list[Directive]:
        """Reports of twelve trials in step, whatever the answer: a loop that never looks at it."""
        return [
            pacing.report(trial, step, reward_at(trial, step, num_objectives))
            for step in range(first, last)
            for trial in range(12)
        ]

    def test_a_loop_that_ignores_every_answer_is_taken(self, num_objectives: int) -> None:
        """Trials may go on whatever they are told."""
        pacing = self._start(num_objectives)
        self._together(pacing, num_objectives, 1, self.length + 1)
        for trial in range(12):
            pacing.finish(trial, reward_at(trial, self.length, num_objectives))
        assert pacing.promote() is None

    def test_a_repeated_report_changes_nothing(self, num_objectives: int) -> None:
        """The same step again gets the same answer, whatever it carries."""
        loop = self._loop(num_objectives, 9)
        trial = len(loop.done)
        answers = [loop.pacing.report(trial, 3, reward_at(trial, 3, num_objectives)) for _ in range(2)]
        before = loop.pacing.state_dict()
        answers.append(loop.pacing.report(trial, 3, (9.0,) * num_objectives))
        answers.append(loop.pacing.report(trial, 2, (9.0,) * num_objectives))
        assert len(set(answers)) == 1
        assert loop.pacing.state_dict() == before

    def test_reports_after_the_end_change_nothing(self, num_objectives: int) -> None:
        """A late report of a trial that has ended is answered with stop."""
        loop = self._loop(num_objectives, 9)
        trial = len(loop.done)
        loop.pacing.begin(trial)
        loop.pacing.report(trial, 1, reward_at(trial, 1, num_objectives))
        loop.pacing.finish(trial, reward_at(trial, 1, num_objectives))
        before = loop.pacing.state_dict()
        assert loop.pacing.report(trial, 5, (9.0,) * num_objectives) is Directive.STOP
        loop.pacing.pause(trial)
        loop.pacing.finish(trial, None)
        assert loop.pacing.state_dict() == before

    def test_who_was_stopped_stays_stopped(self, num_objectives: int) -> None:
        """Stop and complete are for good."""
        loop = self._loop(num_objectives, 30)
        trial, answers = len(loop.done), []
        for step in range(1, self.length + 20):
            answers.append(loop.pacing.report(trial, step, (-9.0,) * num_objectives))
        final = [answer for answer in answers if answer in (Directive.STOP, Directive.COMPLETE)]
        assert final, "bad to the end, and nobody stopped it"
        assert set(answers[-len(final) :]) == {final[0]}

    def test_strangers_are_taken(self, num_objectives: int) -> None:
        """Calls for trials that were never announced break nothing."""
        loop = self._loop(num_objectives, 5)
        loop.pacing.pause(1000)
        loop.pacing.finish(1001, (1.0,) * num_objectives)
        loop.pacing.finish(1002, None)
        assert loop.pacing.report(1003, 1, (1.0,) * num_objectives) in Directive
        loop.run(20)

    @pytest.mark.parametrize("bad", [NAN, float("inf"), -float("inf")])
    def test_a_number_that_is_not_finite_is_taken(self, num_objectives: int, bad: float) -> None:
        """It gets into no state, and its trial is never promoted."""
        loop = self._loop(num_objectives, 20)
        trials = list(range(len(loop.done), len(loop.done) + 9))
        for trial in trials:
            loop.done[trial] = 0
            loop.pacing.begin(trial)
            for step in range(1, self.length + 1):
                rewards = (*reward_at(trial, step, num_objectives)[1:], bad)
                if loop.pacing.report(trial, step, rewards) is not Directive.CONTINUE:
                    break
            loop.pacing.pause(trial)
        json.dumps(loop.pacing.state_dict(), allow_nan=False)
        start = len(loop.trace)
        assert not {trial for trial, *_ in loop.run(NUM_TURNS)[start:]} & set(trials)

    def test_failures_and_silence_hold_up_nobody(self, num_objectives: int) -> None:
        """Trials that fail, end without a report or never say a word leave the others as free as before."""
        loop = self._loop(num_objectives)
        for kind in ("failed", "failed after a report", "no report", "silent") * 5:
            trial = len(loop.done)
            loop.done[trial] = 0
            loop.pacing.begin(trial)
            if kind == "failed after a report":
                loop.pacing.report(trial, 1, reward_at(trial, 1, num_objectives))
            if kind != "silent":
                loop.pacing.finish(trial, (1.0,) * num_objectives if kind == "no report" else None)
        assert max(step for _, step, _ in loop.run(3 * NUM_TURNS)) > 1

    def test_only_resting_trials_are_promoted_and_each_goes_further(self, num_objectives: int) -> None:
        """A promotion names a trial that rests, once, and plans more than it has."""
        pacing = self._start(num_objectives)
        resting: dict[int, int] = {}
        for number in range(NUM_TURNS):
            trial = pacing.promote()
            done = 0 if trial is None else resting.pop(trial)
            trial = number if trial is None else trial
            target = pacing.begin(trial)
            assert target is None or target > done
            step = int(target or self.length) + 1
            directive = pacing.report(trial, step, reward_at(trial, step, num_objectives))
            assert directive is not Directive.PAUSE or self.scheduler.pauses
            if directive is Directive.PAUSE:
                pacing.pause(trial)
                resting[trial] = step
            else:
                pacing.finish(trial, reward_at(trial, step, num_objectives))

    def test_a_trial_that_has_not_paused_yet_is_not_promoted(self, num_objectives: int) -> None:
        """Between the word and the pause, the trial still runs elsewhere."""
        pacing = self._start(num_objectives)
        for trial in range(NUM_TURNS):
            step = (pacing.begin(trial) or self.length) + 1
            pacing.report(trial, step, reward_at(trial, step, num_objectives))
            assert pacing.promote() is None
            assert pacing.promote(last=True) is None

    def test_at_the_end_promotions_run_dry(self, num_objectives: int) -> None:
        """When nothing new begins, the trials that rest go on until nobody is left that should."""
        loop = self._loop(num_objectives, NUM_TURNS)
        for _ in range(10 * NUM_TURNS):
            trial = loop.pacing.promote(last=True)
            if trial is None:
                break
            step = loop.pacing.begin(trial) or self.length
            if loop.pacing.report(trial, step, reward_at(trial, step, num_objectives)) is Directive.PAUSE:
                loop.pacing.pause(trial)
            else:
                loop.pacing.finish(trial, reward_at(trial, step, num_objectives))
        assert loop.pacing.promote(last=True) is None
        loop.run(5)

    def test_settings_are_not_changed_by_a_run(self, num_objectives: int) -> None:
        """Settings are frozen, pickle, and compare; what changes is the run."""
        before = pickle.dumps(self.scheduler)
        self._loop(num_objectives, 20)
        again: Any = pickle.loads(before)
        assert again == self.scheduler
        assert equal(again, self.scheduler)
