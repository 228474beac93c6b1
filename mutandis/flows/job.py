"""A trial where it runs: the child is built, the objective is asked, and what it says goes back to the search.

A job is plain data, so that it may run in another process or on another machine: the decisions go in, and the reward
or the metrics come out. Reports, and whether to stop, go through the talk of its executor.
"""

from __future__ import annotations

import inspect
import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mutandis.errors import FeedbackError, SettingError, StorageError, in_words
from mutandis.flows.executors.base import Talk
from mutandis.flows.studies.objectives import as_point, as_step
from mutandis.hyper import DNA, SearchSpace

REPORT, SHOULD_STOP, CHECKPOINT, INHERITED = "report", "should_stop", "checkpoint", "inherited"
REWARD, SKIP, NOTHING = "reward", "skip", "nothing"
BY_NAME, LAST = "by name", "last"


@dataclass(frozen=True)
class Order:
    """What a job shall try.

    Attributes:
        trial: The number of the trial.
        values: The raw values of its DNA.
        fidelity: How long it shall train in all, or None where that is up to it.
        attempt: How often the trial was started.
    """

    trial: int
    values: tuple[Any, ...]
    fidelity: float | None = None
    attempt: int = 1


class JobFeedback:
    """What an objective gets beside the child: the way to report, and to skip; it answers like `TrialFeedback`.

    Attributes:
        dna: The decisions of the trial.
        fidelity: How long the trial shall have been trained in all when it is answered; None where it is up to you.
        trial: The number of the trial.
        attempt: How often it was started; above 1 where a store tells of a worker that was lost.
    """

    def __init__(self, order: Order, dna: DNA, talk: Talk) -> None:
        self.dna = dna
        self.fidelity = order.fidelity
        self.trial = order.trial
        self.attempt = order.attempt
        self._talk = talk
        self._answer: tuple[str, Any] | None = None

    @property
    def is_answered(self) -> bool:
        """Whether the trial has been answered or skipped."""
        return self._answer is not None

    @property
    def checkpoint(self) -> Path:
        """A directory of this trial alone.

        Raises:
            StorageError: the trial runs on another machine, which does not share the directory.
        """
        return self._shared(Path(self._talk.ask((CHECKPOINT,))))

    @property
    def inherited(self) -> Path | None:
        """The checkpoint of the trial that this one goes on from, to read; None where it starts afresh.

        Raises:
            StorageError: the trial runs on another machine, which does not share the directory.
        """
        found = self._talk.ask((INHERITED,))
        return None if found is None else self._shared(Path(found))

    def __call__(self, reward: Any, *, metrics: Mapping[str, Any] | None = None) -> None:
        """Answers the trial, as returning the reward does; see `TrialFeedback`.

        Raises:
            FeedbackError: the trial was answered before.
        """
        self._settle((REWARD, (reward, None if metrics is None else dict(metrics))))

    def report(self, metrics: Mapping[str, Any], *, step: float) -> None:
        """Records metrics on the way: a point of the learning curve; see `TrialFeedback`.

        Raises:
            FeedbackError: the trial was answered before, or something is no number.
        """
        self._need_open()
        self._talk.tell((REPORT, as_point(metrics), as_step(step)))

    def should_stop(self) -> bool:
        """Returns whether the trial should end early."""
        return bool(self._talk.ask((SHOULD_STOP,)))

    def skip(self, reason: object = "") -> None:
        """Ends the trial without a reward: it counts as a trial, and the algorithm learns nothing from it.

        Args:
            reason: Why, as a text; of anything else, such as an exception, the text is kept.

        Raises:
            FeedbackError: the trial was answered before.
        """
        self._settle((SKIP, "" if reason is None else str(reason)))

    @contextmanager
    def ignore(self, *kinds: type[BaseException]) -> Iterator[None]:
        """Skips the trial where the body raises one of these."""
        try:
            yield
        except kinds as error:
            if self._answer is None:
                self.skip(in_words(error))

    def _shared(self, path: Path) -> Path:
        if path.is_dir():
            return path
        raise StorageError(
            "cannot reach the checkpoint of a trial",
            at=f"trial {self.trial}",
            got=str(path),
            expected=f"a directory that this machine ({platform.node()}) shares with the one that searches",
            fix="let TMPDIR name a directory on a file system of all machines where the search is started",
        )

    def _need_open(self) -> None:
        if self._answer is not None:
            raise FeedbackError(
                "cannot answer a trial twice",
                at=f"trial {self.trial}",
                expected="one feedback(...) or feedback.skip(...) per trial",
                fix="remove the second answer; intermediate results go to feedback.report({...}, step=...)",
            )

    def _settle(self, answer: tuple[str, Any]) -> None:
        self._need_open()
        self._answer = answer

    def settled(self, result: Any) -> tuple[str, Any]:
        """Returns the answer of an objective that returned `result`.

        Raises:
            FeedbackError: it has answered, and returned something else as well.
        """
        if result is not None:
            self._settle((REWARD, (result, None)))
        return self._answer or (NOTHING, None)


@dataclass(frozen=True)
class Job:
    """The task of an executor: from an order to an answer. Picklable where space and objective are.

    Attributes:
        space: The space of the program.
        objective: A function of the child, or of the child and the feedback; None to run the child itself.
    """

    space: SearchSpace
    objective: Callable[..., Any] | None = None

    def __call__(self, order: Order, talk: Talk) -> tuple[str, Any]:
        """Runs one trial and returns its answer: (`reward`, (reward, metrics)), (`skip`, reason) or (`nothing`, None).

        Raises:
            Exception: whatever building the child or its objective raises.
        """
        dna = DNA(self.space.bare(), order.values)
        feedback = JobFeedback(order, dna, talk)
        child = self.space.materialize(dna)
        if self.objective is not None:
            return feedback.settled(call(self.objective, (child,), feedback))
        return feedback.settled(call(own_objective(child), (), feedback))


def own_objective(child: Any) -> Callable[..., Any]:
    """Returns the objective that a child has by itself: its `run`, or else the child as a function.

    Raises:
        SettingError: it has neither.
    """
    method = getattr(child, "run", None)
    if callable(method):
        return method  # type: ignore[no-any-return]
    if callable(child):
        return child  # type: ignore[no-any-return]
    raise SettingError("cannot run a child", got=child, expected="a method run(), or something that can be called",
                       fix="pass objective=, a function of the child")  # fmt: skip


def call(function: Callable[..., Any], arguments: tuple[Any, ...], feedback: Any) -> Any:
    """Calls an objective, with the feedback where it wants it; see `place_of_feedback`."""
    place = place_of_feedback(function, len(arguments))
    if place == BY_NAME:
        return function(*arguments, feedback=feedback)
    return function(*arguments, feedback) if place == LAST else function(*arguments)


def place_of_feedback(function: Callable[..., Any], num_arguments: int) -> str | None:
    """Returns how an objective wants the feedback, `by name` or `last`; None where it does not.

    It wants it where it has a parameter named `feedback`, or needs one more positional argument than it gets.
    """
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # Some functions written in C have no signature.
        return None
    if "feedback" in parameters:
        return BY_NAME
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [p for p in parameters.values() if p.kind in kinds and p.default is inspect.Parameter.empty]
    return LAST if len(needed) == num_arguments + 1 else None


__all__ = ["Job", "JobFeedback", "Order", "call", "own_objective", "place_of_feedback"]
