"""A file of whole lines that many processes add to, and that stands crashes and full disks.

Every line is added by a single write under a lock on the file itself (`flock`, which the kernel drops when its holder
dies). Who wants the lock asks for it again and again for a moment before it sleeps: it is held for a few microseconds,
and to be woken takes longer. What a dead writer left half written is cut off by the next one.
"""

from __future__ import annotations

import errno
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from mutandis.errors import MissingDependency, MutandisWarning, StorageError
from mutandis.flows.studies.stores.lines import Found, may_be_ours, scan, studies_of
from mutandis.flows.studies.stores.medium import Identity, Line, ProcessLock, need_same_file

_TAIL = 1 << 16
"""How many bytes at the end are looked at first when a file is opened."""

_CHUNK = 1 << 20
"""How many bytes are written again at a time."""

_PATIENCE = 100e-6
"""For how many seconds a lock is asked for before its waiter sleeps."""

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows.
    fcntl = None


class LineFile:
    """An append-only file of lines, open in this process.

    Args:
        path: The file; it is made where it is missing.
        is_synced: Whether `settle` waits for the disk.

    Raises:
        StorageError: the file cannot be opened, or is something else.
        MissingDependency: the system has no `flock`.
    """

    def __init__(self, path: Path, *, is_synced: bool) -> None:
        if fcntl is None:
            raise MissingDependency("cannot share a file of lines", at=path, expected="a system with flock",
                                    fix="use an SQLite file: a path that does not end in .jsonl")  # fmt: skip
        self.path = path
        self._name = str(path)
        self._is_synced = is_synced
        self._lock, self._sync_lock = ProcessLock(), ProcessLock()  # The second one is taken first.
        self._pid = self._lock.pid
        self._fd: int | None = None
        self._identity: Identity | None = None
        self._refusal: OSError | None = None  # Why the file can be read alone.
        self._whole = 0  # The file is known to be in order up to here,
        self._synced = 0  # and to be on the disk up to here,
        self._is_in_doubt = False  # unless the disk has failed since.
        self._warned: set[int] = set()
        with self.locked() as fd:
            self._mend(fd, "")

    def read(self, study: str, start: int) -> Found:
        """Reads the whole lines of a study from an offset on, as far as they are written now; warns of damaged ones."""
        with self._errors() as fd:
            return self._scan(fd, study, start, _size_of(fd))

    def studies(self) -> set[str]:
        """Returns the names of the studies that have lines."""
        with self._errors() as fd:
            return studies_of(_read_at(fd, 0, _size_of(fd)))

    def begin(self, study: str) -> tuple[int, list[Line]]:
        """Lets nobody else write to the file until `end`, which must follow.

        Args:
            study: Whose lines are to be read on the way.

        Returns:
            From where on lines were read that are new here, and those of the study.
        """
        self._lock.__enter__()
        try:
            fd = self._opened()
            if self._refusal is not None:
                raise self._refusal
            need_same_file(self._name, self._identity)
            _lock(fd)
            try:
                return self._mend(fd, study)
            except BaseException:
                _unlock(fd)
                raise
        except BaseException as error:
            self._lock.__exit__(None, None, None)
            if isinstance(error, OSError) and not isinstance(error, StorageError):
                raise self.trouble(error) from error
            raise

    def add(self, data: bytes) -> None:
        """Adds lines with one write, between `begin` and `end`; a disk that is full gets none of them.

        Raises:
            OSError: it is full, or fails otherwise.
        """
        fd = self._opened()
        try:
            written = os.write(fd, data)
            if written < len(data):
                raise OSError(errno.ENOSPC, f"only {written} of {len(data)} bytes were written")
        except BaseException:
            os.ftruncate(fd, self._whole)
            raise
        self._whole += len(data)

    def end(self) -> None:
        """Lets others write."""
        try:
            _unlock(self._opened())
        finally:
            self._lock.__exit__(None, None, None)

    def settle(self, cursor: int) -> None:
        """Waits for the disk: one thread for all that wrote before it began to wait.

        Args:
            cursor: Up to where it matters.
        """
        if not self._is_synced:
            return
        with self._sync_lock:
            if cursor <= self._synced:
                return
            with self._errors() as fd:
                end = self._whole
            try:
                if self._is_in_doubt:
                    self._write_again(end)
                _sync(fd)
            except OSError as error:
                self._is_in_doubt = True
                raise self.trouble(error) from error
            self._synced, self._is_in_doubt = end, False

    def close(self) -> None:
        """Closes the file; the next use opens it again."""
        with self._sync_lock, self._lock:
            if self._fd is not None:
                os.close(self._fd)
            self._fd = None

    @property
    def size(self) -> int:
        """Where the file ends; between `begin` and `end`."""
        return self._whole

    @contextmanager
    def locked(self) -> Iterator[int]:
        """Holds the lock among processes."""
        with self._errors() as fd:
            _lock(fd)
            try:
                yield fd
            finally:
                _unlock(fd)

    @contextmanager
    def _errors(self) -> Iterator[int]:
        """Gives the file of this process, to one thread at a time, and turns errors into ours."""
        with self._lock:
            try:
                yield self._opened()
            except StorageError:
                raise
            except OSError as error:
                raise self.trouble(error) from error

    def trouble(self, error: OSError) -> StorageError:
        """Returns what to tell of an error."""
        return StorageError(
            "cannot use a study file",
            at=self.path,
            got=error,
            expected="a file that can be read, locked and added to, with room on the disk",
            fix="check the path, the rights and the space on the disk",
        )

    def _opened(self) -> int:
        if self._fd is not None and self._pid != self._lock.pid:  # A forked child would share the parent's lock.
            os.close(self._fd)
            self._fd = None
        if self._fd is None:
            is_new = not self.path.exists()
            self._fd = self._open()
            self._pid = self._lock.pid
            here = os.fstat(self._fd)
            self._identity = here.st_dev, here.st_ino
            if is_new and self._is_synced:
                _sync_folder(self.path.parent)
        return self._fd

    def _open(self) -> int:
        """Opens the file, to be read alone where that is all that is allowed."""
        self._refusal = None
        try:
            return os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS) or not self.path.exists():
                raise
            self._refusal = error
            return os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)

    def _scan(self, fd: int, study: str, start: int, size: int) -> Found:
        if size <= start:
            return Found([], start, [])
        found = scan(_read_at(fd, start, size - start), start, study)
        if start <= self._whole:
            self._whole = max(self._whole, found.end)
        for place in found.damaged:
            if place not in self._warned:
                self._warned.add(place)
                warnings.warn(f"{self.path}: skipped a damaged line at byte {place}; the other lines count",
                              MutandisWarning, stacklevel=2)  # fmt: skip
        return found

    def _mend(self, fd: int, study: str) -> tuple[int, list[Line]]:
        """Cuts off what a dead writer left half written; only under the lock, when nobody is writing.

        Returns:
            From where on lines were read, and those of a study: none where nobody wrote since the last time.
        """
        size = _size_of(fd)
        if size == self._whole:
            return size, []
        if size < self._whole:
            self._whole, self._synced = size, min(size, self._synced)
            return size, []
        start = self._whole or _near_end(fd, size)
        found = self._scan(fd, study, start, size)
        if found.end == start and not self._whole:
            start, found = 0, self._scan(fd, study, 0, size)
        end = found.end
        if end < size:
            if end == 0 and not may_be_ours(_read_at(fd, 0, size)):
                raise StorageError(
                    "cannot open a study file",
                    at=self.path,
                    got="a file of another program",
                    expected="a .jsonl file of mutandis, or none yet",
                    fix="give another path",
                )
            if self._refusal is not None:
                return start, found.lines  # Readers take whole lines only.
            os.ftruncate(fd, end)
            warnings.warn(f"{self.path}: cut off {size - end} bytes of a line that was not written to its end",
                          MutandisWarning, stacklevel=2)  # fmt: skip
        self._whole = end
        return start, found.lines

    def _write_again(self, end: int) -> None:
        """Writes lines once more where they stand: after an error a system may forget that they wait for the disk."""
        fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)  # Whatever is written to the other one goes to the end.
        try:
            for start in range(self._synced, end, _CHUNK):
                os.pwrite(fd, _read_at(fd, start, min(_CHUNK, end - start)), start)
        finally:
            os.close(fd)


