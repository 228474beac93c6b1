"""Studies: the trials of one search, in memory."""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Iterator
from typing import Any

from mutandis.algorithms.dominance import undominated
from mutandis.errors import MissingDependency, SettingError, SpaceError
from mutandis.flows.studies.checkpoints import Checkpoint
from mutandis.flows.studies.objectives import Objective
from mutandis.flows.studies.trial import COMPLETED, PAUSED, STOPPED, Trial
from mutandis.hyper import DNA, SearchSpace


class Study:
    """The record of a search.

    Give one to several calls of `mu.sample` and they continue it: numbers go on, the same algorithm and seed go on
    where they stopped, and another algorithm is told of what is finished.

    Args:
        name: How reports call it.

    Attributes:
        checkpoints: Directories, by the id of their trial, that a later trial may go on from: those of paused trials,
            and of all trials whose algorithm said how long they should be trained. They go when a paused trial goes
            on, or with the study.
    """

    def __init__(self, name: str = "study") -> None:
        if not isinstance(name, str):
            raise SettingError("cannot name a study", at="name", got=name, expected="a text",
                               fix='write mu.Study("my search")')  # fmt: skip
        self.name = name
        self.objectives: tuple[Objective, ...] = ()
        self.space: SearchSpace | None = None
        self.checkpoints: dict[int, Checkpoint] = {}
        self._trials: list[Trial] = []
        self._best: Trial | None = None

    def open(self, space: SearchSpace, objectives: tuple[Objective, ...]) -> None:
        """Fixes what the study is about, at the first search, and checks it at later ones.

        Raises:
            SpaceError: its trials are of another space.
            SettingError: its trials have other objectives.
        """
        if self.space is not None and self._trials:
            if self.space.fingerprint != space.fingerprint:
                raise SpaceError(
                    "cannot continue a study with another space",
                    at=self.name,
                    got=space,
                    expected=f"the space of its {len(self._trials)} trials: {self.space!r}",
                    fix="start a new mu.Study(), or search the same program",
                )
            if self.objectives != objectives:
                raise SettingError(
                    "cannot continue a study with other objectives",
                    at=self.name,
                    got=[str(objective) for objective in objectives],
                    expected=", ".join(map(str, self.objectives)),
                    fix="start a new mu.Study(), or keep the objectives",
                )
        self.space, self.objectives = space, objectives

    def add(self, dna: DNA, *, parent: int | None = None) -> Trial:
        """Starts a trial, which may go on from another one, and returns its record."""
        trial = Trial(len(self._trials), dna, space=self.space, parent=parent, started=time.time())
        self._trials.append(trial)
        return trial

    def finish(self, trial: Trial) -> None:
        """Replaces the record of a trial by its final one."""
        self._trials[trial.id] = trial
        if is_finished(trial):
            best = self._best
            if best is None or self._merit(trial) > self._merit(best):
                self._best = trial

    def _merit(self, trial: Trial) -> tuple[float, float]:
        return comparable_fidelity(trial), self.signed(trial)[0]

    def signed(self, trial: Trial) -> tuple[float, ...]:
        """Returns the rewards of a trial with the sign that makes larger better."""
        rewards = trial.rewards or ()
        return tuple(o.sign * reward for o, reward in zip(self.objectives, rewards, strict=True))

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All trials by number."""
        return tuple(self._trials)

    @property
    def best(self) -> Trial | None:
        """The trial with the best first objective, the earliest of equals; None where none is rated.

        Rewards are compared among the trials of the largest fidelity alone: a short training says little of a long
        one. A trial that was completed without anybody asking for a length counts as the longest.
        """
        return self._best

    @property
    def front(self) -> tuple[Trial, ...]:
        """The rated trials of the largest fidelity that no other one of these dominates, by number."""
        rated = [t for t in self._trials if is_finished(t)]
        longest = max((comparable_fidelity(t) for t in rated), default=0.0)
        rated = [t for t in rated if comparable_fidelity(t) == longest]
        return tuple(rated[i] for i in undominated([self.signed(t) for t in rated]))

    def top(self, n: int = 5) -> tuple[Trial, ...]:
        """Returns the `n` best rated trials of different DNA, best first.

        The largest fidelity comes first, and the first objective decides among those of the same, as for `best`.
        """
        rated = [t for t in self._trials if is_finished(t)]
        ranked = sorted(rated, key=self._merit, reverse=True)
        seen: set[DNA] = set()
        found = [t for t in ranked if not (t.dna in seen or seen.add(t.dna))]  # type: ignore[func-returns-value]
        return tuple(found[:n])

    def __len__(self) -> int:
        """Returns the number of trials."""
        return len(self._trials)

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[Trial]:
        return iter(self.trials)

    def __repr__(self) -> str:
        return f"Study({self.name!r}, {len(self._trials)} trials)"

    def rows(self) -> list[dict[str, Any]]:
        """Returns one flat dict per trial: its record, its metrics and its readable decisions."""
        made = []
        for trial in self._trials:
            row: dict[str, Any] = {"id": trial.id, "state": trial.state, "seconds": trial.seconds}
            row.update({name: value for name in ("fidelity", "parent") if (value := getattr(trial, name)) is not None})
            row.update(zip((o.name for o in self.objectives), trial.rewards or (), strict=False))
            row.update(trial.metrics or {})
            row.update(trial.dna.literals())
            made.append(row)
        return made

    def to_frame(self) -> Any:
        """Returns the trials as a pandas DataFrame.

        Raises:
            MissingDependency: pandas is not installed.
        """
        try:
            pandas = importlib.import_module("pandas")
        except ImportError as error:
            raise MissingDependency(
                "cannot make a data frame",
                at="Study.to_frame",
                expected="pandas",
                fix="pip install 'mutandis[frame]', or use study.rows()",
            ) from error
        return pandas.DataFrame(self.rows())

    def counts(self) -> dict[str, int]:
        """Returns how many trials are in each state."""
        found: dict[str, int] = {}
        for trial in self._trials:
            found[trial.state] = found.get(trial.state, 0) + 1
        return found


def is_finished(trial: Trial) -> bool:
    """Returns whether an algorithm can learn from a trial."""
    return trial.state in (COMPLETED, STOPPED, PAUSED) and trial.rewards is not None


def comparable_fidelity(trial: Trial) -> float:
    """Returns how long a rated trial was trained, so that the longest are compared with each other.

    Returns:
        Its fidelity; infinity where it was trained as long as it liked, minus infinity where it was cut short at no
        known step.
    """
    if trial.fidelity is not None:
        return trial.fidelity
    return math.inf if trial.state == COMPLETED else -math.inf
