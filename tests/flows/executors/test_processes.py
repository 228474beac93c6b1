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
