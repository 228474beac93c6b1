"""Jobs on a Ray cluster, or on one that is started for them on this machine: the settings, and the way to Ray."""

from __future__ import annotations

import importlib
import math
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mutandis.errors import ExecutorError, MissingDependency, MutandisWarning, SettingError
from mutandis.flows.executors.base import Executor, OnMessage, Pool, Task
from mutandis.flows.executors.ray_agent import Agent
from mutandis.flows.executors.ray_pool import RayPool, pickled

_CALLS_AT_ONCE = 4  # `run`, `hear`, `answer` and `stop` of an agent.


class Ray(Executor):
    """Runs each job with resources of its own on a Ray cluster.

    Where Ray runs in this process already (`ray.init(...)`), that is used as it is. Else the cluster at `address` or
    in the variable RAY_ADDRESS is joined; and without either, Ray is started on this machine, with room for all workers
    whatever its number of cores, and ended with the pool. Several pools at a time in one process need a `ray.init`
    before them.

    A job runs in a process beside its Ray actor: within it, `ray` is not initialised. All machines need mutandis and
    what the program imports, in the same versions. Classes and functions of the script itself, and lambdas, are sent
    with the program; what a job returns must be picklable. Workers beyond the room in the cluster wait for it.

    The directory of a trial (`feedback.checkpoint`) is made by the process that searches, in its temporary directory:
    on several machines let TMPDIR name a directory that they share. A job that finds no directory says so.

    Args:
        address: Of a cluster: `auto`, `host:port` or `ray://host:port`; `local` for one of its own in any case.
        num_cpus: How many cores a job takes; its numerical libraries use as many threads, and at least one.
        num_gpus: How many GPUs a job takes; several jobs share one at a fraction. A job sees its own alone.
        resources: What a job takes of the resources that the cluster names itself.
        runtime_env: What Ray sets up for the jobs, such as `{"working_dir": "."}`; see its documentation.

    Raises:
        SettingError: an amount is negative or no number.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        num_cpus: float = 1.0,
        num_gpus: float = 0.0,
        resources: Mapping[str, float] | None = None,
        runtime_env: Mapping[str, Any] | None = None,
    ) -> None:
        amounts = {"num_cpus": num_cpus, "num_gpus": num_gpus}
        amounts |= {f"resources[{name!r}]": amount for name, amount in (resources or {}).items()}
        for name, amount in amounts.items():
            if isinstance(amount, bool) or not isinstance(amount, (int, float)) or not 0 <= amount < math.inf:
                raise SettingError("cannot use a setting", at=f"Ray.{name}", got=amount, expected="a number >= 0",
                                   fix="use 1")  # fmt: skip
        self.address = address
        self.num_cpus = num_cpus
        self.num_gpus = num_gpus
        self.resources = dict(resources or {})
        self.runtime_env = None if runtime_env is None else dict(runtime_env)

    def open(
        self,
        task: Task,
        on_message: OnMessage,
        *,
        workers: int = 1,
        timeout: float | None = None,
        memory_bytes: int | None = None,
    ) -> Pool:
        """Connects to Ray and starts a pool; its actors start with the first jobs.

        A limit of memory is kept as by `Processes`, and as much of the memory of a machine is reserved for each job.

        Raises:
            ExecutorError: the task cannot be pickled, or the cluster cannot be reached.
            MissingDependency: Ray is not installed.
            SettingError: no machine has the resources of a job, or `runtime_env` comes too late.
        """
        ray = _imported()
        sealed = pickled(task, "the task")
        session = self._session(ray, workers)
        try:
            self._need_room(ray, memory_bytes, may_grow=session.temporary is None)
        except SettingError:
            session.close()
            raise
        agent = ray.remote(Agent).options(
            num_cpus=self.num_cpus, num_gpus=self.num_gpus, resources=self.resources, memory=memory_bytes,
            max_restarts=0, max_task_retries=0, max_concurrency=_CALLS_AT_ONCE,
        )  # fmt: skip
        arguments = (sealed, tuple(sys.path), max(int(self.num_cpus), 1), timeout, memory_bytes)
        return RayPool(workers, session.close, agent, arguments, on_message)

    def _session(self, ray: Any, workers: int) -> _Session:
        """Sees to it that Ray runs."""
        if ray.is_initialized():
            if self.runtime_env is not None:
                raise SettingError("cannot use a setting", at="Ray.runtime_env", got=self.runtime_env,
                                   expected="no runtime_env, since Ray has been initialised before",
                                   fix="pass it to ray.init")  # fmt: skip
            return _Session()
        address = self.address or os.environ.get("RAY_ADDRESS") or "local"
        session = _Session(ray)
        options: dict[str, Any] = {"runtime_env": self.runtime_env, "logging_level": "WARNING"}
        if address == "local":
            # A directory of its own, so that it neither joins nor disturbs what else runs here.
            session.temporary = tempfile.mkdtemp(prefix="mutandis-ray-")
            cores = max(os.cpu_count() or 1, math.ceil(workers * self.num_cpus))
            options |= {"num_cpus": cores, "include_dashboard": False, "_temp_dir": session.temporary}
        try:
            ray.init(address, **options)
        except Exception as error:  # Whatever keeps Ray from starting: the network, an address, the environment.
            session.close()
            raise ExecutorError("cannot reach a Ray cluster", at="Ray.address", got=address,
                                expected=f"one that answers, but {type(error).__name__}: {error}",
                                fix="start one with `ray start --head`, or leave address out") from error  # fmt: skip
        return session

    def _need_room(self, ray: Any, memory_bytes: int | None, *, may_grow: bool) -> None:
        """Checks that one machine at least is large enough for a job."""
        needed = {"CPU": self.num_cpus, "GPU": self.num_gpus, "memory": memory_bytes or 0, **self.resources}
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if any(all(machine.get(name, 0) >= amount for name, amount in needed.items()) for machine in machines):
            return
        shown = ", ".join(f"{name}: {amount:g}" for name, amount in needed.items() if amount)
        if may_grow:
            warnings.warn(f"no machine of the Ray cluster has room for a job ({shown}); it waits for one that has",
                          MutandisWarning, stacklevel=4)  # fmt: skip
            return
        raise SettingError("cannot run jobs on Ray", at="Ray", got=shown,
                           expected="resources that this machine has",
                           fix="ask for less, or pass an address")  # fmt: skip

    def __repr__(self) -> str:
        return (f"Ray({self.address!r}, num_cpus={self.num_cpus}, num_gpus={self.num_gpus}, "
                f"resources={self.resources}, runtime_env={self.runtime_env})")  # fmt: skip


def _imported() -> Any:
    try:
        import ray

        importlib.import_module("cloudpickle")
    except ImportError as error:
        raise MissingDependency("cannot run trials on Ray", at='executor="ray"',
                                expected=f"the packages ray and cloudpickle, but {error}",
                                fix='pip install "mutandis[ray]"') from error  # fmt: skip
    return ray


@dataclass
class _Session:
    """What has been started and must be ended: the connection of this process, and Ray on this machine.

    Attributes:
        ray: The module of Ray where it was initialised here, else None.
        temporary: The directory of the Ray that was started here, or None.
    """

    ray: Any = None
    temporary: str | None = None

    def close(self) -> None:
        """Ends what was started; may be called again."""
        if self.ray is not None:
            self.ray.shutdown()
            self.ray = None
        if self.temporary is not None:
            shutil.rmtree(self.temporary, ignore_errors=True)
            self.temporary = None


__all__ = ["Ray"]
