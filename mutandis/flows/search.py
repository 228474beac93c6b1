"""`mu.search`: the whole search in one call, on any number of workers."""

from __future__ import annotations

import contextlib
import os
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from mutandis.algorithms import Algorithm
from mutandis.algorithms.base import need_int
from mutandis.algorithms.schedulers import Scheduler
from mutandis.errors import (
    FeedbackError,
    MutandisWarning,
    SearchError,
    SettingError,
    SpaceExhausted,
    StorageError,
    closest,
)
from mutandis.flows import job as jobs
from mutandis.flows.engine import Engine
from mutandis.flows.executors import Executor, Inline, Outcome, Pool, Processes, Ray
from mutandis.flows.executors.base import CANCELLED, LOST, RETURNED
from mutandis.flows.feedback import TrialFeedback
from mutandis.flows.job import Job, Order
from mutandis.flows.opening import begin, need_amount, need_order
from mutandis.flows.sample import Answers, need_callbacks
from mutandis.flows.shared import SharedEngine
from mutandis.flows.studies import Study, Trial
from mutandis.flows.window import WINDOW
from mutandis.hyper import SearchSpace

EXECUTORS: dict[str, Callable[[], Executor]] = {"processes": Processes, "inline": Inline, "ray": Ray}
"""Executors by the names that `search` takes."""

_TRIES = 3

_GLANCE = 0.2
"""Seconds between two looks at a store for what others have left."""


def search(
    program: Any,
    algorithm: Algorithm,
    *,
    trials: int | None = None,
    objective: Callable[..., Any] | None = None,
    workers: int = 1,
    executor: str | Executor = "processes",
    study: Study | str | os.PathLike[str] | None = None,
    objectives: Sequence[str] | str = ("reward",),
    seed: int = 0,
    timeout: float | None = None,
    trial_timeout: float | None = None,
    memory_bytes: int | None = None,
    scheduler: Scheduler | None = None,
    deterministic: bool = False,
    max_failures: int = 10,
    callbacks: Sequence[Callable[[Study, Trial], None]] = (),
    progress: bool | None = None,
) -> Study:
    """Searches a program without a loop of yours.

        study = mu.search(program, mu.algorithms.RegularizedEvolution(), trials=100, workers=4)
        print(study.best)

    The objective of a child is its method `run()`, or else calling it; or `objective(child)`. It returns the reward, or
    a dict of metrics. Where it has a parameter named `feedback`, it gets the way to report and to stop early, as in the
    loop of `mu.sample`: `feedback.report({...}, step=)`, `feedback.should_stop()`, `feedback.checkpoint`.

    A trial that raises, crashes, hangs longer than `trial_timeout`, takes more memory than `memory_bytes` or is killed
    fails alone; a warning tells of the first one. Ctrl-C ends running trials and returns what there is; a study in a
    store gets them back, and whoever continues it tries them again.

    Args:
        program: As for `mu.sample`.
        algorithm: Settings of the search.
        trials: How many trials the study shall have in all; by default until the algorithm has nothing left.
        objective: A function of the child, or of the child and the feedback.
        workers: How many trials run at the same time.
        executor: `processes`: spawned processes of this machine; the script then needs an
            `if __name__ == "__main__":` around its search. `inline`: this process, one trial at a time. `ray`: a
            Ray cluster, or one that is started on this machine. Or an `Executor` with its settings, such as
            `mu.flows.executors.Ray(num_gpus=1)`, or one of yours.
        study: Where the trials are recorded; as for `mu.sample`, so that any number of such searches share one.
        objectives: Metrics that count; larger is better, or smaller with a minus in front.
        seed: Seed of the run.
        timeout: After how many seconds no further trial begins.
        trial_timeout: After how many seconds a trial is ended, and fails.
        memory_bytes: At how many bytes of resident memory a trial is ended, and fails.
        scheduler: Says how long trials go on.
        deterministic: Whether the decisions are the same for any number of workers up to 8: trial n is then proposed
            when exactly the results of trials 0 to n - 8 are known, whatever else has ended. It takes no scheduler.
        max_failures: After how many failed trials in a row the search gives up.
        callbacks: What is called here, with the study and the record of each trial that has ended; as for `mu.sample`.
        progress: Whether to show a progress bar; by default on a terminal.

    Returns:
        The study.

    Raises:
        SearchError: `max_failures` trials in a row failed; the last reason is told.
        SettingError: an argument is out of range, or the executor cannot keep a limit.
        SpaceError: the program has no decisions, or the study is of quite another space.
        StorageError: the study's store cannot be opened, or cannot be used any more; what is recorded stays.
        ExecutorError: the program or the objective cannot be sent to a worker.
        MissingDependency: `executor="ray"`, and Ray is not installed.
    """
    need_amount("trials", trials, int)
    for name, value in (("timeout", timeout), ("trial_timeout", trial_timeout), ("memory_bytes", memory_bytes)):
        need_amount(name, value, (int, float))
    need_int("workers", workers, 1)
    need_int("max_failures", max_failures, 1)
    need_callbacks(callbacks)
    need_order(deterministic, scheduler, workers)
    chosen = _executor(executor)
    _need_objective(program, objective)
    space, engine = begin(program, algorithm, study=study, objectives=objectives, seed=seed, scheduler=scheduler,
                          deterministic=deterministic)  # fmt: skip
    run = _Search(engine, trials=trials, timeout=timeout, max_failures=max_failures, callbacks=callbacks,
                  progress=progress)  # fmt: skip
    pool = chosen.open(
        Job(space, objective), run.hear, workers=workers, timeout=trial_timeout, memory_bytes=memory_bytes
    )
    with pool:
        run.run(pool)
    return engine.study


