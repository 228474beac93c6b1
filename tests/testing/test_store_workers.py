"""The check of what workers leave catches what is missing, twice, or still running."""

from __future__ import annotations

import pytest

from mutandis.flows.studies.stores import StudyHeader, open_store
from mutandis.testing.store_workers import Workers, check_whole


def a_whole_study(total=2):
    log = open_store().open("study", StudyHeader())
    for i in range(total):
        lease = log.claim({"asked": i})
        for step in range(3):
            log.report(lease, {"loss": i / 7}, step=step)
        log.finish(lease, {"state": "completed", "rewards": [i / 7]})
    return log


def test_a_whole_record_passes(tmp_path):
    (tmp_path / "journal").write_text("[0, 1]\n[1, 1]\n")
    check_whole(a_whole_study(), 2, tmp_path / "journal")


@pytest.mark.parametrize("journal", ["[2, 1]\n", "[0, 2]\n", "[0, 1]\n[0, 1]\n"], ids=["lost", "other", "twice"])
def test_a_result_that_was_confirmed_and_is_not_there_is_caught(tmp_path, journal):
    (tmp_path / "journal").write_text(journal)
    with pytest.raises((AssertionError, KeyError)):
        check_whole(a_whole_study(), 2, tmp_path / "journal")


def test_a_trial_that_is_missing_or_left_running_is_caught(tmp_path):
    (tmp_path / "journal").write_text("")
    with pytest.raises(AssertionError):
        check_whole(a_whole_study(), 3, tmp_path / "journal")
    log = a_whole_study()
    log.claim({"asked": 2})
    with pytest.raises(AssertionError):
        check_whole(log, 3, tmp_path / "journal")


def test_a_worker_that_fails_is_told(tmp_path):
    workers = Workers(str(tmp_path / "nowhere" / "x.db"), 3, tmp_path / "journal")
    workers._command = [*workers._command[:2], "raise SystemExit(3)"]
    workers.start(1)
    with pytest.raises(AssertionError):
        workers.wait(60)
