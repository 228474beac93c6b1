"""The contract on a PostgreSQL server, and what is special there."""

from __future__ import annotations

import signal
import subprocess
import sys

import postgres
import pytest
from released_studies import FIXTURES, check_version_1

from mutandis.errors import MissingDependency, StorageError
from mutandis.flows.studies.stores import LeaseLost, StudyHeader, open_store, sql
from mutandis.flows.studies.stores.sql import SQLMedium
from mutandis.testing import StoreContract

psycopg = pytest.importorskip("psycopg")

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


DURABILITIES = pytest.mark.parametrize(
    ("durability", "durable", "mode"), [("process", True, "off"), ("power", False, "off"), ("power", True, "on")]
)


@DURABILITIES
def test_results_of_durability_power_are_committed_synchronously(server, durability, durable, mode):
    medium = SQLMedium(server.fresh(), durability=durability)
    with medium.exclusive("study", durable=durable) as writer:
        assert writer.read(0).lines == []
        assert writer._connection.execute("SHOW synchronous_commit").fetchone() == (mode,)
    medium.close()


@DURABILITIES
def test_the_quick_way_commits_as_synchronously(server, durability, durable, mode):
    medium = SQLMedium(server.fresh(), durability=durability)
    with medium.exclusive("study") as writer:
        writer.append([])
    with medium._errors() as connection, connection.transaction():
        assert medium.add("study", 0, "x", durable=durable) == 1
        assert connection.execute("SHOW synchronous_commit").fetchone() == (mode,)
    medium.close()


def test_heartbeats_never_wait_for_the_disk(server):
    medium = SQLMedium(server.fresh(), durability="power")
    with medium._errors() as connection, connection.transaction():
        medium.beat("study", 0, 1)
        assert connection.execute("SHOW synchronous_commit").fetchone() == ("off",)
    medium.close()


def test_the_quick_way_adds_only_what_comes_next(server):
    medium = SQLMedium(server.fresh())
    assert medium.add("study", 0, "a", durable=True) is None  # There is no such study.
    with medium.exclusive("study") as writer:
        writer.append(["a", "b"])
    assert medium.add("study", 1, "late", durable=False) is None
    assert medium.add("study", 2, "c", durable=False) == 3
    assert [line.text for line in medium.read("study", 0).lines] == ["a", "b", "c"]
    medium.close()


def test_an_event_is_one_journey_to_the_server(server, monkeypatch):
    with open_store(server.fresh()) as store:
        log = store.open("study", StudyHeader())
        statements = []
        execute = psycopg.Connection.execute
        monkeypatch.setattr(
            psycopg.Connection,
            "execute",
            lambda self, *given: statements.append(given[0].split()[0]) or execute(self, *given),
        )
        lease = log.claim({"x": 1})
        log.report(lease, {"loss": 0.5}, step=1)
        log.finish(lease, COMPLETED)
    assert statements == ["WITH", "WITH", "WITH"]


def test_a_worker_that_others_were_quicker_than_reads_and_tries_again(server):
    with open_store(server.fresh()) as store:
        log = store.open("study", StudyHeader())
        other = store.open("study")
        lease = log.claim({"x": 1})
        assert other.claim({"x": 2}).number == 1
        log.finish(lease, COMPLETED)
        assert other.claim({"x": 3}, number=1) is None
        assert other.claim({"x": 3}, number=2).number == 2
        with pytest.raises(LeaseLost, match="a trial that has ended"):
            other.finish(lease, COMPLETED)


def test_a_lease_is_good_in_a_log_that_has_not_read_of_it(server):
    with open_store(server.fresh()) as store:
        log, other = store.open("study", StudyHeader()), store.open("study")
        other.finish(log.claim({}), COMPLETED)
        assert [trial.result for trial in log.trials()] == [COMPLETED]


def test_an_event_is_two_journeys_where_others_write_too(server, monkeypatch):
    with open_store(server.fresh()) as store:
        log, other = store.open("study", StudyHeader()), store.open("study")
        syncs = []
        end = psycopg.Pipeline.__exit__
        monkeypatch.setattr(psycopg.Pipeline, "__exit__", lambda self, *given: syncs.append(1) or end(self, *given))
        alone = log.claim({"x": 1})
        assert len(syncs) == 0
        other.claim({"x": 1})
        assert len(syncs) == 2
        log.finish(alone, COMPLETED)
        other.claim({"x": 1})
        assert len(syncs) == 6
        assert [other.claim({"x": 1}).number for _ in range(3)] == [3, 4, 5]
        assert len(syncs) == 8  # The first one has looked and found nobody.


def test_a_server_without_the_quick_way_is_used_all_the_same(server, monkeypatch):
    monkeypatch.setattr(SQLMedium, "add", lambda *given, **more: None)
    with open_store(server.fresh()) as store:
        log = store.open("study", StudyHeader())
        lease = log.claim({"x": 1})
        log.finish(lease, COMPLETED)
        assert [trial.result for trial in log.trials()] == [COMPLETED]


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
    assert medium.read("study", 0).lines == []
    with medium.exclusive("study") as writer:
        writer.append(["e"])
    assert medium.studies() == ("another", "study")
    medium.close()


def test_tables_of_a_later_release_are_refused(server):
    where = server.fresh()
    medium = SQLMedium(where)
    with medium._errors() as connection:
        connection.execute("UPDATE mutandis_layout SET version = 2")
    medium.close()
    with pytest.raises(StorageError, match=r"got: +'tables of version 2'"):
        open_store(where)


def test_a_server_that_is_not_there_is_told_without_the_password():
    with pytest.raises(StorageError) as error:
        open_store("postgresql://me:secret@127.0.0.1:1/base")
    assert "at:       postgresql://me@127.0.0.1:1/base" in str(error.value)
    assert "secret" not in str(error.value)


def test_a_missing_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingDependency) as error:
        open_store("postgresql://me@127.0.0.1:1/base")
    assert str(error.value) == (
        "cannot use a data base server\n  at:       postgresql://me@127.0.0.1:1/base\n"
        "  expected: psycopg\n  fix:      pip install 'mutandis[sql]'"
    )


def test_another_data_base_is_refused():
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
    assert sql.without_password(url) == shown


@pytest.mark.parametrize(("url", "given"), [
    ("postgres://a:b@h/x", "postgresql://a:b@h/x"), ("postgresql+psycopg://h:5/x?a=b@c", "postgresql://h:5/x?a=b@c"),
    ("postgresql://a:p@ss@h/x", "postgresql://a:p%40ss@h/x"), ("postgresql://h", "postgresql://h"),
])  # fmt: skip
def test_an_address_is_given_to_the_driver_as_it_takes_it(url, given):
    assert sql._for_driver(url) == given


def test_tables_of_version_1_stay_readable(server):
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
