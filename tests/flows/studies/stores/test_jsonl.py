"""The contract in a file of lines, and what torn and damaged lines do there."""

from __future__ import annotations

import json
import os
import shutil
import threading
import warnings

import pytest
from released_studies import FIXTURES, check_version_1

from mutandis.errors import MutandisWarning
from mutandis.flows.studies.stores import StudyHeader, linefile, open_store
from mutandis.flows.studies.stores import log as log_module
from mutandis.testing import StoreContract

COMPLETED = {"state": "completed", "rewards": [0.5]}


class TestJSONL(StoreContract):
    @pytest.fixture
    def where(self, tmp_path):
        return str(tmp_path / "study.jsonl")


def test_every_line_is_json_that_people_can_read(path):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["opened", "claimed", "finished", "claimed", "finished"]
    assert {key: lines[1][key] for key in ("v", "number", "attempt", "proposal", "study")} == {
        "v": 1, "number": 0, "attempt": 1, "proposal": {"x": 0}, "study": "study",
    }  # fmt: skip


def test_a_last_line_that_is_cut_at_any_byte_is_cut_off(path):
    whole = path.read_bytes()
    start = whole.rstrip(b"\n").rindex(b"\n") + 1
    for cut in range(start + 1, len(whole)):
        path.write_bytes(whole[:cut])
        with pytest.warns(MutandisWarning) as caught:
            store = open_store(path)
        with store:
            log = store.open("study")
            assert [trial.result for trial in log.trials()] == [COMPLETED, None]
            log.finish(log.take_over() or log.running[0], COMPLETED)
        assert [str(warning.message) for warning in caught] == [
            f"{path}: cut off {cut - start} bytes of a line that was not written to its end"
        ]
        with open_store(path) as store:
            assert [trial.result for trial in store.open("study").trials()] == [COMPLETED, COMPLETED]


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_first_line_that_is_cut_leaves_an_empty_store(path, cut):
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.warns(MutandisWarning, match=f"cut off {cut} bytes"):
        store = open_store(path)
    with store:
        assert store.studies() == ()
        assert store.open("study", StudyHeader()).claim({}).number == 0


def test_zeros_that_a_power_cut_left_are_cut_off(path):
    whole = path.read_bytes()
    path.write_bytes(whole + b"\0" * 100 + b"\n" + b"\0" * 5)
    with pytest.warns(MutandisWarning, match="cut off 106 bytes"):
        store = open_store(path)
    with store:
        assert len(store.open("study").trials()) == 2
    assert path.read_bytes() == whole


def test_a_damaged_line_is_skipped_and_the_others_count(path):
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b"0.5", b"0.6")
    path.write_bytes(b"".join(lines))
    place = len(b"".join(lines[:2]))
    with pytest.warns(MutandisWarning) as caught:
        store = open_store(path)
    with store:
        log = store.open("study")
        assert [trial.result for trial in log.trials()] == [None, COMPLETED]
        log.finish(log.running[0], COMPLETED)
        assert [trial.result for trial in log.trials()] == [COMPLETED, COMPLETED]
    assert [str(warning.message) for warning in caught] == [
        f"{path}: skipped a damaged line at byte {place}; the other lines count"
    ]


def test_the_result_of_a_claim_that_was_damaged_does_not_stop_the_others(path):
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:1], b"x" + lines[1], *lines[2:]]))
    with pytest.warns(MutandisWarning, match="skipped a damaged line"):
        store = open_store(path)
    with store:
        log = store.open("study")
        assert [trial.number for trial in log.trials()] == [1]
        assert log.claim({}).number == 2


def test_a_reader_takes_no_half_line_and_says_nothing(path):
    with open_store(path) as store:
        log = store.open("study")
        with path.open("ab") as file:
            file.write(b'{"v":1,"kind":"fin')
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert len(log.trials()) == 2
        assert b'{"v":1,"kind":"fin' in path.read_bytes()
        with pytest.warns(MutandisWarning, match="cut off 18 bytes"):
            assert log.claim({}).number == 2


