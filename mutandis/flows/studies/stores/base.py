"""Stores: where studies live, and what any number of workers may do with one at the same time.

store = open_store("study.db")                     # or "study.jsonl", "postgresql://...", None for memory
log = store.open("study", header)                  # made by whoever comes first
lease = log.take_over() or log.claim(proposal)     # a number nobody else has, or what a dead worker left
log.report(lease, {"loss": 0.3}, step=1)
log.finish(lease, {"state": "completed", "rewards": [0.9]})
events, cursor = log.read(cursor)                  # what everybody did since
"""

from __future__ import annotations

from mutandis.errors import SettingError, StorageError, closest
from mutandis.flows.studies.stores.log import StudyLog
from mutandis.flows.studies.stores.medium import Medium
from mutandis.flows.studies.stores.records import StudyHeader


class Store:
    """A place for studies; made by `open_store`.

    Args:
        medium: Where the lines are kept.
        lease: Seconds after which a worker whose heartbeat stands still counts as lost.
        attempts: How many workers a trial may lose before it counts as failed.
        worker: A name for this process in the records; by default one that tells others when the process is dead.
    """

    def __init__(self, medium: Medium, *, lease: float = 60.0, attempts: int = 3, worker: str | None = None) -> None:
        self._medium = medium
        self._lease, self._attempts, self._worker = lease, attempts, worker

    def studies(self) -> tuple[str, ...]:
        """Returns the names of all studies, sorted."""
        return self._medium.studies()

    def open(self, name: str, header: StudyHeader | None = None) -> StudyLog:
        """Opens a study, and makes it if a header is given and there is none.

        Args:
            name: Its name in this store.
            header: What it is about. A study that is there keeps its own: compare `log.header`, and `log.amend` it.

        Raises:
            StorageError: there is no such study, and no header to make it with.
            SettingError: `name` is no text of printable characters.
        """
        if not isinstance(name, str) or not name or not name.isprintable():
            raise SettingError("cannot name a study", at="name", got=name, expected="a text of printable characters",
                               fix="store.open('my search')")  # fmt: skip
        log = StudyLog(self._medium, name, lease=self._lease, attempts=self._attempts, worker=self._worker)
        if log.header is None and header is not None:
            log.amend(header, replace=False)
        if log.header is None:
            known = self.studies()
            expected = f"one of {', '.join(known)}{closest(name, known)}" if known else "a store that has some"
            raise StorageError("cannot find a study", at=name, expected=expected,
                               fix="check the name and the store, or pass a header to make it")  # fmt: skip
        return log

    def close(self) -> None:
        """Lets go of files and connections; the next use opens them again."""
        self._medium.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
