"""A pool of Ray actors.

There is one actor (`Agent`) for each worker, placed with the resources of a job and kept from job to job. All that is
said goes straight between the pool and that actor, in calls that wait; so the loss of a machine is the loss of the jobs
on it and of nothing else, and it is told from a crash, which the actor survives.
"""

from __future__ import annotations

import pickle
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from mutandis.errors import ExecutorError
from mutandis.flows.executors.base import CANCELLED, CRASHED, LOST, OnMessage, Outcome
from mutandis.flows.executors.queued import QueuedPool
from mutandis.flows.executors.ray_agent import ASKED, BROKEN, ENDED

_IDLE_S = 30.0  # How long an actor without a job keeps its resources from others.
_MAX_LOST_STARTS = 3
_PATIENCE_S = 5.0  # How long an actor may take to end its job.


def pickled(value: Any, what: str) -> bytes:
    """Returns a value in the bytes of cloudpickle.

    Raises:
        ExecutorError: it cannot be pickled.
    """
    import cloudpickle

    try:
        made: bytes = cloudpickle.dumps(value)
    except Exception as error:  # Pickling calls other people's code.
        raise ExecutorError(
            f"cannot send {what} to a Ray worker",
            got=value,
            expected=f"something that cloudpickle takes, but {type(error).__name__}: {error}",
            fix="open files, connections and locks within the objective",
        ) from error
    return made


@dataclass(eq=False)
class _Member:
    """An actor, and the job that it runs."""

    actor: Any
    call: Any  # The reference that says when there is something to hear of it.
    machine: str | None = None  # None until it is ready.
    key: int | None = None
    since: float = 0.0  # When it got its job, or had none any more.

    @property
    def is_ready(self) -> bool:
        return self.machine is not None


@dataclass
class RayPool(QueuedPool[_Member]):
    """A pool of actors.

    Args:
        size: How many actors there may be.
        end: Called at the end, when all actors have been ended.
        agent: The class of `Agent` as Ray has it, with the resources of a job.
        arguments: What it is made with.
        on_message: Hears what jobs say.
    """

    end: Callable[[], None]
    agent: Any
    arguments: tuple[Any, ...]
    on_message: OnMessage
    _lost_starts: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        weakref.finalize(self, self.end)

    def _pickle(self, payload: Any) -> bytes:
        return pickled(payload, "a job")

    def _start(self) -> _Member:
        actor = self.agent.remote(*self.arguments)
        return _Member(actor, actor.ready.remote())

    def _give(self, member: _Member, key: int, payload: bytes) -> None:
        member.key, member.since = key, time.perf_counter()
        member.actor.run.remote(key, payload)

    def _look(self, left: float | None) -> None:
        """Handles what comes within a while."""
        import ray

        self._hand_out()
        calls = {member.call: member for member in self._members}
        ray.wait(list(calls), timeout=_IDLE_S if left is None else min(left, _IDLE_S))
        ready, _ = ray.wait(list(calls), num_returns=len(calls), timeout=0)
        for call in ready:
            self._hear(calls[call])
        self._release()
        self._hand_out()

    def _hear(self, member: _Member) -> None:
        """Takes in what an actor has to say; it may turn out to be lost."""
        import ray

        try:
            heard = ray.get(member.call)
        except ray.exceptions.RayTaskError as error:
            raise_start_error(f"{type(error.cause).__name__}: {error.cause}")
        except ray.exceptions.RayError as error:
            self._bury(member, error)
            return
        if member.machine is None:
            member.machine, member.since, self._lost_starts = heard, time.perf_counter(), 0
        else:
            for kind, data in self._read(member, heard):
                self._take(member, kind, data)
        if member in self._members:
            member.call = member.actor.hear.remote()

    def _read(self, member: _Member, heard: bytes) -> list[tuple[str, Any]]:
        try:
            return pickle.loads(heard)  # type: ignore[no-any-return]
        except Exception as error:  # Unpickling calls other people's code.
            self._lose(member, CRASHED, f"what it sent cannot be read: {type(error).__name__}: {error}")
            return []

    def _take(self, member: _Member, kind: str, data: Any) -> None:
        assert member.key is not None  # An actor is silent between jobs.
        if kind == BROKEN:
            raise_start_error(data)
        elif kind == ENDED:
            self._ended.append(replace(data, worker=f"{data.worker} on {member.machine}"))
            member.key, member.since = None, time.perf_counter()
        else:
            answer = self.on_message(member.key, data)
            if kind == ASKED:
                member.actor.answer.remote(pickle.dumps(answer))

    def _bury(self, member: _Member, error: Exception) -> None:
        """Accounts for an actor that is gone; another one takes its place."""
        words = str(error).strip().splitlines() or [type(error).__name__]
        if member.machine is None:
            self._lost_starts += 1
            if self._lost_starts == _MAX_LOST_STARTS:
                raise_start_error(f"it was lost {_MAX_LOST_STARTS} times before it was ready: {words[0]}")
        self._lose(member, LOST, f"its machine or its Ray worker is gone: {words[0]}")

    def _lose(self, member: _Member, kind: str, reason: str) -> None:
        """Ends an actor and its job."""
        if member.key is not None:
            seconds = time.perf_counter() - member.since
            self._ended.append(Outcome(member.key, kind, None, reason, seconds, f"Ray on {member.machine}"))
        self._dismiss([member], is_there=kind != LOST)

    def _dismiss(self, members: list[_Member], *, is_there: bool = True) -> None:
        """Ends actors, and before them what their jobs have started."""
        import ray

        self._members = [member for member in self._members if member not in members]
        if not ray.is_initialized():  # They are gone, and asking would start Ray once more.
            return
        if is_there:
            calls = [member.actor.stop.remote() for member in members if member.machine is not None]
            if calls:
                ray.wait(calls, num_returns=len(calls), timeout=_PATIENCE_S)
        for member in members:
            ray.kill(member.actor)

    def _release(self) -> None:
        """Gives back the resources of actors that have had no job for a while."""
        now = time.perf_counter()
        ready = [member for member in self._members if member.machine is not None]
        self._dismiss([member for member in ready if member.key is None and now - member.since >= _IDLE_S])

    def _cancel(self, member: _Member) -> None:
        self._lose(member, CANCELLED, "it was cancelled")

    def close(self) -> None:
        """Ends all actors, and what was started for them; see `Pool.close`."""
        self._is_closed = True
        self._waiting.clear()
        self._dismiss(self._members)
        self.end()


def raise_start_error(reason: str) -> None:
    """Raises the error for an actor or a worker process that cannot start.

    Raises:
        ExecutorError: always.
    """
    raise ExecutorError(
        f"cannot run jobs on a Ray worker: {reason}",
        expected="machines with mutandis and all that the program imports, in the versions of this one",
        fix="install it there, or pass Ray(runtime_env=...)",
    )


__all__ = ["RayPool", "pickled", "raise_start_error"]
