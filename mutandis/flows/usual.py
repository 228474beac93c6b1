"""The usual flows by name: joint, sequential, nested, phased (Peng et al. 2020, PyGlove, section 3.3).

A flow says in which order the decisions of one space are searched, each part with its own algorithm. Settings are
symbolic, so a flow can itself be searched. Every trial of a flow is a whole child, recorded in one study of the whole
space, whatever part of it was being searched.
"""

from __future__ import annotations

import abc
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mutandis.algorithms import Algorithm, settings
from mutandis.algorithms.base import need_instance, need_int
from mutandis.algorithms.schedulers import Scheduler
from mutandis.errors import MutandisWarning, SettingError, in_words
from mutandis.flows.feedback import TrialFeedback
from mutandis.flows.job import call, place_of_feedback
from mutandis.flows.sample import sample
from mutandis.flows.studies import Study, Trial
from mutandis.flows.studies.objectives import parse_objectives
from mutandis.flows.studies.study import is_finished
from mutandis.hyper import Point, SearchSpace, space

Task = Callable[..., float | Mapping[str, Any]]
Where = Callable[[Point], bool] | str


class Flow(abc.ABC):
    """How a program and a task become trials. Settings only; a run is the iterator."""

    def run(
        self,
        program: Any,
        task: Task,
        *,
        budget: int,
        objectives: Sequence[str] | str = ("reward",),
        seed: int = 0,
        study: Study | None = None,
    ) -> Iterator[Trial]:
        """Yields every trial when it ends; closing the iterator stops cleanly.

        Args:
            program: What holds hyper values, or its space.
            task: A function of a child that returns a reward or a dict of metrics; where it takes two arguments, of
                the child and its feedback, for reports on the way. A child for which it raises is a failed trial; a
                warning says so, and the run goes on.
            budget: Number of trials.
            objectives: Metrics that count; larger is better, or smaller with a minus in front.
            seed: Seed of the run.
            study: Where the trials are recorded; an algorithm of a flow is told of what it holds where that fits.

        Raises:
            SettingError: the budget is not a whole number of at least 1, or an algorithm cannot search its part.
            SpaceError: there is nothing to decide.
        """
        need_int("budget", budget, 1)
        recorder = _Recorder(space(program), task, study or Study(), objectives)
        return self.trials(program, recorder, budget=budget, seed=seed)

    @abc.abstractmethod
    def trials(self, program: Any, recorder: _Recorder, *, budget: int, seed: int) -> Iterator[Trial]:
        """Yields the trials of this flow; `recorder` evaluates whole children."""


class _Recorder:
    """Evaluates whole children and records them in the study of the whole space."""

    def __init__(self, whole: SearchSpace, task: Task, study: Study, objectives: Sequence[str] | str) -> None:
        self.whole = whole
        self.task = task
        self.study = study
        self.objectives = objectives
        self.takes_feedback = place_of_feedback(task, 1) is not None
        study.open(whole, parse_objectives(objectives))

    def evaluate(self, child: Any, trial: Trial | None = None) -> Trial:
        """Returns the finished trial of a child."""
        feedback = TrialFeedback(
            trial or self.study.add(self.whole.encode(child)), self.study.objectives, self.study.finish
        )
        self.answer(child, feedback)
        return feedback.trial

    def answer(self, child: Any, feedback: TrialFeedback) -> None:
        """Runs the task on a child and gives its answer; an exception fails the trial alone."""
        try:
            result = call(self.task, (child,), feedback)
        except Exception as error:
            feedback.fail(in_words(error))
            warnings.warn(f"trial {feedback.trial.id} failed with {in_words(error)}", MutandisWarning, stacklevel=2)
        else:
            feedback(result)

    def searching(self, program: Any, algorithm: Algorithm, **arguments: Any) -> Iterator[tuple[Any, TrialFeedback]]:
        """Returns a loop over a part of the space, with a study of its own."""
        return sample(program, algorithm, study=Study(), objectives=self.objectives, progress=False, **arguments)


def _completed(child: Any) -> Any:
    """Returns a child with what is still undecided at its defaults."""
    rest = space(child)
    return rest.materialize(rest.default()) if rest.points else child


def _reply(trial: Trial, feedback: TrialFeedback, study: Study) -> None:
    """Tells the algorithm of a part what a whole child of `study` achieved."""
    if not is_finished(trial) or trial.rewards is None:
        feedback.fail(trial.reason or trial.state)
        return
    names = (objective.name for objective in study.objectives)
    feedback({**(trial.metrics or {}), **dict(zip(names, trial.rewards, strict=True))})


@settings
class Joint(Flow):
    """All decisions in one loop.

    Args:
        algorithm: Searches the whole space; told of the finished trials of the study it continues.
        scheduler: Says how long trials go on; the task then takes the child and its feedback, and heeds
            `feedback.fidelity` or `feedback.should_stop()`. Trials that go on after a pause count in the budget.

    Raises:
        SettingError: the scheduler is none.
    """

    algorithm: Algorithm
    scheduler: Scheduler | None = None

    def __post_init__(self) -> None:
        if self.scheduler is not None:
            need_instance("Joint.scheduler", self.scheduler, Scheduler, "schedulers.Median()")

    def trials(self, program: Any, recorder: _Recorder, *, budget: int, seed: int) -> Iterator[Trial]:
        """Yields one trial per proposal."""
        if self.scheduler is not None and not recorder.takes_feedback:
            raise SettingError(
                "cannot schedule trials that report nothing",
                at="task",
                got=recorder.task,
                expected="a function of the child and its feedback",
                fix="write task(child, feedback), and call feedback.report({...}, step=...) in it",
            )
        study = recorder.study
        loop = sample(
            recorder.whole, self.algorithm, trials=len(study) + budget, study=study, objectives=recorder.objectives,
            seed=seed, scheduler=self.scheduler, progress=False,
        )  # fmt: skip
        with loop:
            for child, feedback in loop:
                recorder.answer(child, feedback)
                yield feedback.trial


