"""What a loop gets beside each child: the way to answer."""

from __future__ import annotations

import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from mutandis.errors import FeedbackError
from mutandis.flows.studies.objectives import Objective, as_number, is_valid, read_rewards
from mutandis.flows.studies.trial import COMPLETED, FAILED, RUNNING, SKIPPED, STOPPED, Trial
from mutandis.hyper import DNA


class TrialFeedback:
    """The answer to one trial: call it with a reward or a dict of metrics, or `skip` it.

    Attributes:
        trial: The record of the trial, as it stands.
    """

    __slots__ = (
        "__weakref__", "_checkpoint", "_curve", "_finish", "_objectives", "_started", "_stop", "_stopped", "trial",
    )  # fmt: skip

    def __init__(
        self,
        trial: Trial,
        objectives: tuple[Objective, ...],
        finish: Callable[[Trial], None],
        stop: Callable[[Trial], bool] | None = None,
    ) -> None:
        self.trial = trial
        self._objectives = objectives
        self._finish = finish
        self._stop = stop
        self._stopped = False
        self._curve: list[tuple[int, Mapping[str, float]]] = []
        self._started = time.perf_counter()
        self._checkpoint: Path | None = None

    @property
    def dna(self) -> DNA:
        """The decisions of the trial."""
        return self.trial.dna

    @property
    def is_answered(self) -> bool:
        """Whether the trial has ended."""
        return self.trial.state != RUNNING

    @property
    def checkpoint(self) -> Path:
        """A directory of this trial alone, made when it is first asked for and gone with the feedback."""
        if self._checkpoint is None:
            self._checkpoint = Path(tempfile.mkdtemp(prefix=f"mutandis-trial-{self.trial.id}-"))
            weakref.finalize(self, shutil.rmtree, self._checkpoint, ignore_errors=True)
        return self._checkpoint

    def __call__(self, reward: Any, *, metrics: Mapping[str, Any] | None = None) -> None:
        """Answers the trial.

        Args:
            reward: The reward, or a dict of metrics that holds every objective. A reward that is nan or infinite
                marks the trial failed.
            metrics: Further metrics to record.

        Raises:
            FeedbackError: the trial was answered before, an objective is missing, or something is no number.
        """
        self._need_running()
        rewards, measured = read_rewards(self._objectives, reward)
        if metrics:
            measured = {**(measured or {}), **{name: as_number(name, value) for name, value in metrics.items()}}
        if is_valid(rewards):
            self._end(STOPPED if self._stopped else COMPLETED, rewards=rewards, metrics=measured)
        else:
            shown = ", ".join(map(str, rewards))
            self._end(FAILED, metrics=measured, reason=f"the reward is not a finite number: {shown}")

    def report(self, metrics: Mapping[str, Any], *, step: int) -> None:
        """Records metrics on the way: a point of the learning curve.

        Args:
            metrics: Names and numbers; any of them, also objectives.
            step: Where on the curve, such as the epoch.

        Raises:
            FeedbackError: the trial was answered before, or something is no number.
        """
        self._need_running()
        point = {str(name): as_number(str(name), value) for name, value in metrics.items()}
        self._curve.append((int(step), point))
        self.trial = replace(self.trial, curve=tuple(self._curve))

    def should_stop(self) -> bool:
        """Returns whether the trial should end early: what `stop=` of `mu.sample` says of its curve."""
        if self._stop is not None and not self._stopped and self._stop(self.trial):
            self._stopped = True
        return self._stopped

    def skip(self, reason: str = "") -> None:
        """Ends the trial without a reward: it counts as a trial, and the algorithm learns nothing from it.

        Raises:
            FeedbackError: the trial was answered before.
        """
        self._need_running()
        self._end(SKIPPED, reason=reason or None)

    def fail(self, reason: str) -> None:
        """Marks the trial failed: the algorithm is told that there is no reward.

        Raises:
            FeedbackError: the trial was answered before.
        """
        self._need_running()
        self._end(FAILED, reason=reason)

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
                self.skip(f"{type(error).__name__}: {error}")

    def _need_running(self) -> None:
        if self.is_answered:
            raise FeedbackError(
                "cannot answer a trial twice",
                at=f"trial {self.trial.id}",
                got=self.trial.state,
                expected="one feedback(...) or feedback.skip(...) per trial",
                fix="remove the second answer; intermediate results go to feedback.report({...}, step=...)",
            )

    def _end(self, state: str, **changes: Any) -> None:
        seconds = time.perf_counter() - self._started
        record = self.trial
        self.trial = Trial(
            record.id, record.dna, state, curve=record.curve, seconds=seconds, space=record.space, **changes
        )
        self._finish(self.trial)
