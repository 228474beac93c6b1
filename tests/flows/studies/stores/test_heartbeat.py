"""The thread that beats."""

from __future__ import annotations

import time

import pytest

from mutandis.errors import StorageError
from mutandis.flows.studies.stores import Heartbeat, StudyHeader, open_store


@pytest.fixture
def log():
    return open_store(lease=0.04).open("study", StudyHeader())


def wait_for(condition):
    deadline = time.monotonic() + 5
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert condition()


def beats(log):
    return log._medium.beats("study")


def test_it_beats_for_what_runs_and_for_nothing_else(log):
    first, second = log.claim({}), log.claim({})
    with Heartbeat(log) as heart:
        heart.add(first)
        heart.add(second)
        wait_for(lambda: min(beats(log).get((n, 1), 0) for n in (0, 1)) >= 2)
        heart.drop(first)
        time.sleep(0.03)
        stopped, running = beats(log)[0, 1], beats(log)[1, 1]
        wait_for(lambda: beats(log)[1, 1] > running + 2)
        assert beats(log)[0, 1] == stopped


def test_it_stops_when_it_is_closed(log):
    heart = Heartbeat(log)
    heart.add(log.claim({}))
    thread = heart._thread
    assert thread.daemon and thread.name == "mutandis-heartbeat"
    heart.close()
    assert not thread.is_alive()
    heart.close()


def test_it_can_be_used_again_after_it_was_closed(log):
    heart = Heartbeat(log)
    heart.close()
    with heart:
        heart.add(log.claim({}))
        wait_for(lambda: beats(log))


def test_it_says_when_a_trial_was_lost(log):
    lease = log.claim({})
    with Heartbeat(log) as heart:
        heart.add(lease)
        assert not heart.is_lost(lease)
        log.release(lease)
        again = log.take_over()
        wait_for(lambda: heart.is_lost(lease))
        assert not heart.is_lost(again)


def test_dropping_an_old_lease_keeps_the_new_one(log):
    lease = log.claim({})
    log.release(lease)
    again = log.take_over()
    with Heartbeat(log) as heart:
        heart.add(again)
        heart.drop(lease)
        wait_for(lambda: beats(log).get((0, 2), 0) > 1)


def test_a_store_that_fails_for_a_while_is_tried_again(log, monkeypatch):
    lease, failures = log.claim({}), []

    def fail(*_):
        failures.append(1)
        raise StorageError("away")

    with Heartbeat(log) as heart:
        with monkeypatch.context() as patch:
            patch.setattr(log._medium, "beat", fail)
            heart.add(lease)
            wait_for(lambda: len(failures) >= 2)
        wait_for(lambda: beats(log))
        assert not heart.is_lost(lease)
