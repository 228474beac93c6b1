"""Jobs in processes of this machine: one that crashes, hangs, takes too much memory or is killed ends alone.

Workers are spawned, never forked, since threads and accelerators do not survive a fork; they are kept from job to job,
and replaced when one dies. A worker leads a process group of its own, so that what its job started ends with it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from typing import Any

from mutandis.errors import ExecutorError, SettingError
from mutandis.flows.executors.base import (
    CANCELLED,
    CRASHED,
    OUT_OF_MEMORY,
    RETURNED,
    TIMED_OUT,
    Executor,
    OnMessage,
    Outcome,
    Pool,
    Task,
)
from mutandis.flows.executors.queued import QueuedPool
from mutandis.flows.executors.worker import ASKED, BROKEN, GOODBYE, READY, TOLD, serve

_MEMORY_INTERVAL = 0.1
_PATIENCE = 5.0  # Seconds that idle workers have to end by themselves.
_ROUND = 1.0  # Seconds between two looks at whether workers live.


class Processes(Executor):
    """Runs jobs in spawned worker processes.

    Args:
        num_threads: How many threads numerical libraries may use in each worker; by default the cores are shared out.

    Raises:
        SettingError: `num_threads` is not a whole number of at least 1.
    """

    def __init__(self, num_threads: int | None = None) -> None:
        if num_threads is not None and (not isinstance(num_threads, int) or num_threads < 1):
            raise SettingError("cannot use a setting", at="Processes.num_threads", got=num_threads,
                               expected="an int >= 1, or None", fix="use 1")  # fmt: skip
        self.num_threads = num_threads

    def open(
        self,
        task: Task,
        on_message: OnMessage,
        *,
        workers: int = 1,
        timeout: float | None = None,
        memory_bytes: int | None = None,
    ) -> Pool:
        """Starts a pool; its workers start with the first jobs.

        Raises:
            ExecutorError: the task cannot be pickled.
            SettingError: memory cannot be measured on this system.
        """
        if memory_bytes is not None and not Path("/proc/self/stat").exists():
            raise SettingError("cannot limit memory", at="memory_bytes", got=memory_bytes,
                               expected="a system with /proc, such as Linux", fix="leave memory_bytes out")  # fmt: skip
        threads = self.num_threads or max(1, (os.cpu_count() or 1) // workers)
        return _ProcessPool(workers, _pickled(task, "the task"), on_message, threads, timeout, memory_bytes)

    def __repr__(self) -> str:
        return f"Processes(num_threads={self.num_threads})"


def _pickled(value: Any, what: str) -> bytes:
    try:
        return pickle.dumps(value)
    except Exception as error:  # Pickling calls other people's code.
        raise ExecutorError(
            f"cannot send {what} to a worker process",
            got=value,
            expected=f"something picklable, but {type(error).__name__}: {error}",
            fix="define classes and functions at the top level of a module, or run in this process",
        ) from error


@dataclass(eq=False)
class _Worker:
    """A worker process and the job that it runs."""

    process: Any
    connection: Connection
    is_ready: bool = False
    key: int | None = None
    started: float = 0.0
    ending: tuple[str, str] | None = None  # Why it is being killed: kind and reason.

    @property
    def name(self) -> str:
        return f"pid {self.process.pid}"


@dataclass
class _ProcessPool(QueuedPool[_Worker]):
    task: bytes
    on_message: OnMessage
    num_threads: int
    timeout: float | None
    memory_bytes: int | None
    _next_look: float = field(init=False, default=0.0)

    def _pickle(self, payload: Any) -> bytes:
        return _pickled(payload, "a job")

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        arguments = (theirs, self.task, self.num_threads, os.getpid())
        process = context.Process(target=serve, args=arguments, name="mutandis worker")
        with _deaf_to_interrupts():
            process.start()
        theirs.close()
        return _Worker(process, ours)

    def _give(self, worker: _Worker, key: int, payload: bytes) -> None:
        worker.key, worker.started = key, time.perf_counter()
        with contextlib.suppress(BrokenPipeError, ConnectionError):  # Its sentinel will say that it has just died.
            worker.connection.send_bytes(payload)

    def _look(self, left: float | None) -> None:
        """Handles what comes within a while."""
        self._hand_out()
        sources: dict[Any, _Worker] = {}
        for worker in self._members:
            sources[worker.connection] = sources[worker.process.sentinel] = worker
        ready = wait_for(list(sources), self._patience(left))
        heard = dict.fromkeys(sources[source] for source in ready)
        # What a job has forked keeps both ends of its worker open, so that its death wakes nobody.
        dead = [worker for worker in self._members if worker not in heard and not worker.process.is_alive()]
        for worker in [*heard, *dead]:
            self._hear(worker)
        self._enforce()
        self._hand_out()

    def _patience(self, left: float | None) -> float:
        limits = [_ROUND] if left is None else [min(max(left, 0.0), _ROUND)]
        busy = [worker for worker in self._members if worker.key is not None and worker.ending is None]
        if self.timeout is not None:
            now = time.perf_counter()
            limits += [max(worker.started + self.timeout - now, 0.0) for worker in busy]
        if self.memory_bytes is not None and busy:
            limits.append(_MEMORY_INTERVAL)
        return min(limits)

    def _hear(self, worker: _Worker) -> None:
        """Takes in everything that a worker has said; then it may turn out to be dead."""
        while (said := self._receive(worker)) is not None:
            self._take(worker, *said)
        if not worker.process.is_alive():
            self._bury(worker)

    def _receive(self, worker: _Worker) -> tuple[str, Any] | None:
        try:
            if worker.connection.poll():
                return worker.connection.recv()  # type: ignore[no-any-return]
        except (EOFError, OSError):
            worker.process.join(_PATIENCE)
            if worker.process.is_alive():
                self._kill(worker, CRASHED, "it closed the connection to its pool")
        except Exception as error:  # Unpickling calls other people's code.
            self._kill(worker, CRASHED, f"what it sent cannot be read: {type(error).__name__}: {error}")
            worker.process.join(_PATIENCE)
        return None

    def _take(self, worker: _Worker, kind: str, data: Any) -> None:
        if kind == READY:
            worker.is_ready = True
        elif kind == BROKEN:
            raise_start_error(f"its task cannot be read there: {data}")
        elif kind == TOLD and worker.key is not None:
            self.on_message(worker.key, data)
        elif kind == ASKED and worker.key is not None:
            answer = self.on_message(worker.key, data)
            with contextlib.suppress(BrokenPipeError, ConnectionError):  # It has died since, as its sentinel will say.
                worker.connection.send(answer)
        elif worker.key is not None:
            value, reason = (data, None) if kind == RETURNED else (data[1], data[0])
            seconds = time.perf_counter() - worker.started
            self._ended.append(Outcome(worker.key, kind, value, reason, seconds, worker.name))
            worker.key = None

    def _bury(self, worker: _Worker) -> None:
        """Accounts for a dead worker."""
        end_rest(worker.process)
        self._members.remove(worker)
        worker.connection.close()
        if worker.key is None:
            if not worker.is_ready and worker.ending is None:
                raise_start_error(f"it ended before it was ready ({_last_words(worker.process.exitcode)})")
            return
        kind, reason = worker.ending or (CRASHED, f"its process {_last_words(worker.process.exitcode)}")
        seconds = time.perf_counter() - worker.started
        self._ended.append(Outcome(worker.key, kind, None, reason, seconds, worker.name))

    def _enforce(self) -> None:
        """Kills workers whose job is over a limit."""
        now = time.perf_counter()
        busy = [worker for worker in self._members if worker.key is not None and worker.ending is None]
        if self.timeout is not None:
            for worker in busy:
                if now - worker.started >= self.timeout:
                    self._kill(worker, TIMED_OUT, f"it ran longer than {self.timeout:g} s")
        if self.memory_bytes is None or now < self._next_look:
            return
        self._next_look = now + _MEMORY_INTERVAL
        used = resident_bytes([worker.process.pid for worker in busy]) if busy else {}
        for worker in busy:
            taken = used.get(worker.process.pid, 0)
            if worker.ending is None and taken > self.memory_bytes:
                limit = f"{self.memory_bytes / 2**20:.0f} MiB"
                self._kill(worker, OUT_OF_MEMORY, f"it took {taken / 2**20:.0f} MiB of memory, more than {limit}")

    def _kill(self, worker: _Worker, kind: str, reason: str) -> None:
        if worker.ending is None:
            worker.ending = (kind, reason)
        end_group(worker.process)

    def _cancel(self, member: _Worker) -> None:
        self._kill(member, CANCELLED, "it was cancelled")

    def close(self) -> None:
        self._is_closed = True
        self._waiting.clear()
        for worker in self._members:
            if worker.key is not None or not worker.is_ready:
                end_group(worker.process)
            else:
                with contextlib.suppress(OSError):  # It has just died.
                    worker.connection.send_bytes(GOODBYE)
            worker.connection.close()
        deadline = time.perf_counter() + _PATIENCE
        for worker in self._members:
            worker.process.join(max(deadline - time.perf_counter(), 0.1))
            if worker.process.is_alive():
                end_group(worker.process)
                worker.process.join()
            end_rest(worker.process)
            worker.process.close()
        self._members = []

    def __del__(self) -> None:
        if self._members:
            self.close()


def raise_start_error(reason: str) -> None:
    """Raises the error for a worker that cannot start.

    Raises:
        ExecutorError: always.
    """
    raise ExecutorError(
        f"cannot start a worker process: {reason}",
        expected="a script that can be imported without starting the search again",
        fix='put the call under `if __name__ == "__main__":`, and classes and functions at the top level'
        if _is_script()
        else "put classes and functions into a file that is imported, or run in this process",
    )


def _is_script() -> bool:
    """Returns whether workers can import what this process runs: not a notebook, and nothing read from a pipe."""
    return Path(getattr(sys.modules["__main__"], "__file__", None) or "<none>").is_file()


def end_group(process: Any) -> None:
    """Kills a process and, where it leads a group, all that it started."""
    if process.pid is None or not process.is_alive():
        return
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getpgid(process.pid) == process.pid:
                os.killpg(process.pid, signal.SIGKILL)
                return
    process.kill()


def end_rest(process: Any) -> None:
    """Kills what a process that is dead has started and left behind, where it led a group."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Keeps Ctrl-C from a process that is started meanwhile, until it leads a group of its own."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # Started by the first process else, which would lift the block again.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _last_words(code: int | None) -> str:
    if code is None:
        return "is gone"
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def resident_bytes(leaders: list[int]) -> dict[int, int]:
    """Returns the resident memory of process groups by the id of their leader, in bytes; needs /proc."""
    page = os.sysconf("SC_PAGE_SIZE")
    wanted = set(leaders)
    found = dict.fromkeys(leaders, 0)
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError, IndexError):  # It ended meanwhile.
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            group, pages = int(fields[2]), int(fields[21])
            if group in wanted:
                found[group] += pages * page
    return found


__all__ = ["Processes", "end_group", "resident_bytes"]
