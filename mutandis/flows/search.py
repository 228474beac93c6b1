"""`mu.search`: the whole search in one call, on any number of workers."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from mutandis.algorithms import Algorithm
from mutandis.algorithms.base import need_int
from mutandis.algorithms.schedulers import Scheduler
from mutandis.errors import FeedbackError, MutandisWarning, SearchError, SettingError, SpaceExhausted, closest
from mutandis.flows import job as jobs
from mutandis.flows.engine import Engine
from mutandis.flows.executors import Executor, Inline, Outcome, Pool, Processes
from mutandis.flows.executors.base import CANCELLED, LOST, RETURNED
from mutandis.flows.feedback import TrialFeedback
from mutandis.flows.job import Job, Order
from mutandis.flows.opening import begin, need_amount
from mutandis.flows.sample import Answers
from mutandis.flows.studies import Study
from mutandis.hyper import SearchSpace

EXECUTORS: dict[str, Callable[[], Executor]] = {"processes": Processes, "inline": Inline}
"""Executors by the names that `search` takes."""

WINDOW = 8
"""How far proposals run ahead of results where decisions must not hang on the number of workers."""

_TRIES = 3


def search(
    program: Any,
    algorithm: Algorithm,
    *,
    trials: int | None = None,
    objective: Callable[..., Any] | None = None,
    workers: int = 1,
    executor: str | Executor = "processes",
    study: Study | None = None,
    objectives: Sequence[str] | str = ("reward",),
    seed: int = 0,
    timeout: float | None = None,
    trial_timeout: float | None = None,
    memory_bytes: int | None = None,
    scheduler: Scheduler | None = None,
    deterministic: bool = False,
    max_failures: int = 10,
    progress: bool | None = None,
) -> Study:
    """Searches a program without a loop of yours.

        study = mu.search(program, mu.algorithms.RegularizedEvolution(), trials=100, workers=4)
        print(study.best)

    The objective of a child is its method `run()`, or else calling it; or `objective(child)`. It returns the reward, or
    a dict of metrics. Where it has a parameter named `feedback`, it gets the way to report and to stop early, as in the
    loop of `mu.sample`: `feedback.report({...}, step=)`, `feedback.should_stop()`, `feedback.checkpoint`.

    A trial that raises, crashes, hangs longer than `trial_timeout`, takes more memory than `memory_bytes` or is killed
    fails alone; a warning tells of the first one. Ctrl-C ends running trials and returns what there is.

    Args:
        program: As for `mu.sample`.
        algorithm: Settings of the search.
        trials: How many trials the study shall have in all; by default until the algorithm has nothing left.
        objective: A function of the child, or of the child and the feedback.
        workers: How many trials run at the same time.
        executor: `processes`: spawned processes of this machine; the script then needs an
            `if __name__ == "__main__":` around its search. `inline`: this process, one trial at a time. Or an
            `Executor` of yours.
        study: Where the trials are recorded; as for `mu.sample`.
        objectives: Metrics that count; larger is better, or smaller with a minus in front.
        seed: Seed of the run.
        timeout: After how many seconds no further trial begins.
        trial_timeout: After how many seconds a trial is ended, and fails.
        memory_bytes: At how many bytes of resident memory a trial is ended, and fails.
        scheduler: Says how long trials go on.
        deterministic: Whether the decisions are the same for any number of workers up to 8: trial n is then proposed
            when exactly the results of trials 0 to n - 8 are known, whatever else has ended. It takes no scheduler.
        max_failures: After how many failed trials in a row the search gives up.
        progress: Whether to show a progress bar; by default on a terminal.

    Returns:
        The study.

    Raises:
        SearchError: `max_failures` trials in a row failed; the last reason is told.
        SettingError: an argument is out of range, or the executor cannot keep a limit.
        SpaceError: the program has no decisions, or the study is of another space.
        ExecutorError: the program or the objective cannot be sent to a worker.
    """
    need_amount("trials", trials, int)
    for name, value in (("timeout", timeout), ("trial_timeout", trial_timeout), ("memory_bytes", memory_bytes)):
        need_amount(name, value, (int, float))
    need_int("workers", workers, 1)
    need_int("max_failures", max_failures, 1)
    if deterministic and (workers > WINDOW or scheduler is not None):
        raise SettingError(
            "cannot search deterministically",
            at="scheduler" if scheduler is not None else "workers",
            got=scheduler or workers,
            expected=f"at most {WINDOW} workers and no scheduler, whose decisions hang on who reports first",
            fix="leave deterministic out",
        )
    chosen = _executor(executor)
    space, engine = begin(program, algorithm, study=study, objectives=objectives, seed=seed, scheduler=scheduler)
    run = _Search(space, engine, trials=trials, timeout=timeout, window=WINDOW if deterministic else None,
                  max_failures=max_failures, progress=progress)  # fmt: skip
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


class _Search:
    """A running search: hands trials to a pool, and takes their outcomes in."""

    def __init__(
        self,
        space: SearchSpace,
        engine: Engine,
        *,
        trials: int | None,
        timeout: float | None,
        window: int | None,
        max_failures: int,
        progress: bool | None,
    ) -> None:
        self._space = space
        self._engine = engine
        self._study = engine.study
        self._answers = Answers(engine, trials, progress)
        self._total = trials
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._window = window
        self._max_failures = max_failures
        self._failures = 0
        self._running: dict[int, TrialFeedback] = {}
        self._orders: dict[int, tuple[Order, int]] = {}
        self._held: dict[int, Outcome] = {}
        self._is_over = False
        self._has_warned = False

    def run(self, pool: Pool) -> None:
        """Runs until nothing is left to try and nothing runs."""
        try:
            while True:
                self._fill(pool)
                if not self._running:
                    break
                for outcome in pool.wait(self._patience()):
                    self._take(pool, outcome)
        except KeyboardInterrupt:
            self._interrupt()
        finally:
            self._answers.bar.close()

    def _patience(self) -> float | None:
        return None if self._deadline is None else max(self._deadline - time.monotonic(), 0.05)

    def _fill(self, pool: Pool) -> None:
        while not self._is_over and self._has_room(pool):
            late = self._deadline is not None and time.monotonic() >= self._deadline
            if late or (self._total is not None and len(self._study) >= self._total):
                break
            try:
                turn = self._engine.next_turn()
            except SpaceExhausted:
                # While trials run, one of them may yet be promoted.
                self._is_over = not self._running
                break
            trial = self._study.add(turn.dna, parent=turn.parent)
            self._engine.begin(trial.id, turn)
            feedback = TrialFeedback(trial, self._study.objectives, self._answers.finish, None, turn)
            self._running[trial.id] = feedback
            order = Order(trial.id, turn.dna.values, turn.fidelity)
            self._orders[trial.id] = (order, 1)
            pool.submit(trial.id, order)

    def _has_room(self, pool: Pool) -> bool:
        if self._window is not None:
            return len(self._running) < self._window
        return pool.num_free > 0

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
        if self._window is None:
            self._settle(outcome)
            return
        self._held[outcome.key] = outcome
        # Results are taken in by number, and never more than one for each trial that is proposed.
        first = min(self._running)
        while first in self._held:
            self._settle(self._held.pop(first))
            self._fill(pool)
            first = min(self._running, default=-1)

    def _settle(self, outcome: Outcome) -> None:
        feedback = self._running.pop(outcome.key)
        del self._orders[outcome.key]
        feedback.ran(outcome.worker, outcome.seconds)
        if outcome.kind == RETURNED:
            self._answer(feedback, *outcome.value)
        elif outcome.kind == CANCELLED:
            feedback.abandon()
        else:
            self._fail(feedback, f"{outcome.reason}", outcome.value)
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
            self._fail(feedback, error.problem, str(error))

    def _fail(self, feedback: TrialFeedback, reason: str, detail: Any) -> None:
        feedback.fail(reason)
        if not self._has_warned:
            self._has_warned = True
            shown = f"\n{detail}" if detail else ""
            warnings.warn(f"trial {feedback.trial.id} failed: {reason}{shown}\nFurther failures are recorded in "
                          "the study without a warning.", MutandisWarning, stacklevel=2)  # fmt: skip

    def _interrupt(self) -> None:
        for feedback in self._running.values():
            feedback.abandon()
        warnings.warn(f"the search was interrupted; {len(self._running)} running trials count as abandoned",
                      MutandisWarning, stacklevel=4)  # fmt: skip
        self._running = {}


__all__ = ["EXECUTORS", "WINDOW", "search"]