def _executor(executor: str | Executor) -> Executor:
    if isinstance(executor, Executor):
        return executor
    if not isinstance(executor, str) or executor not in EXECUTORS:
        raise SettingError("cannot run trials", at="executor", got=executor,
                           expected=f"an Executor, or one of {', '.join(EXECUTORS)}{closest(str(executor), EXECUTORS)}",
                           fix='use executor="processes"')  # fmt: skip
    return EXECUTORS[executor]()


def _need_objective(program: Any, objective: Any) -> None:
    """Refuses a search in which no trial could say how good it is.

    Raises:
        SettingError: the objective cannot be called, or there is none and a child would be a dict or list.
    """
    held = program.program if isinstance(program, SearchSpace) else program
    is_plain = isinstance(held, (dict, list, tuple))
    if (objective is None and is_plain) or (objective is not None and not callable(objective)):
        what = f"a child is a {type(held).__name__}" if objective is None else "it is called with a child"
        raise SettingError("cannot search", at="objective", got=objective,
                           expected=f"a function of the child, since {what}",
                           fix="pass objective=score, where score(child) returns the reward")  # fmt: skip


class _Search:
    """A running search: hands trials to a pool, and takes their outcomes in."""

    def __init__(
        self,
        engine: Engine | SharedEngine,
        *,
        trials: int | None,
        timeout: float | None,
        max_failures: int,
        callbacks: Sequence[Callable[[Study, Trial], None]],
        progress: bool | None,
    ) -> None:
        self._engine = engine
        self._shared = engine if isinstance(engine, SharedEngine) else None
        self._study = engine.study
        self._answers = Answers(engine, trials, progress, callbacks)
        self._total = trials
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._max_failures = max_failures
        self._failures = 0
        self._running: dict[int, TrialFeedback] = {}
        self._orders: dict[int, tuple[Order, int]] = {}
        self._is_over = False
        self._is_waiting = False
        self._has_warned = False

    def run(self, pool: Pool) -> None:
        """Runs until nothing is left to try and nothing runs."""
        try:
            while True:
                self._fill(pool)
                if self._running:
                    for outcome in pool.wait(self._patience(pool)):
                        self._take(pool, outcome)
                elif self._is_waiting:
                    self._engine.wait()
                else:
                    break
        except KeyboardInterrupt:
            what = "count as abandoned" if self._shared is None else "are given back to the study"
            warnings.warn(f"the search was interrupted; {self._leave()} running trials {what}",
                          MutandisWarning, stacklevel=3)  # fmt: skip
        except BaseException:
            self._leave()
            raise
        finally:
            self._answers.bar.close()

    def _patience(self, pool: Pool) -> float | None:
        """Returns for how many seconds nothing but outcomes can matter; None for ever."""
        left = None if self._deadline is None else max(self._deadline - time.monotonic(), 0.05)
        if not self._is_waiting or pool.num_free == 0:
            return left
        return _GLANCE if left is None else min(left, _GLANCE)

    def _fill(self, pool: Pool) -> None:
        self._is_waiting = False
        while not self._is_over and pool.num_free > 0:
            if self._deadline is not None and time.monotonic() >= self._deadline:
                break
            try:
                begun = self._engine.start(self._total)
            except SpaceExhausted:
                # While trials run, one of them may yet be promoted.
                self._is_over = not self._running
                break
            if begun is None:
                self._is_waiting = self._shared is not None
                break
            trial, turn = begun
            feedback = TrialFeedback(trial, self._study.objectives, self._answers.finish, None, turn)
            self._running[trial.id] = feedback
            order = Order(trial.id, turn.dna.values, turn.fidelity, trial.attempt)
            self._orders[trial.id] = (order, 1)
            pool.submit(trial.id, order)

    def hear(self, key: int, data: Any) -> Any:
        """Answers what a running job says."""
        feedback = self._running[key]
        kind, *rest = data
        if kind == jobs.REPORT:
            feedback.report(rest[0], step=rest[1])
        elif kind == jobs.SHOULD_STOP:
            return feedback.should_stop()
        elif kind == jobs.CHECKPOINT:
            return str(feedback.checkpoint)
        elif kind == jobs.INHERITED:
            return None if feedback.inherited is None else str(feedback.inherited)
        return None

    def _take(self, pool: Pool, outcome: Outcome) -> None:
        order, tries = self._orders[outcome.key]
        if outcome.kind == LOST and tries < _TRIES:
            self._orders[outcome.key] = (order, tries + 1)
            pool.submit(outcome.key, order)
            return
        self._settle(outcome)

    def _settle(self, outcome: Outcome) -> None:
        feedback = self._running[outcome.key]
        feedback.ran(outcome.worker, outcome.seconds)
        if outcome.kind == RETURNED:
            self._answer(feedback, *outcome.value)
        elif outcome.kind == CANCELLED:
            feedback.abandon()
        else:
            self._fail(feedback, f"{outcome.reason}", outcome.value)
        del self._running[outcome.key], self._orders[outcome.key]
        self._failures = self._failures + 1 if feedback.trial.state == "failed" else 0
        if self._failures >= self._max_failures:
            raise SearchError(
                "cannot go on: every trial fails",
                at=f"trial {feedback.trial.id}",
                got=feedback.trial.reason,
                expected=f"fewer than {self._max_failures} failures in a row",
                fix="mend the objective and search again with the same study, or raise max_failures",
            )

    def _answer(self, feedback: TrialFeedback, kind: str, data: Any) -> None:
        if kind == jobs.SKIP:
            feedback.skip(data)
            return
        if kind == jobs.NOTHING:
            self._fail(feedback, "the objective returned nothing", "return the reward, or a dict of metrics")
            return
        reward, metrics = data
        try:
            feedback(reward, metrics=metrics)
        except FeedbackError as error:
            self._fail(feedback, str(error), None)

    def _fail(self, feedback: TrialFeedback, reason: str, detail: Any) -> None:
        feedback.fail(reason)
        if not self._has_warned:
            self._has_warned = True
            shown = f"\n{detail}" if detail else ""
            warnings.warn(f"trial {feedback.trial.id} failed: {reason}{shown}\nFurther failures are recorded in "
                          "the study without a warning.", MutandisWarning, stacklevel=2)  # fmt: skip

    def _leave(self) -> int:
        """Ends what runs, or gives it back to a study in a store; returns how many trials that were."""
        left = [feedback for feedback in self._running.values() if not feedback.is_answered]
        self._running = {}
        for feedback in left:
            if self._shared is None:
                feedback.abandon()
                continue
            with contextlib.suppress(StorageError):  # Then nobody beats for it, and it counts as lost before long.
                self._shared.release(feedback.trial.id)
        return len(left)


__all__ = ["EXECUTORS", "WINDOW", "search"]
