"""A PostgreSQL server of the tests: on loopback, in a folder of its own, ended with the tests."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest


def _programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


class Server:
    """A server that can be stopped and started again.

    Args:
        folder: Where its files and its log are kept.
        programs: Where the programs of PostgreSQL are.
        user: Who runs it, or None for the one who runs the tests.
    """

    def __init__(self, folder: Path, programs: Path, user: str | None) -> None:
        self._folder, self._programs, self._user = folder, programs, user
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._count = 0
        self._process: subprocess.Popen[bytes] | None = None
        subprocess.run([programs / "initdb", "-D", folder / "data", "-U", "postgres", "-A", "trust", "--no-sync"],
                       check=True, capture_output=True, user=user, cwd=folder)  # fmt: skip

    def start(self) -> None:
        command = [self._programs / "postgres", "-D", self._folder / "data", "-p", str(self._port), "-c", "fsync=off",
                   "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={self._folder}"]  # fmt: skip
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, user=self._user, cwd=self._folder)
        deadline = time.monotonic() + 30
        while subprocess.run(
            [self._programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self._port)]
        ).returncode:
            assert time.monotonic() < deadline, (self._folder / "log").read_text()
            time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stops the server; `SIGQUIT` is a crash, from which it recovers at the next start."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None

    def fresh(self) -> str:
        """Returns the address of a new and empty place for tables."""
        import psycopg

        self._count += 1
        where = f"postgresql://postgres@127.0.0.1:{self._port}/postgres"
        with psycopg.connect(where, autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA tests_{self._count}")
        return f"{where}?options=-csearch_path%3Dtests_{self._count}"


@contextlib.contextmanager
def server() -> Iterator[Server]:
    """Starts a server, or skips the test with the reason."""
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    pytest.importorskip("psycopg")
    user = None
    folder = Path(tempfile.mkdtemp(prefix="mutandis-postgres-"))
    try:
        if os.getuid() == 0:  # The server refuses to run as root.
            user = "postgres"
            try:
                shutil.chown(folder, pwd.getpwnam(user).pw_uid)
            except KeyError:
                pytest.skip("there is no user postgres to run the server")
        made = Server(folder, programs, user)
        made.start()
        try:
            yield made
        finally:
            made.stop(signal.SIGQUIT)  # Nobody needs what a checkpoint would write.
    finally:
        shutil.rmtree(folder, ignore_errors=True)
