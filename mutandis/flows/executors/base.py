"""What runs jobs: in this process, in worker processes, or on a cluster. It knows neither trials nor studies.

An `Executor` holds settings; `open` starts a `Pool` for one task, a function of a payload and of a `Talk`. Whatever
happens to a job, exactly one `Outcome` comes of it; no job harms another.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

RETURNED, RAISED, CRASHED, TIMED_OUT, OUT_OF_MEMORY, LOST, CANCELLED = (
    "returned", "raised", "crashed", "timed out", "out of memory", "lost", "cancelled",
)  # fmt: skip


class Talk(Protocol):
    """What a running job says to the one that submitted it."""

    def tell(self, data: Any) -> None:
        """Sends something; nobody waits."""

    def ask(self, data: Any) -> Any:
        """Sends something and returns the answer to it."""


Task = Callable[[Any, Talk], Any]
"""What a pool runs: from a payload to a result."""

OnMessage = Callable[[int, Any], Any]
"""Called in the process of the pool for everything a job says, with its key; what it returns answers `Talk.ask`."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended.

    Attributes:
        key: Its key.
        kind: `returned`, `raised`, `crashed` (its process died), `timed out`, `out of memory`, `lost` (its machine is
            gone; another try may succeed) or `cancelled`.
        value: What it returned.
        reason: What happened, in words; None for a job that returned.
        seconds: How long it ran, by the wall clock.
        worker: Who ran it.
    """

    key: int
    kind: str
    value: Any = None
    reason: str | None = None
    seconds: float = 0.0
    worker: str = ""


class Pool(abc.ABC):
    """Workers that are ready for jobs; a context manager that closes itself."""

    @property
    @abc.abstractmethod
    def num_free(self) -> int:
        """How many more jobs would begin at once."""

    @property
    @abc.abstractmethod
    def num_running(self) -> int:
        """How many jobs have been submitted and have no outcome yet."""

    @abc.abstractmethod
    def submit(self, key: int, payload: Any) -> None:
        """Hands in a job; it waits where no worker is free.

        Args:
            key: A number that no other job without an outcome has.
            payload: What the task is called with.

        Raises:
            ExecutorError: the payload cannot be sent to a worker, or no worker can be started.
        """

    @abc.abstractmethod
    def wait(self, timeout: float | None = None) -> list[Outcome]:
        """Returns the outcomes that are there, at least one unless the time is over or nothing runs.

        Args:
            timeout: For how many seconds to wait at most; None for as long as it takes.
        """

    @abc.abstractmethod
    def cancel(self, key: int) -> None:
        """Ends a job; its outcome is `cancelled`, unless it has ended before."""

    @abc.abstractmethod
    def close(self) -> None:
        """Ends all jobs and workers; may be called again."""

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Executor(abc.ABC):
    """Settings of a way to run jobs."""

    @abc.abstractmethod
    def open(
        self,
        task: Task,
        on_message: OnMessage,
        *,
        workers: int = 1,
        timeout: float | None = None,
        memory_bytes: int | None = None,
    ) -> Pool:
        """Starts a pool for a task.

        Args:
            task: The function; what leaves this process must be picklable.
            on_message: Hears what running jobs say; called within `Pool.wait`.
            workers: How many jobs run at the same time.
            timeout: After how many seconds a job is ended, or None.
            memory_bytes: At how many bytes of resident memory a job is ended, its own child processes included, or
                None.

        Raises:
            SettingError: this executor cannot keep a limit that is asked for.
            ExecutorError: the task cannot be sent to a worker.
        """


__all__ = [
    "CANCELLED", "CRASHED", "LOST", "OUT_OF_MEMORY", "RAISED", "RETURNED", "TIMED_OUT", "Executor", "OnMessage",
    "Outcome", "Pool", "Talk", "Task",
]  # fmt: skip
