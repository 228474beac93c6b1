"""`mu.sample`: the search loop that the user owns."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any

from mutandis.algorithms import Algorithm
from mutandis.algorithms.schedulers import Scheduler
from mutandis.errors import MutandisWarning, SpaceExhausted
from mutandis.flows.engine import Engine
from mutandis.flows.escape import escaped
from mutandis.flows.feedback import TrialFeedback
from mutandis.flows.opening import begin, need_amount
from mutandis.flows.studies import Study, Trial
from mutandis.hyper import Point, SearchSpace
from mutandis.progress import Bar


def sample(
    program: Any,
    algorithm: Algorithm,
    *,
    trials: int | None = None,
    where: Callable[[Point], bool] | str | None = None,
    study: Study | None = None,
    objectives: Sequence[str] | str = ("reward",),
    seed: int = 0,
    timeout: float | None = None,
    stop: Callable[[Trial], bool] | None = None,
    scheduler: Scheduler | None = None,
    progress: bool | None = None,
) -> Sampling:
    """Searches a program: yields children and the way to answer each.

        for child, feedback in mu.sample(program, mu.algorithms.RegularizedEvolution(), trials=100):
            feedback(child.run())

    A body that raises marks its trial failed, and the exception goes on; so does a child that cannot be built. A
    body that answers nothing marks its trial abandoned, and warns. Used as a context manager (`with mu.sample(...)
    as loop: for child, feedback in loop`) the record also says which exception it was.

    With a scheduler, trials that look bad are cut short, and paused ones come again from the iterator, each time as a
    new trial with the same DNA, a child built anew, and the checkpoint of the trial that it goes on from:

        for child, feedback in mu.sample(program, algorithm, scheduler=mu.algorithms.schedulers.ASHA(1, 81)):
            done = child.load(feedback.inherited / "weights") if feedback.inherited else 0
            for epoch in range(done + 1, 82):
                feedback.report({"reward": child.train_an_epoch()}, step=epoch)
                if feedback.should_stop():
                    break
            child.save(feedback.checkpoint / "weights")
            feedback(child.accuracy())

    Args:
        program: What holds hyper values: a symbolic object, a list, tuple or dict, a hyper value; or a `SearchSpace`;
            or a function without arguments that makes decisions as it runs (its child is a callable).
        algorithm: Settings of the search.
        trials: How many trials the study shall have in all, those that go on after a pause included; by default until
            algorithm and scheduler have nothing left.
        where: Which decisions are made here: a predicate of the point, or the path of a part of the program. The
            children stay abstract in the others, so that loops nest.
        study: Where the trials are recorded; a new `Study` by default. The algorithm and seed that made its trials
            go on where they stopped; any other algorithm is told of those that are finished.
        objectives: Metrics that count; larger is better, or smaller with a minus in front.
        seed: Seed of the run; the same seed gives the same decisions.
        timeout: After how many seconds no further trial begins.
        stop: Says from the record of a running trial whether it should end early; asked by `feedback.should_stop()`.
        scheduler: Says how long trials go on, from what `feedback.report` says of every objective; asked by
            `feedback.should_stop()` too.
        progress: Whether to show a progress bar; by default on a terminal.

    Returns:
        An iterator of (child, feedback); its `study` holds the trials.

    Raises:
        SpaceError: the program has no decisions, or the study is of another space.
        SettingError: an argument is out of range, or the algorithm cannot search this space.
    """
    need_amount("trials", trials, int)
    need_amount("timeout", timeout, (int, float))
    searched, engine = begin(program, algorithm, study=study, objectives=objectives, seed=seed, where=where,
                             scheduler=scheduler)  # fmt: skip
    return Sampling(searched, engine, trials, timeout, stop, progress)


class Answers:
    """What answers need of a running search. It knows no iterator, so that a loop's iterator dies with the loop."""

    def __init__(self, engine: Engine, trials: int | None, progress: bool | None) -> None:
        self.engine = engine
        self.bar = Bar(trials, show=progress)

    def finish(self, trial: Trial) -> None:
        """Records a trial that has ended, lets the search learn from it, and shows the best so far."""
        self.engine.finish(trial)
        self.show()

    def show(self) -> None:
        """Shows how many trials there are and the best so far."""
        study = self.engine.study
        best = study.best
        text = "" if best is None or best.reward is None else f"best {best.reward:.6g} (trial {best.id})"
        self.bar.update(len(study), text)


class Sampling:
    """A running search: an iterator of (child, feedback). Made by `sample`.

    Attributes:
        study: The trials.
        space: The space that is searched.
    """

    def __init__(self, space: SearchSpace, engine: Engine, trials: int | None, timeout: float | None, stop: Any,
                 progress: bool | None) -> None:  # fmt: skip
        self.space = space
        self.study = engine.study
        self._run = Answers(engine, trials, progress)
        self._total = trials
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._stop = stop
        self._current: TrialFeedback | None = None

    def __iter__(self) -> Iterator[tuple[Any, TrialFeedback]]:
        return self

    def __next__(self) -> tuple[Any, TrialFeedback]:
        """Returns the next child and the way to answer it.

        Raises:
            StopIteration: enough trials were made, the time is over, or algorithm and scheduler have nothing left.
            SpaceError: the predicates of the space refuse everything.
            Exception: what a class of the program raised; the trial is marked failed, and the loop may go on.
        """
        self._abandon()
        late = self._deadline is not None and time.monotonic() >= self._deadline
        if late or (self._total is not None and len(self.study) >= self._total):
            self._run.bar.close()
            raise StopIteration
        try:
            turn = self._run.engine.next_turn()
        except SpaceExhausted:
            self._run.bar.close()
            raise StopIteration from None
        trial = self.study.add(turn.dna, parent=turn.parent)
        self._run.engine.begin(trial.id, turn)
        feedback = TrialFeedback(trial, self.study.objectives, self._run.finish, self._stop, turn)
        try:
            child = self.space.materialize(turn.dna)
        except Exception as error:
            feedback.fail(f"{type(error).__name__}: {error}")
            error.add_note(f"while building the child of trial {trial.id}: {trial.dna}")
            raise
        self._current = feedback
        return child, feedback

    def _abandon(self) -> None:
        feedback, self._current = self._current, None
        if feedback is None or feedback.is_answered:
            return
        self._end_unanswered(feedback, None)
        warnings.warn(
            f"trial {feedback.trial.id} was not answered and counts as abandoned; call feedback(reward) or "
            "feedback.skip(reason) in every turn of the loop",
            MutandisWarning,
            stacklevel=3,
        )

    def _end_unanswered(self, feedback: TrialFeedback, failure: str | None) -> None:
        if failure is None:
            feedback.abandon()
        else:
            feedback.fail(failure)

    def close(self, failure: str | None = None) -> None:
        """Ends the search; a trial that was not answered is failed for a reason, or else abandoned."""
        feedback, self._current = self._current, None
        if feedback is not None and not feedback.is_answered:
            # A generator that says `yield from` closes its iterator when it is dropped itself.
            self._end_unanswered(feedback, failure or escaped(sys._getframe(1)))
        self._run.bar.close()

    def __enter__(self) -> Sampling:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(None if error is None else f"{type(error).__name__}: {error}")

    def __del__(self) -> None:
        """Ends the search when a plain for loop drops it.

        A loop lets go of its iterator at once, whether it was left by `break` or by an exception. Which of the two
        shows in the frame of the loop.
        """
        feedback = getattr(self, "_current", None)
        if feedback is None or feedback.is_answered:
            if hasattr(self, "_run"):
                self._run.bar.close()
            return
        self.close(escaped(sys._getframe(0).f_back))
