"""Studies in memory: gone with the process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from mutandis.flows.studies.stores.medium import Beats, Line, Lines, Medium, ProcessLock, Writer


class MemoryMedium(Medium):
    """Keeps the lines of studies in lists. Threads share it; a forked child has a copy of its own."""

    def __init__(self) -> None:
        self._lock = ProcessLock()
        self._lines: dict[str, list[str]] = {}
        self._beats: dict[str, Beats] = {}

    def studies(self) -> tuple[str, ...]:
        """Returns the names of all studies."""
        return tuple(sorted(self._lines))

    def read(self, study: str, cursor: int) -> Lines:
        """Returns the lines after a position, which counts lines."""
        with self._lock:
            found = [Line(cursor + 1 + i, text) for i, text in enumerate(self._lines.get(study, ())[cursor:])]
            return Lines(found, cursor + len(found))

    @contextmanager
    def exclusive(self, study: str, *, durable: bool = False) -> Iterator[Writer]:
        """Lets no other thread write until the block ends."""
        with self._lock:
            writer = _MemoryWriter(self, study, len(self._lines.get(study, ())))
            yield writer
            if writer.texts:
                self._lines.setdefault(study, []).extend(writer.texts)
            for number in writer.forgotten:
                beats = self._beats.get(study, {})
                for key in [key for key in beats if key[0] == number]:
                    del beats[key]

    def beat(self, study: str, number: int, attempt: int) -> None:
        """Counts a heartbeat."""
        with self._lock:
            counts = self._beats.setdefault(study, {})
            counts[number, attempt] = counts.get((number, attempt), 0) + 1

    def beats(self, study: str) -> Beats:
        """Returns the heartbeats of all that run."""
        with self._lock:
            return dict(self._beats.get(study, {}))

    def close(self) -> None:
        """Does nothing: what is in memory stays readable."""


class _MemoryWriter:
    """Holds what is written until the block ends, so that a block that raises writes nothing."""

    def __init__(self, medium: MemoryMedium, study: str, size: int) -> None:
        self._medium, self._study, self._size = medium, study, size
        self.texts: list[str] = []
        self.forgotten: list[int] = []

    def read(self, cursor: int) -> Lines:
        return self._medium.read(self._study, cursor)

    def append(self, texts: Sequence[str]) -> int:
        self.texts.extend(texts)
        return self._size + len(self.texts)

    def forget(self, number: int) -> None:
        self.forgotten.append(number)
