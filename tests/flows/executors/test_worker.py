"""The other side of a process pool."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import threading

import pytest

from mutandis.flows.executors.base import RAISED, RETURNED
from mutandis.flows.executors.worker import ASKED, BROKEN, GOODBYE, READY, TOLD, serve
from mutandis.testing.executor_contract import work


@pytest.fixture
def line(monkeypatch):
    """Our end of a connection to a worker that runs in a thread here."""
    ours, theirs = multiprocessing.Pipe()
    monkeypatch.setattr(os, "setsid", lambda: None)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr("mutandis.flows.executors.worker._die_with", lambda parent: None)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    threads = []

    def start(task):
        threads.append(threading.Thread(target=serve, args=(theirs, task, 1, os.getppid()), daemon=True))
        threads[-1].start()
        return ours

    yield start
    with contextlib.suppress(OSError):  # The worker has ended.
        ours.send_bytes(GOODBYE)
    ours.close()
    threads[0].join(10)
    assert not threads[0].is_alive()


def test_a_worker_is_ready_and_runs_jobs_until_the_connection_is_closed(line):
    connection = line(pickle.dumps(work))
    assert connection.recv() == (READY, None)
    for number in (3, 4):
        connection.send_bytes(pickle.dumps(("square", number)))
        assert connection.recv() == (RETURNED, number**2)


def test_a_worker_whose_pool_is_gone_ends_all_that_it_started(line, monkeypatch):
    ended = threading.Event()
    monkeypatch.setattr("mutandis.flows.executors.worker._end_group", ended.set)
    connection = line(pickle.dumps(work))
    connection.recv()
    connection.close()
    assert ended.wait(10)


def test_what_a_job_says_comes_through_the_connection(line):
    connection = line(pickle.dumps(work))
    connection.recv()
    connection.send_bytes(pickle.dumps(("talk", 1)))
    assert connection.recv() == (TOLD, ("hello", 1))
    assert connection.recv() == (ASKED, ("double", 0))
    connection.send("answer")
    assert connection.recv() == (RETURNED, ["answer"])


def test_an_exception_comes_with_its_traceback(line):
    connection = line(pickle.dumps(work))
    connection.recv()
    connection.send_bytes(b"no pickle")
    kind, (reason, trace) = connection.recv()
    assert kind == RAISED
    assert reason.startswith("UnpicklingError")
    assert "Traceback" in trace


def test_a_task_that_cannot_be_read_is_reported(line):
    kind, reason = line(b"no pickle").recv()
    assert kind == BROKEN
    assert "UnpicklingError" in reason