def _lock(fd: int) -> None:
    assert fcntl is not None  # Checked when the file was opened.
    deadline = 0.0
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            now = time.monotonic()
            deadline = deadline or now + _PATIENCE
            if now > deadline:
                break
    fcntl.flock(fd, fcntl.LOCK_EX)


def _unlock(fd: int) -> None:
    assert fcntl is not None
    fcntl.flock(fd, fcntl.LOCK_UN)


_step_aside: Callable[[], None] = getattr(os, "sched_yield", lambda: time.sleep(0))
"""Lets another process run that waits for this processor: it may hold the lock."""


def _size_of(fd: int) -> int:
    """Returns the size of a file: quicker than `fstat`, and nobody uses the place in the file that it moves."""
    return os.lseek(fd, 0, os.SEEK_END)


def _read_at(fd: int, start: int, length: int) -> bytes:
    """Returns the bytes of a range, or fewer where the file ends before."""
    parts = []
    while length > 0 and (part := os.pread(fd, length, start)):
        parts.append(part)
        start, length = start + len(part), length - len(part)
    return b"".join(parts)


def _near_end(fd: int, size: int) -> int:
    """Returns where a line begins not far from the end, so that opening a file does not check all of it."""
    start = max(0, size - _TAIL)
    return start + _read_at(fd, start, size - start).find(b"\n") + 1 if start else 0


_sync = getattr(os, "fdatasync", os.fsync)
"""Waits for the disk; the size of the file counts as data, the time of its change does not."""


def _sync_folder(folder: Path) -> None:
    """Makes the name of a new file last."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
