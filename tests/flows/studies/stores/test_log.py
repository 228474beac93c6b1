"""What a log promises beyond the contract that every medium runs."""

from __future__ import annotations

import os
import tracemalloc
from dataclasses import replace

import pytest

from mutandis.errors import StorageError
from mutandis.flows.studies.stores import LeaseLost, StudyHeader, ledger, open_store
from mutandis.flows.studies.stores import log as log_module
from mutandis.flows.studies.stores.memory import MemoryMedium

COMPLETED = {"state": "completed", "rewards": [0.5]}


@pytest.fixture
def log():
    return open_store().open("study", StudyHeader())


def test_a_log_does_not_grow_with_the_trials_that_are_over(tmp_path):
    log = open_store(tmp_path / "study.jsonl").open("study", StudyHeader())

    def work(count):
        for i in range(count):
            lease = log.claim({"x": i})
            if i % 50 == 0:
                log.heartbeat(lease)
            log.finish(lease, COMPLETED)

    work(200)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    work(500)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 500 * 10
    assert log._ledger.running == {} and log._beaten == set()


def test_a_log_reads_each_event_of_others_once(tmp_path, monkeypatch):
    log, other = (open_store(tmp_path / "study.jsonl").open("study", StudyHeader()) for _ in range(2))
    for _ in range(5):
        other.claim({})
    cursor = log.read().cursor
    taken = []
    take, follow = log._take, log._follow
    monkeypatch.setattr(log, "_take", lambda found, **more: taken.append(len(found.lines)) or take(found, **more))
    monkeypatch.setattr(log, "_follow", lambda found: taken.append(len(found.lines)) or follow(found))
    other.claim({})
    log.read(cursor)
    log.claim({})
    assert taken == [1]


def test_what_was_read_without_the_lock_is_not_taken_in_again_under_it(tmp_path, monkeypatch):
    log, other = (open_store(tmp_path / "study.jsonl").open("study", StudyHeader()) for _ in range(2))
    for _ in range(3):
        other.claim({})
    log.sync()
    followed, follow = [], log._follow
    monkeypatch.setattr(log, "_follow", lambda found: followed.append(len(found.lines)) or follow(found))
    log.claim({})
    log.release(log.running[0])
    assert followed == [0]


def test_a_log_that_writes_skips_the_reports_of_others(tmp_path, monkeypatch):
    log, other = (open_store(tmp_path / "study.jsonl").open("study", StudyHeader()) for _ in range(2))
    lease = other.claim({})
    log.sync()
    for step in range(3):
        other.report(lease, {"loss": 0.5}, step=step)
    monkeypatch.setattr(log_module, "decode", None)
    log.sync()
    assert log._ledger.cursor == other._ledger.cursor
    assert log.claim({}).number == 1


def test_a_write_that_fails_at_its_end_has_not_happened(log, monkeypatch):
    medium, exclusive = log._medium, MemoryMedium.exclusive

    def fail(self, study, *, durable=False):
        manager = exclusive(self, study, durable=durable)

        class Failing:
            def __enter__(self):
                return manager.__enter__()

            def __exit__(self, *_):
                manager.__exit__(StorageError, StorageError("full"), None)
                raise StorageError("full")

        return Failing()

    lease = log.claim({"x": 1})
    with monkeypatch.context() as patch:
        patch.setattr(MemoryMedium, "exclusive", fail)
        with pytest.raises(StorageError, match="full"):
            log.finish(lease, COMPLETED)
        with pytest.raises(StorageError, match="full"):
            log.claim({"x": 2})
    assert len(medium.read("study", 0).lines) == 2
    assert [x.number for x in log.running] == [0]
    log.finish(lease, COMPLETED)
    assert log.claim({"x": 2}).number == 1


def test_a_forked_child_goes_on_under_its_own_name(log, monkeypatch):
    parent = log.claim({})
    monkeypatch.setattr(os, "getpid", lambda: 7)
    child = log.claim({})
    assert (child.number, child.worker.split(":")[1]) == (1, "7")
    assert parent.worker != child.worker
    assert [lease.number for lease in log.running] == [0, 1]


def test_a_given_name_stays(monkeypatch):
    log = open_store(worker="gpu 3").open("study", StudyHeader())
    assert log.claim({}).worker == "gpu 3"


def test_a_header_that_came_first_is_not_replaced_by_a_late_one():
    store = open_store()
    log = store.open("study", StudyHeader(seed=1))
    log.amend(StudyHeader(seed=2), replace=False)
    assert log.header.seed == 1
    assert len(log.read().events) == 1


def test_proposals_and_results_are_copied(log):
    proposal, metrics = {"x": 1}, {"loss": 1.0}
    lease = log.claim(proposal)
    log.report(lease, metrics, step=0)
    proposal["x"] = metrics["loss"] = 2
    assert lease.proposal == {"x": 1}
    assert log.trials()[0].proposal == {"x": 1} and log.trials()[0].curve == ((0, {"loss": 1.0}),)


