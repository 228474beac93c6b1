"""Searches whose store is in trouble: a full disk, a file that is gone or can be read alone, clocks that are wrong."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import time

import pytest
from workers import PROGRAM, answer, decisions, in_child, reward_of

import mutandis as mu
from mutandis.errors import MutandisWarning, StorageError
from mutandis.flows.studies.stores import Heartbeat, StudyHeader, linefile, open_store

ALGORITHM = mu.algorithms.RegularizedEvolution(6, 3)


@pytest.fixture(params=["study.db", "study.jsonl"])
def path(request, tmp_path):
    return tmp_path / request.param


def searching(study, trials):
    return mu.sample(PROGRAM, ALGORITHM, trials=trials, study=study, seed=1)


def test_a_full_disk_ends_the_search_and_loses_nothing(path):
    def fill():
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
        num_answered = 0
        try:
            for _, feedback in searching(path, 10_000):
                feedback(reward_of(feedback.dna))
                num_answered += 1
        except StorageError as error:
            path.with_name("told").write_text(f"{num_answered} {error}")

    assert in_child(fill) == 0
    count, _, message = path.with_name("told").read_text().partition(" ")
    assert message.startswith(f"cannot use a study file\n  at:       {path}\n")
    assert message.endswith("fix:      check the path, the rights and the space on the disk")
    study = mu.Study(path)
    assert study.counts()["completed"] == int(count) > 10
    total = int(count) + 20
    again = answer(searching(path, total))
    assert again.counts() == {"completed": total}
    assert decisions(again) == decisions(answer(searching(None, total)))


class Flaky:
    """Makes the store of a study refuse whatever is written, as long as it `fails`."""

    def __init__(self, study, monkeypatch):
        self.fails = False
        self._medium = study.archive.log._medium
        self._exclusive = self._medium.exclusive
        monkeypatch.setattr(self._medium, "exclusive", self.exclusive)

    def exclusive(self, *arguments, **options):
        if self.fails:
            raise StorageError("cannot use a study file", got="an unplugged cable")
        return self._exclusive(*arguments, **options)


@pytest.fixture
def flaky(path, monkeypatch):
    """A loop, with the first trial begun, its feedback, and its store."""
    study = mu.Study(path)
    loop = searching(study, 3)
    _, feedback = next(loop)
    yield loop, feedback, Flaky(study, monkeypatch)
    loop.close()


def test_an_answer_that_was_not_recorded_can_be_given_again(path, flaky):
    loop, feedback, store = flaky
    store.fails = True
    with pytest.raises(StorageError, match="an unplugged cable"):
        feedback(3.0)
    assert not feedback.is_answered and feedback.is_stuck
    with pytest.raises(StorageError, match="an unplugged cable"):
        feedback.report({"loss": 1.0}, step=1)
    store.fails = False
    feedback.report({"loss": 0.5}, step=1)
    assert not feedback.is_stuck
    feedback(3.0)
    assert feedback.is_answered
    (trial,) = mu.Study(path).trials
    assert (trial.state, trial.reward, trial.attempt, trial.curve) == ("completed", 3.0, 1, ((1, {"loss": 0.5}),))
    answer(loop)
    assert mu.Study(path).counts() == {"completed": 3}


@pytest.mark.parametrize("say", [lambda feedback: feedback(3.0), lambda feedback: feedback.report({"x": 1}, step=1),
                                 lambda feedback: feedback.skip()], ids=["answer", "report", "skip"])  # fmt: skip
def test_a_trial_whose_result_was_not_recorded_goes_back_to_its_study(path, flaky, say):
    loop, feedback, store = flaky
    store.fails = True
    with pytest.raises(StorageError, match="an unplugged cable"):
        say(feedback)
    store.fails = False
    loop.close()
    with open_store(path) as elsewhere:
        (lease,) = elsewhere.open("study").running
    assert mu.Study(path).counts() == {"running": 1}
    again = searching(path, 3)
    _, feedback = next(again)
    assert (feedback.trial.id, feedback.attempt) == (lease.number, 2)
    feedback(1.0)
    answer(again)
    assert mu.Study(path).counts() == {"completed": 3}


def test_an_answer_that_the_disk_failed_to_keep_can_be_given_again_and_is_the_same_one(tmp_path, monkeypatch):
    study = mu.Study(tmp_path / "study.jsonl", durability="power")
    loop = searching(study, 3)
    _, feedback = next(loop)
    asked = []

    def sync(fd):
        asked.append(fd)
        if len(asked) == 1:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(linefile, "_sync", sync)
    with pytest.raises(StorageError, match="Input/output error"):
        feedback(3.0)
    assert not feedback.is_answered and feedback.is_stuck
    feedback(3.0)  # No warning: nobody else took the trial over.
    assert feedback.is_answered and len(asked) == 2
    answer(loop)
    assert [trial.attempt for trial in mu.Study(tmp_path / "study.jsonl")] == [1, 1, 1]
    assert study.trials[0].reward == 3.0


def test_an_error_of_the_body_fails_its_trial_after_the_store_is_back(path, flaky):
    loop, feedback, store = flaky
    store.fails = True
    with pytest.raises(StorageError):
        feedback.report({"x": 1}, step=1)
    store.fails = False
    feedback.report({"x": 1}, step=1)
    loop.close("ValueError: of the body")
    (trial,) = mu.Study(path).trials
    assert (trial.state, trial.reason) == ("failed", "ValueError: of the body")


def lose(path, how):
    """Removes the files of a study, or puts another study in their place; returns where they are kept."""
    kept = path.with_name("kept")
    kept.mkdir()
    for file in path.parent.glob(path.name + "*"):
        shutil.move(file, kept / file.name)
    if how == "replaced":
        answer(searching(path, 2))
    return kept


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_file_that_is_removed_or_replaced_in_flight_ends_the_search(path, how):
    def search():
        for _, feedback in searching(path, 20):
            if feedback.trial.id == 5:
                lose(path, how)
            feedback(reward_of(feedback.dna))

    message = (
        f"cannot use a study file\n  at:       {path}\n  got:      'a file that was removed or replaced' (str)\n"
        "  expected: the file that was opened\n  fix:      put it back, or open the study again"
    )
    with pytest.warns(MutandisWarning) as caught, pytest.raises(StorageError) as error:
        search()
    assert str(error.value) == message
    assert [str(warning.message) for warning in caught] == [
        f"trial 5 still runs as far as the study knows, until its worker counts as lost; {message}"
    ]
    assert len(mu.Study(path)) == (0 if how == "removed" else 2)


def test_a_lines_file_that_was_moved_away_goes_on_where_it_is(tmp_path):
    path = tmp_path / "study.jsonl"
    loop = searching(path, 20)
    for _, feedback in loop:
        feedback(reward_of(feedback.dna))
        if feedback.trial.id == 5:
            path = path.rename(tmp_path / "moved.jsonl")
            break
    study = answer(searching(path, 20))
    assert decisions(study) == decisions(answer(searching(None, 20)))


def forbid(monkeypatch):
    """Lets the files of this process be read alone, also where root runs the tests."""
    opened, allowed = os.open, os.access

    def open_to_read(where, flags, *mode, **options):
        if flags & os.O_RDWR:
            raise OSError(errno.EROFS, "Read-only file system")
        return opened(where, flags, *mode, **options)

    monkeypatch.setattr(os, "open", open_to_read)
    monkeypatch.setattr(os, "access", lambda where, mode: not mode & os.W_OK and allowed(where, mode))


def test_a_file_that_can_be_read_alone_is_read_and_not_searched(path, monkeypatch):
    answer(searching(path, 4)).archive.log._medium.close()
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    with monkeypatch.context() as patch:
        forbid(patch)
        study = mu.Study(path)
        assert study.counts() == {"completed": 4}
        assert study.best.child() is not None
        with pytest.raises(StorageError, match="cannot use a study file") as error:
            next(searching(path, 5))
        assert "ead-only file system" in str(error.value) or "readonly database" in str(error.value)
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before


def test_a_torn_tail_of_a_file_that_can_be_read_alone_stays(tmp_path, monkeypatch):
    path = tmp_path / "study.jsonl"
    answer(searching(path, 4))
    torn = path.read_bytes() + b'{"v":1,"kind":"cl'
    path.write_bytes(torn)
    forbid(monkeypatch)
    assert mu.Study(path).counts() == {"completed": 4}
    assert path.read_bytes() == torn
    path.write_text("of another program")
    with pytest.raises(StorageError, match="a file of another program"):
        mu.Study(path)


def test_clocks_that_are_set_back_change_nothing(path, monkeypatch):
    clock = iter(range(2_000_000_000, 0, -86_400))
    monkeypatch.setattr(time, "time", lambda: float(next(clock)))
    study = answer(searching(mu.Study(path, lease=0.5), 12))
    assert decisions(study) == decisions(answer(searching(None, 12)))
    assert {(trial.state, trial.attempt) for trial in study.trials} == {("completed", 1)}
    assert all(trial.seconds >= 0 for trial in study.trials)
    started = [trial.started for trial in study.trials]
    assert started == sorted(started, reverse=True)


def test_a_worker_whose_clock_is_days_apart_is_lost_when_it_is_silent_and_not_before(path, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 0.0)
    far = open_store(path, lease=0.4, worker="far").open("study", StudyHeader())
    lease = far.claim({"x": 1})
    monkeypatch.setattr(time, "time", lambda: 1e9)
    with open_store(path, lease=0.4, worker="near") as store:
        near = store.open("study")
        with Heartbeat(far) as heart:
            heart.add(lease)
            end = time.monotonic() + 1.5
            while time.monotonic() < end:
                assert near.take_over() is None
                time.sleep(0.05)
        deadline = time.monotonic() + 20
        while (taken := near.take_over()) is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert (taken.number, taken.attempt, taken.losses) == (0, 2, 1)