def test_a_reader_beside_a_writer_sees_whole_events_in_order(path):
    done = threading.Event()

    def write():
        with open_store(path) as store:
            log = store.open("study")
            for _ in range(300):
                log.finish(log.claim({"x": "y" * 500}), COMPLETED)
        done.set()

    thread = threading.Thread(target=write)
    with open_store(path) as store:
        log, cursor, seen = store.open("study"), 0, []
        thread.start()
        while not done.is_set():
            events, cursor = log.read(cursor)
            seen += events
        thread.join()
        seen += log.read(cursor).events
        assert seen == list(log.read().events)
    assert len(seen) == 605


def test_lines_of_others_are_read_once_by_a_writer(path, monkeypatch):
    with open_store(path) as store, open_store(path) as elsewhere:
        log, other = store.open("study"), elsewhere.open("study")
        for _ in range(3):
            other.claim({})
        scanned = []
        scan = linefile.scan
        monkeypatch.setattr(
            linefile, "scan", lambda data, *given: scanned.append(data.count(b"\n")) or scan(data, *given)
        )
        assert [log.claim({}).number, log.claim({}).number] == [5, 6]
        assert scanned == [3]


def test_lines_of_other_studies_are_passed_once(path, monkeypatch):
    with open_store(path) as store:
        log, other = store.open("study"), store.open("other", StudyHeader())
        for _ in range(3):
            other.claim({})
        cursor = log.read().cursor
        sizes, scan = [], linefile.scan
        monkeypatch.setattr(linefile, "scan", lambda data, *given: sizes.append(len(data)) or scan(data, *given))
        log.sync()
        assert log.read(cursor) == ((), cursor)
        assert log.claim({}).number == 2
        assert other.claim({}).number == 3
        assert sizes == [path.read_bytes().splitlines(keepends=True)[-2].__len__()]


def test_an_event_is_decided_on_and_written_down_before_others_are_kept_out(path, monkeypatch):
    calls = []

    def noted(module, name):
        work = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *given: calls.append(name) or work(*given))

    with open_store(path) as store, open_store(path) as elsewhere:
        log, other = store.open("study"), elsewhere.open("study")
        lease = log.claim({})
        for module, name in ((log_module, "encode"), (linefile, "_lock"), (linefile, "_read_at"), (os, "write"),
                             (linefile, "_unlock")):  # fmt: skip
            noted(module, name)
        log.report(lease, {"loss": 0.5}, step=1)
        assert calls == ["encode", "_lock", "write", "_unlock"]
        other.claim({})
        calls.clear()
        log.report(lease, {"loss": 0.5}, step=2)  # The claim of the other changes nothing about it.
        assert calls == ["encode", "_lock", "_read_at", "write", "_unlock"]
        other.claim({})
        calls.clear()
        assert log.claim({}).number == 5
        assert calls == ["encode", "_lock", "_read_at", "encode", "write", "_unlock"]


def test_a_writer_that_read_before_others_wrote_misses_none(path):
    with open_store(path) as store:
        first, second = store.open("study"), store.open("second", StudyHeader())
        other = store.open("study")
        for i in range(3):
            assert first.claim({"x": i}).number == 2 + 2 * i
            assert second.claim({}).number == i
            assert other.claim({"x": i}).number == 3 + 2 * i


@pytest.mark.parametrize("damage", [b"", b"[[1]]", b'{"x": 1}', b"\xff"])
def test_damaged_heartbeats_count_as_none(path, damage):
    path.with_name("study.jsonl.beats").write_bytes(damage)
    with open_store(path) as store:
        log = store.open("study")
        lease = log.claim({})
        assert store._medium.beats("study") == {}
        assert log.heartbeat(lease)
        assert store._medium.beats("study") == {(2, 1): 1}


def test_a_file_of_version_1_stays_readable(tmp_path):
    for name in ("version_1.jsonl", "version_1.jsonl.beats"):
        shutil.copy(FIXTURES / name, tmp_path / name)
    with open_store(tmp_path / "version_1.jsonl") as store:
        check_version_1(store)
