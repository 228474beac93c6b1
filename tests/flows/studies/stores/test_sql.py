"""The contract on a PostgreSQL server, and what is special there."""

from __future__ import annotations

import signal
import subprocess
import sys

import postgres
import pytest
from released_studies import FIXTURES, check_version_1

from mutandis.errors import MissingDependency, StorageError
from mutandis.flows.studies.stores import StudyHeader, open_store, sql
from mutandis.flows.studies.stores.sql import SQLMedium
from mutandis.testing import StoreContract

COMPLETED = {"state": "completed", "rewards": [0.5]}


class TestSQL(StoreContract):
    @pytest.fixture
    def where(self, server):
        return server.fresh()


_CLAIMS = """
import sys
from mutandis.flows.studies.stores import StudyHeader, open_store
log = open_store(sys.argv[1]).open("study", StudyHeader())
for _ in range(int(sys.argv[2])):
    lease = log.claim({})
    log.finish(lease, {"state": "completed", "rewards": [lease.number]})
"""


def claim_in_processes(where, count, trials):
    """Runs processes that all make the tables and the study at the same time, and returns the trials."""
    running = [subprocess.Popen([sys.executable, "-c", _CLAIMS, where, str(trials)]) for _ in range(count)]
    assert [process.wait(120) for process in running] == [0] * count
    with open_store(where) as store:
        return [(trial.number, trial.result["rewards"]) for trial in store.open("study").trials()]


def test_processes_that_begin_at_the_same_time_make_one_study(server):
    assert claim_in_processes(server.fresh(), 3, 20) == [(i, [i]) for i in range(60)]


@pytest.mark.slow
def test_eight_processes_make_fifty_trials_each(server):
    assert claim_in_processes(server.fresh(), 8, 50) == [(i, [i]) for i in range(400)]


def test_a_server_that_crashes_and_comes_back_goes_on():
    with postgres.server() as own, open_store(own.fresh(), durability="power") as store:
        log = store.open("study", StudyHeader())
        log.finish(log.claim({"x": 0}), COMPLETED)
        own.stop(signal.SIGQUIT)
        with pytest.raises(StorageError, match="cannot use a data base server"):
            log.claim({"x": 1})
        own.start()
        assert log.claim({"x": 1}).number == 1
        assert [trial.result for trial in log.trials()] == [COMPLETED, None]


@pytest.mark.parametrize(("durability", "durable", "mode"),
                         [("process", True, "off"), ("power", False, "off"), ("power", True, "on")])  # fmt: skip
def test_results_of_durability_power_are_committed_synchronously(server, durability, durable, mode):
    medium = SQLMedium(server.fresh(), durability=durability)
    with medium.exclusive("study", durable=durable) as writer:
        assert medium._run(writer._connection, "SHOW synchronous_commit").scalar() == mode
    medium.close()


def write_and_raise(medium):
    with medium.exclusive("study") as writer:
        writer.append(["a"])
        raise KeyError


def test_a_block_that_raises_writes_nothing_and_gives_no_name(server):
    medium = SQLMedium(server.fresh())
    with pytest.raises(KeyError):
        write_and_raise(medium)
    with medium.exclusive("another") as writer:
        assert writer.append(["b"]) == 1
    with medium.exclusive("another") as writer:
        assert writer.append(["c", "d"]) == 3
    assert medium.studies() == ("another",)
    assert medium.read("study", 0) == []
    with medium.exclusive("study") as writer:
        writer.append(["e"])
    assert medium.studies() == ("another", "study")
    medium.close()


def test_tables_of_a_later_release_are_refused(server):
    where = server.fresh()
    medium = SQLMedium(where)
    with medium._begun() as connection:
        medium._run(connection, "UPDATE mutandis_layout SET version = 2")
    medium.close()
    with pytest.raises(StorageError, match=r"got: +'tables of version 2'"):
        open_store(where)


def test_a_server_that_is_not_there_is_told_without_the_password():
    pytest.importorskip("psycopg")
    with pytest.raises(StorageError) as error:
        open_store("postgresql://me:secret@127.0.0.1:1/base")
    assert "at:       postgresql://me@127.0.0.1:1/base" in str(error.value)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("name", ["sqlalchemy", "psycopg"])
def test_a_missing_library_names_the_extra(monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependency) as error:
        open_store("postgresql://me@127.0.0.1:1/base")
    assert str(error.value) == (
        "cannot use a data base server\n  at:       postgresql://me@127.0.0.1:1/base\n"
        "  expected: SQLAlchemy and psycopg\n  fix:      pip install 'mutandis[sql]'"
    )


def test_another_data_base_is_refused():
    pytest.importorskip("psycopg")
    with pytest.raises(StorageError) as error:
        SQLMedium("mysql://me@127.0.0.1/base")
    assert str(error.value) == (
        "cannot use a data base server\n  at:       mysql://me@127.0.0.1/base\n"
        "  expected: postgresql://user@host:port/base\n  fix:      use PostgreSQL, a file path or a .jsonl path"
    )


@pytest.mark.parametrize(("url", "shown"), [("postgresql://a:b@h/x", "postgresql://a@h/x"),
                                            ("postgresql://a@h:5/x", "postgresql://a@h:5/x"),
                                            ("postgresql://h/x", "postgresql://h/x"),
                                            ("postgresql://a:p@ss@h/x", "postgresql://a@h/x")])  # fmt: skip
def test_an_address_is_shown_without_its_password(url, shown):
    assert sql._without_password(url) == shown


def test_tables_of_version_1_stay_readable(server):
    import psycopg

    where = server.fresh()
    with psycopg.connect(where, autocommit=True) as connection:
        connection.execute((FIXTURES / "version_1.postgresql.sql").read_text())
    with open_store(where) as store:
        check_version_1(store)


_FORK = """
import os, sys
from mutandis.flows.studies.stores import StudyHeader, open_store
log = open_store(sys.argv[1]).open("study", StudyHeader())
pids = []
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        for _ in range(20):
            log.finish(log.claim({}), {"state": "completed"})
        os._exit(0)
    pids.append(pid)
for _ in range(20):
    log.finish(log.claim({}), {"state": "completed"})
assert all(os.waitpid(pid, 0)[1] == 0 for pid in pids)
print([trial.number for trial in log.trials()] == list(range(80)), log.sync())
"""


def test_forked_children_have_connections_of_their_own(server):
    done = subprocess.run(
        [sys.executable, "-c", _FORK, server.fresh()], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stdout.split() == ["True", "None"], done.stderr
