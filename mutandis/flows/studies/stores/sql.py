"""Studies on a PostgreSQL server, by SQLAlchemy and psycopg (extra `sql`).

One short transaction per event, which holds the row of its study (`SELECT ... FOR UPDATE`): events of a study are
committed in the order of their numbers, so that reading from a number on misses none. Studies do not wait for each
other. Tables begin with `mutandis_`; they are made where they are missing.

Durability: `process` commits with `synchronous_commit=off`: what was recorded survives the death of any worker, and a
crash of the server loses at most its latest commits (by default those of 0.6 s), never their order. `power` commits
results and headers synchronously, as the server is set up.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mutandis.errors import MissingDependency, StorageError
from mutandis.flows.studies.stores.medium import POWER, PROCESS, Beats, Line, Medium, ProcessLock, Writer

LAYOUT = 1
"""The version of the tables; that of the events stands in each event."""

_DRIVER = "postgresql+psycopg"
_SETUP_LOCK = 0x6D757431

_TABLES = (
    "CREATE TABLE IF NOT EXISTS mutandis_layout (version INTEGER PRIMARY KEY)",
    "CREATE TABLE IF NOT EXISTS mutandis_studies (id SERIAL PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    "CREATE TABLE IF NOT EXISTS mutandis_events (study INTEGER, seq INTEGER, body TEXT NOT NULL,"
    " PRIMARY KEY (study, seq))",
    "CREATE TABLE IF NOT EXISTS mutandis_beats (study INTEGER, number INTEGER, attempt INTEGER NOT NULL,"
    " count INTEGER NOT NULL, PRIMARY KEY (study, number))",
    f"INSERT INTO mutandis_layout (version) SELECT {LAYOUT} WHERE NOT EXISTS (SELECT 1 FROM mutandis_layout)",
)
_LOCK = "SELECT id FROM mutandis_studies WHERE id = :id FOR UPDATE"
_LOCK_QUICK = _LOCK.replace("id", "id, set_config('synchronous_commit', 'off', true)", 1)
_BEAT = (
    "INSERT INTO mutandis_beats VALUES (:study, :number, :attempt, 1) ON CONFLICT (study, number) DO UPDATE SET"
    " count = CASE WHEN mutandis_beats.attempt = excluded.attempt THEN mutandis_beats.count + 1 ELSE 1 END,"
    " attempt = excluded.attempt"
)


class SQLMedium(Medium):
    """Keeps the lines of studies in tables of a PostgreSQL data base.

    Args:
        url: `postgresql://user@host:port/base`; the password may stand in it, or in `PGPASSWORD` or `~/.pgpass`.
        durability: `process` or `power`.

    Raises:
        MissingDependency: SQLAlchemy or psycopg is not installed.
        StorageError: there is no such server or data base, or it is not PostgreSQL.
    """

    def __init__(self, url: str, *, durability: str = PROCESS) -> None:
        try:
            import psycopg  # noqa: F401 - SQLAlchemy loads it by name, and would say less when it is missing.
            import sqlalchemy
        except ImportError as error:
            raise MissingDependency(
                "cannot use a data base server",
                at=_without_password(url),
                expected="SQLAlchemy and psycopg",
                fix="pip install 'mutandis[sql]'",
            ) from error
        if url.split(":", 1)[0] not in ("postgresql", "postgres", _DRIVER):
            raise StorageError("cannot use a data base server", at=_without_password(url),
                               expected="postgresql://user@host:port/base",
                               fix="use PostgreSQL, a file path or a .jsonl path")  # fmt: skip
        self._sql = sqlalchemy
        self._shown = _without_password(url)
        self._is_synced = durability == POWER
        self._lock = ProcessLock()
        self._pid = os.getpid()
        # Two connections: heartbeats are read while a transaction is open.
        self._engine = sqlalchemy.create_engine(
            sqlalchemy.make_url(_DRIVER + ":" + url.split(":", 1)[1]), pool_size=2, max_overflow=2
        )
        self._ids: dict[str, int] = {}
        self._statements: dict[str, Any] = {}
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def studies(self) -> tuple[str, ...]:
        """Returns the names of all studies."""
        with self._begun() as connection:
            return tuple(sorted(name for (name,) in self._run(connection, "SELECT name FROM mutandis_studies")))

    def read(self, study: str, cursor: int) -> list[Line]:
        """Returns the lines after a position, which is their number in the study."""
        with self._begun() as connection:
            return self._read(connection, study, cursor)

    @contextmanager
    def exclusive(self, study: str, *, durable: bool = False) -> Iterator[Writer]:
        """Lets nobody else write to the study until the block ends."""
        try:
            with self._begun() as connection:
                if not self._id(connection, study):
                    self._run(connection, "INSERT INTO mutandis_studies (name) VALUES (:name) ON CONFLICT DO NOTHING",
                              name=study)  # fmt: skip
                number = self._id(connection, study)
                self._run(connection, _LOCK if self._is_synced and durable else _LOCK_QUICK, id=number)
                yield _SQLWriter(self, connection, study)
        except BaseException:
            self._ids.pop(study, None)  # It may have been given in the transaction that is no more.
            raise

    def beat(self, study: str, number: int, attempt: int) -> None:
        """Counts a heartbeat."""
        with self._begun() as connection:
            self._run(connection, "SET LOCAL synchronous_commit = off")
            self._run(connection, _BEAT, study=self._id(connection, study), number=number, attempt=attempt)

    def beats(self, study: str) -> Beats:
        """Returns the heartbeats of all that run."""
        with self._begun() as connection:
            rows = self._run(connection, "SELECT number, attempt, count FROM mutandis_beats WHERE study = :study",
                             study=self._id(connection, study))  # fmt: skip
            return {(number, attempt): count for number, attempt, count in rows}

    def close(self) -> None:
        """Closes the connections."""
        self._engine.dispose()

    @contextmanager
    def _begun(self) -> Iterator[Any]:
        """Runs a block in a transaction, and turns errors of the server into ours."""
        with self._lock:
            if self._pid != os.getpid():
                self._engine.dispose(close=False)  # They are the parent's.
                self._pid = os.getpid()
        try:
            with self._engine.begin() as connection:
                yield connection
        except self._sql.exc.SQLAlchemyError as error:
            raise StorageError(
                "cannot use a data base server",
                at=self._shown,
                got=getattr(error, "orig", None) or error,
                expected="a PostgreSQL server that can be reached, and a data base where tables may be made",
                fix="check the address, the rights and the server's log; what was recorded is safe, go on later",
            ) from error

    def _run(self, connection: Any, text: str, **values: Any) -> Any:
        statement = self._statements.get(text)
        if statement is None:
            statement = self._statements[text] = self._sql.text(text)
        return connection.execute(statement, values)

    def _prepare(self) -> None:
        """Makes the tables, one process at a time, and refuses those of a later release."""
        with self._begun() as connection:
            self._run(connection, "SELECT pg_advisory_xact_lock(:key)", key=_SETUP_LOCK)
            for statement in _TABLES:
                self._run(connection, statement)
            layout = self._run(connection, "SELECT max(version) FROM mutandis_layout").scalar_one()
        if layout > LAYOUT:
            raise StorageError("cannot open a data base", at=self._shown, got=f"tables of version {layout}",
                               expected=f"tables of version {LAYOUT} or older",
                               fix="read it with the release of mutandis that wrote it")  # fmt: skip

    def _id(self, connection: Any, study: str) -> int:
        """Returns the number of a study, or 0 where there is none."""
        if study not in self._ids:
            found = self._run(connection, "SELECT id FROM mutandis_studies WHERE name = :name", name=study).scalar()
            if found is None:
                return 0
            self._ids[study] = int(found)
        return self._ids[study]

    def _read(self, connection: Any, study: str, cursor: int) -> list[Line]:
        rows = self._run(
            connection, "SELECT seq, body FROM mutandis_events WHERE study = :study AND seq > :seq ORDER BY seq",
            study=self._id(connection, study), seq=cursor,
        )  # fmt: skip
        return [Line(seq, body) for seq, body in rows]


class _SQLWriter:
    """Writes inside one transaction that holds the row of the study."""

    def __init__(self, medium: SQLMedium, connection: Any, study: str) -> None:
        self._medium, self._connection, self._study = medium, connection, study
        self._number = medium._id(connection, study)
        self._last: int | None = None

    def read(self, cursor: int) -> list[Line]:
        found = self._medium._read(self._connection, self._study, cursor)
        self._last = found[-1].cursor if found else cursor
        return found

    def append(self, texts: Sequence[str]) -> int:
        run = self._medium._run
        if self._last is None:
            self._last = run(self._connection, "SELECT coalesce(max(seq), 0) FROM mutandis_events WHERE study = :study",
                             study=self._number).scalar_one()  # fmt: skip
        for text in texts:
            self._last += 1
            run(self._connection, "INSERT INTO mutandis_events VALUES (:study, :seq, :body)",
                study=self._number, seq=self._last, body=text)  # fmt: skip
        return self._last

    def forget(self, number: int) -> None:
        self._medium._run(self._connection, "DELETE FROM mutandis_beats WHERE study = :study AND number = :number",
                          study=self._number, number=number)  # fmt: skip


def _without_password(url: str) -> str:
    """Returns an address as messages may show it."""
    scheme, _, rest = url.partition("://")
    login, at, host = rest.rpartition("@")
    return f"{scheme}://{login.split(':', 1)[0]}{at}{host}"
