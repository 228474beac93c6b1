"""Jobs in this process, one after the other: for debugging, and where nothing else is needed."""

from __future__ import annotations

import time
import traceback
from collections import deque
from typing import Any

from mutandis.errors import SettingError, in_words
from mutandis.flows.executors.base import CANCELLED, RAISED, RETURNED, Executor, OnMessage, Outcome, Pool, Task


class Inline(Executor):
    """Runs each job within `Pool.wait`. A job that hangs or crashes takes everything with it."""

    def open(
        self,
        task: Task,
        on_message: OnMessage,
        *,
        workers: int = 1,
        timeout: float | None = None,
        memory_bytes: int | None = None,
    ) -> Pool:
        """Starts a pool of one worker, this process.

        Raises:
            SettingError: there is more than one worker, or a limit.
        """
        limits = (("workers", workers, workers != 1), ("timeout", timeout, timeout is not None),
                  ("memory_bytes", memory_bytes, memory_bytes is not None))  # fmt: skip
        for name, value, is_asked in limits:
            if is_asked:
                raise SettingError("cannot run inline", at=name, got=value,
                                   expected="one worker without limits, since jobs run in this process",
                                   fix=f'leave {name} out, or use executor="processes"')  # fmt: skip
        return _InlinePool(task, on_message)

    def __repr__(self) -> str:
        return "Inline()"


class _Direct:
    """A talk without a way between."""

    def __init__(self, on_message: OnMessage, key: int) -> None:
        self._on_message = on_message
        self._key = key

    def tell(self, data: Any) -> None:
        self._on_message(self._key, data)

    def ask(self, data: Any) -> Any:
        return self._on_message(self._key, data)


class _InlinePool(Pool):
    def __init__(self, task: Task, on_message: OnMessage) -> None:
        self._task = task
        self._on_message = on_message
        self._waiting: deque[tuple[int, Any]] = deque()
        self._cancelled: list[int] = []

    @property
    def num_free(self) -> int:
        return 0 if self._waiting else 1

    @property
    def num_running(self) -> int:
        return len(self._waiting) + len(self._cancelled)

    def submit(self, key: int, payload: Any) -> None:
        self._waiting.append((key, payload))

    def wait(self, timeout: float | None = None) -> list[Outcome]:
        ended = [Outcome(key, CANCELLED, reason="it was cancelled") for key in self._cancelled]
        self._cancelled = []
        if ended or not self._waiting:
            return ended
        key, payload = self._waiting.popleft()
        start = time.perf_counter()
        try:
            value = self._task(payload, _Direct(self._on_message, key))
        except (Exception, SystemExit) as error:  # A job is somebody else's code; whatever it raises is its outcome.
            reason = in_words(error)
            detail = traceback.format_exc()
            return [Outcome(key, RAISED, detail, reason, time.perf_counter() - start, "inline")]
        return [Outcome(key, RETURNED, value, None, time.perf_counter() - start, "inline")]

    def cancel(self, key: int) -> None:
        kept = [job for job in self._waiting if job[0] != key]
        if len(kept) < len(self._waiting):
            self._waiting = deque(kept)
            self._cancelled.append(key)

    def close(self) -> None:
        self._waiting.clear()
        self._cancelled = []


__all__ = ["Inline"]
