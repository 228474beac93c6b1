"""What stands for one worker of a Ray pool: it needs no Ray to be tested."""

from __future__ import annotations

import os
import pickle
import sys
import threading
import time
import types

import pytest

from mutandis.flows.executors.base import CANCELLED, CRASHED, RETURNED, TIMED_OUT
from mutandis.flows.executors.ray_agent import ASKED, BROKEN, ENDED, TOLD, Agent, Opened, Sealed
from mutandis.testing.executor_contract import is_alive, work


def speak(payload, talk):
    """Tells the first, asks the second, and returns what it has been answered."""
    talk.tell(payload[0])
    return talk.ask(payload[1])


class Unreadable:
    def __reduce__(self):
        return (int, ("not a number",))


@pytest.fixture
def start(monkeypatch):
    """Starts agents as in a process of their own: with a main module and search path that they may change."""
    monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    agents = []

    def start(task, places=(), **limits):
        agents.append(Agent(pickle.dumps(task), places, 1, **limits))
        agents[-1].ready()
        return agents[-1]

    yield start
    for agent in agents:
        agent._pool.close()


def heard_of(agent, payload, key=0):
    """Runs a job to its end and returns what there is to hear; questions are answered with None."""
    thread = threading.Thread(target=agent.run, args=(key, pickle.dumps(payload)), daemon=True)
    thread.start()
    heard = []
    while not heard or heard[-1][0] not in (ENDED, BROKEN):
        heard += pickle.loads(agent.hear())
        if heard[-1][0] == ASKED:
            agent.answer(pickle.dumps(None))
    thread.join()
    return heard


def hear(agent, count):
    """Waits until there were so many things to hear, or nothing more will come, and returns them."""
    heard = []
    while len(heard) < count and not any(kind in (ENDED, BROKEN) for kind, _ in heard):
        heard += pickle.loads(agent.hear())
    return heard


def test_a_job_is_heard_in_order_and_its_question_is_answered(start):
    agent = start(speak)
    thread = threading.Thread(target=agent.run, args=(7, pickle.dumps(("one", "two"))), daemon=True)
    thread.start()
    assert hear(agent, 2) == [(TOLD, "one"), (ASKED, "two")]
    agent.answer(pickle.dumps({"answer": 3}))
    ((kind, outcome),) = pickle.loads(agent.hear())
    thread.join()
    assert (kind, outcome.key, outcome.kind, outcome.value) == (ENDED, 7, RETURNED, {"answer": 3})


def test_what_is_told_needs_no_answer(start):
    agent = start(tell_twice)
    agent.run(0, pickle.dumps(None))  # It would not return, were an answer waited for.
    assert [data for kind, data in hear(agent, 3) if kind == TOLD] == [1, 2]


def tell_twice(payload, talk):
    talk.tell(1)
    talk.tell(2)


def test_a_job_that_crashes_leaves_the_agent_alive(start):
    agent = start(work)
    ((_, crash),) = heard_of(agent, ("exit", 3))
    assert (crash.kind, crash.reason) == (CRASHED, "its process ended with exit code 3")
    ((_, outcome),) = heard_of(agent, ("square", 3), key=1)
    assert (outcome.key, outcome.value) == (1, 9)


def test_the_process_is_kept_from_job_to_job(start):
    agent = start(work)
    pids = {heard_of(agent, ("sleep", 0.0))[0][1].value for _ in range(2)}
    assert len(pids) == 1
    assert os.getpid() not in pids


def test_a_limit_is_kept(start):
    ((_, outcome),) = heard_of(start(work, timeout=0.5), ("sleep", 60))
    assert (outcome.kind, outcome.reason) == (TIMED_OUT, "it ran longer than 0.5 s")


def test_a_job_that_is_stopped_ends_with_all_that_it_started(start):
    agent = start(work)
    thread = threading.Thread(target=agent.run, args=(4, pickle.dumps(("child", 60))), daemon=True)
    thread.start()
    ((kind, pid),) = hear(agent, 1)
    assert kind == TOLD
    agent.stop()
    thread.join()
    ((_, outcome),) = pickle.loads(agent.hear())
    assert (outcome.key, outcome.kind) == (4, CANCELLED)
    deadline = time.monotonic() + 20
    while is_alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_earlier_jobs_left_ends_with_an_agent_that_is_stopped(start):
    agent = start(work)
    (_, pid), (_, outcome) = heard_of(agent, ("child", 0))
    assert outcome.kind == RETURNED and is_alive(pid)
    agent.stop()
    deadline = time.monotonic() + 20
    while is_alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_task_that_cannot_be_read_says_so(start):
    ((kind, problem),) = heard_of(start(Unreadable()), None)
    assert kind == BROKEN
    assert problem.startswith("cannot start a worker process: its task cannot be read there: ValueError: invalid")


def test_a_process_that_cannot_be_started_is_said_too(start, monkeypatch):
    def fail(self):
        raise BrokenPipeError(32, "Broken pipe")

    agent = start(work)
    monkeypatch.setattr(type(agent._pool), "_start", fail)
    assert heard_of(agent, ("square", 2)) == [(BROKEN, "BrokenPipeError: [Errno 32] Broken pipe")]


def test_modules_are_found_where_the_pool_finds_them(start, tmp_path):
    start(work, (str(tmp_path), sys.path[0]))
    assert sys.path.count(str(tmp_path)) == 1
    assert sys.path[-1] == str(tmp_path)


def test_the_main_module_is_not_run_again(start):
    sys.modules["__main__"].__file__ = "/nowhere/to/be/found.py"
    assert heard_of(start(work), ("square", 2))[0][1].value == 4


def test_a_sealed_task_is_opened_by_pickling():
    opened = pickle.loads(pickle.dumps(Sealed(pickle.dumps(work))))
    assert opened == Opened(work)
    assert opened(pickle.dumps(("square", 4)), None) == 16
