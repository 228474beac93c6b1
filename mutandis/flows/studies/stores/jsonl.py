"""Studies in a file of JSON lines that only ever grows: readable, diffable, followed by `tail -f`.

One event is one line with a checksum, added by a single write under a lock on the file itself (`flock`, which the
kernel drops when its holder dies). A reader takes whole lines only and needs no lock. What a crash or a full disk left
half written at the end is cut off by the next writer, with a warning; a damaged line before the end is skipped, with a
warning, and all the others count.

Any number of processes share a file on one file system. On NFS this holds for Linux clients with locking (version 4,
or 3 with its lock service): there `flock` covers all machines and the open, lock, read and append of one event follow
one another at the server. Object stores and file systems without locks are not supported.

Heartbeats stand in a small file beside it (`NAME.beats`), replaced whole each time and never needed afterwards.

Durability: `process` means that what was recorded survives SIGKILL at any instant; a power cut may lose what the
kernel had not written, the latest lines first. `power` calls `fsync` for results and headers: a result is on the disk
when `finish` returns, and everything before it too.
"""

from __future__ import annotations

import errno
import json
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, TracebackType

from mutandis.errors import MissingDependency, MutandisWarning, StorageError
from mutandis.flows.studies.stores.lines import Found, may_be_ours, scan, seal
from mutandis.flows.studies.stores.medium import (
    POWER,
    PROCESS,
    Beats,
    Identity,
    Line,
    Medium,
    ProcessLock,
    need_same_file,
)

_TAIL = 1 << 16
"""How many bytes at the end are looked at first when a file is opened."""

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows.
    fcntl = None


class JSONLMedium(Medium):
    """Keeps the lines of studies in one append-only file.

    Args:
        path: The file; it is made where it is missing.
        durability: `process` or `power`.

    Raises:
        StorageError: the file cannot be opened, or is something else.
        MissingDependency: the system has no `flock`.
    """

    def __init__(self, path: str | os.PathLike[str], *, durability: str = PROCESS) -> None:
        if fcntl is None:
            raise MissingDependency("cannot share a file of lines", at=path, expected="a system with flock",
                                    fix="use an SQLite file: a path that does not end in .jsonl")  # fmt: skip
        self._path = Path(path).absolute()
        self._name = str(self._path)
        self._is_synced = durability == POWER
        self._lock, self._sync_lock = ProcessLock(), ProcessLock()  # The second one is taken first.
        self._pid = os.getpid()
        self._fd: int | None = None
        self._identity: Identity | None = None
        self._refusal: OSError | None = None  # Why the file can be read alone.
        self._whole = 0  # The file is known to be in order up to here,
        self._synced = 0  # and to be on the disk up to here.
        self._warned: set[int] = set()
        with self._locked():
            self._mend()

    def studies(self) -> tuple[str, ...]:
        """Returns the names of all studies."""
        with self._errors() as fd:
            return tuple(sorted({study for _, _, study in self._scan(fd, 0, _size_of(fd)).lines}))

    def read(self, study: str, cursor: int) -> list[Line]:
        """Returns the lines after a position, which is an offset in the file."""
        with self._errors() as fd:
            return self._read(fd, study, cursor)

    def exclusive(self, study: str, *, durable: bool = False) -> _JSONLWriter:
        """Lets nobody else write to the file until the block ends; only `settle` waits for the disk."""
        return _JSONLWriter(self, study)

    def settle(self, cursor: int) -> None:
        """Waits for the disk where durability is `power`: one thread for all that wrote before it began to wait."""
        if not self._is_synced:
            return
        with self._sync_lock:
            if cursor <= self._synced:
                return
            with self._errors() as fd:
                end = self._whole
            try:
                _sync(fd)
            except OSError as error:
                raise self._trouble(error) from error
            self._synced = end

    def beat(self, study: str, number: int, attempt: int) -> None:
        """Counts a heartbeat."""
        with self._locked():
            counts = self._all_beats()
            kept = {key: n for key, n in counts.items() if key[:2] != (study, number)}
            kept[study, number, attempt] = counts.get((study, number, attempt), 0) + 1
            self._store_beats(kept)

    def beats(self, study: str) -> Beats:
        """Returns the heartbeats of all that run."""
        return {key[1:]: count for key, count in self._all_beats().items() if key[0] == study}

    def close(self) -> None:
        """Closes the file."""
        with self._sync_lock, self._lock:
            if self._fd is not None:
                os.close(self._fd)
            self._fd = None

    @contextmanager
    def _errors(self) -> Iterator[int]:
        """Gives the file of this process, to one thread at a time, and turns errors into ours."""
        with self._lock:
            try:
                yield self._opened()
            except StorageError:
                raise
            except OSError as error:
                raise self._trouble(error) from error

    def _trouble(self, error: OSError) -> StorageError:
        return StorageError(
            "cannot use a study file",
            at=self._path,
            got=error,
            expected="a file that can be read, locked and added to, with room on the disk",
            fix="check the path, the rights and the space on the disk",
        )

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """Holds the lock among processes."""
        with self._errors() as fd:
            _lock(fd)
            try:
                yield fd
            finally:
                _unlock(fd)

    def _opened(self) -> int:
        if self._fd is not None and self._pid != os.getpid():  # A forked child would share the parent's lock.
            os.close(self._fd)
            self._fd = None
        if self._fd is None:
            is_new = not self._path.exists()
            self._fd = self._open()
            self._pid = os.getpid()
            here = os.fstat(self._fd)
            self._identity = here.st_dev, here.st_ino
            if is_new and self._is_synced:
                _sync_folder(self._path.parent)
        return self._fd

    def _open(self) -> int:
        """Opens the file, to be read alone where that is all that is allowed."""
        self._refusal = None
        try:
            return os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS) or not self._path.exists():
                raise
            self._refusal = error
            return os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)

    def _scan(self, fd: int, start: int, size: int) -> Found:
        """Reads whole lines from an offset on, as far as they are written now, and warns of damaged ones."""
        found = scan(_read_at(fd, start, size - start)) if size > start else Found([], 0, [])
        for place in (start + offset for offset in found.damaged):
            if place not in self._warned:
                self._warned.add(place)
                warnings.warn(f"{self._path}: skipped a damaged line at byte {place}; the other lines count",
                              MutandisWarning, stacklevel=2)  # fmt: skip
        return found

    def _read(self, fd: int, study: str, cursor: int) -> list[Line]:
        return _lines_of(self._scan(fd, cursor, _size_of(fd)), cursor, study)

    def _mend(self) -> tuple[int, Found]:
        """Cuts off what a dead writer left half written; only under the lock, when nobody is writing.

        Returns:
            From where on lines were read, and those lines: none where nobody wrote since the last time.
        """
        fd = self._opened()
        need_same_file(self._name, self._identity)
        size = _size_of(fd)
        if size <= self._whole:
            self._whole, self._synced = size, min(size, self._synced)
            return size, Found([], 0, [])
        start = self._whole or _near_end(fd, size)
        found = self._scan(fd, start, size)
        if not found.lines and not self._whole:
            start, found = 0, self._scan(fd, 0, size)
        end = start + found.end
        if end < size:
            if end == 0 and not may_be_ours(_read_at(fd, 0, size)):
                raise StorageError(
                    "cannot open a study file",
                    at=self._path,
                    got="a file of another program",
                    expected="a .jsonl file of mutandis, or none yet",
                    fix="give another path",
                )
            if self._refusal is not None:
                return start, found  # Readers take whole lines only.
            os.ftruncate(fd, end)
            warnings.warn(f"{self._path}: cut off {size - end} bytes of a line that was not written to its end",
                          MutandisWarning, stacklevel=2)  # fmt: skip
        self._whole = end
        return start, found

    def _add(self, fd: int, data: bytes) -> None:
        """Adds lines with one write; a disk that is full gets none of them."""
        try:
            written = os.write(fd, data)
            if written < len(data):
                raise OSError(errno.ENOSPC, f"only {written} of {len(data)} bytes were written")
        except BaseException:
            os.ftruncate(fd, self._whole)
            raise
        self._whole += len(data)

    @property
    def _beats_path(self) -> Path:
        return self._path.with_name(self._path.name + ".beats")

    def _all_beats(self) -> dict[tuple[str, int, int], int]:
        """Returns the heartbeats of all studies; none where the file is missing or damaged: it is only a hint."""
        try:
            return {(study, number, attempt): count for study, number, attempt, count in
                    json.loads(self._beats_path.read_bytes())}  # fmt: skip
        except (OSError, ValueError, TypeError):
            return {}

    def _forget(self, trials: list[tuple[str, int]]) -> None:
        """Drops the heartbeats of trials; only under the lock."""
        self._store_beats({key: count for key, count in self._all_beats().items() if key[:2] not in trials})

    def _store_beats(self, counts: dict[tuple[str, int, int], int]) -> None:
        """Replaces the heartbeats; only under the lock."""
        draft = self._beats_path.with_name(self._beats_path.name + ".part")
        draft.write_text(json.dumps([[*key, count] for key, count in counts.items()]))
        os.replace(draft, self._beats_path)


