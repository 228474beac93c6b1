"""The contract of an executor, as a pytest class: inherit it and say what `executor` is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, ClassVar

import pytest

from mutandis.errors import ExecutorError, SettingError
from mutandis.flows.executors.base import (
    CANCELLED,
    CRASHED,
    OUT_OF_MEMORY,
    RAISED,
    RETURNED,
    TIMED_OUT,
    Executor,
    Outcome,
    Pool,
    Talk,
)

PATIENCE_S = 60.0


def work(payload: Any, talk: Talk) -> Any:
    """Does what its payload says: the task of the contract."""
    order, *rest = payload
    if order == "square":
        return rest[0] ** 2
    if order == "raise":
        raise ValueError(rest[0])
    if order == "leave":
        sys.exit(rest[0])
    if order == "sleep":
        time.sleep(rest[0])
        return os.getpid()
    if order == "exit":
        os._exit(rest[0])
    if order == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if order == "fill":
        block = bytearray(rest[0])
        block[::4096] = b"x" * len(block[::4096])
        time.sleep(30)
    if order == "local":
        return lambda: None
    if order == "talk":
        talk.tell(("hello", rest[0]))
        return [talk.ask(("double", i)) for i in range(rest[0])]
    if order == "child":
        process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        talk.tell(process.pid)
        time.sleep(rest[0])
    return None


def is_alive(pid: int) -> bool:
    """Returns whether a process runs; one that has ended but was not asked for does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def _await_end(pid: int) -> None:
    deadline = time.monotonic() + 20
    while is_alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


