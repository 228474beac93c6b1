"""`mu.sample`: the search loop that the user owns."""

from __future__ import annotations

import importlib
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any

from mutandis.algorithms import Algorithm
from mutandis.algorithms.oneshot.protocol import OneShot
from mutandis.algorithms.schedulers import Scheduler
from mutandis.errors import MutandisWarning, SettingError, SpaceExhausted, StorageError, in_words
from mutandis.flows.engine import Engine
from mutandis.flows.escape import escaped
from mutandis.flows.feedback import TrialFeedback
from mutandis.flows.interrupts import Interrupts
from mutandis.flows.opening import begin, need_amount, need_order
from mutandis.flows.shared import SharedEngine
from mutandis.flows.studies import Study, Trial
from mutandis.flows.turns import Turn
from mutandis.hyper import Point, SearchSpace
from mutandis.progress import Bar


def sample(
    program: Any,
    algorithm: Algorithm,
    *,
    trials: int | None = None,
    where: Callable[[Point], bool] | str | None = None,
    study: Study | str | os.PathLike[str] | None = None,
    objectives: Sequence[str] | str = ("reward",),
    seed: int = 0,
    timeout: float | None = None,
    stop: Callable[[Trial], bool] | None = None,
    scheduler: Scheduler | None = None,
    deterministic: bool = False,
    callbacks: Sequence[Callable[[Study, Trial], None]] = (),
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

    With `study="search.db"` any number of processes, on any machines that see the store, run the same script and share
    one search. Killed at any instant and started again, it goes on: what a lost worker left is taken over by whoever
    comes first, with `feedback.attempt` above 1 and what is in `feedback.checkpoint`. Ctrl-C gives a trial back, and so
    does a store that cannot be used any more (a full disk, say), which raises `StorageError` from the loop. A
    worker leaves when nothing is left for it, though others may still be at their last trials.

    With `mu.share_weights(program)` in the place of the program, children share their weights. Algorithms that follow
    the gradient of a loss, such as DARTS, then come with the loop of `mu.flows.steps`, whose feedback takes the loss.

    Args:
        program: What holds hyper values: a symbolic object, a list, tuple or dict, a hyper value; or a `SearchSpace`;
            or a function without arguments that makes decisions as it runs (its child is a callable).
        algorithm: Settings of the search.
        trials: How many trials the study shall have in all, those that go on after a pause included; by default until
            algorithm and scheduler have nothing left.
        where: Which decisions are made here: a predicate of the point, or the path of a part of the program. The
            children stay abstract in the others, so that loops nest.
        study: Where the trials are recorded: a `Study`, or what `Study` opens, such as "search.db"; by default a new
            one in memory. The algorithm and seed that made its trials go on where they stopped; any other algorithm is
            told of those that are finished.
        objectives: Metrics that count; larger is better, or smaller with a minus in front.
        seed: Seed of the run; the same seed gives the same decisions.
        timeout: After how many seconds no further trial begins.
        stop: Says from the record of a running trial whether it should end early; asked by `feedback.should_stop()`.
        scheduler: Says how long trials go on, from what `feedback.report` says of every objective; asked by
            `feedback.should_stop()` too.
        deterministic: Whether the decisions are the same for any number of workers up to 8: trial n is then proposed
            when exactly the results of trials 0 to n - 8 are known, whatever else has ended. It takes no scheduler.
        callbacks: What is called with the study and the record of each trial that has ended here, such as
            `mu.integrations.TensorBoard()`. Their errors go on, after the trial is recorded.
        progress: Whether to show a progress bar; by default on a terminal.

    Returns:
        An iterator of (child, feedback); its `study` holds the trials.

    Raises:
        SpaceError: the program has no decisions, or the study is of quite another space.
        SettingError: an argument is out of range, or the algorithm cannot search this space.
        StorageError: the store cannot be opened.
    """
    if _learns_from_losses(algorithm) and _shares_weights(program):
        given = {"where": where, "study": study, "timeout": timeout, "stop": stop, "scheduler": scheduler,
                 "deterministic": deterministic or None, "callbacks": callbacks or None}  # fmt: skip
        loop: Sampling = _passes(program, algorithm, trials, seed, [name for name in given if given[name] is not None])
        return loop
    need_amount("trials", trials, int)
    need_amount("timeout", timeout, (int, float))
    need_order(deterministic, scheduler)
    searched, engine = begin(program, algorithm, study=study, objectives=objectives, seed=seed, where=where,
                             scheduler=scheduler, deterministic=deterministic)  # fmt: skip
    need_callbacks(callbacks)
    return Sampling(searched, engine, trials, timeout, stop, progress, callbacks)


def _learns_from_losses(algorithm: object) -> bool:
    return isinstance(algorithm, OneShot) and type(algorithm).start is OneShot.start


def _shares_weights(program: object) -> bool:
    room = sys.modules.get("mutandis.flows.supernet")  # Where it was not loaded, nothing shares weights.
    return room is not None and isinstance(program, room.Shared)


def _passes(program: Any, algorithm: Algorithm, trials: int | None, seed: int, given: Sequence[str]) -> Any:
    """Returns the loop of an algorithm that learns from losses on shared weights."""
    if given or trials is None:
        raise SettingError("cannot sample passes", at=", ".join(given) or "trials", got="given" if given else None,
                           expected="a number of weight steps and a seed, for an algorithm that learns from losses",
                           fix="write mu.sample(shared, algorithm, trials=999), or use mu.flows.steps")  # fmt: skip
    room = importlib.import_module("mutandis.flows.oneshot.loop")
    return room.steps(program, algorithm, num_steps=trials, seed=seed)


def need_callbacks(callbacks: object) -> None:
    """Refuses what is no sequence of functions.

    Raises:
        SettingError: it is not.
    """
    if not isinstance(callbacks, Sequence) or not all(map(callable, callbacks)):
        raise SettingError("cannot call back", at="callbacks", got=callbacks,
                           expected="a list of functions of the study and a trial",
                           fix="write callbacks=[mu.integrations.TensorBoard()]")  # fmt: skip


class Answers:
    """What answers need of a running search. It knows no iterator, so that a loop's iterator dies with the loop."""

    def __init__(self, engine: Engine | SharedEngine, trials: int | None, progress: bool | None,
                 callbacks: Sequence[Callable[[Study, Trial], None]] = ()) -> None:  # fmt: skip
        self.engine = engine
        self.callbacks = tuple(callbacks)
        self.bar = Bar(trials, show=progress)

    def finish(self, trial: Trial) -> None:
        """Records a trial that has ended, lets the search learn from it, shows the best so far and calls back."""
        self.engine.finish(trial)
        self.show()
        for callback in self.callbacks:
            callback(self.engine.study, trial)

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

    def __init__(
        self,
        space: SearchSpace,
        engine: Engine | SharedEngine,
        trials: int | None,
        timeout: float | None,
        stop: Any,
        progress: bool | None,
        callbacks: Sequence[Callable[[Study, Trial], None]] = (),
    ) -> None:
        self.space = space
        self.study = engine.study
        self._run = Answers(engine, trials, progress, callbacks)
        self._total = trials
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._stop = stop
        self._current: TrialFeedback | None = None
        self._shared = engine if isinstance(engine, SharedEngine) else None
        self._interrupts = None if self._shared is None else Interrupts()

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
        trial, turn = self._next_trial()
        feedback = TrialFeedback(trial, self.study.objectives, self._run.finish, self._stop, turn)
        self._current = feedback
        try:
            return self.space.materialize(turn.dna), feedback
        except Exception as error:
            feedback.fail(in_words(error))
            error.add_note(f"while building the child of trial {trial.id}: {trial.dna}")
            raise

    def _next_trial(self) -> tuple[Trial, Turn]:
        """Returns the next trial and its turn, once there is one.

        Raises:
            StopIteration: there is none.
        """
        if self._interrupts is not None:
            self._interrupts.came = False
        while self._deadline is None or time.monotonic() < self._deadline:
            try:
                begun = self._run.engine.start(self._total)
            except SpaceExhausted:
                break
            if begun is not None:
                return begun
            self._run.engine.wait()
        self._end()
        raise StopIteration

    def _end(self) -> None:
        self._run.bar.close()
        if self._interrupts is not None:
            self._interrupts.close()

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
        was_interrupted = self._interrupts is not None and self._interrupts.came
        if self._shared is not None and (was_interrupted or feedback.is_stuck):
            self._shared.release(feedback.trial.id)
        elif failure is None:
            feedback.abandon()
        else:
            feedback.fail(failure)

    def close(self, failure: str | None = None) -> None:
        """Ends the search; a trial that was not answered is failed for a reason, or else abandoned.

        After Ctrl-C, or where its store could not be used, a study gets it back unfinished instead.
        """
        feedback, self._current = self._current, None
        try:
            if feedback is not None and not feedback.is_answered:
                # A generator that says `yield from` closes its iterator when it is dropped itself.
                self._end_unanswered(feedback, failure or escaped(sys._getframe(1)))
        except StorageError as error:
            assert feedback is not None  # It has failed to record the end of that.
            warnings.warn(
                f"trial {feedback.trial.id} still runs as far as the study knows, until its worker counts as lost; "
                f"{error}",
                MutandisWarning,
                stacklevel=2,
            )
        finally:
            self._end()

    def __enter__(self) -> Sampling:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and not issubclass(kind, Exception) and self._interrupts is not None:
            self._interrupts.came = True  # Ctrl-C, or the end of the process.
        self.close(None if error is None else in_words(error))

    def __del__(self) -> None:
        """Ends the search when a plain for loop drops it.

        A loop lets go of its iterator at once, whether it was left by `break` or by an exception. Which of the two
        shows in the frame of the loop.
        """
        feedback = getattr(self, "_current", None)
        if feedback is None or feedback.is_answered:
            if hasattr(self, "_interrupts"):
                self._end()
            return
        self.close(escaped(sys._getframe(0).f_back))
