"""The persistent side of a study: its trials as the store tells them, and the leases that this process holds."""

from __future__ import annotations

import os
import tempfile
import warnings
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mutandis.errors import MutandisWarning, StorageError
from mutandis.flows.studies.checkpoints import Checkpoint
from mutandis.flows.studies.origin import Origin
from mutandis.flows.studies.regrow import Misfit, regrown
from mutandis.flows.studies.stores.base import Store
from mutandis.flows.studies.stores.heartbeat import Heartbeat
from mutandis.flows.studies.stores.ledger import LeaseLost
from mutandis.flows.studies.stores.log import StudyLog
from mutandis.flows.studies.stores.medium import ProcessLock
from mutandis.flows.studies.stores.records import (
    Claimed,
    Event,
    Finished,
    Lease,
    Opened,
    Reported,
    StudyHeader,
)
from mutandis.flows.studies.stores.registry import file_of
from mutandis.flows.studies.trial import FAILED, Trial
from mutandis.hyper import DNA, SearchSpace

REACHED = "$reached"
"""The metric that marks a report which stands for the answer of a trial: schedulers hear it, curves leave it out."""


class Archive:
    """A study in a store. Its memory is that of the trials; reading on costs what is new. Threads may share it.

    Args:
        store: The store.
        name: Name of the study.
        checkpoints: Folder for the checkpoints of trials.
        set_aside: Where the reasons go why trials have no place in the space, by number.

    Attributes:
        trials: As far as this process has read.
        origin: What the study is about now; None where there is no study yet.
        changes: How often the trials were re-encoded.
        lock: To be held while something is taken in.
    """

    def __init__(self, store: Store, name: str, checkpoints: Path, set_aside: dict[int, str]) -> None:
        self.trials: list[Trial] = []
        self.origin: Origin | None = None
        self.changes = 0
        self.lock = ProcessLock()
        self._store, self._name = store, name
        self._folder = checkpoints
        self._set_aside = set_aside
        self._log: StudyLog | None = None
        self._heart: Heartbeat | None = None
        self._leases: dict[int, Lease] = {}
        self._cursor = 0
        self._origins: dict[str, Origin] = {}
        self._curves: dict[int, list[tuple[float, Mapping[str, float]]]] = {}
        self._before: dict[int, Trial] = {}  # What re-encoded trials were at their time.
        self._space: SearchSpace | None = None
        weakref.finalize(self, store.close)
        if name in store.studies():
            self._attach(None)

    def _attach(self, header: StudyHeader | None) -> None:
        self._log = self._store.open(self._name, header)
        self._heart = Heartbeat(self._log)
        weakref.finalize(self, self._heart.close)

    @property
    def log(self) -> StudyLog:
        """The log, once the study exists."""
        assert self._log is not None  # Searches open their study first.
        return self._log

    @property
    def header(self) -> StudyHeader | None:
        """What the study is about, or None where there is none yet."""
        return None if self._log is None else self._log.header

    def open(self, header: StudyHeader, space: SearchSpace) -> None:
        """Makes the study, or says anew what it is about where the space has changed; old trials are re-encoded."""
        with self.lock:
            if self._log is None:
                self._attach(header)
            self.refresh()
            self._space = space
            if self.log.header is not None and self.log.header.fingerprint != header.fingerprint:
                self.log.amend(header)
                self.refresh()
            self._regrow()

    def refresh(self) -> list[Trial]:
        """Takes in what happened since, and returns the trials that have ended in the meantime; with the lock held."""
        if self._log is None:
            if self._name not in self._store.studies():
                return []
            self._attach(None)
        events, self._cursor = self.log.read(self._cursor)
        ended: dict[int, None] = {}
        heard: dict[int, None] = {}
        for event in events:
            self._take(event)
            if isinstance(event, Finished):
                ended[event.number] = None
            elif isinstance(event, Reported):
                heard[event.number] = None
        for number in heard:
            if number in self._curves:
                self._put(replace(self._at(number), curve=tuple(self._curves[number])))
        return [self.trials[number] for number in ended]

    def _take(self, event: Event) -> None:
        if isinstance(event, Opened):
            self.origin = self._origins[event.header.fingerprint] = Origin(event.header)
            if self._space is None:
                self._regrow()
        elif isinstance(event, Claimed):
            self._claimed(event)
        elif isinstance(event, Reported):
            if REACHED not in event.metrics and event.attempt == self._at(event.number).attempt:
                self._curves.setdefault(event.number, []).append((event.step, event.metrics))
        elif isinstance(event, Finished):
            self._put(self._ended(self._at(event.number), event.result))

    def _claimed(self, event: Claimed) -> None:
        proposal = event.proposal
        origin = self._origins.get(proposal.get("space", ""), self.origin)
        self._curves.pop(event.number, None)
        if origin is None or "dna" not in proposal:
            raise StorageError("cannot read a trial", at=f"{self._name}, trial {event.number}", got=proposal,
                               expected="decisions under 'dna', as a search writes them",
                               fix="read this log with mutandis.flows.studies.stores")  # fmt: skip
        if event.attempt > 1:
            self._put(replace(self._at(event.number), attempt=event.attempt, worker=_short(event.worker), curve=()))
            return
        made = Trial(
            event.number, origin.bare.dna(proposal["dna"]), worker=_short(event.worker), started=event.at,
            parent=proposal.get("parent"), space=origin,
        )  # fmt: skip
        assert event.number == len(self.trials)  # Numbers are contiguous.
        self.trials.append(made)
        self._put(made)

    def _at(self, number: int) -> Trial:
        """Returns the record of a trial as it was at its time."""
        return self._before.get(number, self.trials[number])

    def originals(self) -> list[Trial]:
        """Returns the records of all trials with the decisions that they had at their time."""
        with self.lock:
            return [self._at(number) for number in range(len(self.trials))]

    def _ended(self, trial: Trial, result: Mapping[str, Any]) -> Trial:
        rewards = result.get("rewards")
        return replace(
            trial, state=result.get("state", FAILED), rewards=None if rewards is None else tuple(rewards),
            metrics=result.get("metrics"), seconds=result.get("seconds", 0.0), reason=result.get("reason"),
            fidelity=result.get("fidelity"), worker=result.get("worker") or trial.worker,
            curve=tuple(self._curves.pop(trial.id, ())),
        )  # fmt: skip

    def _put(self, trial: Trial) -> None:
        """Keeps a record, with the decisions that it has in the space as it is now."""
        space = self._space or (self.origin.bare if self.origin is not None else None)
        source = self._space if self._space is not None else self.origin
        self._before.pop(trial.id, None)
        self._set_aside.pop(trial.id, None)
        if space is None or trial.dna.space.fingerprint == space.fingerprint:
            bare = trial.dna.space if self._space is None else self._space.bare()
            if trial.dna.space is not bare or trial.space is not source:
                trial = replace(trial, dna=DNA(bare, trial.dna.values), space=source)
            self.trials[trial.id] = trial
            return
        self._before[trial.id] = trial
        try:
            self.trials[trial.id] = replace(trial, dna=regrown(trial.dna, self._judge()), space=source)
        except Misfit as misfit:
            self._set_aside[trial.id] = str(misfit)
            self.trials[trial.id] = trial

    def _judge(self) -> SearchSpace:
        """Returns the space that says what fits: with its program where there is one."""
        assert self.origin is not None  # There is a trial, so there is a header.
        return self._space if self._space is not None else self.origin.space

    def _regrow(self) -> None:
        self.changes += 1
        for number in range(len(self.trials)):
            self._put(self._at(number))

    def claim(self, proposal: Mapping[str, Any], *, number: int | None = None) -> Lease | None:
        """Starts a trial, as `StudyLog.claim` does, and beats for it."""
        return self._held(self.log.claim(proposal, number=number))

    def take_over(self) -> Lease | None:
        """Takes a trial over, as `StudyLog.take_over` does, and beats for it."""
        return self._held(self.log.take_over())

    def _held(self, lease: Lease | None) -> Lease | None:
        if lease is not None:
            assert self._heart is not None  # The study is open.
            self._leases[lease.number] = lease
            self._heart.add(lease)
        return lease

    def _dropped(self, number: int) -> Lease | None:
        lease = self._leases.pop(number, None)
        if lease is not None and self._heart is not None:
            self._heart.drop(lease)
        return lease

    @property
    def elsewhere(self) -> tuple[Lease, ...]:
        """The trials that run and are not held here, as far as this process has read."""
        return tuple(x for x in self.log.running if self._leases.get(x.number) != x)

    def is_lost(self, number: int) -> bool:
        """Returns whether a trial that was begun here is no longer held here, as far as is known."""
        lease = self._leases.get(number)
        assert self._heart is not None  # It was begun.
        return lease is None or self._heart.is_lost(lease)

    def report(self, number: int, metrics: Mapping[str, float], step: float) -> bool:
        """Records a point of a learning curve; returns False, and warns, where the trial was taken over."""
        lease = self._leases.get(number)
        if lease is None:
            return False
        try:
            self.log.report(lease, metrics, step=step)
        except LeaseLost:
            self._warn_lost(number)
            return False
        return True

    def finish(self, trial: Trial) -> bool:
        """Records the end of a trial; returns False, and warns, where it was taken over.

        Raises:
            StorageError: the store cannot be used; the trial runs on, and may be finished later.
        """
        lease = self._leases.get(trial.id)
        if lease is None:
            return False
        try:
            self.log.finish(lease, _result(trial))
        except LeaseLost:
            self._warn_lost(trial.id)
            return False
        self._dropped(trial.id)
        return True

    def release(self, number: int) -> None:
        """Gives a trial back: whoever looks next takes it over."""
        lease = self._dropped(number)
        if lease is not None:
            try:
                self.log.release(lease)
            except LeaseLost:
                pass  # It is in good hands.

    def _warn_lost(self, number: int) -> None:
        self._dropped(number)
        warnings.warn(
            f"trial {number} was taken over by another worker, and what this one found is dropped; if this worker was "
            f"alive and only slow, open the study with a larger lease= than {self.log.lease:g} s",
            MutandisWarning,
            stacklevel=5,
        )

    def checkpoint(self, number: int) -> Checkpoint:
        """Returns the directory of a trial, which every attempt at it shares."""
        return Checkpoint("", self._folder / f"trial-{number}")


