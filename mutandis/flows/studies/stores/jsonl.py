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

import json
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from mutandis.errors import MissingDependency, MutandisWarning, StorageError
from mutandis.flows.studies.stores.lines import Found, may_be_ours, scan, seal
from mutandis.flows.studies.stores.medium import POWER, PROCESS, Beats, Line, Medium, ProcessLock, Writer

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
        self._is_synced = durability == POWER
        self._lock = ProcessLock()
        self._pid = os.getpid()
        self._fd: int | None = None
        self._whole = 0  # The file is known to be in order up to here.
        self._warned: set[int] = set()
        with self._locked():
            self._mend()

    def studies(self) -> tuple[str, ...]:
        """Returns the names of all studies."""
        with self._errors() as fd:
            return tuple(sorted({study for _, _, study in self._scan(fd, 0).lines}))

    def read(self, study: str, cursor: int) -> list[Line]:
        """Returns the lines after a position, which is an offset in the file."""
        with self._errors() as fd:
            return self._read(fd, study, cursor)

    @contextmanager
    def exclusive(self, study: str, *, durable: bool = False) -> Iterator[Writer]:
        """Lets nobody else write to the file until the block ends; waits for the disk only when others may go on."""
        with self._errors() as fd:
            with self._locked():
                self._mend()
                writer = _JSONLWriter(self, fd, study)
                yield writer
                if writer.data:
                    self._add(fd, writer.data)
                if writer.forgotten:
                    self._store_beats({k: n for k, n in self._all_beats().items() if k[:2] not in writer.forgotten})
            if writer.data and durable and self._is_synced:
                os.fsync(fd)

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
        with self._lock:
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
                raise StorageError(
                    "cannot use a study file",
                    at=self._path,
                    got=error,
                    expected="a file that can be read, locked and added to, with room on the disk",
                    fix="check the path, the rights and the space on the disk",
                ) from error

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """Holds the lock among processes."""
        assert fcntl is not None
        with self._errors() as fd:
            fcntl.flock(fd, fcntl.LOCK_EX)
            try:
                yield fd
            finally:
                fcntl.flock(fd, fcntl.LOCK_UN)

    def _opened(self) -> int:
        if self._fd is not None and self._pid != os.getpid():  # A forked child would share the parent's lock.
            os.close(self._fd)
            self._fd = None
        if self._fd is None:
            is_new = not self._path.exists()
            self._fd = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
            self._pid = os.getpid()
            if is_new and self._is_synced:
                _sync_folder(self._path.parent)
        return self._fd

    def _scan(self, fd: int, start: int) -> Found:
        """Reads whole lines from an offset on, as far as they are written now, and warns of damaged ones."""
        size = os.fstat(fd).st_size
        found = scan(_read_at(fd, start, size - start)) if size > start else Found([], 0, [])
        for place in (start + offset for offset in found.damaged):
            if place not in self._warned:
                self._warned.add(place)
                warnings.warn(f"{self._path}: skipped a damaged line at byte {place}; the other lines count",
                              MutandisWarning, stacklevel=2)  # fmt: skip
        return found

    def _read(self, fd: int, study: str, cursor: int) -> list[Line]:
        return [Line(cursor + end, text) for end, text, name in self._scan(fd, cursor).lines if name == study]

    def _mend(self) -> None:
        """Cuts off what a dead writer left half written; only under the lock, when nobody is writing."""
        fd = self._opened()
        self._need_same_file(fd)
        size = os.fstat(fd).st_size
        if size <= self._whole:
            self._whole = size
            return
        start = self._whole or _near_end(fd, size)
        found = self._scan(fd, start)
        if not found.lines and not self._whole:
            start, found = 0, self._scan(fd, 0)
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
            os.ftruncate(fd, end)
            warnings.warn(f"{self._path}: cut off {size - end} bytes of a line that was not written to its end",
                          MutandisWarning, stacklevel=2)  # fmt: skip
        self._whole = end

    def _need_same_file(self, fd: int) -> None:
        """Refuses to write into a file that was removed or replaced: nobody would find it again."""
        here = os.fstat(fd)
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            there = None
        if there is None or (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino):
            raise StorageError("cannot use a study file", at=self._path, got="a file that was removed or replaced",
                               expected="the file that was opened", fix="open the study again")  # fmt: skip

    def _add(self, fd: int, data: bytes) -> None:
        """Adds lines with one write; a disk that is full gets none of them."""
        try:
            written = os.write(fd, data)
            if written < len(data):
                raise OSError(28, f"only {written} of {len(data)} bytes were written")
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

    def _store_beats(self, counts: dict[tuple[str, int, int], int]) -> None:
        """Replaces the heartbeats; only under the lock."""
        draft = self._beats_path.with_name(self._beats_path.name + ".part")
        draft.write_text(json.dumps([[*key, count] for key, count in counts.items()]))
        os.replace(draft, self._beats_path)


class _JSONLWriter:
    """Collects lines for one write."""

    def __init__(self, medium: JSONLMedium, fd: int, study: str) -> None:
        self._medium, self._fd, self._study = medium, fd, study
        self.data = b""
        self.forgotten: list[tuple[str, int]] = []

    def read(self, cursor: int) -> list[Line]:
        return self._medium._read(self._fd, self._study, cursor)

    def append(self, texts: Sequence[str]) -> int:
        self.data += b"".join(seal(text, self._study) for text in texts)
        return self._medium._whole + len(self.data)

    def forget(self, number: int) -> None:
        self.forgotten.append((self._study, number))


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


def _sync_folder(folder: Path) -> None:
    """Makes the name of a new file last."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
