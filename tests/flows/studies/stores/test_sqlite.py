"""The contract in an SQLite file, and what is special there."""

from __future__ import annotations

import shutil
import sqlite3
import threading
import time
from pathlib import Path

import pytest
from released_studies import FIXTURES, check_version_1

from mutandis.errors import StorageError
from mutandis.flows.studies.stores import StudyHeader, open_store
from mutandis.flows.studies.stores.sqlite import APPLICATION, LAYOUT, SQLiteMedium
from mutandis.testing import StoreContract

COMPLETED = {"state": "completed", "rewards": [0.5]}


class TestSQLite(StoreContract):
    @pytest.fixture
    def where(self, tmp_path):
        return str(tmp_path / "study.db")


class TestDurableSQLite(StoreContract):
    """With results that survive a power cut; other processes use the same file with the default."""

    @pytest.fixture
    def where(self, tmp_path):
        return str(tmp_path / "study.db")

    def open_at(self, where, **settings):
        return open_store(where, durability="power", **settings)

    test_killed_workers_leave_a_whole_record = None
    test_processes_share_a_study = None
    test_killed_workers_leave_a_whole_record_in_the_long_run = None


def check_cuts(path, folder, stride):
    """Cuts the write-ahead log within its last transaction, which is a result, and opens a copy each time."""
    with open_store(path) as store:
        log = store.open("study", StudyHeader())
        lease = log.claim({"x": 1})
        before = Path(f"{path}-wal").stat().st_size
        log.finish(lease, COMPLETED)
        whole = Path(f"{path}-wal").read_bytes()
        for cut in [*range(before, len(whole), stride), len(whole)]:
            copy = folder / "copy.db"
            shutil.copy(path, copy)
            Path(f"{copy}-wal").write_bytes(whole[:cut])
            Path(f"{copy}-shm").unlink(missing_ok=True)
            with open_store(copy) as again:
                opened = again.open("study")
                assert [trial.result for trial in opened.trials()] == [COMPLETED if cut == len(whole) else None]
                assert opened.claim({}).number == 1
    assert before < len(whole)


def test_a_last_transaction_that_is_cut_is_not_there_and_all_others_are(tmp_path):
    check_cuts(tmp_path / "study.db", tmp_path, 97)


@pytest.mark.slow
def test_a_last_transaction_that_is_cut_at_any_byte_is_not_there_and_all_others_are(tmp_path):
    check_cuts(tmp_path / "study.db", tmp_path, 1)


def test_the_write_ahead_log_is_on(tmp_path):
    open_store(tmp_path / "study.db").open("study", StudyHeader())
    with sqlite3.connect(tmp_path / "study.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA user_version").fetchone() == (LAYOUT,)
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION,)
    connection.close()


@pytest.mark.parametrize(("durability", "durable", "level"),
                         [("process", True, 1), ("power", False, 1), ("power", True, 2)])  # fmt: skip
def test_results_of_durability_power_wait_for_the_disk(tmp_path, durability, durable, level):
    medium = SQLiteMedium(tmp_path / "study.db", durability=durability)
    with medium.exclusive("study", durable=durable):
        assert medium._connection.execute("PRAGMA synchronous").fetchone() == (level,)
    medium.close()


def test_a_file_of_another_program_is_refused(tmp_path):
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (x)")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StorageError) as error:
        open_store(path)
    assert str(error.value) == (
        f"cannot open a study file\n  at:       {path}\n  got:      'an SQLite file of another program' (str)\n"
        "  expected: a file of mutandis, or none yet\n  fix:      give another path"
    )
    assert path.read_bytes() == before


def test_a_file_that_is_no_data_base_is_refused(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("not a data base " * 100)
    with pytest.raises(StorageError, match="an SQLite file of mutandis on a local disk") as error:
        open_store(path)
    assert "file is not a database" in str(error.value)
    assert path.read_text() == "not a data base " * 100


def test_tables_of_a_later_release_are_refused(tmp_path):
    open_store(tmp_path / "study.db").close()
    connection = sqlite3.connect(tmp_path / "study.db")
    connection.execute(f"PRAGMA user_version={LAYOUT + 1}")
    connection.close()
    with pytest.raises(StorageError, match=f"got: +'tables of version {LAYOUT + 1}'"):
        open_store(tmp_path / "study.db")


def test_a_writer_that_stays_away_is_reported_after_the_timeout(tmp_path):
    medium = SQLiteMedium(tmp_path / "study.db", timeout=0.05)
    other = sqlite3.connect(tmp_path / "study.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageError, match=r"another process writes for more than 0\.05 s: find it"):
        medium.beat("study", 0, 1)
    other.execute("ROLLBACK")
    other.close()
    medium.beat("study", 0, 1)
    medium.close()


@pytest.fixture
def held(tmp_path):
    """A medium, and a connection that keeps it from writing."""
    medium = SQLiteMedium(tmp_path / "study.db", timeout=5.0)
    other = sqlite3.connect(tmp_path / "study.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield medium, other
    other.close()
    medium.close()


def test_a_writer_asks_again_before_long_while_others_write(held, monkeypatch):
    medium, other = held
    pauses = []

    def sleep(seconds):
        pauses.append(seconds)
        if len(pauses) == 10:
            other.execute("ROLLBACK")

    monkeypatch.setattr(time, "sleep", sleep)
    with medium.exclusive("study") as writer:
        writer.append(["a"])
    assert pauses == [*(1e-4 * 2**i for i in range(7)), 0.01, 0.01, 0.01]
    assert [line.text for line in medium.read("study", 0).lines] == ["a"]


def test_a_writer_that_is_kept_out_for_too_long_says_so(held, monkeypatch):
    medium, _ = held
    clock = iter(range(1, 99))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with pytest.raises(StorageError, match=r"another process writes for more than 5 s: find it"):
        medium.exclusive("study").__enter__()
    assert next(clock) == 8


def test_rows_of_other_studies_are_passed_once(tmp_path):
    with open_store(tmp_path / "study.db") as store:
        log, other = store.open("study", StudyHeader()), store.open("other", StudyHeader())
        assert log.read() == (log.read().events, 2)
        other.claim({})
        assert log.read(2) == ((), 3)
        log.sync()
        assert log._ledger.cursor == 3
        assert log.claim({}).number == 0
        assert log.read(3).cursor == 4


def write_and_raise(medium):
    with medium.exclusive("study") as writer:
        writer.append(["a"])
        raise KeyError


def test_a_block_that_raises_writes_nothing_and_gives_no_name(tmp_path):
    medium = SQLiteMedium(tmp_path / "study.db")
    with pytest.raises(KeyError):
        write_and_raise(medium)
    with medium.exclusive("another") as writer:
        writer.append(["b"])
    assert medium.studies() == ("another",)
    assert medium.read("study", 0).lines == []
    medium.close()


def test_a_file_of_version_1_stays_readable(tmp_path):
    connection = sqlite3.connect(tmp_path / "version_1.db")
    connection.executescript((FIXTURES / "version_1.sqlite.sql").read_text())
    connection.close()
    with open_store(tmp_path / "version_1.db") as store:
        check_version_1(store)


def test_a_file_that_several_make_at_once_is_ours_for_all_of_them(tmp_path):
    errors = []

    def open_it(path, start):
        start.wait()
        try:
            open_store(path).close()
        except Exception as error:
            errors.append(error)

    for number in range(60):
        start = threading.Barrier(6)
        arguments = (str(tmp_path / f"{number}.db"), start)
        threads = [threading.Thread(target=open_it, args=arguments) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors == []
