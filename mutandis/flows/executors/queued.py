"""A pool that keeps jobs in a queue and hands them to members, each of which runs one at a time.

What a member is (a process, an actor) is up to the pool; who waits, who runs and what has ended is the same for all.
"""

from __future__ import annotations

import abc
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from mutandis.errors import ExecutorError
from mutandis.flows.executors.base import CANCELLED, Outcome, Pool


class Member(Protocol):
    """What runs jobs.

    Attributes:
        key: The job that it runs, or None.
    """

    key: int | None

    @property
    def is_ready(self) -> bool:
        """Whether it has started, and can take a job."""


M = TypeVar("M", bound=Member)


@dataclass
class QueuedPool(Pool, Generic[M]):
    """Members that start when jobs wait, and jobs that wait while there are too few.

    Args:
        size: How many members there may be.
    """

    size: int
    _members: list[M] = field(init=False, default_factory=list)
    _waiting: deque[tuple[int, bytes]] = field(init=False, default_factory=deque)
    _ended: list[Outcome] = field(init=False, default_factory=list)
    _is_closed: bool = field(init=False, default=False)

    @abc.abstractmethod
    def _pickle(self, payload: Any) -> bytes:
        """Returns a payload as it is sent to a member, or refuses it."""

    @abc.abstractmethod
    def _start(self) -> M:
        """Returns a member that is starting."""

    @abc.abstractmethod
    def _give(self, member: M, key: int, payload: bytes) -> None:
        """Gives a job to a ready member without one."""

    @abc.abstractmethod
    def _look(self, left: float | None) -> None:
        """Handles what comes within so many seconds; None for as long as it takes."""

    @abc.abstractmethod
    def _cancel(self, member: M) -> None:
        """Ends a member and its job."""

    @property
    def num_free(self) -> int:
        """Members less jobs, whether there is room for them now or not."""
        busy = sum(member.key is not None for member in self._members)
        return max(self.size - busy - len(self._waiting), 0)

    @property
    def num_running(self) -> int:
        """Jobs without an outcome, or with one that nobody has asked for."""
        return sum(m.key is not None for m in self._members) + len(self._waiting) + len(self._ended)

    def submit(self, key: int, payload: Any) -> None:
        """Hands in a job; see `Pool.submit`."""
        if self._is_closed:
            raise ExecutorError("cannot submit a job", expected="an open pool", fix="open another one")
        self._waiting.append((key, self._pickle(payload)))
        self._hand_out()

    def _hand_out(self) -> None:
        """Gives waiting jobs to members without one, and starts members while there are too few."""
        for member in self._members:
            if self._waiting and member.key is None and member.is_ready:
                self._give(member, *self._waiting.popleft())
        starting = sum(not member.is_ready for member in self._members)
        while len(self._members) < self.size and starting < len(self._waiting):
            self._members.append(self._start())
            starting += 1

    def wait(self, timeout: float | None = None) -> list[Outcome]:
        """Returns the outcomes that are there; see `Pool.wait`."""
        deadline = None if timeout is None else time.perf_counter() + timeout
        while not self._ended and self.num_running:
            left = None if deadline is None else deadline - time.perf_counter()
            if left is not None and left < 0:
                break
            self._look(left)
        ended, self._ended = self._ended, []
        return ended

    def cancel(self, key: int) -> None:
        """Ends a job, and the member that runs it; see `Pool.cancel`."""
        kept = [job for job in self._waiting if job[0] != key]
        if len(kept) < len(self._waiting):
            self._waiting = deque(kept)
            self._ended.append(Outcome(key, CANCELLED, reason="it was cancelled"))
        for member in list(self._members):
            if member.key == key:
                self._cancel(member)


__all__ = ["Member", "QueuedPool"]
