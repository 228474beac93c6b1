"""Studies in a file of JSON lines that only ever grows: readable, diffable, followed by `tail -f`.

One event is one line with a checksum. A reader takes whole lines only and needs no lock. What a crash or a full disk
left half written at the end is cut off by the next writer, with a warning; a damaged line before the end is skipped,
with a warning, and all the others count.

Any number of processes share a file on one file system. On NFS this holds for Linux clients with locking (version 4,
or 3 with its lock service): there `flock` covers all machines and the open, lock, read and append of one event follow
one another at the server. Object stores and file systems without locks are not supported.

Heartbeats stand in a small file beside it (`NAME.beats`), replaced whole each time and never needed afterwards.

Durability: `process` means that what was recorded survives SIGKILL at any instant; a power cut may lose what the
kernel had not written, the latest lines first. `power` waits for the disk (`fdatasync`) for results and headers: a
result is on the disk when `finish` returns, and everything before it too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from mutandis.flows.studies.stores.linefile import LineFile
from mutandis.flows.studies.stores.lines import seal
from mutandis.flows.studies.stores.medium import POWER, PROCESS, Beats, Lines, Medium


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
        self._file = LineFile(Path(path).absolute(), is_synced=durability == POWER)
        self._beats_path = self._file.path.with_name(self._file.path.name + ".beats")

    def studies(self) -> tuple[str, ...]:
        """Returns the names of all studies."""
        return tuple(sorted(self._file.studies()))

    def read(self, study: str, cursor: int) -> Lines:
        """Returns the lines after a position, which is an offset in the file."""
        found = self._file.read(study, cursor)
        return Lines(found.lines, found.end)

    def exclusive(self, study: str, *, durable: bool = False) -> _JSONLWriter:
        """Lets nobody else write to the file until the block ends; only `settle` waits for the disk."""
        return _JSONLWriter(self, self._file, study)

    def settle(self, cursor: int) -> None:
        """Waits for the disk where durability is `power`: one thread for all that wrote before it began to wait."""
        self._file.settle(cursor)

    def beat(self, study: str, number: int, attempt: int) -> None:
        """Counts a heartbeat."""
        with self._file.locked():
            counts = self._all_beats()
            kept = {key: n for key, n in counts.items() if key[:2] != (study, number)}
            kept[study, number, attempt] = counts.get((study, number, attempt), 0) + 1
            self._store_beats(kept)

    def beats(self, study: str) -> Beats:
        """Returns the heartbeats of all that run."""
        return {key[1:]: count for key, count in self._all_beats().items() if key[0] == study}

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _all_beats(self) -> dict[tuple[str, int, int], int]:
        """Returns the heartbeats of all studies; none where the file is missing or damaged: it is only a hint."""
        try:
            return {(study, number, attempt): count for study, number, attempt, count in
                    json.loads(self._beats_path.read_bytes())}  # fmt: skip
        except (OSError, ValueError, TypeError):
            return {}

    def forget(self, trials: list[tuple[str, int]]) -> None:
        """Drops the heartbeats of trials; only under the lock."""
        self._store_beats({key: count for key, count in self._all_beats().items() if key[:2] not in trials})

    def _store_beats(self, counts: dict[tuple[str, int, int], int]) -> None:
        """Replaces the heartbeats; only under the lock."""
        draft = self._beats_path.with_name(self._beats_path.name + ".part")
        draft.write_text(json.dumps([[*key, count] for key, count in counts.items()]))
        os.replace(draft, self._beats_path)


class _JSONLWriter:
    """Holds the file, and collects lines for one write at the end of its block: others wait for no more than that."""

    __slots__ = ("_data", "_file", "_forgotten", "_lines", "_medium", "_start", "_study")

    def __init__(self, medium: JSONLMedium, file: LineFile, study: str) -> None:
        self._medium, self._file, self._study = medium, file, study
        self._data = b""
        self._forgotten: list[tuple[str, int]] = []

    def __enter__(self) -> _JSONLWriter:
        self._start, self._lines = self._file.begin(self._study)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and self._data:
                self._file.add(self._data)
            if kind is None and self._forgotten:
                self._medium.forget(self._forgotten)
        except OSError as problem:
            raise self._file.trouble(problem) from problem
        finally:
            self._file.end()

    def read(self, cursor: int) -> Lines:
        if cursor < self._start:  # Lines that are known here to be whole, but were not read for this study.
            found = self._file.read(self._study, cursor)
            return Lines(found.lines, found.end)
        return Lines(self._lines, self._file.size)

    def append(self, texts: Sequence[str]) -> int:
        self._data += b"".join([seal(text, self._study) for text in texts])
        return self._file.size + len(self._data)

    def forget(self, number: int) -> None:
        self._forgotten.append((self._study, number))
