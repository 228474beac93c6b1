"""The persistent side of a study: records, leases, folders."""

from __future__ import annotations

from pathlib import Path

import pytest

import mutandis as mu
from mutandis.errors import MutandisWarning, StorageError
from mutandis.flows.studies.archive import folder_of, reasons
from mutandis.flows.studies.stores import StudyHeader, open_store


def made(path, **options):
    """Returns a study with an open archive and no trials."""
    study = mu.Study(path, **options)
    mu.sample(mu.intv(1, 9), mu.algorithms.Random(), study=study)
    return study


def proposal(value):
    return {"dna": {"": value}}


def test_a_trial_is_its_latest_attempt(tmp_path):
    study = made(tmp_path / "s.db")
    archive = study.archive
    lease = archive.claim(proposal(3))
    archive.report(0, {"loss": 1.0}, 1)
    assert study.trials[0].curve == ((1, {"loss": 1.0}),)
    archive.release(0)
    assert archive.is_lost(0)
    again = archive.take_over()
    assert (lease.attempt, again.attempt) == (1, 2)
    assert (study.trials[0].attempt, study.trials[0].curve) == (2, ())
    archive.report(0, {"loss": 2.0}, 0.5)
    assert archive.elsewhere == () and not archive.is_lost(0)
    assert study.trials[0].curve == ((0.5, {"loss": 2.0}),)
    assert study.trials[0].worker.count(":") == 1


def test_what_runs_elsewhere_is_told_apart(tmp_path):
    study = made(tmp_path / "s.db")
    with open_store(tmp_path / "s.db", worker="far:1::") as store:
        store.open("study").claim(proposal(1))
    study.archive.claim(proposal(2))
    len(study)
    assert [lease.number for lease in study.archive.elsewhere] == [0]


def test_a_result_is_recorded_once(tmp_path):
    study = made(tmp_path / "s.db", lease=7)
    study.archive.claim(proposal(3))
    with open_store(tmp_path / "s.db") as store:
        log = store.open("study")
        log.finish(log.running[0], {"state": "completed", "rewards": [1.0], "fidelity": 3})
    with pytest.warns(MutandisWarning) as caught:
        assert not study.archive.finish(study.trials[0])
    assert str(caught[0].message) == (
        "trial 0 was taken over by another worker, and what this one found is dropped; if this worker was alive and "
        "only slow, open the study with a larger lease= than 7 s"
    )
    assert not study.archive.finish(study.trials[0])  # It says so once.
    assert (study.trials[0].reward, study.trials[0].fidelity) == (1.0, 3)


def test_a_log_of_something_else_is_refused(tmp_path):
    with open_store(tmp_path / "s.db") as store:
        store.open("study", StudyHeader()).claim({"mine": 1})
    with pytest.raises(StorageError) as error:
        len(mu.Study(tmp_path / "s.db"))
    assert str(error.value) == (
        "cannot read a trial\n"
        "  at:       study, trial 0\n"
        "  got:      {'mine': 1} (dict)\n"
        "  expected: decisions under 'dna', as a search writes them\n"
        "  fix:      read this log with mutandis.flows.studies.stores"
    )


@pytest.mark.parametrize(
    ("where", "name", "folder"),
    [
        ("/a/s.db", "study", "/a/s.db.checkpoints"),
        ("sqlite:////a/s.db", "study", "/a/s.db.checkpoints"),
        ("/a/s.jsonl", "my search/2", "/a/s.jsonl.checkpoints/my%20search%2F2"),
    ],
)
def test_checkpoints_stand_beside_the_file(where, name, folder):
    assert folder_of(where, name, None) == Path(folder)


def test_checkpoints_stand_beside_a_file_at_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert folder_of("~/s.db", "study", None) == Path("/home/me/s.db.checkpoints")


def test_checkpoints_of_a_server_are_temporary_unless_a_folder_is_named():
    one, same, other = (folder_of(f"postgresql://me@host/{base}", "study", None) for base in "aab")
    assert one == same != other
    assert folder_of("postgresql://me@host/a", "study", "/shared") == Path("/shared")


def test_reasons_are_counted():
    assert reasons({1: "a", 2: "b", 3: "b", 4: "c"}, [1, 2, 3]) == "2 because b; 1 because a"


def test_rewards_are_read_without_a_look_at_the_store_for_each(tmp_path):
    loop = mu.sample({"x": mu.intv(0, 9)}, mu.algorithms.Random(), trials=40, study=tmp_path / "s.db")
    for child, feedback in loop:
        feedback(child["x"])
    study, looks = mu.Study(tmp_path / "s.db"), []
    refresh = study.archive.refresh
    study.archive.refresh = lambda: looks.append(1) or refresh()
    assert len(study) == 40
    assert len(study.front) >= 1 and len(study.top(3)) == 3 and study.best.reward == max(t.reward for t in study)
    assert len(looks) <= 8