@settings
class Sequential(Flow):
    """One part of the decisions after the other; the best of each part is kept, later parts wait at their defaults.

    Args:
        stages: Pairs (where, algorithm); `where` as for `mu.sample`, None for all that is left. Each gets an equal
            part of the budget, the first ones what is left over. A stage without decisions is passed over.
    """

    stages: tuple[tuple[Where | None, Algorithm], ...]

    def __post_init__(self) -> None:
        _need_pairs("Sequential.stages", self.stages, "(where, algorithm)")

    def trials(self, program: Any, recorder: _Recorder, *, budget: int, seed: int) -> Iterator[Trial]:
        """Yields the trials of each stage."""
        left, stages = budget, len(self.stages)
        for number, (where, algorithm) in enumerate(self.stages):
            share = -(-left // (stages - number))
            if share == 0 or not _decides(program, where):
                continue
            loop = recorder.searching(program, algorithm, where=where, trials=share, seed=seed + number)
            best: tuple[tuple[float, ...], Any] | None = None
            for part, feedback in loop:
                trial = recorder.evaluate(_completed(part))
                _reply(trial, feedback, recorder.study)
                left -= 1
                if is_finished(trial) and (best is None or recorder.study.signed(trial) > best[0]):
                    best = recorder.study.signed(trial), feedback.trial.dna
                yield trial
            if best is None:
                return  # Nothing can be kept: every child of this stage failed.
            program = loop.space.materialize(best[1])  # type: ignore[attr-defined]


@settings
class Nested(Flow):
    """An inner search for every decision of an outer one, such as networks inside hardware.

    Args:
        where: Which decisions are outer.
        outer: Searches them; its reward is the best of the inner search.
        inner: Searches the rest, anew for every outer child.
        inner_trials: How many trials an inner search has; the budget counts these.
    """

    where: Where
    outer: Algorithm
    inner: Algorithm
    inner_trials: int = 20

    def __post_init__(self) -> None:
        need_int("Nested.inner_trials", self.inner_trials, 1)

    def trials(self, program: Any, recorder: _Recorder, *, budget: int, seed: int) -> Iterator[Trial]:
        """Yields the trials of all inner searches."""
        left = budget
        for part, feedback in recorder.searching(program, self.outer, where=self.where, seed=seed):
            best: Trial | None = None
            for trial in self._inside(part, recorder, min(left, self.inner_trials), seed + feedback.trial.id + 1):
                left -= 1
                if is_finished(trial) and (best is None or recorder.study.signed(trial) > recorder.study.signed(best)):
                    best = trial
                yield trial
            if best is None:
                feedback.fail("no inner trial was completed")
            else:
                _reply(best, feedback, recorder.study)
            if left <= 0:
                return

    def _inside(self, part: Any, recorder: _Recorder, budget: int, seed: int) -> Iterator[Trial]:
        if not space(part).points:
            yield recorder.evaluate(part)
            return
        for child, feedback in recorder.searching(part, self.inner, trials=budget, seed=seed):
            trial = recorder.evaluate(child)
            _reply(trial, feedback, recorder.study)
            yield trial


@settings
class Phased(Flow):
    """One flow after the other on the same space and study, such as a sequential start and a joint end.

    A `Joint` phase learns from the trials of all phases before it.

    Args:
        phases: Pairs (flow, share of the budget); shares are positive and need not add up to 1.
    """

    phases: tuple[tuple[Flow, float], ...]

    def __post_init__(self) -> None:
        _need_pairs("Phased.phases", self.phases, "(flow, share)")
        for _, share in self.phases:
            if not isinstance(share, (int, float)) or not share > 0:
                raise SettingError("cannot give a phase its share", at="Phased.phases", got=share,
                                   expected="a number above 0", fix="leave the phase out")  # fmt: skip

    def trials(self, program: Any, recorder: _Recorder, *, budget: int, seed: int) -> Iterator[Trial]:
        """Yields the trials of each phase."""
        total, done, spent = sum(share for _, share in self.phases), 0.0, 0
        for number, (flow, share) in enumerate(self.phases):
            done += share
            part = round(budget * done / total) - spent
            if part > 0:
                spent += part
                yield from flow.trials(program, recorder, budget=part, seed=seed + 1000 * number)


def _decides(program: Any, where: Where | None) -> bool:
    """Returns whether a stage has anything to decide in a program."""
    made = space(program)
    if where is None or not made.points:
        return bool(made.points)
    return bool(made.split(where)[0].points)


def _need_pairs(name: str, pairs: object, what: str) -> None:
    if isinstance(pairs, tuple) and pairs and all(isinstance(pair, tuple) and len(pair) == 2 for pair in pairs):
        return
    raise SettingError("cannot make a flow", at=name, got=pairs, expected=f"a tuple of pairs {what}",
                       fix="write Sequential(((where, algorithm), (None, algorithm)))" if "where" in what else
                       "write Phased(((flow, 0.5), (flow, 0.5)))")  # fmt: skip
