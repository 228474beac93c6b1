"""The contract of a store, as a pytest class: inherit it and say where the studies live.

    class TestMine(mutandis.testing.StoreContract):
        @pytest.fixture
        def where(self, tmp_path):
            return str(tmp_path / "study.db")

Other processes open the same address, work on one study, and are killed.
"""

from __future__ import annotations

import dataclasses
import json
import math
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from mutandis.errors import SchemaError, StorageError
from mutandis.flows.studies.stores import (
    Claimed,
    LeaseLost,
    Reported,
    Store,
    StudyHeader,
    StudyLog,
    open_store,
    records,
)
from mutandis.testing.store_workers import Workers, check_whole, run_workers

HEADER = StudyHeader("f" * 32, ({"path": "x"},), ("accuracy", "-latency_ms"), '{"p": 1}', "p = 1\n", None, 7)
COMPLETED = {"state": "completed", "rewards": [0.5]}


class StoreContract:
    """What every store must do.

    Attributes:
        is_shared: Whether other processes can open the same address.
    """

    is_shared: ClassVar[bool] = True

    @pytest.fixture
    def where(self) -> str | None:
        """The address of an empty store; override it."""
        raise NotImplementedError

    def open_at(self, where: str | None, **settings: Any) -> Store:
        """Opens the store of an address; override it for a store that `open_store` does not know."""
        return open_store(where, **settings)

    @pytest.fixture
    def store(self, where: str | None) -> Iterator[Store]:
        """An open and empty store whose workers are known by their heartbeat alone."""
        with self.open_at(where, lease=0.2, worker="first") as made:
            yield made

    @pytest.fixture
    def log(self, store: Store) -> StudyLog:
        """A new study in it."""
        return store.open("study", HEADER)

    def _other(self, store: Store, worker: str = "second", attempts: int = 3) -> StudyLog:
        """Returns another worker's view of the study."""
        return Store(store._medium, lease=0.2, attempts=attempts, worker=worker).open("study")

    def _wait_for(self, log: StudyLog) -> Any:
        """Looks until something can be taken over, or three seconds are over."""
        deadline = time.monotonic() + 3
        while (lease := log.take_over()) is None and time.monotonic() < deadline:
            time.sleep(0.02)
        return lease

    def test_numbers_are_contiguous_from_zero(self, log: StudyLog) -> None:
        """Each claim gets the next number, with its proposal and the first attempt."""
        leases = [log.claim({"x": i}) for i in range(5)]
        assert [(x.number, x.attempt, x.worker, x.proposal) for x in leases if x] == [
            (i, 1, "first", {"x": i}) for i in range(5)
        ]

    def test_a_number_that_another_worker_took_is_not_given_again(self, store: Store, log: StudyLog) -> None:
        """A proposal that was made for a number is refused when that is gone, and leaves nothing behind."""
        assert self._other(store).claim({"x": "theirs"}, number=0) is not None
        assert log.claim({"x": "ours"}, number=0) is None
        lease = log.claim({"x": "again"}, number=1)
        assert lease is not None and lease.number == 1
        assert [trial.proposal["x"] for trial in log.trials()] == ["theirs", "again"]

    def test_what_is_recorded_comes_back_exactly(self, store: Store, log: StudyLog) -> None:
        """Floats to the last bit, texts of any characters, nesting, nothing at all."""
        proposal = {"dna": {"a[0].b": [1, 2.5], "text": '\u00e4\n"\\\0\ud800 ,"crc":"00000000"}'}, "none": None}
        numbers = [0.1, -0.0, 5e-324, 1.7976931348623157e308, math.inf, -math.inf, 2**70, True]
        lease = log.claim(proposal)
        assert lease is not None
        log.report(lease, {"loss": math.nan, "numbers": numbers}, step=3)
        log.finish(lease, {"state": "completed", "metrics": {"x": numbers}})
        (trial,) = self._other(store).trials()
        assert trial.proposal == proposal
        assert repr(trial.curve) == repr(((3, {"loss": math.nan, "numbers": numbers}),))
        assert repr(trial.result) == repr({"state": "completed", "metrics": {"x": numbers}})

    def test_what_json_cannot_hold_is_refused_and_leaves_nothing_behind(self, log: StudyLog) -> None:
        """The number is free, and the study goes on."""
        with pytest.raises(StorageError, match="cannot record an event"):
            log.claim({"x": object()})
        lease = log.claim({"x": 1})
        assert lease is not None and lease.number == 0

    def test_a_block_that_raises_writes_nothing(self, store: Store, log: StudyLog) -> None:
        """Not even what was appended before."""

        def write_and_raise() -> None:
            with store._medium.exclusive("study", durable=True) as writer:
                writer.read(0)
                writer.append(["no event"])
                raise KeyError

        with pytest.raises(KeyError):
            write_and_raise()
        lease = log.claim({})
        assert lease is not None and lease.number == 0
        assert len(log.read().events) == 2

    def test_a_trial_ends_once(self, log: StudyLog) -> None:
        """The second result is refused."""
        lease = log.claim({})
        assert lease is not None
        log.finish(lease, COMPLETED)
        with pytest.raises(LeaseLost) as error:
            log.finish(lease, {"state": "failed"})
        assert str(error.value) == (
            "cannot finish a trial\n  at:       trial 0\n  got:      'a trial that has ended' (str)\n"
            "  expected: the lease of the attempt that runs\n  fix:      end a trial once"
        )
        assert [trial.result for trial in log.trials()] == [COMPLETED]

    def test_a_trial_that_ended_is_neither_given_back_nor_kept_alive(self, store: Store, log: StudyLog) -> None:
        """Its lease is over, and its heartbeat leaves nothing behind."""
        lease = log.claim({})
        assert lease is not None
        log.finish(lease, COMPLETED)
        with pytest.raises(LeaseLost, match="cannot give back a trial"):
            log.release(lease)
        assert not log.heartbeat(lease)
        assert store._medium.beats("study") == {}

    def test_a_trial_that_nobody_claimed_has_no_result(self, store: Store, log: StudyLog) -> None:
        """A lease of another study is refused."""
        lease = store.open("elsewhere", HEADER).claim({})
        assert lease is not None
        with pytest.raises(LeaseLost, match="a trial that was never claimed"):
            log.finish(lease, COMPLETED)

    def test_a_silent_worker_loses_its_trial_after_its_lease_and_not_before(self, store: Store, log: StudyLog) -> None:
        """The next one gets the same proposal as attempt 2; what the first one says is refused."""
        lease = log.claim({"x": 1})
        assert lease is not None
        log.report(lease, {"loss": 9.0}, step=1)
        other, started = self._other(store), time.monotonic()
        again = self._wait_for(other)
        assert time.monotonic() - started > 0.15
        assert (again.number, again.attempt, again.worker, again.losses) == (0, 2, "second", 1)
        assert again.proposal == {"x": 1}
        with pytest.raises(LeaseLost) as error:
            log.finish(lease, COMPLETED)
        assert str(error.value) == (
            "cannot finish a trial\n  at:       trial 0\n"
            "  got:      'attempt 1, but second took it over as attempt 2' (str)\n"
            "  expected: the lease of the attempt that runs\n"
            "  fix:      drop this result; raise lease= if the worker was alive and only slow"
        )
        with pytest.raises(LeaseLost, match="cannot report on a trial"):
            log.report(lease, {"loss": 1.0}, step=2)
        other.report(again, {"loss": 2.0}, step=1)
        other.finish(again, COMPLETED)
        (trial,) = log.trials()
        assert (trial.attempt, trial.worker, trial.curve) == (2, "second", ((1, {"loss": 2.0}),))

    def test_a_worker_that_beats_keeps_its_trial(self, store: Store, log: StudyLog) -> None:
        """As long as its counter moves, however long the trial takes."""
        lease, other = log.claim({}), self._other(store)
        assert lease is not None
        for _ in range(12):
            assert log.heartbeat(lease)
            assert other.take_over() is None
            time.sleep(0.04)
        assert self._wait_for(other) is not None
        assert not log.heartbeat(lease)

    def test_a_trial_that_lost_too_many_workers_is_failed(self, store: Store, log: StudyLog) -> None:
        """Twice is the limit here; the record says why, and nobody gets it again."""
        assert log.claim({"x": 1}) is not None
        assert self._wait_for(self._other(store, "second", attempts=2)).attempt == 2
        third = self._other(store, "third", attempts=2)
        deadline = time.monotonic() + 3
        while third.running and time.monotonic() < deadline:
            assert third.take_over() is None
            time.sleep(0.02)
        (trial,) = log.trials()
        assert trial.result == {"state": "failed", "reason": "its worker was lost 2 times"}

    def test_a_trial_that_was_given_back_is_taken_at_once(self, store: Store, log: StudyLog) -> None:
        """It does not count as lost, and its old lease is void."""
        lease, other = log.claim({"x": 1}), self._other(store, attempts=1)
        assert lease is not None
        assert other.take_over() is None
        log.release(lease)
        with pytest.raises(LeaseLost, match="a trial that was given back"):
            log.finish(lease, COMPLETED)
        again = other.take_over()
        assert again is not None and (again.number, again.attempt, again.losses) == (0, 2, 0)
        assert log.take_over() is None
        other.finish(again, COMPLETED)

    def test_only_one_gets_what_was_left(self, store: Store, log: StudyLog) -> None:
        """Two that look at the same time do not both take it."""
        lease = log.claim({})
        assert lease is not None
        others = [self._other(store, f"w{i}") for i in range(4)]
        log.release(lease)
        taken = [other.take_over() for other in others]
        assert [lease is not None for lease in taken] == [True, False, False, False]

    def test_reading_on_gives_what_is_new(self, store: Store, log: StudyLog) -> None:
        """In parts or at once, the events are the same."""
        reader, seen, cursor = self._other(store, "reader"), [], 0
        for i in range(4):
            lease = log.claim({"x": i})
            assert lease is not None
            log.report(lease, {"loss": 0.5}, step=i)
            if i % 2:
                log.finish(lease, COMPLETED)
            events, cursor = reader.read(cursor)
            seen += list(events)
        assert seen == list(log.read().events)
        assert [type(event) for event in seen[1:4]] == [Claimed, Reported, Claimed]
        assert reader.read(cursor) == ((), cursor)
        assert [lease.number for lease in reader.running] == [0, 2]

    def test_reading_from_a_later_position_keeps_what_the_log_knows(self, store: Store, log: StudyLog) -> None:
        """A reader that skips events does not make the log skip them."""
        other = self._other(store)
        assert log.claim({}) is not None
        cursor = log.read().cursor
        assert log.claim({}) is not None
        assert len(other.read(cursor).events) == 1
        lease = other.claim({})
        assert lease is not None and lease.number == 2 and len(other.running) == 3

    def test_studies_of_a_store_do_not_touch_each_other(self, store: Store, log: StudyLog) -> None:
        """Each has numbers, a header and heartbeats of its own."""
        second = store.open("another", dataclasses.replace(HEADER, seed=8))
        mine, theirs = log.claim({"x": 1}), second.claim({"x": 2})
        assert mine is not None and theirs is not None and mine.number == theirs.number == 0
        assert store.studies() == ("another", "study")
        assert second.header is not None and second.header.seed == 8
        assert [trial.proposal for trial in log.trials()] == [{"x": 1}]
        assert log.heartbeat(mine)
        log.finish(mine, COMPLETED)
        assert [lease.proposal for lease in second.running] == [{"x": 2}]

    def test_an_unknown_study_is_not_made_without_a_header(self, store: Store, log: StudyLog) -> None:
        """The message suggests close names."""
        with pytest.raises(StorageError) as error:
            store.open("stduy")
        assert str(error.value) == (
            "cannot find a study\n  at:       stduy\n  expected: one of study; did you mean 'study'?\n"
            "  fix:      check the name and the store, or pass a header to make it"
        )
        assert store.studies() == ("study",)

    def test_a_study_keeps_its_header_until_it_is_amended(self, store: Store, log: StudyLog) -> None:
        """Who comes second sees the first one's; a growing space is said with `amend`."""
        other = store.open("study", StudyHeader("g" * 32))
        assert other.header == HEADER
        grown = dataclasses.replace(HEADER, fingerprint="h" * 32)
        other.amend(grown)
        log.sync()
        assert log.header == grown

    def test_a_store_that_is_opened_again_is_as_it_was(self, store: Store, log: StudyLog) -> None:
        """Trials that ran still run, numbers go on."""
        leases = [log.claim({"x": i}) for i in range(3)]
        assert leases[1] is not None
        log.finish(leases[1], COMPLETED)
        before = log.trials()
        store.close()
        again = self._other(store)
        assert again.trials() == before
        assert [lease.number for lease in again.running] == [0, 2]
        lease = again.claim({})
        assert lease is not None and lease.number == 3

    def test_heartbeats_of_trials_that_ended_are_dropped(self, store: Store, log: StudyLog) -> None:
        """What is kept beside the record does not grow with it."""
        for _ in range(3):
            lease = log.claim({})
            assert lease is not None and log.heartbeat(lease)
            assert len(store._medium.beats("study")) == 1
            log.finish(lease, COMPLETED)
            assert store._medium.beats("study") == {}

    def test_a_line_of_a_newer_version_is_refused(self, store: Store, log: StudyLog) -> None:
        """Nothing is guessed."""
        with store._medium.exclusive("study") as writer:
            writer.append([json.dumps({"v": records.VERSION + 1, "kind": "later"})])
        with pytest.raises(SchemaError) as error:
            log.claim({})
        assert str(error.value) == (
            f"cannot read a study\n  at:       v\n  got:      {records.VERSION + 1} (int)\n"
            f"  expected: a schema version that this release knows, at most {records.VERSION}\n"
            "  fix:      read it with the release of mutandis that wrote it, or a later one"
        )

    def test_lines_of_two_versions_live_in_one_study(
        self, store: Store, log: StudyLog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A later release reads what is there, goes on writing its own, and reads both."""

        def upgrade(data: dict[str, Any]) -> dict[str, Any]:
            return data if data["kind"] != "finished" else {**data, "result": {**data["result"], "upgraded": True}}

        lease = log.claim({})
        assert lease is not None
        log.finish(lease, COMPLETED)
        monkeypatch.setitem(records.UPGRADES, records.VERSION, upgrade)
        monkeypatch.setattr(records, "VERSION", records.VERSION + 1)
        later = self._other(store)
        lease = later.claim({})
        assert lease is not None and lease.number == 1
        later.finish(lease, COMPLETED)
        assert [trial.result for trial in later.trials()] == [{**COMPLETED, "upgraded": True}, COMPLETED]

    def test_threads_share_a_log(self, log: StudyLog) -> None:
        """No number is given twice or left out, and each result is recorded."""

        def work() -> None:
            for _ in range(20):
                lease = log.claim({})
                assert lease is not None
                log.finish(lease, {"state": "completed", "rewards": [lease.number]})

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [(t.number, t.result and t.result["rewards"]) for t in log.trials()] == [(i, [i]) for i in range(120)]

    def _work(self, where: str | None, tmp_path: Path, total: int, seconds: float, **settings: Any) -> int:
        """Lets workers make trials, kills one now and then, checks what is left; returns the number of kills."""
        if not self.is_shared or where is None:
            pytest.skip("other processes cannot see it")
        with self.open_at(where) as store:
            log = store.open("study", HEADER)
            journal = tmp_path / "journal"
            num_kills = run_workers(log, Workers(where, total, journal, seconds=seconds, **settings))
            check_whole(log, total, journal)
        return num_kills

    def test_processes_share_a_study(self, where: str | None, tmp_path: Path) -> None:
        """Four processes make 60 trials as one would."""
        assert self._work(where, tmp_path, 60, 0.0) == 0

    def test_killed_workers_leave_a_whole_record(self, where: str | None, tmp_path: Path) -> None:
        """Four workers, one of them killed after every eighth trial: nothing lost, nothing twice, none left running."""
        assert self._work(where, tmp_path, 60, 0.06, kill_after_trials=8) >= 4

    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["", "far away"], ids=["seen to be dead", "silent"])
    def test_killed_workers_leave_a_whole_record_in_the_long_run(
        self, where: str | None, tmp_path: Path, name: str
    ) -> None:
        """200 trials with a kill every second, with workers of this machine and as if they were remote."""
        assert self._work(where, tmp_path, 200, 0.4, kill_after_seconds=1.0, name=name) >= 10
