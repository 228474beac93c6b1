"""A pool of Ray actors, in a Ray that the tests have started."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time

import pytest
from ray_here import Unreadable, need_ray

from mutandis.errors import ExecutorError
from mutandis.flows.executors import Ray, ray_pool
from mutandis.flows.executors.base import CRASHED, LOST, RETURNED
from mutandis.flows.executors.ray_pool import RayPool, pickled
from mutandis.testing.executor_contract import ExecutorContract, is_alive, work

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def ray():
    """Ray with four cores."""
    ray = need_ray()
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as place:
        ray.init("local", num_cpus=4, include_dashboard=False, _temp_dir=place, logging_level="WARNING")
        yield ray
        ray.shutdown()


def ignore(key, data):
    return None


def first(pool):
    (outcome,) = pool.wait(60.0)
    return outcome


def parent(payload, talk):
    """Returns the id of the actor's process; where it shall wait, it tells it first."""
    if payload:
        talk.tell(os.getppid())
        time.sleep(60)
    return os.getppid()


class TestContract(ExecutorContract):
    executor = Ray()


def test_workers_share_the_cluster_and_say_where_they_are():
    with Ray().open(work, ignore, workers=3) as pool:
        for key in range(3):
            pool.submit(key, ("sleep", 1.0))
        assert len(pool._members) == 3  # They start all at once.
        outcomes = [outcome for _ in range(3) for outcome in pool.wait(60.0)]
    assert len({outcome.value for outcome in outcomes}) == 3
    assert all(" on " in outcome.worker for outcome in outcomes)


def test_a_worker_is_kept_from_job_to_job():
    with Ray().open(work, ignore) as pool:
        pids = set()
        for key in range(3):
            pool.submit(key, ("sleep", 0.0))
            pids.add(first(pool).value)
        assert len(pids) == 1


def test_lambdas_and_what_they_hold_are_sent():
    offset = 5
    with Ray().open(lambda payload, talk: payload(offset), ignore) as pool:
        pool.submit(0, lambda x: 2 * x)
        assert first(pool).value == 10


def test_a_job_whose_actor_dies_is_lost_and_the_pool_goes_on():
    pids = []
    with Ray().open(lambda payload, talk: parent(payload, talk), lambda key, pid: pids.append(pid)) as pool:
        pool.submit(0, True)
        while not pids:
            pool.wait(0.2)
        os.kill(pids[0], signal.SIGKILL)
        outcome = first(pool)
        assert (outcome.key, outcome.kind) == (0, LOST)
        assert outcome.reason.startswith("its machine or its Ray worker is gone: ")
        pool.submit(0, False)
        outcome = first(pool)
        assert outcome.kind == RETURNED
        assert outcome.value not in pids


def test_an_idle_actor_that_dies_is_replaced():
    with Ray().open(lambda payload, talk: parent(payload, talk), ignore) as pool:
        pool.submit(0, False)
        pid = first(pool).value
        os.kill(pid, signal.SIGKILL)
        while is_alive(pid):
            time.sleep(0.05)
        pool.submit(1, False)
        outcome = first(pool)
        if outcome.kind == LOST:  # The job was handed out before the death was seen.
            pool.submit(1, False)
            outcome = first(pool)
        assert outcome.value != pid


def test_an_idle_actor_gives_its_resources_back(monkeypatch):
    with Ray().open(work, ignore, workers=2) as pool:
        pool.submit(0, ("sleep", 0.0))
        assert first(pool).kind == RETURNED
        monkeypatch.setattr(ray_pool, "_IDLE_S", 0.5)
        pool.submit(1, ("sleep", 60.0))
        pool.submit(2, ("sleep", 0.1))
        assert [outcome.key for outcome in pool.wait(50.0)] == [2]
        deadline = time.monotonic() + 30
        while len(pool._members) > 1:
            assert time.monotonic() < deadline
            assert pool.wait(0.2) == []
        assert [member.key for member in pool._members] == [1]
        pool.submit(3, ("sleep", 0.0))
        assert first(pool).kind == RETURNED


def test_what_cannot_be_read_here_ends_its_job():
    here = os.getpid()
    with Ray().open(lambda payload, talk: Unreadable(here) if payload else 1, ignore) as pool:
        pool.submit(0, True)
        outcome = first(pool)
        assert (outcome.kind, outcome.reason) == (CRASHED, "what it sent cannot be read: ValueError: not here")
        pool.submit(1, False)
        assert first(pool).value == 1


def test_a_task_that_cannot_be_read_in_the_worker_says_so():
    class Broken:
        def __reduce__(self):
            return (int, ("x",))

    with Ray().open(Broken(), ignore) as pool:
        pool.submit(0, None)
        with pytest.raises(ExecutorError) as error:
            pool.wait(60.0)
    assert str(error.value) == (
        "cannot run jobs on a Ray worker: cannot start a worker process: its task cannot be read there: "
        "ValueError: invalid literal for int() with base 10: 'x'\n"
        "  expected: machines with mutandis and all that the program imports, in the versions of this one\n"
        "  fix:      install it there, or pass Ray(runtime_env=...)"
    )


@pytest.mark.parametrize(
    ("how", "message"),
    [("dies", "it was lost 3 times before it was ready: "), ("raises", "SettingError: cannot limit memory")],
)
def test_actors_that_never_get_ready_end_the_search(ray, how, message):
    class Agent:
        def ready(self):
            if how == "dies":
                os._exit(1)
            from mutandis.errors import SettingError

            raise SettingError("cannot limit memory")

    ends = []
    with RayPool(1, lambda: ends.append(1), ray.remote(Agent).options(num_cpus=1), (), ignore) as pool:
        pool.submit(0, None)
        with pytest.raises(ExecutorError, match="cannot run jobs on a Ray worker: " + message):
            pool.wait(60.0)
    assert ends == [1]


def test_a_closed_pool_takes_no_job_and_leaves_ray_alone(ray):
    pool = Ray().open(work, ignore)
    pool.close()
    with pytest.raises(ExecutorError, match="an open pool"):
        pool.submit(0, ("square", 1))
    assert ray.is_initialized()
    assert len([node for node in ray.nodes() if node["Alive"]]) == 1


def test_what_cannot_be_pickled_is_refused_with_the_way_out():
    with pytest.raises(ExecutorError) as error:
        pickled([threading.Lock()], "the task")
    assert str(error.value) == (
        "cannot send the task to a Ray worker\n"
        "  got:      [<unlocked _thread.lock object>] (list)\n"
        "  expected: something that cloudpickle takes, but TypeError: cannot pickle '_thread.lock' object\n"
        "  fix:      open files, connections and locks within the objective"
    )
