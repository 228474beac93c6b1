"""A thread that says that its worker is alive."""

from __future__ import annotations

import threading

from mutandis.errors import StorageError
from mutandis.flows.studies.stores.log import StudyLog
from mutandis.flows.studies.stores.records import Lease


class Heartbeat:
    """Beats for the trials of one worker while they run, four times per lease, from a daemon thread.

        with Heartbeat(log) as heart:
            heart.add(lease)
            ...
            heart.drop(lease)

    A store that cannot be reached for a while is tried again at the next beat; if that lasts longer than the lease,
    others take the trial over, and `is_lost` says so as soon as the store is back.

    Args:
        log: The study.
    """

    def __init__(self, log: StudyLog) -> None:
        self._log = log
        self._leases: dict[int, Lease] = {}
        self._lost: set[tuple[int, int]] = set()
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, lease: Lease) -> None:
        """Begins to beat for a trial."""
        self._leases[lease.number] = lease
        if self._thread is None or not self._thread.is_alive():  # Also after a fork, which leaves threads behind.
            self._end = threading.Event()
            self._thread = threading.Thread(target=self._run, args=(self._end,), name="mutandis-heartbeat", daemon=True)
            self._thread.start()

    def drop(self, lease: Lease) -> None:
        """Stops beating for a trial."""
        if self._leases.get(lease.number) == lease:
            del self._leases[lease.number]

    def is_lost(self, lease: Lease) -> bool:
        """Returns whether another worker took the trial over, as far as the last beat saw."""
        return (lease.number, lease.attempt) in self._lost

    def close(self) -> None:
        """Stops the thread and waits for it."""
        self._end.set()
        if self._thread is not None and self._thread.is_alive():
            self._thread.join()
        self._thread = None

    def _run(self, end: threading.Event) -> None:
        while not end.wait(self._log.lease / 4):
            for lease in tuple(self._leases.values()):
                try:
                    if not self._log.heartbeat(lease):
                        self._lost.add((lease.number, lease.attempt))
                        self.drop(lease)
                except StorageError:
                    continue  # The store may be back at the next beat.

    def __enter__(self) -> Heartbeat:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