def test_taking_over_without_need_writes_nothing(log):
    log.claim({})
    before = log.read()
    assert log.take_over() is None
    assert log.read(before.cursor).events == ()


def test_several_trials_that_lost_their_workers_are_given_up_and_taken_in_one_go():
    store = open_store(attempts=1)
    log = store.open("study", StudyHeader())
    leases = [log.claim({"x": i}) for i in range(4)]
    log.release(leases[3])
    log._watch.is_stale = lambda lease: lease.number < 2
    assert log.take_over().number == 3
    assert [trial.result and trial.result["state"] for trial in log.trials()] == ["failed", "failed", None, None]


def test_a_heartbeat_that_comes_at_the_last_moment_keeps_the_trial(monkeypatch):
    store = open_store(lease=0.001, worker="first")
    log, other = store.open("study", StudyHeader()), store.open("study")
    lease = log.claim({})
    monkeypatch.setattr(other._watch, "_clock", iter(range(100)).__next__)
    other.sync()
    for _ in range(5):
        other._look()
    assert [x.number for x in other._left()] == [0]
    exclusive = MemoryMedium.exclusive

    def beat_first(self, study, *, durable=False):
        log.heartbeat(lease)
        return exclusive(self, study, durable=durable)

    monkeypatch.setattr(MemoryMedium, "exclusive", beat_first)
    assert other.take_over() is None
    assert [x.attempt for x in other.running] == [1]


def test_what_an_earlier_worker_beat_is_dropped_with_the_trial():
    store = open_store(attempts=2)
    log, other = store.open("study", StudyHeader()), store.open("study")
    first, second = log.claim({}), log.claim({})
    log.heartbeat(first)
    log.release(first)
    other.finish(other.take_over(), COMPLETED)
    assert log._medium.beats("study") == {}
    log.heartbeat(second)
    log._watch.is_stale = lambda lease: True
    assert log.take_over().losses == 1
    assert log.take_over() is None
    assert log.running == () and log._medium.beats("study") == {}


def test_results_and_headers_are_written_to_last_and_the_rest_quickly(log, monkeypatch):
    asked, exclusive = [], MemoryMedium.exclusive

    def note(self, study, *, durable=False):
        asked.append(durable)
        return exclusive(self, study, durable=durable)

    monkeypatch.setattr(MemoryMedium, "exclusive", note)
    log.amend(StudyHeader())
    lease = log.claim({})
    log.report(lease, {}, step=0)
    log.finish(lease, COMPLETED)
    log.release(log.claim({}))
    assert asked == [True, False, False, True, False, False]


@pytest.fixture
def failing(log, monkeypatch):
    """A log, a trial whose result is recorded and which the disk failed to keep, and how often it was asked to."""
    calls = []

    def settle(self, cursor):
        calls.append(cursor)
        if len(calls) == 1:
            raise StorageError("cannot use a study file", got="a failing disk")

    monkeypatch.setattr(MemoryMedium, "settle", settle)
    lease = log.claim({})
    with pytest.raises(StorageError, match="a failing disk"):
        log.finish(lease, {**COMPLETED, "seconds": 1.0})
    return log, lease, calls


def test_a_result_that_is_recorded_and_does_not_last_is_made_to_last_when_it_is_given_again(failing):
    log, lease, calls = failing
    log.finish(lease, {**COMPLETED, "seconds": 2.0})
    assert calls == [3, 3]
    assert [trial.result for trial in log.trials()] == [{**COMPLETED, "seconds": 1.0}]
    with pytest.raises(LeaseLost, match="a trial that has ended"):
        log.finish(lease, COMPLETED)
    assert calls == [3, 3]


@pytest.mark.parametrize("result", [{"state": "completed", "rewards": [0.6]}, {"state": "failed", "rewards": [0.5]}])
def test_another_result_than_the_one_that_is_recorded_is_refused(failing, result):
    log, lease, calls = failing
    with pytest.raises(LeaseLost, match="a trial that has ended"):
        log.finish(lease, result)
    assert calls == [3, 3]
    assert [trial.result["rewards"] for trial in log.trials()] == [[0.5]]


def test_the_result_of_another_attempt_is_not_taken_for_the_one_that_is_recorded(failing):
    log, lease, _ = failing
    with pytest.raises(LeaseLost, match="a trial that has ended"):
        log.finish(replace(lease, attempt=2), COMPLETED)


def test_a_claim_of_others_is_read_when_somebody_asks_for_it(tmp_path, monkeypatch):
    log, other = (open_store(tmp_path / "study.jsonl").open("study", StudyHeader()) for _ in range(2))
    leases = [other.claim({"x": i}) for i in range(3)]
    other.finish(leases[1], COMPLETED)
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "decode", None)
        log.sync()
        assert log.claim({}).number == 3
        log.finish(leases[2], COMPLETED)
    assert [lease.proposal for lease in log.running] == [{"x": 0}, {}]
    other.release(leases[0])
    assert log.take_over().proposal == {"x": 0}
