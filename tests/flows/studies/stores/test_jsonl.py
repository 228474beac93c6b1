"""The contract in a file of lines, and what torn and damaged lines do there."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import warnings

import pytest
from released_studies import FIXTURES, check_version_1

from mutandis.errors import MissingDependency, MutandisWarning, StorageError
from mutandis.flows.studies.stores import StudyHeader, jsonl, open_store
from mutandis.flows.studies.stores.jsonl import JSONLMedium
from mutandis.testing import StoreContract

COMPLETED = {"state": "completed", "rewards": [0.5]}


class TestJSONL(StoreContract):
    @pytest.fixture
    def where(self, tmp_path):
        return str(tmp_path / "study.jsonl")


@pytest.fixture
def path(tmp_path):
    """A study with two results, closed."""
    path = tmp_path / "study.jsonl"
    with open_store(path) as store:
        log = store.open("study", StudyHeader())
        for i in range(2):
            log.finish(log.claim({"x": i}), COMPLETED)
    return path


def test_every_line_is_json_that_people_can_read(path):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["opened", "claimed", "finished", "claimed", "finished"]
    assert {key: lines[1][key] for key in ("v", "number", "attempt", "proposal", "study")} == {
        "v": 1, "number": 0, "attempt": 1, "proposal": {"x": 0}, "study": "study",
    }  # fmt: skip


def test_a_last_line_that_is_cut_at_any_byte_is_cut_off(path):
    whole = path.read_bytes()
    start = whole.rstrip(b"\n").rindex(b"\n") + 1
    for cut in range(start + 1, len(whole)):
        path.write_bytes(whole[:cut])
        with pytest.warns(MutandisWarning) as caught:
            store = open_store(path)
        with store:
            log = store.open("study")
            assert [trial.result for trial in log.trials()] == [COMPLETED, None]
            log.finish(log.take_over() or log.running[0], COMPLETED)
        assert [str(warning.message) for warning in caught] == [
            f"{path}: cut off {cut - start} bytes of a line that was not written to its end"
        ]
        with open_store(path) as store:
            assert [trial.result for trial in store.open("study").trials()] == [COMPLETED, COMPLETED]


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_first_line_that_is_cut_leaves_an_empty_store(path, cut):
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.warns(MutandisWarning, match=f"cut off {cut} bytes"):
        store = open_store(path)
    with store:
        assert store.studies() == ()
        assert store.open("study", StudyHeader()).claim({}).number == 0


def test_zeros_that_a_power_cut_left_are_cut_off(path):
    whole = path.read_bytes()
    path.write_bytes(whole + b"\0" * 100 + b"\n" + b"\0" * 5)
    with pytest.warns(MutandisWarning, match="cut off 106 bytes"):
        store = open_store(path)
    with store:
        assert len(store.open("study").trials()) == 2
    assert path.read_bytes() == whole


def test_a_damaged_line_is_skipped_and_the_others_count(path):
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b"0.5", b"0.6")
    path.write_bytes(b"".join(lines))
    place = len(b"".join(lines[:2]))
    with pytest.warns(MutandisWarning) as caught:
        store = open_store(path)
    with store:
        log = store.open("study")
        assert [trial.result for trial in log.trials()] == [None, COMPLETED]
        log.finish(log.running[0], COMPLETED)
        assert [trial.result for trial in log.trials()] == [COMPLETED, COMPLETED]
    assert [str(warning.message) for warning in caught] == [
        f"{path}: skipped a damaged line at byte {place}; the other lines count"
    ]


def test_the_result_of_a_claim_that_was_damaged_does_not_stop_the_others(path):
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:1], b"x" + lines[1], *lines[2:]]))
    with pytest.warns(MutandisWarning, match="skipped a damaged line"):
        store = open_store(path)
    with store:
        log = store.open("study")
        assert [trial.number for trial in log.trials()] == [1]
        assert log.claim({}).number == 2


def test_a_reader_takes_no_half_line_and_says_nothing(path):
    with open_store(path) as store:
        log = store.open("study")
        with path.open("ab") as file:
            file.write(b'{"v":1,"kind":"fin')
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert len(log.trials()) == 2
        assert b'{"v":1,"kind":"fin' in path.read_bytes()
        with pytest.warns(MutandisWarning, match="cut off 18 bytes"):
            assert log.claim({}).number == 2


def test_a_reader_beside_a_writer_sees_whole_events_in_order(path):
    done = threading.Event()

    def write():
        with open_store(path) as store:
            log = store.open("study")
            for _ in range(300):
                log.finish(log.claim({"x": "y" * 500}), COMPLETED)
        done.set()

    thread = threading.Thread(target=write)
    with open_store(path) as store:
        log, cursor, seen = store.open("study"), 0, []
        thread.start()
        while not done.is_set():
            events, cursor = log.read(cursor)
            seen += events
        thread.join()
        seen += log.read(cursor).events
        assert seen == list(log.read().events)
    assert len(seen) == 605


@pytest.mark.parametrize("text", ["a,b\n1,2\n", '{"v":1}\n', "hello", '{"x":1}'])
def test_a_file_of_another_program_is_refused_and_kept(tmp_path, text):
    path = tmp_path / "theirs.jsonl"
    path.write_text(text)
    with pytest.raises(StorageError) as error:
        open_store(path)
    assert str(error.value) == (
        f"cannot open a study file\n  at:       {path}\n  got:      'a file of another program' (str)\n"
        "  expected: a .jsonl file of mutandis, or none yet\n  fix:      give another path"
    )
    assert path.read_text() == text


def test_a_full_disk_gets_nothing_half(path, monkeypatch):
    whole = path.read_bytes()
    with open_store(path) as store:
        log = store.open("study")
        with monkeypatch.context() as patch:
            write = os.write
            patch.setattr(os, "write", lambda fd, data: write(fd, data[:7]))
            with pytest.raises(StorageError, match="only 7 of"):
                log.claim({})
        assert path.read_bytes() == whole
        assert log.claim({}).number == 2


def test_a_disk_error_is_told_with_what_to_check(path, monkeypatch):
    with open_store(path) as store:
        log = store.open("study")

        def fail(fd, data):
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "write", fail)
            with pytest.raises(StorageError) as error:
                log.claim({})
    assert str(error.value) == (
        f"cannot use a study file\n  at:       {path}\n"
        "  got:      OSError(28, 'No space left on device') (OSError)\n"
        "  expected: a file that can be read, locked and added to, with room on the disk\n"
        "  fix:      check the path, the rights and the space on the disk"
    )


@pytest.mark.parametrize("replace", [False, True])
def test_a_file_that_was_removed_is_not_written_to(path, replace):
    with open_store(path) as store:
        log = store.open("study")
        path.rename(path.with_name("away"))
        if replace:
            path.write_bytes(b"")
        with pytest.raises(StorageError, match="a file that was removed or replaced"):
            log.claim({})


@pytest.mark.parametrize(("durability", "expected"), [("process", [0, 0, 0, 0]), ("power", [1, 1, 1, 2])])
def test_results_of_durability_power_wait_for_the_disk(tmp_path, synced, durability, expected):
    with open_store(tmp_path / "new.jsonl", durability=durability) as store:
        log, counts = store.open("study", StudyHeader()), []
        counts.append(len(synced))
        lease = log.claim({})
        counts.append(len(synced))
        log.report(lease, {"loss": 0.5}, step=1)
        counts.append(len(synced))
        log.finish(lease, COMPLETED)
        counts.append(len(synced))
    assert counts == expected


@pytest.fixture
def synced(monkeypatch):
    """The sizes of files at the moments when the disk was waited for."""
    sizes = []
    monkeypatch.setattr(jsonl, "_sync", lambda fd: sizes.append(os.fstat(fd).st_size))
    return sizes


def test_the_name_of_a_new_durable_file_waits_for_the_disk(tmp_path, monkeypatch):
    folders = []
    monkeypatch.setattr(os, "fsync", folders.append)
    JSONLMedium(tmp_path / "new.jsonl", durability="power").close()
    assert len(folders) == 1


class SlowDisk:
    """A disk that makes those wait who wait for it, until it is let go; tells how often, and what fails."""

    def __init__(self, monkeypatch):
        self.num_syncs = 0
        self.asked, self.go = threading.Event(), threading.Event()
        monkeypatch.setattr(jsonl, "_sync", self.sync)

    def sync(self, fd):
        self.num_syncs += 1
        self.asked.set()
        assert self.go.wait(10)
        os.fstat(fd)  # It is still open.


@pytest.fixture
def slow_disk(monkeypatch):
    return SlowDisk(monkeypatch)


def started(work, *arguments):
    thread = threading.Thread(target=work, args=arguments)
    thread.start()
    return thread


def test_one_thread_waits_for_the_disk_for_all_that_wrote_meanwhile(path, slow_disk):
    with open_store(path, durability="power") as store:
        log = store.open("study")
        leases = [log.claim({}) for _ in range(6)]
        threads = [started(log.finish, leases[0], COMPLETED)]
        assert slow_disk.asked.wait(10)
        threads += [started(log.finish, lease, COMPLETED) for lease in leases[1:]]
        while len(log.running) > 0:  # The others write while the first one waits for the disk.
            time.sleep(0.001)
        slow_disk.go.set()
        for thread in threads:
            thread.join()
        assert slow_disk.num_syncs == 2
        assert all(trial.result == COMPLETED for trial in log.trials())


def test_a_file_stays_open_while_a_thread_waits_for_the_disk(path, slow_disk):
    store = open_store(path, durability="power")
    log = store.open("study")
    thread = started(log.finish, log.claim({}), COMPLETED)
    assert slow_disk.asked.wait(10)
    closing = started(store.close)
    closing.join(0.05)
    assert closing.is_alive()
    slow_disk.go.set()
    thread.join()
    closing.join()


def test_a_disk_that_fails_is_told_and_asked_again(path, monkeypatch):
    failures = [OSError(errno.EIO, "Input/output error")]

    def sync(fd):
        if failures:
            raise failures.pop()

    monkeypatch.setattr(jsonl, "_sync", sync)
    with open_store(path, durability="power") as store:
        log = store.open("study")
        with pytest.raises(StorageError, match="Input/output error"):
            log.finish(log.claim({}), COMPLETED)
        assert not failures
        failures.append(OSError(errno.EIO, "again"))
        with pytest.raises(StorageError, match="again"):
            log.finish(log.claim({}), COMPLETED)


def test_a_file_that_shrank_is_not_taken_for_written(path, synced):
    with open_store(path, durability="power") as store:
        log = store.open("study")
        log.finish(log.claim({"x": "y" * 500}), COMPLETED)
        whole = path.read_bytes()
        path.write_bytes(whole[: whole.index(b"\n") + 1])  # As a hand that edits it may do.
        fresh = store.open("study")
        fresh.finish(fresh.claim({}), COMPLETED)
        assert synced == [len(whole), path.stat().st_size]


def test_lines_of_others_are_read_once_by_a_writer(path, monkeypatch):
    with open_store(path) as store, open_store(path) as elsewhere:
        log, other = store.open("study"), elsewhere.open("study")
        for _ in range(3):
            other.claim({})
        scanned = []
        scan = jsonl.scan
        monkeypatch.setattr(jsonl, "scan", lambda data: scanned.append(data.count(b"\n")) or scan(data))
        assert [log.claim({}).number, log.claim({}).number] == [5, 6]
        assert scanned == [3]


def test_a_writer_that_read_before_others_wrote_misses_none(path):
    with open_store(path) as store:
        first, second = store.open("study"), store.open("second", StudyHeader())
        other = store.open("study")
        for i in range(3):
            assert first.claim({"x": i}).number == 2 + 2 * i
            assert second.claim({}).number == i
            assert other.claim({"x": i}).number == 3 + 2 * i


@pytest.mark.parametrize("damage", [b"", b"[[1]]", b'{"x": 1}', b"\xff"])
def test_damaged_heartbeats_count_as_none(path, damage):
    path.with_name("study.jsonl.beats").write_bytes(damage)
    with open_store(path) as store:
        log = store.open("study")
        lease = log.claim({})
        assert store._medium.beats("study") == {}
        assert log.heartbeat(lease)
        assert store._medium.beats("study") == {(2, 1): 1}


_FORK = """
import os, sys
from mutandis.flows.studies.stores import open_store
log = open_store(sys.argv[1]).open("study")
pids, (wait, start) = [], os.pipe()
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        os.close(start)
        os.read(wait, 1)  # Ends when the parent lets all of them go.
        for _ in range(150):
            lease = log.claim({})
            assert lease.worker.split(":")[1] == str(os.getpid())
            log.finish(lease, {"state": "completed"})
        os._exit(0)
    pids.append(pid)
