"""The rules of a study: which event may follow which, as a state machine without any input or output.

Every store runs the same one, inside its own lock, over the events that it keeps. Its size is that of the trials that
run, not of those that are over.
"""

from __future__ import annotations

from mutandis.errors import StorageError
from mutandis.flows.studies.stores.records import (
    Claimed,
    Event,
    Finished,
    Lease,
    Opened,
    Released,
    StudyHeader,
    Unread,
    decode,
    lease_of,
)


class LeaseLost(StorageError):
    """A worker spoke of a trial that is no longer its own: another one took it over, or it has ended."""


class Ledger:
    """The state of a study after a number of events.

    Attributes:
        cursor: Position in the store of the last event that was applied.
        header: What the study is about, or None before it was opened.
        next_number: The number of the next trial.
        released: Numbers of running trials that were given back.
    """

    __slots__ = ("_running", "_unread", "cursor", "header", "next_number", "released")

    def __init__(self) -> None:
        self.cursor = 0
        self.header: StudyHeader | None = None
        self.next_number = 0
        self.released: set[int] = set()
        self._running: dict[int, Lease] = {}
        self._unread: dict[int, Unread] = {}  # Those that run too, and were not looked at yet.

    @property
    def running(self) -> dict[int, Lease]:
        """The leases of trials that were claimed and have not ended, by number."""
        for number, claim in self._unread.items():
            event = decode(claim.text)
            assert isinstance(event, Claimed)  # It begins like one.
            self._running[number] = lease_of(event)
        self._unread.clear()
        return self._running

    def apply(self, event: Event | Unread, cursor: int) -> None:
        """Takes in the next event of the store.

        An event that does not fit, which only a damaged record can lead to, changes nothing: a second result of a
        trial or a result of an unknown one.

        Args:
            event: The event.
            cursor: Its position.
        """
        self.cursor = cursor
        if isinstance(event, (Claimed, Unread)):
            self._end(event.number)
            if isinstance(event, Unread):
                self._unread[event.number] = event
            else:
                self._running[event.number] = lease_of(event)
            self.next_number = max(self.next_number, event.number + 1)
        elif isinstance(event, Finished):
            self._end(event.number)
        elif isinstance(event, Released):
            if event.number in self._running or event.number in self._unread:
                self.released.add(event.number)
        elif isinstance(event, Opened):
            self.header = event.header

    def _end(self, number: int) -> None:
        self._running.pop(number, None)
        self._unread.pop(number, None)
        self.released.discard(number)

    def holds(self, lease: Lease) -> bool:
        """Returns whether a lease is still good."""
        now = self._running.get(lease.number) or self._unread.get(lease.number)
        return now is not None and now.attempt == lease.attempt and lease.number not in self.released

    def check(self, lease: Lease, verb: str) -> None:
        """Refuses a lease that is no longer good.

        Raises:
            LeaseLost: the trial was taken over, was given back, or has ended.
        """
        if self.holds(lease):
            return
        now = self.running.get(lease.number)
        if now is None:
            known = lease.number < self.next_number
            got = "a trial that has ended" if known else "a trial that was never claimed"
            fix = "end a trial once" if known else "claim it in this study first"
        elif now.attempt != lease.attempt:
            got = f"attempt {lease.attempt}, but {now.worker} took it over as attempt {now.attempt}"
            fix = "drop this result; raise lease= if the worker was alive and only slow"
        else:
            got, fix = "a trial that was given back", "take it over again before going on"
        raise LeaseLost(f"cannot {verb} a trial", at=f"trial {lease.number}", got=got,
                        expected="the lease of the attempt that runs", fix=fix)  # fmt: skip

    def retry(self, lease: Lease, worker: str, seconds: float, at: float) -> Claimed:
        """Returns the event by which a worker takes a trial over."""
        losses = lease.losses + (lease.number not in self.released)
        return Claimed(lease.number, lease.attempt + 1, worker, seconds, losses, lease.proposal, at)

    def give_up(self, lease: Lease, at: float) -> Finished:
        """Returns the event that fails a trial whose workers were lost too often."""
        times = lease.losses + 1
        reason = f"its worker was lost {times} times" if times > 1 else "its worker was lost"
        return Finished(lease.number, lease.attempt, {"state": "failed", "reason": reason}, at)
