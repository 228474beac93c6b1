"""What a store needs of the place where it keeps its lines: four implementations stand beside this file.

A medium knows no rules. It keeps lines of text in one order per study, lets one writer at a time add to them, and
counts heartbeats. All rules are in `ledger.py`, so that they hold alike in every medium.
"""

from __future__ import annotations

import abc
import os
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import ClassVar, NamedTuple, Protocol

from mutandis.errors import SettingError, StorageError

PROCESS, POWER = "process", "power"

Beats = dict[tuple[int, int], int]
"""Heartbeat counters by (number of the trial, attempt)."""


class Line(NamedTuple):
    """One line of a study.

    Attributes:
        cursor: Its position: an int > 0 that grows from line to line and means nothing else.
        text: The line, without its end.
    """

    cursor: int
    text: str


class Lines(NamedTuple):
    """What was read of a study.

    Attributes:
        lines: In order.
        cursor: Up to where there are no other ones: where to read on. It may lie behind the last line, where lines of
            other studies follow.
    """

    lines: list[Line]
    cursor: int


class Writer(Protocol):
    """The only writer of a study, inside `Medium.exclusive`."""

    def read(self, cursor: int) -> Lines:
        """Returns all lines after a position, up to the very last one."""
        ...

    def append(self, texts: Sequence[str]) -> int:
        """Adds lines, all or none of them, and returns the position of the last one."""
        ...

    def forget(self, number: int) -> None:
        """Drops the heartbeats of a trial."""
        ...


class Medium(abc.ABC):
    """Where the lines of studies are kept. Safe to use from threads, and in a forked child.

    Attributes:
        is_quick: Whether `add` works, and is quicker than `exclusive`.
    """

    is_quick: ClassVar[bool] = False

    @abc.abstractmethod
    def studies(self) -> tuple[str, ...]:
        """Returns the names of all studies, sorted."""

    @abc.abstractmethod
    def read(self, study: str, cursor: int) -> Lines:
        """Returns the whole lines after a position, without waiting for a writer; 0 begins at the first."""

    @abc.abstractmethod
    def exclusive(self, study: str, *, durable: bool = False) -> AbstractContextManager[Writer]:
        """Lets nobody else write to a study, in any process, until the block ends.

        What was appended is there when the block has ended, and is not when it raises. It lasts as `durable` asks when
        `settle` has returned too.

        Args:
            study: Its name; it begins to exist with its first line.
            durable: Whether the lines must last as the medium's `durability` says. Others may go with the power, the
                latest first, unless a durable line was written after them.
        """

    def add(self, study: str, cursor: int, text: str, *, durable: bool) -> int | None:
        """Adds a line if no other one came after a position; only where `is_quick`.

        Args:
            study: Its name.
            cursor: The position of the last line that the writer knows.
            text: The line.
            durable: As for `exclusive`.

        Returns:
            The position of the line; None where others have written, or the study does not exist.
        """
        raise NotImplementedError

    def settle(self, cursor: int) -> None:  # noqa: B027 - most media need not do anything.
        """Waits until all durable lines up to a position last, where the end of their block did not wait for that.

        Args:
            cursor: What `Writer.append` returned in a block that has ended.

        Raises:
            StorageError: the disk failed. The lines are there all the same: settle them again.
        """

    @abc.abstractmethod
    def beat(self, study: str, number: int, attempt: int) -> None:
        """Counts one heartbeat of an attempt."""

    @abc.abstractmethod
    def beats(self, study: str) -> Beats:
        """Returns the heartbeats of all that run."""

    @abc.abstractmethod
    def close(self) -> None:
        """Lets go of files and connections; the next use opens them again."""


class ProcessLock:
    """A re-entrant lock among threads that begins anew in a forked child, whoever held it in the parent.

    Attributes:
        pid: The process that last entered it.
    """

    __slots__ = ("_lock", "pid")

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._lock = threading.RLock()

    def __enter__(self) -> ProcessLock:
        if os.getpid() != self.pid:
            self.pid, self._lock = os.getpid(), threading.RLock()
        self._lock.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()


Identity = tuple[int, int]
"""What tells a file from all others at one time: its device and its number there."""


def identity_of(path: str | os.PathLike[str]) -> Identity | None:
    """Returns what tells the file at a path from others, or None where there is none."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def need_same_file(path: str | os.PathLike[str], opened: Identity | None) -> None:
    """Refuses to write into a file that was removed or replaced: nobody would find it again.

    Args:
        path: Where the file was opened.
        opened: What that file was.

    Raises:
        StorageError: it is not there any more, or another one is.
    """
    if identity_of(path) != opened:
        raise StorageError(
            "cannot use a study file",
            at=path,
            got="a file that was removed or replaced",
            expected="the file that was opened",
            fix="put it back, or open the study again",
        )


def need_durability(value: object) -> str:
    """Refuses what is no class of durability.

    Raises:
        SettingError: it is neither `process` nor `power`.
    """
    if value not in (PROCESS, POWER):
        raise SettingError(
            "cannot open a store",
            at="durability",
            got=value,
            expected="'process' (results survive kill -9) or 'power' (they survive a power cut too)",
            fix="leave durability out, or write durability='power'",
        )
    return str(value)


def need_seconds(name: str, value: object) -> float:
    """Refuses what is no length of time.

    Raises:
        SettingError: it is no finite number above 0.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise SettingError("cannot open a store", at=name, got=value, expected="a number of seconds above 0",
                           fix=f"leave {name} out, or write {name}=60")  # fmt: skip
    return float(value)
