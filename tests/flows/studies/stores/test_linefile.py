"""A file of lines when disks are slow, full or failing, when it is moved away, and among threads and forks."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time

import pytest

from mutandis.errors import MissingDependency, MutandisWarning, StorageError
from mutandis.flows.studies.stores import StudyHeader, linefile, open_store
from mutandis.flows.studies.stores.jsonl import JSONLMedium
from mutandis.flows.studies.stores.linefile import LineFile

COMPLETED = {"state": "completed", "rewards": [0.5]}


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
    monkeypatch.setattr(linefile, "_sync", lambda fd: sizes.append(os.fstat(fd).st_size))
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
        monkeypatch.setattr(linefile, "_sync", self.sync)

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

    monkeypatch.setattr(linefile, "_sync", sync)
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
    monkeypatch.setattr(linefile, "fcntl", None)
    with pytest.raises(MissingDependency) as error:
        open_store(tmp_path / "x.jsonl")
    assert str(error.value) == (
        f"cannot share a file of lines\n  at:       {tmp_path / 'x.jsonl'}\n  expected: a system with flock\n"
        "  fix:      use an SQLite file: a path that does not end in .jsonl"
    )


def test_a_long_file_is_opened_from_its_end(path, monkeypatch):
    whole = path.read_bytes()
    monkeypatch.setattr(linefile, "_TAIL", 200)
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


def test_a_torn_tail_is_not_added_to(path):
    whole = path.read_bytes()
    with open_store(path) as store:
        log = store.open("study")
        path.write_bytes(whole + b'{"v":1,"torn')
        with pytest.warns(MutandisWarning, match="cut off 12 bytes"):
            log.claim({})
    assert path.read_bytes().startswith(whole + b'{"v":1,"kind":"claimed"')


@pytest.fixture
def held(path, monkeypatch):
    """A file whose lock another one holds; asking in vain is noted, and then waiting for good."""
    file, holder, calls = LineFile(path, is_synced=False), os.open(path, os.O_RDONLY), []
    flock = linefile.fcntl.flock
    flock(holder, linefile.fcntl.LOCK_EX)

    def noted(fd, how):
        if how != linefile.fcntl.LOCK_UN:
            calls.append("ask" if how & linefile.fcntl.LOCK_NB else "wait")
        flock(fd, how)

    monkeypatch.setattr(linefile.fcntl, "flock", noted)
    yield file, lambda: flock(holder, linefile.fcntl.LOCK_UN), calls
    file.close()
    os.close(holder)


def test_a_lock_that_is_held_for_a_moment_is_asked_for_again(held, monkeypatch):
    file, let_go, calls = held
    monkeypatch.setattr(linefile, "_PATIENCE", 5.0)
    monkeypatch.setattr(time, "monotonic", lambda: (let_go() if len(calls) == 6 else None) or len(calls))
    with file.locked():
        assert calls == ["ask"] * 7


def test_a_lock_that_is_held_for_long_is_waited_for(held, monkeypatch):
    file, let_go, calls = held
    monkeypatch.setattr(linefile, "_PATIENCE", 5.0)
    monkeypatch.setattr(time, "monotonic", lambda: len(calls))
    timer = threading.Timer(0.05, let_go)
    timer.start()
    with file.locked():
        assert calls == [*["ask"] * 7, "wait"]
    timer.join()


def test_what_waits_for_the_disk_when_it_fails_is_written_again(path, monkeypatch):
    """A system may take pages for written whose write has failed, and wait for nothing when it is asked again."""
    monkeypatch.setattr(linefile, "_CHUNK", 100)
    rewritten, failures, pwrite = [], [], os.pwrite

    def sync(fd):
        if failures:
            raise failures.pop()

    def note(fd, data, offset):
        rewritten.append((offset, data))
        return pwrite(fd, data, offset)

    monkeypatch.setattr(linefile, "_sync", sync)
    monkeypatch.setattr(os, "pwrite", note)
    with open_store(path, durability="power") as store:
        log = store.open("study")
        log.finish(log.claim({}), COMPLETED)
        synced, lease = path.stat().st_size, log.claim({})
        failures.append(OSError(errno.EIO, "Input/output error"))
        with pytest.raises(StorageError, match="Input/output error"):
            log.finish(lease, COMPLETED)
        whole = path.read_bytes()
        assert rewritten == []
        log.finish(lease, COMPLETED)
        assert [offset for offset, _ in rewritten] == list(range(synced, len(whole), 100))
        assert b"".join(data for _, data in rewritten) == whole[synced:]
        assert path.read_bytes() == whole
        log.finish(log.claim({}), COMPLETED)
        assert len(rewritten) == len(range(synced, len(whole), 100))