def folder_of(where: str | os.PathLike[str], name: str, checkpoints: str | os.PathLike[str] | None) -> Path:
    """Returns where the checkpoints of a study are kept.

    Args:
        where: The store.
        name: The study.
        checkpoints: What the user said, or None for a folder beside the file; of a server, a temporary folder of this
            machine whose name hangs on the address.
    """
    path = file_of(where)
    if checkpoints is not None:
        folder = Path(checkpoints)
    elif path is not None:
        folder = path.with_name(f"{path.name}.checkpoints").absolute()
    else:
        digest = blake2b(os.fspath(where).encode(), digest_size=8).hexdigest()
        folder = Path(tempfile.gettempdir()) / f"mutandis-{digest}.checkpoints"
    return folder if name == "study" else folder / quote(name, safe="")


def _result(trial: Trial) -> dict[str, Any]:
    found = {
        "state": trial.state, "rewards": None if trial.rewards is None else list(trial.rewards),
        "metrics": None if trial.metrics is None else dict(trial.metrics), "seconds": trial.seconds,
        "reason": trial.reason, "fidelity": trial.fidelity, "worker": None if trial.worker == "0" else trial.worker,
    }  # fmt: skip
    return {key: value for key, value in found.items() if value is not None}


def _short(worker: str) -> str:
    """Returns `host:pid` of the name of a worker."""
    return ":".join(worker.split(":")[:2])


def reasons(set_aside: Mapping[int, str], numbers: Iterable[int]) -> str:
    """Returns why trials were set aside, the most frequent reason first."""
    counted: dict[str, int] = {}
    for number in numbers:
        counted[set_aside[number]] = counted.get(set_aside[number], 0) + 1
    ranked = sorted(counted.items(), key=lambda item: -item[1])
    return "; ".join(f"{count} because {reason}" for reason, count in ranked[:3])


__all__ = ["REACHED", "Archive", "folder_of", "reasons"]
