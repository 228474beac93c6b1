"""A turn: one trial from its start to its answer, and what the scheduler says of it.

The same code hears the reports of a running trial and those of a recorded one, so that a search that is replayed from
its records comes to the same decisions.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Protocol

from mutandis.algorithms.schedulers import Directive, Pacing
from mutandis.flows.studies.checkpoints import Checkpoint
from mutandis.flows.studies.objectives import Objective
from mutandis.flows.studies.trial import COMPLETED, PAUSED, RUNNING, STOPPED, Trial
from mutandis.hyper import DNA

_STATES = {
    None: COMPLETED,
    Directive.COMPLETE: COMPLETED,
    Directive.PAUSE: PAUSED,
    Directive.STOP: STOPPED,
}


class Wire(Protocol):
    """What a turn speaks to where its reports go through a store, whose order is the one that counts."""

    def report(self, turn: Turn, step: float, metrics: Mapping[str, float]) -> None:
        """Records a report, and lets the turn hear it in its place among all others."""

    def reach(self, turn: Turn, step: float, rewards: tuple[float, ...]) -> None:
        """The same for an answer that counts as the result at a step."""

    def is_lost(self, turn: Turn) -> bool:
        """Returns whether another worker has taken the trial over."""


class Turn:
    """What a trial was asked for, where it comes from, and how far it has come.

    Attributes:
        dna: The decisions.
        number: The id of its proposal; None for a trial that goes on after a pause.
        planned: The fidelity that the proposal asked for, or None.
        target: The length that the scheduler plans for this turn, or None.
        parent: The id of the trial that it goes on from, or None.
        root: The number by which the scheduler knows it: the id of the first trial of a series of pauses.
        directive: What the scheduler last said.
        step: The largest step that was reported, or None.
        checkpoint: Its directory.
        inherited: The directory of the trial that it goes on from, or None.
        wire: Where its reports go, or None where it hears them itself.
    """

    __slots__ = (
        "_earlier", "_heard", "_known", "_known_step", "_objectives", "_pacing", "checkpoint", "directive", "dna",
        "inherited", "number", "parent", "planned", "root", "step", "target", "wire",
    )  # fmt: skip

    def __init__(
        self,
        dna: DNA,
        *,
        number: int | None = None,
        planned: float | None = None,
        parent: int | None = None,
        root: int | None = None,
    ) -> None:
        self.dna = dna
        self.number = number
        self.planned = planned
        self.parent = parent
        self.root = root
        self.target: float | None = None
        self.directive = Directive.CONTINUE
        self.step: float | None = None
        self.checkpoint: Checkpoint | None = None
        self.inherited: Checkpoint | None = None
        self.wire: Wire | None = None
        self._earlier: Directive | None = None
        self._objectives: tuple[Objective, ...] = ()
        self._pacing: Pacing | None = None
        self._heard: float | None = None
        self._known: dict[str, float] = {}
        self._known_step: float | None = None

    def begin(self, trial: int, objectives: tuple[Objective, ...], pacing: Pacing | None) -> None:
        """Begins the turn under the id of its trial; the scheduler, where there is one, says how long it shall be."""
        if self.root is None:
            self.root = trial
        self._objectives = objectives
        self._pacing = pacing
        if pacing is not None:
            self.target = pacing.begin(self.root)

    @property
    def fidelity(self) -> float | None:
        """How long the trial shall have been trained when it ends: the shorter of what algorithm and scheduler want."""
        if self.target is None or self.planned is None:
            return self.planned if self.target is None else self.target
        return min(self.planned, self.target)

    def again(self) -> None:
        """Hears that another worker starts the trial again: until it is as far as the one before, nothing is new."""
        if self._heard is not None and self._earlier is None:
            self._earlier = self.directive
        self.directive = Directive.CONTINUE
        self.step = None
        self._known, self._known_step = {}, None

    def twin(self, pacing: Pacing | None) -> Turn:
        """Returns a turn that stands where this one does, and speaks to another run of the scheduler."""
        other = copy.copy(self)
        other._known, other._pacing = dict(self._known), pacing
        return other

    def follow(self, other: Turn) -> None:
        """Comes to stand where another turn of the same trial does; what belongs to this process stays."""
        for name in ("_earlier", "_heard", "_known_step", "directive", "root", "step", "target"):
            setattr(self, name, getattr(other, name))
        self._known = dict(other._known)

    @property
    def is_lost(self) -> bool:
        """Whether another worker has taken the trial over."""
        return self.wire is not None and self.wire.is_lost(self)

    def report(self, step: float, metrics: Mapping[str, float]) -> None:
        """Hears a report; the scheduler hears of it once the reports of this step hold every objective."""
        if self.wire is not None:
            self.wire.report(self, step, metrics)
        else:
            self.hear(step, metrics)

    def hear(self, step: float, metrics: Mapping[str, float]) -> None:
        """Hears a report in its place among all others."""
        if self.step is None or step > self.step:
            self.step = step
        if self._pacing is None:
            return
        if step != self._known_step:
            self._known, self._known_step = {}, step
        self._known.update(metrics)
        if all(objective.name in self._known for objective in self._objectives):
            self.reach(step, tuple(o.sign * self._known[o.name] for o in self._objectives))

    def reach(self, step: float, rewards: tuple[float, ...]) -> None:
        """Tells the scheduler of a result, unless an earlier attempt at the trial has."""
        assert self._pacing is not None and self.root is not None  # Only told after begin().
        if self._earlier is not None and self._heard is not None:
            if step < self._heard:
                return
            self.directive, self._earlier = self._earlier, None
            if step == self._heard:
                return
        self.directive = self._pacing.report(self.root, step, rewards)
        if self._heard is None or step > self._heard:
            self._heard = step

    def answer(self, told: Directive | None, rewards: tuple[float, ...]) -> tuple[str, float | None]:
        """Returns the state and the fidelity of a trial that was answered with rewards.

        Args:
            told: What `should_stop` told the body, or None where it never said yes.
            rewards: The rewards, larger is better.
        """
        if self._earlier is not None:  # The attempt before came further, and what it was told stands.
            self.directive, self._earlier = self._earlier, None
        if told is None and self.directive is Directive.PAUSE:
            told = Directive.PAUSE
        if told is None and self._awaits_answer():
            return self._reach(rewards)
        return _STATES[told], self._length(told)

    def _awaits_answer(self) -> bool:
        """Returns whether the answer is the result at the target, which no report has reached."""
        if self.target is None or (self.planned is not None and self.planned < self.target):
            return False
        return self._heard is None or self._heard < self.target

    def _reach(self, rewards: tuple[float, ...]) -> tuple[str, float | None]:
        assert self.target is not None  # Checked by _awaits_answer.
        if self.wire is not None:
            self.wire.reach(self, self.target, rewards)
        else:
            self.reach(self.target, rewards)
        state = PAUSED if self.directive is Directive.PAUSE else COMPLETED
        return state, max(self.target, self.step or 0)

    def _length(self, told: Directive | None) -> float | None:
        if told is Directive.STOP:
            return self.step
        if told is not None:
            return None if self.fidelity is None and told is Directive.COMPLETE else self._heard
        if self.planned is not None and (self.target is None or self.planned <= self.target):
            return self.planned
        return None if self.target is None else self._heard

    def replay(self, trial: Trial, rewards: tuple[float, ...] | None) -> None:
        """Hears again what a recorded trial reported and answered.

        Args:
            trial: The record.
            rewards: Its rewards, larger is better, or None.
        """
        for step, metrics in trial.curve:
            self.hear(step, metrics)
        if rewards is None or trial.state not in (COMPLETED, PAUSED) or not self._awaits_answer():
            return
        assert self.target is not None  # Checked by _awaits_answer.
        if trial.fidelity is not None and trial.fidelity >= self.target:
            self.reach(self.target, rewards)

    def end(self, trial: Trial, rewards: tuple[float, ...] | None) -> None:
        """Tells the scheduler how the trial ended."""
        if self._pacing is None or self.root is None or trial.state == RUNNING:
            return
        if trial.state == PAUSED:
            self._pacing.pause(self.root)
        else:
            self._pacing.finish(self.root, rewards)
