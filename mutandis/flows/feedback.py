"""What a loop gets beside each child: the way to answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from mutandis.algorithms.schedulers import Directive
from mutandis.errors import FeedbackError, StorageError, in_words
from mutandis.flows.studies.checkpoints import Checkpoint
from mutandis.flows.studies.objectives import Objective, as_point, as_step, is_valid, read_rewards
from mutandis.flows.studies.trial import ABANDONED, FAILED, RUNNING, SKIPPED, Trial
from mutandis.flows.turns import Turn
from mutandis.hyper import DNA


class TrialFeedback:
    """The answer to one trial: call it with a reward or a dict of metrics, or `skip` it."""

    __slots__ = (
        "__weakref__", "_curve", "_elsewhere", "_finish", "_is_stuck", "_objectives", "_started", "_stop", "_told",
        "_trial", "_turn",
    )  # fmt: skip

    def __init__(
        self,
        trial: Trial,
        objectives: tuple[Objective, ...],
        finish: Callable[[Trial], None],
        stop: Callable[[Trial], bool] | None = None,
        turn: Turn | None = None,
    ) -> None:
        if turn is None:
            turn = Turn(trial.dna)
            turn.begin(trial.id, objectives, None)
            turn.checkpoint = Checkpoint(f"mutandis-trial-{trial.id}-")
        self._trial = trial
        self._turn = turn
        self._objectives = objectives
        self._finish = finish
        self._stop = stop
        self._told: Directive | None = None
        self._curve: list[tuple[float, Mapping[str, float]]] = []
        self._started = time.perf_counter()
        self._elsewhere: tuple[str, float] | None = None
        self._is_stuck = False

    @property
    def trial(self) -> Trial:
        """The record of the trial, as it stands."""
        if len(self._trial.curve) != len(self._curve):
            self._trial = replace(self._trial, curve=tuple(self._curve))
        return self._trial

    @property
    def dna(self) -> DNA:
        """The decisions of the trial."""
        return self._trial.dna

    @property
    def fidelity(self) -> float | None:
        """How long the trial shall have been trained in all when it is answered, in steps; None where it is up to you.

        The algorithm or the scheduler asks for it. What was trained before, in the state that it inherits, is part of
        it. Where no report comes so far, the answer counts as the result at this length.
        """
        return self._turn.fidelity

    @property
    def attempt(self) -> int:
        """How often the trial was started; above 1 where the study is in a store and an earlier worker was lost.

        What that one left in `checkpoint` is still there.
        """
        return self._trial.attempt

    @property
    def is_answered(self) -> bool:
        """Whether the trial has ended."""
        return self._trial.state != RUNNING

    @property
    def is_stuck(self) -> bool:
        """Whether the last thing that was said could not be recorded: it may be said again."""
        return self._is_stuck

    @property
    def checkpoint(self) -> Path:
        """A directory of this trial alone, made when it is first asked for.

        It is gone with the feedback, unless another trial may go on from this one: then with the study, or when that
        trial has ended. Of a study in a store it stands beside the file until the trial has ended, so that the next
        attempt goes on from what a lost one has left.
        """
        assert self._turn.checkpoint is not None  # Every turn has begun.
        return self._turn.checkpoint.path

    @property
    def inherited(self) -> Path | None:
        """The checkpoint of the trial that this one goes on from, to read; None where it starts afresh.

        It is None too where that trial never asked for its checkpoint; `trial.parent` is its number in any case.
        """
        return None if self._turn.inherited is None else self._turn.inherited.made

    def __call__(self, reward: Any, *, metrics: Mapping[str, Any] | None = None) -> None:
        """Answers the trial.

        Args:
            reward: The reward, or a dict of metrics that holds every objective. A reward that is nan or infinite
                marks the trial failed.
            metrics: Further metrics to record.

        Raises:
            FeedbackError: the trial was answered before, an objective is missing, or something is no number.
            StorageError: the store of the study cannot be used. The trial may be answered again; where the loop ends
                instead, it goes back to the study, and whoever continues that tries it again.
        """
        self._need_running()
        rewards, measured = read_rewards(self._objectives, reward)
        if metrics:
            measured = {**(measured or {}), **as_point(metrics)}
        if is_valid(rewards):
            signed = tuple(o.sign * reward for o, reward in zip(self._objectives, rewards, strict=True))
            state, fidelity = self._turn.answer(self._told, signed)
            self._end(state, rewards=rewards, metrics=measured, fidelity=fidelity)
        else:
            shown = ", ".join(map(str, rewards))
            self._end(FAILED, metrics=measured, reason=f"the reward is not a finite number: {shown}")

    def report(self, metrics: Mapping[str, Any], *, step: float) -> None:
        """Records metrics on the way: a point of the learning curve.

        Args:
            metrics: Names and numbers; any of them, also objectives. A scheduler hears of a step when the reports of
                that step hold every objective.
            step: Where on the curve: how much is done, such as 1 after the first epoch. A trial that goes on from
                another counts on from there.

        Raises:
            FeedbackError: the trial was answered before, or something is no number.
        """
        self._need_running()
        point, place = as_point(metrics), as_step(step)
        with self._recording():
            self._turn.report(place, point)
        self._curve.append((place, point))

    def should_stop(self) -> bool:
        """Returns whether the trial should end now: answer it then with what it has reached.

        Either the scheduler says so, to stop or complete it for good or to pause it, or `stop=` of `mu.sample` does, or
        another worker has taken the trial over, and what this one finds is dropped. What it once said holds. A trial
        that was told to pause, or whose last report would have it paused, is recorded as paused when it is answered;
        one that was never told to stop, as completed.
        """
        if self._told is None:
            if self._turn.is_lost:
                self._told = Directive.STOP
            elif self._turn.directive is not Directive.CONTINUE:
                self._told = self._turn.directive
            elif self._stop is not None and self._stop(self.trial):
                self._told = Directive.STOP
        return self._told is not None

    def skip(self, reason: object = "") -> None:
        """Ends the trial without a reward: it counts as a trial, and the algorithm learns nothing from it.

        Args:
            reason: Why, as a text; of anything else, such as an exception, the text is kept.

        Raises:
            FeedbackError: the trial was answered before.
        """
        self._need_running()
        self._end(SKIPPED, reason=("" if reason is None else str(reason)) or None)

    def fail(self, reason: str) -> None:
        """Marks the trial failed: the algorithm is told that there is no reward.

        Raises:
            FeedbackError: the trial was answered before.
        """
        self._need_running()
        self._end(FAILED, reason=reason)

    def ran(self, worker: str, seconds: float) -> None:
        """Says who ran the trial, and for how many seconds, where that was not the process that answers."""
        self._elsewhere = worker, seconds

    def abandon(self) -> None:
        """Ends a trial that nobody answered: it counts as a trial, and the algorithm learns nothing from it.

        Raises:
            FeedbackError: the trial was answered before.
        """
        self._need_running()
        self._end(ABANDONED)

    @contextmanager
    def ignore(self, *kinds: type[BaseException]) -> Iterator[None]:
        """Skips the trial where the body raises one of these, and goes on with the loop.

        Args:
            *kinds: Exception classes, such as `RuntimeError`.
        """
        try:
            yield
        except kinds as error:
            if not self.is_answered:
                self.skip(in_words(error))

    def _need_running(self) -> None:
        if self.is_answered:
            raise FeedbackError(
                "cannot answer a trial twice",
                at=f"trial {self._trial.id}",
                got=self._trial.state,
                expected="one feedback(...) or feedback.skip(...) per trial",
                fix="remove the second answer; intermediate results go to feedback.report({...}, step=...)",
            )

    def _end(self, state: str, **changes: Any) -> None:
        worker, seconds = self._elsewhere or (self._trial.worker, time.perf_counter() - self._started)
        record = self.trial
        self._trial = Trial(
            record.id, record.dna, state, curve=record.curve, seconds=seconds, space=record.space,
            parent=record.parent, started=record.started, worker=worker, attempt=record.attempt, **changes,
        )  # fmt: skip
        try:
            with self._recording():
                self._finish(self._trial)
        except StorageError:
            self._trial = record  # It may be answered again, once the store is back.
            raise

    @contextmanager
    def _recording(self) -> Iterator[None]:
        """Notes where a store cannot be used: that is no failure of the trial."""
        self._is_stuck = False
        try:
            yield
        except StorageError:
            self._is_stuck = True
            raise