class ExecutorContract:
    """What every executor must do.

    Attributes:
        executor: The settings under test.
        isolates: Whether a job that crashes or hangs leaves the rest alone, and limits are kept.
        workers: How many jobs run at once in most tests.
    """

    executor: ClassVar[Executor]
    isolates: ClassVar[bool] = True
    workers: ClassVar[int] = 2

    @pytest.fixture
    def heard(self) -> list[tuple[int, Any]]:
        """Everything that jobs said, in order."""
        return []

    @pytest.fixture
    def pool(self, heard: list[tuple[int, Any]]) -> Iterator[Pool]:
        """An open pool without limits."""
        with self._open(heard) as pool:
            yield pool

    def _open(self, heard: list[tuple[int, Any]], **limits: Any) -> Pool:
        def on_message(key: int, data: Any) -> Any:
            heard.append((key, data))
            return 2 * data[1] if isinstance(data, tuple) and data[0] == "double" else None

        return self.executor.open(work, on_message, workers=self.workers if self.isolates else 1, **limits)

    def _need_isolation(self) -> None:
        if not self.isolates:
            pytest.skip("jobs run in the process of the pool")

    @staticmethod
    def _all(pool: Pool, count: int) -> dict[int, Outcome]:
        found: dict[int, Outcome] = {}
        deadline = time.monotonic() + PATIENCE_S
        while len(found) < count:
            assert time.monotonic() < deadline, f"only {found} ended"
            for outcome in pool.wait(5.0):
                assert outcome.key not in found
                found[outcome.key] = outcome
        return found

    def test_every_job_has_one_outcome(self, pool: Pool) -> None:
        """More jobs than workers, each with its own result."""
        for key in range(7):
            pool.submit(key, ("square", key))
        found = self._all(pool, 7)
        assert [found[key].value for key in range(7)] == [0, 1, 4, 9, 16, 25, 36]
        assert {outcome.kind for outcome in found.values()} == {RETURNED}
        assert all(outcome.seconds >= 0 and outcome.worker for outcome in found.values())
        assert pool.num_running == 0
        assert pool.wait(0.0) == []

    def test_free_workers_are_counted(self, pool: Pool) -> None:
        """A pool says how many more jobs would begin at once."""
        free = pool.num_free
        assert free >= 1
        pool.submit(0, ("square", 3))
        assert pool.num_free == free - 1
        assert pool.num_running == 1
        self._all(pool, 1)
        assert pool.num_free == free

    def test_an_exception_is_an_outcome(self, pool: Pool) -> None:
        """What a job raises ends the job alone, and is told in words with its traceback."""
        pool.submit(1, ("raise", "no luck"))
        pool.submit(2, ("square", 2))
        found = self._all(pool, 2)
        assert (found[1].kind, found[1].reason) == (RAISED, "ValueError: no luck")
        assert "raise ValueError(rest[0])" in found[1].value
        assert found[2].value == 4

    def test_a_job_that_wants_to_leave_fails_alone(self, pool: Pool) -> None:
        """`sys.exit` is an exception like others, and its worker stays."""
        pool.submit(0, ("leave", "wrong arguments"))
        outcome = self._all(pool, 1)[0]
        assert (outcome.kind, outcome.reason) == (RAISED, "SystemExit: wrong arguments")
        pool.submit(1, ("square", 2))
        assert self._all(pool, 1)[1].value == 4

    def test_jobs_say_things_and_are_answered(self, pool: Pool, heard: list[tuple[int, Any]]) -> None:
        """Messages come in order, with the key of their job; answers go back to it."""
        pool.submit(5, ("talk", 3))
        assert self._all(pool, 1)[5].value == [0, 2, 4]
        assert heard == [(5, ("hello", 3)), (5, ("double", 0)), (5, ("double", 1)), (5, ("double", 2))]

    def test_a_result_that_cannot_be_sent_is_told_so(self, pool: Pool) -> None:
        """A result must be picklable where it leaves its process."""
        self._need_isolation()
        pool.submit(0, ("local",))
        outcome = self._all(pool, 1)[0]
        assert outcome.kind == RAISED
        assert "pickle" in str(outcome.reason)

    @pytest.mark.parametrize(
        ("payload", "reason"), [(("exit", 3), "ended with exit code 3"), (("kill",), "was killed by SIGKILL")]
    )
    def test_a_crash_ends_its_job_alone(self, pool: Pool, payload: tuple[Any, ...], reason: str) -> None:
        """A worker that dies is replaced; the other jobs go on."""
        self._need_isolation()
        pool.submit(0, payload)
        for key in range(1, 5):
            pool.submit(key, ("square", key))
        found = self._all(pool, 5)
        assert found[0].kind == CRASHED
        assert reason in str(found[0].reason)
        assert [found[key].value for key in range(1, 5)] == [1, 4, 9, 16]

    def test_a_job_that_hangs_is_ended(self, heard: list[tuple[int, Any]]) -> None:
        """The timeout counts from the start of the job, not from its submission."""
        self._need_isolation()
        with self._open(heard, timeout=1.5) as pool:
            pool.submit(0, ("sleep", 60))
            for key in range(1, 4):
                pool.submit(key, ("sleep", 0.05))
            found = self._all(pool, 4)
            assert (found[0].kind, found[0].reason) == (TIMED_OUT, "it ran longer than 1.5 s")
            assert 1.4 < found[0].seconds < 30
            assert {found[key].kind for key in range(1, 4)} == {RETURNED}

    def test_a_job_that_takes_too_much_memory_is_ended(self, heard: list[tuple[int, Any]]) -> None:
        """Resident memory is what counts."""
        self._need_isolation()
        with self._open(heard, memory_bytes=2**30) as pool:
            pool.submit(0, ("fill", 2**30 + 2**28))
            pool.submit(1, ("square", 5))
            found = self._all(pool, 2)
            assert found[0].kind == OUT_OF_MEMORY
            assert "more than 1024 MiB" in str(found[0].reason)
            assert found[1].value == 25

    def test_what_a_job_started_ends_with_it(self, heard: list[tuple[int, Any]]) -> None:
        """Child processes of a job that is ended do not stay behind."""
        self._need_isolation()
        with self._open(heard) as pool:
            pool.submit(0, ("child", 60))
            while not heard:
                pool.wait(0.1)
            pool.cancel(0)
            assert self._all(pool, 1)[0].kind == CANCELLED
        _await_end(heard[0][1])

    def test_what_a_job_left_behind_ends_with_its_pool(self, heard: list[tuple[int, Any]]) -> None:
        """Child processes that a job forgot end, though it returned; those of a worker that died do at once."""
        self._need_isolation()
        with self._open(heard) as pool:
            pool.submit(0, ("child", 0))
            assert self._all(pool, 1)[0].kind == RETURNED
        _await_end(heard[0][1])

    def test_a_waiting_job_can_be_cancelled(self, pool: Pool) -> None:
        """A cancelled job has an outcome too."""
        for key in range(5):
            pool.submit(key, ("sleep", 0.05))
        pool.cancel(4)
        found = self._all(pool, 5)
        assert found[4].kind == CANCELLED
        assert {found[key].kind for key in range(4)} == {RETURNED}

    def test_a_closed_pool_leaves_nobody_behind(self, heard: list[tuple[int, Any]]) -> None:
        """Closing ends running jobs, and may be done twice."""
        self._need_isolation()
        pool = self._open(heard)
        pool.submit(0, ("sleep", 0.0))
        pid = self._all(pool, 1)[0].value
        pool.submit(1, ("sleep", 60))
        pool.wait(0.2)
        pool.close()
        pool.close()
        _await_end(pid)

    def test_what_cannot_be_sent_is_refused_at_once(self, pool: Pool) -> None:
        """Neither a payload nor a task that cannot be pickled gets into a pool."""
        self._need_isolation()
        with pytest.raises(ExecutorError, match="cannot send a job"):
            pool.submit(0, ("square", threading.Lock()))
        with pytest.raises(ExecutorError, match="cannot send the task"):
            self.executor.open(partial(work, threading.Lock()), lambda key, data: None)
        pool.submit(1, ("square", 3))
        assert self._all(pool, 1)[1].value == 9

    @pytest.mark.parametrize("limits", [{"workers": 2}, {"timeout": 1.0}, {"memory_bytes": 2**30}])
    def test_a_limit_that_cannot_be_kept_is_refused(self, limits: dict[str, Any]) -> None:
        """An executor without isolation says what it cannot do."""
        if self.isolates:
            pytest.skip("it keeps all limits")
        with pytest.raises(SettingError, match="cannot run inline"):
            self.executor.open(work, lambda key, data: None, **limits)


__all__ = ["ExecutorContract", "is_alive", "work"]
