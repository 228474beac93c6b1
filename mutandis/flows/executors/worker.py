"""The other side of a process pool: a process that runs one job after the other until its pool is gone."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import time
import traceback
from multiprocessing.connection import Connection
from typing import Any

from mutandis.errors import in_words
from mutandis.flows.executors.base import RAISED, RETURNED

READY, TOLD, ASKED, BROKEN = "ready", "told", "asked", "broken"
GOODBYE = b""
_LOOK_AFTER = 0.5


def serve(connection: Connection, task: bytes, num_threads: int, parent: int) -> None:
    """Runs jobs that come through a connection, until `GOODBYE` does; where it breaks off, so does all that runs here.

    Args:
        connection: Payloads come, and messages and outcomes go.
        task: The pickled task.
        num_threads: How many threads numerical libraries may use here.
        parent: The process id of the pool; when it is gone, so is this process.
    """
    if hasattr(os, "setsid"):
        os.setsid()  # A group of its own: Ctrl-C is for the pool, and child processes end with the worker.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # The pool started this process with a block.
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()
    _limit_threads(num_threads)
    try:
        function = pickle.loads(task)
    except Exception as error:
        connection.send((BROKEN, f"{type(error).__name__}: {error}"))
        return
    connection.send((READY, None))
    talk, own = _Line(connection), os.getpid()
    try:
        while (payload := connection.recv_bytes()) != GOODBYE:
            answer = _run(function, payload, talk)
            if os.getpid() != own:
                os._exit(0)  # A copy that the job forked, and that came back from it, is no worker.
            connection.send(answer)
    except (EOFError, OSError):  # The pool is gone, and nobody else ends what jobs have left behind.
        _end_group()


def _run(function: Any, payload: bytes, talk: _Line) -> tuple[str, Any]:
    try:
        value = function(pickle.loads(payload), talk)
        pickle.dumps(value)
    except BaseException as error:  # A job is somebody else's code; whatever it raises is its outcome, sys.exit too.
        return RAISED, (in_words(error), traceback.format_exc())
    return RETURNED, value


class _Line:
    """The talk of a job through the connection of its worker."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def tell(self, data: Any) -> None:
        self._connection.send((TOLD, data))

    def ask(self, data: Any) -> Any:
        self._connection.send((ASKED, data))
        return self._connection.recv()


def _die_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_AFTER)
    _end_group()


def _end_group() -> None:
    if hasattr(os, "killpg"):
        os.killpg(os.getpgid(0), signal.SIGKILL)
    os._exit(1)


def _limit_threads(count: int) -> None:
    """Keeps workers from fighting over the cores, whether torch is loaded yet or not."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, str(count))
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


__all__ = ["ASKED", "BROKEN", "GOODBYE", "READY", "TOLD", "serve"]