class _JSONLWriter:
    """Holds the file, and collects lines for one write at the end of its block."""

    __slots__ = ("_data", "_fd", "_forgotten", "_found", "_medium", "_start", "_study")

    def __init__(self, medium: JSONLMedium, study: str) -> None:
        self._medium, self._study = medium, study
        self._data = b""
        self._forgotten: list[tuple[str, int]] = []

    def __enter__(self) -> _JSONLWriter:
        medium = self._medium
        medium._lock.__enter__()
        try:
            self._fd = medium._opened()
            if medium._refusal is not None:
                raise medium._refusal
            _lock(self._fd)
            try:
                self._start, self._found = medium._mend()
            except BaseException:
                _unlock(self._fd)
                raise
        except BaseException as error:
            medium._lock.__exit__(None, None, None)
            if isinstance(error, OSError) and not isinstance(error, StorageError):
                raise medium._trouble(error) from error
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        medium = self._medium
        try:
            try:
                if kind is None:
                    if self._data:
                        medium._add(self._fd, self._data)
                    if self._forgotten:
                        medium._forget(self._forgotten)
            finally:
                _unlock(self._fd)
        except OSError as problem:
            raise medium._trouble(problem) from problem
        finally:
            medium._lock.__exit__(None, None, None)

    def read(self, cursor: int) -> list[Line]:
        if cursor >= self._start:
            return [line for line in _lines_of(self._found, self._start, self._study) if line.cursor > cursor]
        return self._medium._read(self._fd, self._study, cursor)

    def append(self, texts: Sequence[str]) -> int:
        self._data += b"".join([seal(text, self._study) for text in texts])
        return self._medium._whole + len(self._data)

    def forget(self, number: int) -> None:
        self._forgotten.append((self._study, number))


def _lines_of(found: Found, start: int, study: str) -> list[Line]:
    return [Line(start + end, text) for end, text, name in found.lines if name == study]


def _lock(fd: int) -> None:
    assert fcntl is not None  # Checked when the medium was made.
    fcntl.flock(fd, fcntl.LOCK_EX)


def _unlock(fd: int) -> None:
    assert fcntl is not None
    fcntl.flock(fd, fcntl.LOCK_UN)


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
