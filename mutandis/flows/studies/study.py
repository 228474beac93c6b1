"""Studies: the trials of one search, in memory or in a store."""

from __future__ import annotations

import importlib
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from mutandis.algorithms.dominance import undominated
from mutandis.errors import MissingDependency, MutandisWarning, SettingError, SpaceError
from mutandis.flows.studies.archive import Archive, folder_of, reasons
from mutandis.flows.studies.checkpoints import Checkpoint
from mutandis.flows.studies.objectives import Objective, parse_objectives
from mutandis.flows.studies.regrow import Misfit, regrown
from mutandis.flows.studies.stores.records import StudyHeader
from mutandis.flows.studies.stores.registry import open_store
from mutandis.flows.studies.trial import COMPLETED, PAUSED, STOPPED, Trial
from mutandis.hyper import DNA, SearchSpace


class Study:
    """The record of a search.

        study = mu.Study()                                 # in memory
        study = mu.Study("search.db")                      # a file, which any number of processes share
        mu.sample(program, algorithm, study="search.db")   # the same in one line
        print(mu.Study("search.db").best)                  # read, also while others write

    What was found: `trials`, `best`, `front` (several objectives), `top(5)`, `counts()`, `rows()`, `to_frame()`. A path
    at which there is nothing makes a file there. SQLite is the choice for one machine; lines (`.jsonl`) where people
    or other programs shall read the file, or machines share a network file system with locks; a server for all else.

    Give one to several calls of `mu.sample` and they continue it: numbers go on, the same algorithm and seed go on
    where they stopped, and another algorithm is told of what is finished. Where the program has changed since, trials
    are re-encoded: decisions are found again by name or path and by what their values mean, and a new decision takes
    its `default`. What does not fit is set aside.

    A study in a store holds everything that its children are rebuilt from, so that `best.child()` needs no script, but
    the modules that define the classes of the program must be imported.

    Where its store cannot be used (a full disk, a file that is gone, a server that is down), what records in it raises
    `StorageError`; what is recorded stays, and the same script goes on later.

    Args:
        where: Where it is kept: None for memory; a path for an SQLite file, or one that ends in `.jsonl` for a file of
            lines; `postgresql://user@host/base` for a server.
        name: How reports call it; one store can hold several.
        lease: Seconds after which a worker whose heartbeat stands still counts as lost, and its trial is taken over.
            A worker of the same machine whose process is dead is lost at once.
        attempts: How many workers a trial may lose before it counts as failed.
        durability: `process`: results survive the death of any process; `power`: a power cut too, at the price of a
            wait for the disk per result.
        checkpoints: Folder for the checkpoints of trials. By default it stands beside the file, such as
            `search.db.checkpoints`; for a server it is a temporary one of this machine, so that a trial that is taken
            over by another machine starts afresh: name a folder that all of them see.

    Attributes:
        name: The name.
        objectives: The metrics that count.
        set_aside: Why trials have no place in the space as it is now, by number. They count as trials, but neither as
            the best nor for the algorithm.
        checkpoints: Directories, by the id of their trial, that a later trial of a study in memory may go on from:
            those of paused trials, and of all trials whose algorithm said how long they should be trained. They go
            when a paused trial goes on, or with the study.
        archive: The persistent side, or None in memory.

    Raises:
        SettingError: an argument is out of range.
        StorageError: the store cannot be opened, or holds something else.
        MissingDependency: the address needs an extra that is not installed.
    """

    def __init__(
        self,
        where: str | os.PathLike[str] | None = None,
        *,
        name: str = "study",
        lease: float = 60.0,
        attempts: int = 3,
        durability: str = "process",
        checkpoints: str | os.PathLike[str] | None = None,
    ) -> None:
        if not isinstance(name, str):
            raise SettingError("cannot name a study", at="name", got=name, expected="a text",
                               fix='write mu.Study(name="my search")')  # fmt: skip
        self.name = name
        self.set_aside: dict[int, str] = {}
        self.checkpoints: dict[int, Checkpoint] = {}
        self.archive: Archive | None = None
        self._objectives: tuple[Objective, ...] = ()
        self._recorded: tuple[tuple[str, ...], tuple[Objective, ...]] = (), ()
        self._space: SearchSpace | None = None
        self._trials: list[Trial] = []
        self._best: int | None = None
        self._changes = 0
        if where is not None:
            store = open_store(where, lease=lease, attempts=attempts, durability=durability)
            self.archive = Archive(store, name, folder_of(where, name, checkpoints), self.set_aside)
            self._trials = self.archive.trials

    @property
    def space(self) -> SearchSpace | None:
        """The space that is searched; without its program where that cannot be rebuilt, None before the first search.

        The program of a study in a store is rebuilt when it is first asked for.
        """
        if self._space is not None or self.archive is None:
            return self._space
        self._read()
        return None if self.archive.origin is None else self.archive.origin.space

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The metrics that count; empty before the first search."""
        if not self._objectives:
            self._read()
        return self._targets()

    def _targets(self) -> tuple[Objective, ...]:
        """Returns the objectives as far as they were read: many ask, once per trial."""
        header = None if self._objectives or self.archive is None else self.archive.header
        if header is None:
            return self._objectives
        if self._recorded[0] != header.objectives:
            self._recorded = header.objectives, parse_objectives(header.objectives)
        return self._recorded[1]

    def open(
        self,
        space: SearchSpace,
        objectives: tuple[Objective, ...],
        header: Callable[[], StudyHeader] | None = None,
    ) -> None:
        """Fixes what the study is about, at the first search, and at later ones re-encodes what has changed since.

        Args:
            space: The space.
            objectives: The metrics that count.
            header: Tells all of the search to those who open a store; by default the space and the objectives.

        Raises:
            SpaceError: none of its trials fits the space.
            SettingError: its trials have other objectives.
        """
        trials = self._read()
        if trials and self.objectives and self.objectives != objectives:
            raise SettingError(
                "cannot continue a study with other objectives",
                at=self.name,
                got=[str(objective) for objective in objectives],
                expected=", ".join(map(str, self.objectives)),
                fix="start a new mu.Study(), or keep the objectives",
            )
        before = self.archive.origin.bare if self.archive is not None and self.archive.origin else self._space
        if trials and before is not None and before.fingerprint != space.fingerprint:
            self._grow(before, space)
        self._space, self._objectives = space, objectives
        if self.archive is not None:
            self.archive.open(_bare_header(space, objectives) if header is None else header(), space)
            self._read()

    def _grow(self, before: SearchSpace, space: SearchSpace) -> None:
        """Re-encodes all trials, or refuses where none fits; warns of those that are set aside."""
        made: list[Trial] = []
        aside: dict[int, str] = {}
        for trial in self._trials if self.archive is None else self.archive.originals():
            try:
                made.append(replace(trial, dna=regrown(trial.dna, space), space=space))
            except Misfit as misfit:
                made.append(trial)
                aside[trial.id] = str(misfit)
        if len(aside) == len(made):
            error = SpaceError(
                "cannot continue a study with another space",
                at=self.name,
                got=space,
                expected=f"the space of its {len(self._trials)} trials: {before!r}, or one that some of them fit",
                fix="start a new mu.Study(), or search the same program",
            )
            error.add_note(f"no trial fits: {reasons(aside, aside)}")
            raise error
        new = aside.keys() - self.set_aside.keys()
        if new:
            warnings.warn(f"the space has changed: {len(made) - len(aside)} of {len(made)} trials are re-encoded, and "
                          f"{len(aside)} are set aside: {reasons(aside, aside)}; see study.set_aside",
                          MutandisWarning, stacklevel=5)  # fmt: skip
        if self.archive is None:
            self.set_aside.clear()
            self.set_aside.update(aside)
            self._trials[:] = made
            self._rank_all()

    def _read(self) -> list[Trial]:
        """Returns all trials, after a look at what others did."""
        if self.archive is not None:
            with self.archive.lock:  # What one thread has read is ranked before another one reads on.
                ended = self.archive.refresh()
                if self._changes != self.archive.changes:
                    self._changes = self.archive.changes
                    self._rank_all()
                else:
                    for trial in ended:
                        self._rank(trial)
        return self._trials

    def add(self, dna: DNA, *, parent: int | None = None) -> Trial:
        """Starts a trial, which may go on from another one, and returns its record."""
        if self.archive is not None:
            proposal = {"dna": dna.to_json(), "space": dna.space.fingerprint, "parent": parent}
            lease = self.archive.claim(proposal)
            assert lease is not None  # Any number will do.
            return self._read()[lease.number]
        trial = Trial(len(self._trials), dna, space=self._space, parent=parent, started=time.time())
        self._trials.append(trial)
        return trial

    def finish(self, trial: Trial) -> None:
        """Replaces the record of a trial by its final one."""
        if self.archive is not None:
            self.archive.finish(trial)
            return
        self._trials[trial.id] = trial
        self._rank(trial)

    def checkpoint(self, number: int) -> Checkpoint:
        """Returns a directory for a trial: in memory a new one, in a store the one of all attempts at it."""
        if self.archive is not None:
            return self.archive.checkpoint(number)
        return Checkpoint(f"mutandis-trial-{number}-")

    def _rank_all(self) -> None:
        self._best = None
        for trial in self._trials:
            self._rank(trial)

    def _rank(self, trial: Trial) -> None:
        if is_finished(trial) and trial.id not in self.set_aside:
            best = None if self._best is None else self._trials[self._best]
            if best is None or self._merit(trial) > self._merit(best):
                self._best = trial.id

    def _merit(self, trial: Trial) -> tuple[float, float]:
        return comparable_fidelity(trial), self.signed(trial)[0]

    def signed(self, trial: Trial) -> tuple[float, ...]:
        """Returns the rewards of a trial with the sign that makes larger better."""
        rewards = trial.rewards or ()
        return tuple(o.sign * reward for o, reward in zip(self._targets(), rewards, strict=True))

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All trials by number."""
        return tuple(self._read())

    @property
    def best(self) -> Trial | None:
        """The trial with the best first objective, the earliest of equals; None where none is rated.

        Rewards are compared among the trials of the largest fidelity alone: a short training says little of a long
        one. A trial that was completed without anybody asking for a length counts as the longest.
        """
        self._read()
        return None if self._best is None else self._trials[self._best]

    @property
    def front(self) -> tuple[Trial, ...]:
        """The rated trials of the largest fidelity that no other one of these dominates, by number."""
        rated = self._rated()
        longest = max((comparable_fidelity(t) for t in rated), default=0.0)
        rated = [t for t in rated if comparable_fidelity(t) == longest]
        return tuple(rated[i] for i in undominated([self.signed(t) for t in rated]))

    def top(self, n: int = 5) -> tuple[Trial, ...]:
        """Returns the `n` best rated trials of different DNA, best first.

        The largest fidelity comes first, and the first objective decides among those of the same, as for `best`.
        """
        ranked = sorted(self._rated(), key=self._merit, reverse=True)
        seen: set[DNA] = set()
        found = [t for t in ranked if not (t.dna in seen or seen.add(t.dna))]  # type: ignore[func-returns-value]
        return tuple(found[:n])

    def _rated(self) -> list[Trial]:
        return [t for t in self._read() if is_finished(t) and t.id not in self.set_aside]

    def __len__(self) -> int:
        """Returns the number of trials."""
        return len(self._read())

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[Trial]:
        return iter(self.trials)

    def __repr__(self) -> str:
        return f"Study({self.name!r}, {len(self)} trials)"

    def rows(self) -> list[dict[str, Any]]:
        """Returns one flat dict per trial: its record, its metrics and its readable decisions."""
        made = []
        for trial in self._read():
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
        for trial in self._read():
            found[trial.state] = found.get(trial.state, 0) + 1
        return found

    def resume(self, **options: Any) -> Any:
        """Continues the search of a store with the program, algorithm, seed and objectives that it began with.

            for child, feedback in mu.Study("search.db").resume(trials=200):
                feedback(child.run())

        Args:
            **options: Further arguments of `mu.sample`.

        Returns:
            What `mu.sample` returns.

        Raises:
            StorageError: the study is in memory or empty, or its program or algorithm was not written.
            SchemaError: the program names a class or function that is not imported here; the message names it.
        """
        # The loop knows studies; a study knows no loop before somebody asks it to go on.
        return importlib.import_module("mutandis.flows.opening").resume(self, options)


def _bare_header(space: SearchSpace, objectives: tuple[Objective, ...]) -> StudyHeader:
    points = tuple(point.as_json() for point in space.points)
    return StudyHeader(space.fingerprint, points, tuple(map(str, objectives)))


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
