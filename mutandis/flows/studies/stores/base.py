"""Stores: where studies live, and what any number of workers may do with one at the same time.

    store = open_store("study.db")                     # or "study.jsonl", "postgresql://...", None for memory
    log = store.open("study", header)                  # made by whoever comes first
    lease = log.take_over() or log.claim(proposal)     # a number nobody else has, or what a dead worker left
    log.report(lease, {"loss": 0.3}, step=1)
    log.finish(lease, {"state": "completed", "rewards": [0.9]})
    events, cursor = log.read(cursor)                  # what everybody did since

Each of these is one transaction: it has happened for everyone or for no one, whenever a process dies. Numbers are
contiguous from 0, each trial has exactly one result, and only the worker that holds its lease may give it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from mutandis.errors import SettingError, StorageError, closest
from mutandis.flows.studies.stores.leases import Watch, this_worker
from mutandis.flows.studies.stores.ledger import LeaseLost, Ledger
from mutandis.flows.studies.stores.medium import Line, Medium, ProcessLock, Writer
from mutandis.flows.studies.stores.records import (
    Claimed,
    Event,
    Finished,
    Lease,
    Opened,
    Released,
    Reported,
    StudyHeader,
    TrialRecord,
    decode,
    decode_rule,
    encode,
    fold,
)


class Batch(NamedTuple):
    """What `StudyLog.read` returns.

    Attributes:
        events: In the order in which they happened.
        cursor: Where to read on; an int that means nothing else and differs from store to store.
    """

    events: tuple[Event, ...]
    cursor: int


class Store:
    """A place for studies; made by `open_store`.

    Args:
        medium: Where the lines are kept.
        lease: Seconds after which a worker whose heartbeat stands still counts as lost.
        attempts: How many workers a trial may lose before it counts as failed.
        worker: A name for this process in the records; by default one that tells others when the process is dead.
    """

    def __init__(self, medium: Medium, *, lease: float = 60.0, attempts: int = 3, worker: str | None = None) -> None:
        self._medium = medium
        self._lease, self._attempts, self._worker = lease, attempts, worker

    def studies(self) -> tuple[str, ...]:
        """Returns the names of all studies, sorted."""
        return self._medium.studies()

    def open(self, name: str, header: StudyHeader | None = None) -> StudyLog:
        """Opens a study, and makes it if a header is given and there is none.

        Args:
            name: Its name in this store.
            header: What it is about. A study that is there keeps its own: compare `log.header`, and `log.amend` it.

        Raises:
            StorageError: there is no such study, and no header to make it with.
            SettingError: `name` is no text of printable characters.
        """
        if not isinstance(name, str) or not name or not name.isprintable():
            raise SettingError("cannot name a study", at="name", got=name, expected="a text of printable characters",
                               fix="store.open('my search')")  # fmt: skip
        log = StudyLog(self._medium, name, lease=self._lease, attempts=self._attempts, worker=self._worker)
        if log.header is None and header is not None:
            log.amend(header, replace=False)
        if log.header is None:
            known = self.studies()
            expected = f"one of {', '.join(known)}{closest(name, known)}" if known else "a store that has some"
            raise StorageError("cannot find a study", at=name, expected=expected,
                               fix="check the name and the store, or pass a header to make it")  # fmt: skip
        return log

    def close(self) -> None:
        """Lets go of files and connections; the next use opens them again."""
        self._medium.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class StudyLog:
    """One study in a store; made by `Store.open`.

    Safe to use from threads. A forked child may go on with it, under its own name. Its memory is that of the trials
    that run, not of those that are over.
    """

    def __init__(self, medium: Medium, name: str, *, lease: float, attempts: int, worker: str | None) -> None:
        self.name = name
        self._medium = medium
        self._seconds, self._attempts, self._given_name = lease, attempts, worker
        self._lock = ProcessLock()
        self._begin()
        self.sync()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._worker = self._given_name or this_worker()
        self._ledger = Ledger()
        self._watch = Watch()
        self._beaten: set[int] = set()
        self._is_alone = True  # Whether nobody else wrote between the last two writes.

    def _guard(self) -> AbstractContextManager[object]:
        if self._pid != os.getpid():
            self._begin()  # The copy that a fork made may be half done.
        return self._lock

    @property
    def header(self) -> StudyHeader | None:
        """What the study is about, as far as this process has read it."""
        return self._ledger.header

    @property
    def next_number(self) -> int:
        """The number of the next trial, as far as this process has read."""
        return self._ledger.next_number

    @property
    def running(self) -> tuple[Lease, ...]:
        """The trials that run, by number, as far as this process has read."""
        with self._guard():
            return tuple(lease for _, lease in sorted(self._ledger.running.items()))

    @property
    def lease(self) -> float:
        """Seconds after which a worker whose heartbeat stands still counts as lost."""
        return self._seconds

    def sync(self) -> None:
        """Takes in what others did."""
        with self._guard():
            self._follow(self._medium.read(self.name, self._ledger.cursor))

    def read(self, cursor: int = 0) -> Batch:
        """Returns what happened since a position; its cost is that of the new events.

        Args:
            cursor: 0 for all, or what the last `read` returned.
        """
        with self._guard():
            lines = self._medium.read(self.name, cursor)
            events = self._take(lines, is_next=cursor <= self._ledger.cursor)
            return Batch(tuple(events), lines[-1].cursor if lines else cursor)

    def trials(self) -> tuple[TrialRecord, ...]:
        """Returns all trials by number, read from the store."""
        return fold(self.read().events)

    def amend(self, header: StudyHeader, *, replace: bool = True) -> None:
        """Says anew what the study is about, for the trials that follow.

        Args:
            header: What it is about from here on.
            replace: Whether it takes the place of an earlier one.
        """
        self._write(
            lambda: [Opened(header, time.time())] if replace or self._ledger.header is None else [], durable=True
        )

    def claim(self, proposal: Mapping[str, Any], *, number: int | None = None) -> Lease | None:
        """Starts a trial: gives it the next number, together with what shall be tried.

        Args:
            proposal: The decisions and whatever belongs to them, as JSON.
            number: The number it must get, for a proposal that was made for it; None for any.

        Returns:
            The lease, or None where another worker has that number already: read on, and propose again.
        """

        def decide() -> list[Event]:
            free = self._ledger.next_number
            if number is not None and number != free:
                return []
            return [Claimed(free, 1, self._worker, self._seconds, 0, dict(proposal), time.time())]

        return self._lease_of(self._record(decide))

    def report(self, lease: Lease, metrics: Mapping[str, Any], *, step: float) -> None:
        """Records a point of a learning curve.

        Raises:
            LeaseLost: the trial was taken over, was given back, or has ended.
        """

        def decide() -> list[Event]:
            self._ledger.check(lease, "report on")
            return [Reported(lease.number, lease.attempt, step, dict(metrics))]

        self._record(decide)

    def finish(self, lease: Lease, result: Mapping[str, Any]) -> None:
        """Ends a trial with its one and only result.

        Args:
            lease: Of the attempt that ran.
            result: Its state, rewards and whatever else the loop wants to find again, as JSON.

        Raises:
            LeaseLost: the trial was taken over, was given back, or has ended; the result is not recorded.
        """

        def decide() -> list[Event]:
            self._ledger.check(lease, "finish")
            return [Finished(lease.number, lease.attempt, dict(result), time.time())]

        if lease.number in self._beaten or lease.attempt > 1:
            self._write(decide, forget=[lease.number], durable=True)
        else:
            self._record(decide, durable=True)
        self._beaten.discard(lease.number)

    def release(self, lease: Lease) -> None:
        """Gives a trial back unfinished, such as on Ctrl-C: the next worker that looks takes it over.

        Raises:
            LeaseLost: the trial was taken over, was given back, or has ended.
        """

        def decide() -> list[Event]:
            self._ledger.check(lease, "give back")
            return [Released(lease.number, lease.attempt)]

        self._write(decide)

    def heartbeat(self, lease: Lease) -> bool:
        """Says that the worker of a trial is alive, and looks at the others.

        To be called several times per lease, from a thread: see `Heartbeat`.

        Returns:
            Whether the lease is still good; if not, the work on the trial is lost and should stop.
        """
        with self._guard():
            self.sync()
            holds = self._ledger.holds(lease)
            if holds:
                self._beaten.add(lease.number)
                self._medium.beat(self.name, lease.number, lease.attempt)
            self._look()
            return holds

    def take_over(self) -> Lease | None:
        """Takes a trial that was given back, or whose worker is lost.

        A worker of this machine whose process is dead is lost at once, any other one when its heartbeat stood still
        for its lease while this process watched: call this, or `heartbeat`, now and then. A trial that lost
        `attempts` workers is failed instead, with the reason in its result.

        Returns:
            The lease, whose `attempt` is one more and whose `proposal` is the same; None where there is nothing.
        """
        with self._guard():
            self.sync()
            self._look()
            if not self._left():
                return None
            given_up: list[int] = []
            return self._lease_of(self._write(lambda: self._retry(given_up), forget=given_up, durable=True))

    def _retry(self, given_up: list[int]) -> list[Event]:
        self._look()  # A heartbeat may have come while others wrote.
        events: list[Event] = []
        for lease in self._left():
            if lease.number not in self._ledger.released and lease.losses + 1 >= self._attempts:
                events.append(self._ledger.give_up(lease, time.time()))
                given_up.append(lease.number)
                continue
            events.append(self._ledger.retry(lease, self._worker, self._seconds, time.time()))
            break
        return events

    def _left(self) -> list[Lease]:
        """Returns the trials that nobody works on, by number."""
        running = sorted(self._ledger.running.items())
        return [x for number, x in running if number in self._ledger.released or self._watch.is_stale(x)]

    def _look(self) -> None:
        running = self._ledger.running
        self._watch.look(running.values(), self._medium.beats(self.name) if running else {})

    def _take(self, lines: list[Line], *, is_next: bool = True) -> list[Event]:
        """Decodes lines, and applies those that are new; `is_next` says that none is missing before them."""
        events = []
        for line in lines:
            event = decode(line.text)
            events.append(event)
            if is_next and line.cursor > self._ledger.cursor:
                self._ledger.apply(event, line.cursor)
        return events

    def _follow(self, lines: list[Line]) -> None:
        """Applies the next lines, decoding no more of them than that takes."""
        for line in lines:
            event = decode_rule(line.text)
            if event is None:
                self._ledger.cursor = line.cursor
            else:
                self._ledger.apply(event, line.cursor)

    def _record(self, decide: Callable[[], list[Event]], *, durable: bool = False) -> list[Event]:
        """Adds an event by the quickest way that the medium has."""
        return self._add(decide, durable=durable) or self._write(decide, durable=durable)

    def _add(self, decide: Callable[[], list[Event]], *, durable: bool = False) -> list[Event]:
        """Adds one event without waiting to be the only writer, as long as nobody else writes at the same time.

        Returns:
            The event; none where that did not work, or it is not to be added as far as is known here: ask `_write`.
        """
        with self._guard():
            if not self._medium.is_quick or not self._is_alone:
                return []
            try:
                events = decide()
            except LeaseLost:
                return []  # What is known here may be old, but then a write looks again.
            if len(events) != 1:
                return []
            cursor = self._medium.add(self.name, self._ledger.cursor, encode(events[0]), durable=durable)
            if cursor is None:
                return []
            self._ledger.apply(events[0], cursor)
            return events

    def _write(
        self, decide: Callable[[], list[Event]], *, forget: list[int] | None = None, durable: bool = False
    ) -> list[Event]:
        """Decides what to add in the light of all that was added so far, and adds it, with nobody in between."""
        with self._guard():
            with self._medium.exclusive(self.name, durable=durable) as writer:
                news = writer.read(self._ledger.cursor)
                self._is_alone = not news
                self._follow(news)
                events = decide()
                cursor = self._append(writer, events, forget or ())
            for event in events:
                self._ledger.apply(event, cursor)
        if durable and events:
            self._medium.settle(cursor)  # Others go on meanwhile, here too.
        return events

    def _append(self, writer: Writer, events: list[Event], forget: Sequence[int]) -> int:
        cursor = writer.append([encode(event) for event in events]) if events else self._ledger.cursor
        for number in forget:
            writer.forget(number)
        return cursor

    def _lease_of(self, events: list[Event]) -> Lease | None:
        """Returns the lease that events of one transaction gave to this worker."""
        for event in events:
            if isinstance(event, Claimed):
                return self._ledger.running[event.number]
        return None


__all__ = ["Batch", "Store", "StudyLog"]
