"""One study in a store: the verbs of its workers, each of them one transaction.

A transaction has happened for everyone or for no one, whenever a process dies. Numbers are contiguous from 0, each
trial has exactly one result, and only the worker that holds its lease may give it.

An event is decided on and written down on what is known here before others are kept out. They are kept out for no
longer than it takes to see whether there is news, which is rare, and to add the event.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from mutandis.errors import StorageError
from mutandis.flows.studies.stores.leases import Watch, this_worker
from mutandis.flows.studies.stores.ledger import LeaseLost, Ledger
from mutandis.flows.studies.stores.medium import Lines, Medium
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
    lease_of,
)


class Batch(NamedTuple):
    """What `StudyLog.read` returns.

    Attributes:
        events: In the order in which they happened.
        cursor: Where to read on; an int that means nothing else and differs from store to store.
    """

    events: tuple[Event, ...]
    cursor: int


class StudyLog:
    """One study in a store; made by `Store.open`.

    Safe to use from threads. A forked child may go on with it, under its own name. Its memory is that of the trials
    that run, not of those that are over.
    """

    def __init__(self, medium: Medium, name: str, *, lease: float, attempts: int, worker: str | None) -> None:
        self.name = name
        self._medium = medium
        self._seconds, self._attempts, self._given_name = lease, attempts, worker
        self._begin()
        self.sync()

    def _begin(self) -> None:
        self._pid, self._lock = os.getpid(), threading.RLock()
        self._worker = self._given_name or this_worker()
        self._ledger = Ledger()
        self._watch = Watch()
        self._beaten: set[int] = set()
        self._unsettled: dict[int, tuple[Finished, int]] = {}  # Results that the disk failed to keep, by number.
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
            found = self._medium.read(self.name, cursor)
            return Batch(tuple(self._take(found, is_next=cursor <= self._ledger.cursor)), found.cursor)

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

        given, at = dict(proposal), time.time()

        def decide() -> list[Event]:
            free = self._ledger.next_number
            if number is not None and number != free:
                return []
            return [Claimed(free, 1, self._worker, self._seconds, 0, given, at)]

        return _lease_in(self._record(decide))

    def report(self, lease: Lease, metrics: Mapping[str, Any], *, step: float) -> None:
        """Records a point of a learning curve.

        Raises:
            LeaseLost: the trial was taken over, was given back, or has ended.
        """

        event = Reported(lease.number, lease.attempt, step, dict(metrics))

        def decide() -> list[Event]:
            self._ledger.check(lease, "report on")
            return [event]

        self._record(decide)

    def finish(self, lease: Lease, result: Mapping[str, Any]) -> None:
        """Ends a trial with its one and only result.

        Args:
            lease: Of the attempt that ran.
            result: Its state, rewards and whatever else the loop wants to find again, as JSON.

        Raises:
            LeaseLost: the trial was taken over, was given back, or has ended; the result is not recorded.
            StorageError: the store failed; finish it again. Where the result was recorded and it was the disk that
                failed to keep it, that makes it last, with what was said first; other rewards are refused.
        """
        if self._settle_again(lease, result):
            return

        event = Finished(lease.number, lease.attempt, dict(result), time.time())

        def decide() -> list[Event]:
            self._ledger.check(lease, "finish")
            return [event]

        if lease.number in self._beaten or lease.attempt > 1:
            self._write(decide, forget=[lease.number], durable=True)
        else:
            self._record(decide, durable=True)
        self._beaten.discard(lease.number)

    def _settle_again(self, lease: Lease, result: Mapping[str, Any]) -> bool:
        """Makes a result last that is recorded and did not; returns whether there is one that says the same."""
        event, cursor = self._unsettled.get(lease.number, (None, 0))
        if event is None or event.attempt != lease.attempt:
            return False
        self._medium.settle(cursor)
        self._unsettled.pop(lease.number, None)
        return all(event.result.get(key) == result.get(key) for key in ("state", "rewards"))

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
            return _lease_in(self._write(lambda: self._retry(given_up), forget=given_up, durable=True))

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

    def _take(self, found: Lines, *, is_next: bool) -> list[Event]:
        """Decodes lines, and applies those that are new; `is_next` says that none is missing before them."""
        events = []
        for line in found.lines:
            event = decode(line.text)
            events.append(event)
            if is_next and line.cursor > self._ledger.cursor:
                self._ledger.apply(event, line.cursor)
        if is_next:
            self._ledger.cursor = max(self._ledger.cursor, found.cursor)
        return events

    def _follow(self, found: Lines) -> None:
        """Applies the next lines, decoding no more of them than that takes."""
        for line in found.lines:
            event = decode_rule(line.text)
            if event is not None:
                self._ledger.apply(event, line.cursor)
        self._ledger.cursor = found.cursor

    def _record(self, decide: Callable[[], list[Event]], *, durable: bool = False) -> list[Event]:
        """Adds an event by the quickest way that the medium has."""
        return self._add(decide, durable=durable) or self._write(decide, durable=durable, is_early=True)

    def _add(self, decide: Callable[[], list[Event]], *, durable: bool) -> list[Event]:
        """Adds one event without waiting to be the only writer, as long as nobody else writes at the same time.

        Returns:
            The event; none where that did not work, or it is not to be added as far as is known here: ask `_write`.
        """
        if not self._medium.is_quick or not self._is_alone:
            return []
        with self._guard():
            events = self._guess(decide)
            if len(events) != 1:
                return []
            cursor = self._medium.add(self.name, self._ledger.cursor, encode(events[0]), durable=durable)
            if cursor is None:
                return []
            self._ledger.apply(events[0], cursor)
            return events

    def _guess(self, decide: Callable[[], list[Event]]) -> list[Event]:
        """Decides on what is known here, which may be old: nothing where that is not allowed."""
        try:
            return decide()
        except LeaseLost:
            return []

    def _write(
        self,
        decide: Callable[[], list[Event]],
        *,
        forget: Sequence[int] = (),
        durable: bool = False,
        is_early: bool = False,
    ) -> list[Event]:
        """Decides what to add in the light of all that was added so far, and adds it, with nobody in between.

        Args:
            decide: Returns the events, and leaves no trace where it is asked in vain if `is_early`.
            forget: The trials whose heartbeats are over.
            durable: Whether the events must last.
            is_early: Whether to decide before others are kept out, and again only if they have written since.
        """
        with self._guard():
            guess = self._guess(decide) if is_early else []
            events, texts = guess, [encode(event) for event in guess]
            with self._medium.exclusive(self.name, durable=durable) as writer:
                news = writer.read(self._ledger.cursor)
                self._is_alone = not news.lines
                if news.lines or not guess:
                    self._follow(news)
                    events = decide()
                if events != guess:
                    texts = [encode(event) for event in events]
                cursor = writer.append(texts) if texts else self._ledger.cursor
                for number in forget:
                    writer.forget(number)
            for event in events:
                self._ledger.apply(event, cursor)
        if durable and events:
            self._settle(events, cursor)
        return events

    def _settle(self, events: list[Event], cursor: int) -> None:
        """Waits until events last; others go on meanwhile, here too."""
        try:
            self._medium.settle(cursor)
        except StorageError:
            self._unsettled.update({x.number: (x, cursor) for x in events if isinstance(x, Finished)})
            raise


def _lease_in(events: list[Event]) -> Lease | None:
    """Returns the lease that events of one transaction gave to this worker."""
    return next((lease_of(event) for event in events if isinstance(event, Claimed)), None)
