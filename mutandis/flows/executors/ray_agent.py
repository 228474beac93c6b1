"""What stands for one worker of a Ray pool on whatever machine it was placed: an actor that keeps a process for jobs.

A job does not run in the actor but in a worker process of `Processes` beside it. So a job that crashes, hangs or takes
too much memory ends like everywhere else, with all that it started; the actor itself dies only with its machine, or
when the pool ends it. Nothing here imports Ray.

What a job says and how it ends comes out of `hear`, in order; the pool always waits in one call of it.
"""

from __future__ import annotations

import pickle
import queue
import socket
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mutandis.errors import MutandisError
from mutandis.flows.executors.base import Pool, Talk, Task
from mutandis.flows.executors.processes import Processes

TOLD, ASKED, ENDED, BROKEN = "told", "asked", "ended", "broken"


class Agent:
    """Runs one job after the other. Each method may wait in a thread of its own.

    Args:
        task: The task, by cloudpickle.
        places: Where modules are looked for besides: what the pool has in `sys.path`.
        num_threads: How many threads numerical libraries may use in a job.
        timeout: After how many seconds a job is ended, or None.
        memory_bytes: At how many bytes of resident memory a job is ended, or None.
    """

    def __init__(
        self,
        task: bytes,
        places: Iterable[str],
        num_threads: int,
        timeout: float | None = None,
        memory_bytes: int | None = None,
    ) -> None:
        self._task = Sealed(task)
        self._places = tuple(places)
        self._num_threads = num_threads
        self._timeout = timeout
        self._memory_bytes = memory_bytes
        self._pool: Pool | None = None
        self._key: int | None = None
        self._said: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def ready(self) -> str:
        """Gets ready for jobs and returns the name of the machine.

        Raises:
            SettingError: a limit cannot be kept on this machine.
        """
        sys.path.extend(place for place in self._places if place not in sys.path)
        # A spawned process runs the file of the main module again. Here that is Ray's, and none of its business.
        vars(sys.modules["__main__"]).pop("__file__", None)
        self._pool = Processes(self._num_threads).open(
            self._task, self._pass_on, timeout=self._timeout, memory_bytes=self._memory_bytes
        )
        return socket.gethostname()

    def run(self, key: int, payload: bytes) -> None:
        """Runs a job to its end.

        Args:
            key: Its key.
            payload: Its payload, by cloudpickle.
        """
        assert self._pool is not None  # The pool asks first whether this is ready.
        self._key = key
        try:
            self._pool.submit(key, payload)
            said: list[tuple[str, Any]] = [(ENDED, outcome) for outcome in self._pool.wait()]
        except MutandisError as error:
            said = [(BROKEN, error.problem)]
        except Exception as error:  # No process could be started, say; the pool would wait for ever for a word of it.
            said = [(BROKEN, f"{type(error).__name__}: {error}")]
        self._key = None  # Before anybody hears of it, and sends the next job.
        for one in said:
            self._said.put(one)

    def hear(self) -> bytes:
        """Waits until there is something to hear.

        Returns:
            Everything that was said since the last call: pairs of what it is and of data, pickled. `told` and `asked`
            have what the job said, `ended` has the `Outcome`, and `broken` says why no job can run here.
        """
        heard = [self._said.get()]
        while not self._said.empty():
            heard.append(self._said.get())
        return pickle.dumps(heard)

    def answer(self, data: bytes) -> None:
        """Answers what the job has asked.

        Args:
            data: The answer, pickled.
        """
        self._answers.put(pickle.loads(data))

    def stop(self) -> None:
        """Ends the job with all that it started, and what earlier ones left; to be called before the actor is killed.

        Ray kills the worker process with the actor, but not what that has started.
        """
        if self._pool is not None and self._key is not None:
            self._pool.cancel(self._key)
        elif self._pool is not None:
            self._pool.close()

    def _pass_on(self, key: int, data: Any) -> Any:
        self._said.put(data)
        return self._answers.get() if data[0] == ASKED else None


class Sealed:
    """A task that is opened where it runs, for the actor may lack what it is made of."""

    def __init__(self, task: bytes) -> None:
        self._task = task

    def __reduce__(self) -> Any:
        return _opened, (self._task,)

    def __call__(self, payload: Any, talk: Talk) -> Any:
        """Is for the copy in the worker process, which is an `Opened`.

        Raises:
            AssertionError: always.
        """
        raise AssertionError("a sealed task is sent, not called")


def _opened(task: bytes) -> Opened:
    return Opened(pickle.loads(task))


@dataclass(frozen=True)
class Opened:
    """The task in the worker process."""

    task: Task

    def __call__(self, payload: bytes, talk: Talk) -> Any:
        """Runs the task on what was pickled."""
        return self.task(pickle.loads(payload), _Marked(talk))


class _Marked:
    """A talk that says of everything whether somebody waits for an answer: only then does the actor wait for one."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk

    def tell(self, data: Any) -> None:
        self._talk.tell((TOLD, data))

    def ask(self, data: Any) -> Any:
        return self._talk.ask((ASKED, data))


__all__ = ["ASKED", "BROKEN", "ENDED", "TOLD", "Agent", "Opened", "Sealed"]
