"""Who works, and who is lost.

A worker whose process is provably dead (same machine, same boot, no such process) is lost at once. Of any other one
only the heartbeat tells: a counter that stands still while somebody watches it for as long as its lease. No clock is
compared with another one, so skew between machines, and clocks that are set, do no harm; the price is that a worker
that has just come must watch for the length of a lease before it takes over what a remote one left.
"""

from __future__ import annotations

import functools
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from pathlib import Path

from mutandis.flows.studies.stores.records import Lease

_LOOKS = 4
"""A lease is over after at least so many looks: a watcher that slept has seen nothing in the meantime."""


def this_worker() -> str:
    """Returns the name of this process: `host:pid:start:boot`, different for every process that ever ran.

    `start` is when the process began, in the ticks of the kernel, and `boot` a digest of the boot and the process
    namespace; both are empty where the system does not tell.
    """
    pid = os.getpid()
    return f"{platform.node() or 'localhost'}:{pid}:{_started(pid) or ''}:{_boot()}"


def is_gone(worker: str) -> bool:
    """Returns whether a worker is provably dead; False where it cannot be known from here."""
    host, _, rest = worker.partition(":")
    pid, _, rest = rest.partition(":")
    start, _, boot = rest.partition(":")
    if host != (platform.node() or "localhost") or not boot or boot != _boot() or not start or not pid.isdigit():
        return False
    return _started(int(pid)) != start


def _started(pid: int) -> str | None:
    """Returns when a process began, or None where there is none (or only its corpse), or no way to know."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (OSError, UnicodeDecodeError):
        return None
    fields = text.rpartition(")")[2].split()  # The name in parentheses may hold blanks.
    return None if fields[0] in ("Z", "X") else fields[19]


@functools.cache
def _boot() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
    return blake2b(f"{boot} {namespace}".encode(), digest_size=4).hexdigest()


class Watch:
    """What one observer has seen of the heartbeats of others.

    Args:
        clock: Returns seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[tuple[int, int], tuple[int, float, float]] = {}  # (beats, last look, watched for)

    def look(self, leases: Iterable[Lease], beats: Mapping[tuple[int, int], int]) -> None:
        """Compares the heartbeats with those of the look before.

        A gap between two looks counts for at most a quarter of the lease.

        Args:
            leases: All that run.
            beats: Heartbeat counters by (number, attempt); 0 where there is none.
        """
        now, seen = self._clock(), {}
        for lease in leases:
            key = (lease.number, lease.attempt)
            count = beats.get(key, 0)
            before, at, watched = self._seen.get(key, (-1, now, 0.0))
            watched = watched + min(now - at, lease.seconds / _LOOKS) if count == before else 0.0
            seen[key] = (count, now, watched)
        self._seen = seen

    def is_stale(self, lease: Lease) -> bool:
        """Returns whether the worker of a lease is lost, by what was seen so far."""
        if is_gone(lease.worker):
            return True
        _, _, watched = self._seen.get((lease.number, lease.attempt), (0, 0.0, 0.0))
        return watched >= lease.seconds
