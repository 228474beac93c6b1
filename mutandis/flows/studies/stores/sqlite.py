"""Studies in an SQLite file, by the standard library alone; the default for a path.

Write-ahead log, one short `BEGIN IMMEDIATE` transaction per event. Any number of processes of one machine share a
file; a network file system is not supported (the log needs shared memory): use a `.jsonl` file or a server there.

Durability: `process` means that what was recorded survives SIGKILL at any instant, and that a power cut loses at most
the latest transactions, never the file (`synchronous=NORMAL`). `power` writes results and headers with
`synchronous=FULL`: a result is on the disk when `finish` returns, and everything before it too.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mutandis.errors import StorageError
from mutandis.flows.studies.stores.medium import (
    POWER,
    PROCESS,
    Beats,
    Identity,
    Line,
    Lines,
    Medium,
    ProcessLock,
    Writer,
    identity_of,
    need_same_file,
)

APPLICATION = 0x6D757431
"""The application id in the header of the file: `mut1`."""

LAYOUT = 1
"""The version of the tables, in `user_version`; that of the events stands in each event."""

_TABLES = """
CREATE TABLE studies (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE events (seq INTEGER PRIMARY KEY, study INTEGER NOT NULL, body TEXT NOT NULL);
CREATE TABLE beats (study INTEGER, number INTEGER, attempt INTEGER, count INTEGER NOT NULL,
                    PRIMARY KEY (study, number)) WITHOUT ROWID;
"""

_BEATS = "SELECT number, attempt, count FROM beats WHERE study = ?"

_PATIENCE, _SHORTEST, _LONGEST = 200e-6, 100e-6, 0.01
"""For how many seconds a statement is tried again without a pause, and the pauses that follow.

Where results wait for a disk, so does who holds the lock: there is no trying without a pause then.
"""

_READ = (
    "SELECT seq, body FROM events WHERE seq > ? AND study = ? UNION ALL SELECT coalesce(max(seq), 0), NULL FROM events"
    " ORDER BY seq"
)
"""The lines of a study after a position, and the last position of all: those of other studies are passed for good."""


class SQLiteMedium(Medium):
    """Keeps the lines of studies in a table of an SQLite file.

    Args:
        path: The file; it is made where it is missing.
        durability: `process` or `power`.
        timeout: Seconds to wait for other writers before giving up.

    Raises:
        StorageError: the file cannot be opened, or is something else.
    """

    def __init__(self, path: str | os.PathLike[str], *, durability: str = PROCESS, timeout: float = 60.0) -> None:
        self._path = Path(path).absolute()
        self._is_synced = durability == POWER
        self._timeout = timeout
        self._lock = ProcessLock()
        self._pid = os.getpid()
        self._connection: sqlite3.Connection | None = None
        self._identity: Identity | None = None
        self._abandoned: list[sqlite3.Connection] = []
        self._ids: dict[str, int] = {}
        self._settings: dict[str, object] = {}
        with self._errors():
            self._connected()

    def studies(self) -> tuple[str, ...]:
        """Returns the names of all studies."""
        with self._errors() as connection:
            return tuple(name for (name,) in self._ask(connection, "SELECT name FROM studies ORDER BY name"))

    def read(self, study: str, cursor: int) -> Lines:
        """Returns the lines after a position, which is the row number."""
        with self._errors() as connection:
            return self._read(connection, study, cursor)

    @contextmanager
    def exclusive(self, study: str, *, durable: bool = False) -> Iterator[Writer]:
        """Lets nobody else write to the file until the block ends."""
        with self._errors() as connection:
            need_same_file(self._path, self._identity)
            self._set(connection, "synchronous", "FULL" if self._is_synced and durable else "NORMAL")
            self._ask(connection, "BEGIN IMMEDIATE")
            try:
                yield _SQLiteWriter(self, connection, study)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                self._ids.pop(study, None)  # It may have been given in the transaction that is no more.
                raise

    def beat(self, study: str, number: int, attempt: int) -> None:
        """Counts a heartbeat."""
        with self._errors() as connection:
            self._ask(
                connection,
                "INSERT INTO beats VALUES (?, ?, ?, 1) ON CONFLICT (study, number) DO UPDATE SET"
                " count = CASE WHEN attempt = excluded.attempt THEN count + 1 ELSE 1 END, attempt = excluded.attempt",
                (self._id(connection, study), number, attempt),
            )

    def beats(self, study: str) -> Beats:
        """Returns the heartbeats of all that run."""
        with self._errors() as connection:
            rows = self._ask(connection, _BEATS, (self._id(connection, study),))
            return {(number, attempt): count for number, attempt, count in rows}

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            if self._connection is not None and self._pid == os.getpid():
                self._connection.close()
            self._connection = None

    @contextmanager
    def _errors(self) -> Iterator[sqlite3.Connection]:
        """Gives the connection of this process, to one thread at a time, and turns errors into ours."""
        with self._lock:
            try:
                yield self._connected()
            except sqlite3.Error as error:
                is_busy = "locked" in str(error) or "busy" in str(error)
                raise StorageError(
                    "cannot use a study file",
                    at=self._path,
                    got=error,
                    expected="an SQLite file of mutandis on a local disk, with room to write",
                    fix=f"another process writes for more than {self._timeout:g} s: find it" if is_busy else
                    "check the path, the rights and the space on the disk",
                ) from error  # fmt: skip

    def _connected(self) -> sqlite3.Connection:
        if self._pid != os.getpid():
            # SQLite forbids even closing a connection in a forked child: it would drop the parent's locks.
            self._abandoned.extend([] if self._connection is None else [self._connection])
            self._pid, self._connection = os.getpid(), None
        if self._connection is None:
            connection = sqlite3.connect(
                self._address(), timeout=self._timeout, isolation_level=None, check_same_thread=False, uri=True
            )
            try:
                self._settings = {}
                self._prepare(connection)
                self._identity = identity_of(self._path)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _address(self) -> str:
        """Returns what SQLite opens: for a file that nobody can change, the file without its log."""
        log = self._path.with_name(self._path.name + "-wal")
        is_final = self._path.exists() and not log.exists() and not os.access(self._path.parent, os.W_OK)
        return self._path.as_uri() + ("?immutable=1" if is_final else "")

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Makes the tables where there are none, and refuses files that are not ours."""
        connection.execute("BEGIN")  # Another process may be making the tables: what is read must be of one moment.
        layout = self._layout(connection)
        connection.execute("COMMIT")
        if layout is None:
            self._switch_to_log(connection)
            connection.execute("BEGIN IMMEDIATE")
            if self._layout(connection) is None:
                for statement in filter(str.strip, _TABLES.split(";")):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id={APPLICATION}")
                connection.execute(f"PRAGMA user_version={LAYOUT}")
            connection.execute("COMMIT")
        self._set(connection, "synchronous", "NORMAL")
        self._set(connection, "busy_timeout", 0)  # From here on, `_ask` does the waiting.

    def _layout(self, connection: sqlite3.Connection) -> int | None:
        """Returns the version of the tables, or None for an empty file."""
        (tables,) = connection.execute(
            "SELECT count(*) FROM sqlite_master"
        ).fetchone()  # The transaction begins to read.
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (layout,) = connection.execute("PRAGMA user_version").fetchone()
        if application == APPLICATION and layout <= LAYOUT:
            return int(layout)
        if application == 0 and tables == 0:
            return None
        newer = application == APPLICATION
        raise StorageError(
            "cannot open a study file",
            at=self._path,
            got=f"tables of version {layout}" if newer else "an SQLite file of another program",
            expected=f"tables of version {LAYOUT} or older" if newer else "a file of mutandis, or none yet",
            fix="read it with the release of mutandis that wrote it" if newer else "give another path",
        )

    def _switch_to_log(self, connection: sqlite3.Connection) -> None:
        """Switches to the write-ahead log, which does not wait for others by itself."""
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                connection.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def _ask(self, connection: sqlite3.Connection, statement: str, values: tuple[Any, ...] = ()) -> sqlite3.Cursor:
        """Runs a statement, and again before long while others keep it out: SQLite itself would sleep a millisecond."""
        pause, since = _SHORTEST, 0.0
        while True:
            try:
                return connection.execute(statement, values)
            except sqlite3.OperationalError as error:
                now = time.monotonic()
                since = since or now
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or now > since + self._timeout:
                    raise
                if self._is_synced or now > since + _PATIENCE:
                    time.sleep(pause)
                    pause = min(2 * pause, _LONGEST)

    def _set(self, connection: sqlite3.Connection, pragma: str, value: object) -> None:
        """Changes a setting of the connection, where it is another one."""
        if self._settings.get(pragma) != value:
            connection.execute(f"PRAGMA {pragma}={value}")
            self._settings[pragma] = value

    def _id(self, connection: sqlite3.Connection, study: str) -> int:
        """Returns the number of a study, or 0 where there is none."""
        if study not in self._ids:
            row = self._ask(connection, "SELECT id FROM studies WHERE name = ?", (study,)).fetchone()
            if row is None:
                return 0
            self._ids[study] = row[0]
        return self._ids[study]

    def _read(self, connection: sqlite3.Connection, study: str, cursor: int) -> Lines:
        found = self._ask(connection, _READ, (cursor, self._id(connection, study))).fetchall()
        return Lines([Line(seq, text) for seq, text in found if text is not None], max(cursor, found[-1][0]))


class _SQLiteWriter:
    """Writes inside one transaction."""

    def __init__(self, medium: SQLiteMedium, connection: sqlite3.Connection, study: str) -> None:
        self._medium, self._connection, self._study = medium, connection, study

    def read(self, cursor: int) -> Lines:
        return self._medium._read(self._connection, self._study, cursor)

    def append(self, texts: Sequence[str]) -> int:
        number = self._medium._id(self._connection, self._study)
        if number == 0:
            self._connection.execute("INSERT INTO studies (name) VALUES (?)", (self._study,))
            number = self._medium._id(self._connection, self._study)
        seq = 0
        for text in texts:
            done = self._connection.execute("INSERT INTO events (study, body) VALUES (?, ?)", (number, text))
            seq = int(done.lastrowid or 0)
        return seq

    def forget(self, number: int) -> None:
        self._connection.execute(
            "DELETE FROM beats WHERE study = ? AND number = ?",
            (self._medium._id(self._connection, self._study), number),
        )