os.close(start)
assert all(os.waitpid(pid, 0)[1] == 0 for pid in pids)
print([trial.number for trial in log.trials()] == list(range(452)))
print(log.claim({}).worker.split(":")[1] == str(os.getpid()))
"""


def test_forked_children_lock_each_other_out(path):
    done = subprocess.run([sys.executable, "-c", _FORK, path], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["True", "True"], done.stderr


def test_a_system_without_locks_is_told_of_sqlite(tmp_path, monkeypatch):
    monkeypatch.setattr(jsonl, "fcntl", None)
    with pytest.raises(MissingDependency) as error:
        open_store(tmp_path / "x.jsonl")
    assert str(error.value) == (
        f"cannot share a file of lines\n  at:       {tmp_path / 'x.jsonl'}\n  expected: a system with flock\n"
        "  fix:      use an SQLite file: a path that does not end in .jsonl"
    )


def test_a_file_of_version_1_stays_readable(tmp_path):
    for name in ("version_1.jsonl", "version_1.jsonl.beats"):
        shutil.copy(FIXTURES / name, tmp_path / name)
    with open_store(tmp_path / "version_1.jsonl") as store:
        check_version_1(store)


def test_a_long_file_is_opened_from_its_end(path, monkeypatch):
    whole = path.read_bytes()
    monkeypatch.setattr(jsonl, "_TAIL", 200)
    path.write_bytes(whole + b'{"v":1,"torn')
    with pytest.warns(MutandisWarning, match="cut off 12 bytes"):
        open_store(path).close()
    assert path.read_bytes() == whole
    path.write_bytes(whole + b'{"v":1,' + b"x" * 500)
    with pytest.warns(MutandisWarning, match="cut off 507 bytes"):
        open_store(path).close()
    assert path.read_bytes() == whole
    path.write_bytes(whole + b"\n" * 300)
    with pytest.warns(MutandisWarning, match="cut off 300 bytes"):
        open_store(path).close()
    assert path.read_bytes() == whole
