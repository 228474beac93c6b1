"""Studies on a PostgreSQL server, by psycopg (extra `sql`).

An event is one statement and one journey to the server, as long as nobody else has written in the meantime: it adds
the event under the number that follows the last one known here, or nothing where that is taken. What hangs on more
(the beginning of a study, several events at once, a worker that others were quicker than several times) is a short
transaction. Both hold the row of their study (`SELECT ... FOR UPDATE`): events of a study are committed in the order
of their numbers, so that reading from a number on misses none. Studies do not wait for each other. Tables begin with
`mutandis_`; they are made where they are missing.

Durability: `process` commits with `synchronous_commit=off`: what was recorded survives the death of any worker, and a
crash of the server loses at most its latest commits (by default those of 0.6 s), never their order. `power` commits
results and headers synchronously, as the server is set up.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mutandis.errors import MissingDependency, StorageError
from mutandis.flows.studies.stores.medium import POWER, PROCESS, Beats, Line, Lines, Medium, ProcessLock, Writer

LAYOUT = 1
"""The version of the tables; that of the events stands in each event."""

_SCHEMES = ("postgresql", "postgres", "postgresql+psycopg")
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
_LOCK = "SELECT id FROM mutandis_studies WHERE id = %(study)s FOR UPDATE"
_LOCK_QUICK = _LOCK.replace("id", "id, set_config('synchronous_commit', 'off', true)", 1)
_INSERT = "INSERT INTO mutandis_events VALUES (%(study)s, %(seq)s, %(body)s)"
_ADD = (
    "WITH held AS ({lock}), added AS (INSERT INTO mutandis_events SELECT id, %(seq)s, %(body)s FROM held"
    " ON CONFLICT DO NOTHING RETURNING seq) SELECT seq FROM added"
)
_ADD_DURABLE, _ADD_QUICK = _ADD.format(lock=_LOCK), _ADD.format(lock=_LOCK_QUICK)
_LAST = "SELECT coalesce(max(seq), 0) FROM mutandis_events WHERE study = %(study)s"
_FORGET = "DELETE FROM mutandis_beats WHERE study = %(study)s AND number = %(number)s"
_READ = "SELECT seq, body FROM mutandis_events WHERE study = %(study)s AND seq > %(seq)s ORDER BY seq"
_BEAT = (
    "INSERT INTO mutandis_beats SELECT %(study)s, %(number)s, %(attempt)s, 1"
    " FROM set_config('synchronous_commit', 'off', true) ON CONFLICT (study, number) DO UPDATE SET"
    " count = CASE WHEN mutandis_beats.attempt = excluded.attempt THEN mutandis_beats.count + 1 ELSE 1 END,"
    " attempt = excluded.attempt"
)


class SQLMedium(Medium):
    """Keeps the lines of studies in tables of a PostgreSQL data base.

    Args:
        url: `postgresql://user@host:port/base`; the password may stand in it, or in `PGPASSWORD` or `~/.pgpass`.
        durability: `process` or `power`.

    Raises:
        MissingDependency: psycopg is not installed.
        StorageError: there is no such server or data base, or it is not PostgreSQL.
    """

    is_quick = True

    def __init__(self, url: str, *, durability: str = PROCESS) -> None:
        self._shown = without_password(url)
        try:
            import psycopg
        except ImportError as error:
            raise MissingDependency(
                "cannot use a data base server",
                at=self._shown,
                expected="psycopg",
                fix="pip install 'mutandis[sql]'",
            ) from error
        if url.split(":", 1)[0] not in _SCHEMES:
            raise StorageError("cannot use a data base server", at=self._shown,
                               expected="postgresql://user@host:port/base",
                               fix="use PostgreSQL, a file path or a .jsonl path")  # fmt: skip
        self._driver = psycopg
        self._url = _for_driver(url)
        self._is_synced = durability == POWER
        self._lock = ProcessLock()
        self._pid = os.getpid()
        self._connection: Any = None
        self._abandoned: list[Any] = []
        self._ids: dict[str, int] = {}
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def studies(self) -> tuple[str, ...]:
        """Returns the names of all studies."""
        with self._errors() as connection:
            return tuple(sorted(name for (name,) in connection.execute("SELECT name FROM mutandis_studies")))

    def read(self, study: str, cursor: int) -> Lines:
        """Returns the lines after a position, which is their number in the study."""
        with self._errors() as connection:
            return self._read(connection, study, cursor)

    def add(self, study: str, cursor: int, text: str, *, durable: bool) -> int | None:
        """Adds a line if it is the next one after a position: one statement."""
        with self._errors() as connection:
            number = self._id(connection, study)
            if not number:
                return None
            statement = _ADD_DURABLE if self._is_synced and durable else _ADD_QUICK
            values = {"study": number, "seq": cursor + 1, "body": text}
            return None if connection.execute(statement, values).fetchone() is None else cursor + 1

    @contextmanager
    def exclusive(self, study: str, *, durable: bool = False) -> Iterator[Writer]:
        """Lets nobody else write to the study from the first thing that the block does with it until its end."""
        with self._errors() as connection:
            writer = _SQLWriter(self, connection, study, _LOCK if self._is_synced and durable else _LOCK_QUICK)
            try:
                yield writer
                writer.end()
            except BaseException:
                self._ids.pop(study, None)  # It may have been given in the transaction that is no more.
                if not connection.closed:
                    connection.rollback()
                raise

    def beat(self, study: str, number: int, attempt: int) -> None:
        """Counts a heartbeat."""
        with self._errors() as connection:
            values = {"study": self._id(connection, study), "number": number, "attempt": attempt}
            connection.execute(_BEAT, values)

    def beats(self, study: str) -> Beats:
        """Returns the heartbeats of all that run."""
        with self._errors() as connection:
            rows = connection.execute("SELECT number, attempt, count FROM mutandis_beats WHERE study = %s",
                                      (self._id(connection, study),))  # fmt: skip
            return {(number, attempt): count for number, attempt, count in rows}

    def close(self) -> None:
        """Closes the connection."""
        with self._lock:
            if self._connection is not None and self._pid == os.getpid():
                self._connection.close()
            self._connection = None

    @contextmanager
    def _errors(self) -> Iterator[Any]:
        """Gives the connection of this process, to one thread at a time, and turns errors of the server into ours."""
        with self._lock:
            try:
                yield self._connected()
            except self._driver.Error as error:
                raise StorageError(
                    "cannot use a data base server",
                    at=self._shown,
                    got=error,
                    expected="a PostgreSQL server that can be reached, and a data base where tables may be made",
                    fix="check the address, the rights and the server's log; what was recorded is safe, go on later",
                ) from error

    def _connected(self) -> Any:
        if self._pid != os.getpid():
            self._abandoned += [self._connection]  # It is the parent's: neither used nor closed here.
            self._pid, self._connection = os.getpid(), None
        if self._connection is None or self._connection.closed:
            self._connection = self._driver.connect(self._url, autocommit=True)
        return self._connection

    def _prepare(self) -> None:
        """Makes the tables, one process at a time, and refuses those of a later release."""
        with self._errors() as connection, connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_SETUP_LOCK,))
            for statement in _TABLES:
                connection.execute(statement)
            (layout,) = connection.execute("SELECT max(version) FROM mutandis_layout").fetchone()
        if layout > LAYOUT:
            raise StorageError("cannot open a data base", at=self._shown, got=f"tables of version {layout}",
                               expected=f"tables of version {LAYOUT} or older",
                               fix="read it with the release of mutandis that wrote it")  # fmt: skip

    def _id(self, connection: Any, study: str) -> int:
        """Returns the number of a study, or 0 where there is none."""
        if study not in self._ids:
            found = connection.execute("SELECT id FROM mutandis_studies WHERE name = %s", (study,)).fetchone()
            if found is None:
                return 0
            self._ids[study] = int(found[0])
        return self._ids[study]

    def _read(self, connection: Any, study: str, cursor: int) -> Lines:
        return _lines_of(connection.execute(_READ, {"study": self._id(connection, study), "seq": cursor}), cursor)


class _SQLWriter:
    """Writes inside one transaction that holds the row of the study: two journeys to the server."""

    def __init__(self, medium: SQLMedium, connection: Any, study: str, lock: str) -> None:
        self._medium, self._connection, self._study, self._lock = medium, connection, study, lock
        self._number = self._last = 0
        self._has_begun = False
        self._later: list[tuple[str, Any]] = []

    def read(self, cursor: int) -> Lines:
        found = _lines_of(self._ask(_READ, seq=cursor), cursor)
        self._last = found.cursor
        return found

    def append(self, texts: Sequence[str]) -> int:
        if not self._has_begun:
            (self._last,) = self._ask(_LAST).fetchone()
        for text in texts:
            self._last += 1
            self._later.append((_INSERT, {"seq": self._last, "body": text}))
        return self._last

    def forget(self, number: int) -> None:
        self._later.append((_FORGET, {"number": number}))

    def end(self) -> None:
        """Sends what was written."""
        if self._has_begun:
            with self._connection.pipeline():
                for statement, values in self._later:
                    self._connection.execute(statement, {"study": self._number, **values})
                self._connection.execute("COMMIT")

    def _ask(self, question: str, **values: Any) -> Any:
        """Asks a first question, together with the beginning of the transaction, or a further one."""
        medium, connection = self._medium, self._connection
        if self._has_begun:
            return connection.execute(question, {"study": self._number, **values})
        self._number, self._has_begun = medium._id(connection, self._study), True
        if self._number:
            with connection.pipeline():
                connection.execute("BEGIN")
                connection.execute(self._lock, {"study": self._number})
                return connection.execute(question, {"study": self._number, **values})
        connection.execute("BEGIN")
        connection.execute("INSERT INTO mutandis_studies (name) VALUES (%s) ON CONFLICT DO NOTHING", (self._study,))
        self._number = medium._id(connection, self._study)
        connection.execute(self._lock, {"study": self._number})
        return connection.execute(question, {"study": self._number, **values})


def _lines_of(rows: Iterable[tuple[int, str]], cursor: int) -> Lines:
    found = list(map(Line._make, rows))
    return Lines(found, found[-1].cursor if found else cursor)


def _for_driver(url: str) -> str:
    """Returns an address as the driver takes it: its own scheme, and no sign in the password that means another."""
    _, _, rest = url.partition("://")
    authority, slash, base = rest.partition("/")
    login, at, host = authority.rpartition("@")
    return f"postgresql://{login.replace('@', '%40')}{at}{host}{slash}{base}"


def without_password(url: str) -> str:
    """Returns an address as messages may show it; a path as it is."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        return url
    login, at, host = rest.rpartition("@")
    return f"{scheme}://{login.split(':', 1)[0]}{at}{host}"
