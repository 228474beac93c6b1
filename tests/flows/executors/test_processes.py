"""Jobs in processes of this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from mutandis.errors import ExecutorError, SettingError
from mutandis.flows.executors import Processes
from mutandis.flows.executors.base import CRASHED
from mutandis.flows.executors.processes import resident_bytes
from mutandis.testing.executor_contract import is_alive, work


def count_threads(payload, talk):
    import torch

    return os.environ["OMP_NUM_THREADS"], torch.get_num_threads()


def test_workers_share_the_cores_out(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with Processes(num_threads=1).open(count_threads, lambda key, data: None) as pool:
        pool.submit(0, None)
        assert pool.wait()[0].value == ("1", 1)


def leave_a_daemon(payload, talk):
    """Leaves a process behind that holds all that its worker had open, and dies."""
    if os.fork() == 0:
        os.setsid()
        talk.tell(os.getpid())
        time.sleep(60)
        os._exit(0)
    time.sleep(payload)
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("patience", [None, 30.0])
def test_the_death_of_a_worker_is_seen_though_a_process_that_it_forked_lives(patience):
    heard = []
    with Processes(num_threads=1).open(leave_a_daemon, lambda key, data: heard.append(data)) as pool:
        pool.submit(0, 0.5)
        (outcome,) = pool.wait(patience)
    assert is_alive(heard[0])
    os.kill(heard[0], signal.SIGKILL)
    assert (outcome.kind, outcome.reason) == (CRASHED, "its process was killed by SIGKILL")


def fork(payload, talk):
    """Forks a process that leaves as scripts do."""
    if os.fork() == 0:
        sys.exit(payload)
    os.wait()
    return "whole"


def test_a_process_that_a_job_forked_answers_for_nobody():
    with Processes(num_threads=1).open(fork, lambda key, data: None) as pool:
        for key in range(3):
            pool.submit(key, key)
            (outcome,) = pool.wait()
            assert (outcome.key, outcome.value) == (key, "whole")


def leave_a_child(payload, talk):
    """Leaves a process behind, and ends the hard way."""
    talk.tell(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]).pid)
    os._exit(3)


def test_what_a_job_started_ends_with_a_worker_that_died():
    heard = []
    with Processes(num_threads=1).open(leave_a_child, lambda key, data: heard.append(data)) as pool:
        pool.submit(0, None)
        assert pool.wait()[0].reason == "its process ended with exit code 3"
        deadline = time.monotonic() + 20
        while is_alive(heard[0]):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_what_jobs_left_behind_ends_with_a_pool_that_was_killed(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import os, signal\n"
        "from mutandis.flows.executors import Processes\n"
        "from mutandis.testing.executor_contract import work\n"
        "if __name__ == '__main__':\n"
        "    pool = Processes(num_threads=1).open(work, lambda key, pid: print(pid, flush=True))\n"
        "    pool.submit(0, ('child', 0))\n"
        "    pool.wait()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 20
    while is_alive(int(done.stdout)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def ask(payload, talk):
    return talk.ask(os.getpid())


def test_a_worker_that_is_killed_before_it_is_answered_has_crashed():
    def kill(key, pid):
        os.kill(pid, signal.SIGKILL)
        while is_alive(pid):
            time.sleep(0.01)

    with Processes(num_threads=1).open(ask, kill) as pool:
        pool.submit(0, None)
        assert pool.wait()[0].reason == "its process was killed by SIGKILL"


def close_the_connection(payload, talk):
    talk._connection.close()
    time.sleep(60)


def test_a_worker_that_closed_its_connection_is_ended(monkeypatch):
    monkeypatch.setattr("mutandis.flows.executors.processes._PATIENCE", 0.2)
    with Processes(num_threads=1).open(close_the_connection, lambda key, data: None) as pool:
        pool.submit(0, None)
        (outcome,) = pool.wait(30)
        assert (outcome.kind, outcome.reason) == (CRASHED, "it closed the connection to its pool")


def told_signals(payload, talk):
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    return signal.SIGINT in blocked, signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_a_worker_hears_nothing_of_an_interrupt_from_its_first_moment_on(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import os, signal\n"
        "from mutandis.flows.executors import Processes\n"
        "from mutandis.testing.executor_contract import work\n"
        "if __name__ == '__main__':\n"
        "    signal.signal(signal.SIGINT, lambda number, frame: None)\n"
        "    with Processes(num_threads=1).open(work, lambda key, data: None) as pool:\n"
        "        pool.submit(0, ('square', 3))\n"  # Its worker starts.
        "        os.killpg(0, signal.SIGINT)\n"
        "        print(pool.wait()[0].value)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False, timeout=60,
                          start_new_session=True)  # fmt: skip
    assert (done.stdout, done.stderr) == ("9\n", "")


def test_jobs_run_with_interrupts_ignored_and_not_blocked():
    with Processes(num_threads=1).open(told_signals, lambda key, data: None) as pool:
        pool.submit(0, None)
        assert pool.wait()[0].value == (False, True)


def test_a_worker_is_kept_from_job_to_job():
    with Processes(num_threads=1).open(work, lambda key, data: None) as pool:
        pids = []
        for key in range(3):
            pool.submit(key, ("sleep", 0.0))
            pids.append(pool.wait()[0].value)
        assert len(set(pids)) == 1
        assert pids[0] != os.getpid()


def test_an_idle_worker_that_was_killed_is_replaced():
    with Processes(num_threads=1).open(work, lambda key, data: None) as pool:
        pool.submit(0, ("sleep", 0.0))
        pid = pool.wait()[0].value
        os.kill(pid, signal.SIGKILL)
        time.sleep(0.2)
        pool.submit(1, ("square", 3))
        outcomes = pool.wait()
        if outcomes[0].kind == CRASHED:  # The job was handed out before the death was seen.
            pool.submit(2, ("square", 3))
            outcomes = pool.wait()
        assert outcomes[0].value == 9


def test_workers_do_not_outlive_a_pool_that_was_killed(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import time\n"
        "from mutandis.flows.executors import Processes\n"
        "from mutandis.testing.executor_contract import work\n"
        "if __name__ == '__main__':\n"
        "    pool = Processes(num_threads=1).open(work, lambda key, data: None)\n"
        "    pool.submit(0, ('sleep', 0.0))\n"
        "    print(pool.wait()[0].value, flush=True)\n"
        "    pool.submit(1, ('sleep', 60))\n"
        "    pool.wait()\n"
    )
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    pid = int(process.stdout.readline())
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 20
    while is_alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_script_without_a_guard_is_told_what_to_do(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from mutandis.flows.executors import Processes\n"
        "from mutandis.testing.executor_contract import work\n"
        "pool = Processes(num_threads=1).open(work, lambda key, data: None)\n"
        "pool.submit(0, ('square', 2))\n"
        "pool.wait()\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert 'put the call under `if __name__ == "__main__":`' in done.stderr


def test_what_has_no_name_is_refused_with_the_way_out():
    with pytest.raises(ExecutorError) as error:
        Processes().open(lambda payload, talk: None, lambda key, data: None)
    assert "cannot send the task to a worker process" in str(error.value)
    assert "define classes and functions at the top level of a module, or run in this process" in str(error.value)


class Unreadable:
    def __reduce__(self):
        return (int, ("not a number",))

    def __call__(self, payload, talk):
        return None


def test_a_task_that_cannot_be_read_in_the_worker_says_so():
    with Processes(num_threads=1).open(Unreadable(), lambda key, data: None) as pool:
        pool.submit(0, None)
        with pytest.raises(ExecutorError, match="its task cannot be read there: ValueError"):
            pool.wait()


def test_a_closed_pool_takes_no_job():
    pool = Processes(num_threads=1).open(work, lambda key, data: None)
    pool.close()
    with pytest.raises(ExecutorError, match="an open pool"):
        pool.submit(0, ("square", 1))


def test_memory_counts_the_whole_group():
    process = subprocess.Popen(
        [sys.executable, "-c", "import subprocess, sys, time\n"
         "subprocess.Popen([sys.executable, '-c', 'import time; x = bytearray(b\"x\") * (64 << 20); time.sleep(30)'])\n"
         "print('started', flush=True); time.sleep(30)"],
        start_new_session=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        process.stdout.readline()
        deadline = time.monotonic() + 20
        while resident_bytes([process.pid])[process.pid] < 64 << 20:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize("value", [0, 1.5, "two"])
def test_a_number_of_threads_that_makes_no_sense_is_refused(value):
    with pytest.raises(SettingError, match=r"Processes\.num_threads"):
        Processes(num_threads=value)


def test_what_is_read_from_a_pipe_is_told_to_use_a_file():
    script = (
        "import sys\n"
        "from mutandis.errors import ExecutorError\n"
        "from mutandis.flows.executors import Processes\n"
        "def work(payload, talk):\n"
        "    return payload\n"
        "with Processes(num_threads=1).open(work, lambda key, data: None) as pool:\n"
        "    pool.submit(0, 3)\n"
        "    try:\n"
        "        pool.wait()\n"
        "    except ExecutorError as error:\n"
        "        print(error.fix)\n"
    )
    done = subprocess.run([sys.executable, "-"], input=script, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout == "put classes and functions into a file that is imported, or run in this process\n"
