"""Whole searches on studies in stores: several at once, killed and resumed, with any executor."""

from __future__ import annotations

import collections
import random
import subprocess
import time

import postgres
import pytest
from ray_here import need_ray
from search_programs import gated, moody, quadratic, stubborn
from workers import start

import mutandis as mu
from mutandis.errors import MutandisWarning, SearchError, StorageError
from mutandis.flows.executors import Processes, Ray
from mutandis.flows.studies.stores import Claimed, Finished, open_store
from mutandis.testing.executor_contract import is_alive

PROGRAM = {"x": mu.intv(0, 9), "y": mu.oneof(["a", "b", "c"])}
ALGORITHM = mu.algorithms.RegularizedEvolution(6, 3)

SEARCH = """
import sys, mutandis as mu
from flows.test_searches_together import ALGORITHM, PROGRAM
from search_programs import gated
if __name__ == "__main__":
    where, trials, workers, deterministic = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "True"
    mu.search(PROGRAM, ALGORITHM, trials=trials, workers=workers, study=mu.Study(where, lease=5, attempts=100), seed=1,
              objective=gated, deterministic=deterministic)
    print("done")
"""


@pytest.fixture
def gate(tmp_path, monkeypatch):
    """Makes the folder that holds trials back from a number on, here and in all processes that are started."""

    def make(number):
        folder = tmp_path / str(number)
        folder.mkdir()
        monkeypatch.setenv("GATE", str(folder))
        return folder

    return make


def begun(folder, count):
    """Waits until so many trials have begun, and returns their (number, attempt, process)."""
    deadline = time.monotonic() + 120
    while len(found := sorted(folder.glob("trial-*"))) < count:
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    return [tuple(map(int, path.name.split("-")[1:])) for path in found]


def done(process):
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0 and out == "done\n", err


def decisions(study):
    return [trial.dna.values for trial in study.trials]


def alone(trials):
    """Returns the decisions of one search in this process."""
    study = mu.search(PROGRAM, ALGORITHM, trials=trials, executor="inline", objective=quadratic, seed=1,
                      deterministic=True)  # fmt: skip
    return decisions(study)


def check_whole(where, trials):
    """Checks that each trial has its one result, and returns how often trials were taken over."""
    study = mu.Study(where)
    assert [trial.id for trial in study.trials] == list(range(trials))
    assert all(trial.reward == -float((trial.dna.to_numbers()[0] - 7) ** 2) for trial in study.trials)
    with open_store(where) as store:
        events = store.open("study").read().events
    ends = collections.Counter(event.number for event in events if isinstance(event, Finished))
    assert ends == collections.Counter(range(trials))
    return sum(isinstance(event, Claimed) and event.attempt > 1 for event in events)


def search_at_once(where, folder, trials, *, deterministic=False):
    """Runs two searches of two workers; none of their trials ends before all four workers have one."""
    searches = [start(SEARCH, where, trials, 2, deterministic) for _ in range(2)]
    assert len({process for _, _, process in begun(folder, 4)}) == 4
    (folder / "go").touch()
    for process in searches:
        done(process)
    with open_store(where) as store:
        claims = [event for event in store.open("study").read().events if isinstance(event, Claimed)]
    assert {claim.worker.split(":")[1] for claim in claims} == {str(process.pid) for process in searches}


@pytest.mark.parametrize("name", ["study.db", "study.jsonl"])
def test_two_searches_with_workers_of_their_own_share_a_study(name, tmp_path, gate):
    search_at_once(tmp_path / name, gate(0), 24)
    assert check_whole(tmp_path / name, 24) == 0


@pytest.mark.slow
def test_two_searches_with_workers_of_their_own_share_a_study_on_a_server(gate):
    with postgres.server() as server:
        where = server.fresh()
        search_at_once(where, gate(0), 40)
        assert check_whole(where, 40) == 0


def test_two_deterministic_searches_decide_as_one(tmp_path, gate):
    search_at_once(tmp_path / "study.jsonl", gate(0), 24, deterministic=True)
    assert decisions(mu.Study(tmp_path / "study.jsonl")) == alone(24)


@pytest.mark.parametrize(("name", "workers"), [
    ("study.jsonl", 1), ("study.jsonl", 4), pytest.param("study.jsonl", 8, marks=pytest.mark.slow),
    *(pytest.param("study.db", workers, marks=pytest.mark.slow) for workers in (1, 2, 4, 8)),
])  # fmt: skip
def test_a_deterministic_search_decides_alike_with_any_number_of_workers(name, workers, tmp_path, gate):
    gate(99)
    study = mu.search(PROGRAM, ALGORITHM, trials=30, workers=workers, study=tmp_path / name, seed=1, objective=gated,
                      deterministic=True)  # fmt: skip
    assert decisions(study) == alone(30)
    assert decisions(mu.Study(tmp_path / name)) == alone(30)


def test_a_search_that_is_killed_ends_with_its_workers_and_goes_on(tmp_path, gate):
    where, folder = tmp_path / "study.db", gate(6)
    search = start(SEARCH, where, 14, 2, True)
    running = begun(folder, 8)[-2:]
    search.kill()
    search.communicate()
    assert [trial for trial, _, _ in running] == [6, 7]
    deadline = time.monotonic() + 20
    while any(is_alive(process) for _, _, process in running):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert [lease.number for lease in open_store(where).open("study").running] == [6, 7]
    (folder / "go").touch()
    done(start(SEARCH, where, 14, 2, True))
    assert check_whole(where, 14) == 2
    study = mu.Study(where)
    assert [trial.id for trial in study.trials if trial.attempt == 2] == [6, 7]
    assert decisions(study) == alone(14)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["study.db", "study.jsonl"])
def test_searches_that_are_killed_at_random_lose_and_repeat_nothing(name, tmp_path, gate, monkeypatch):
    where, rng, kills, trials = tmp_path / name, random.Random(0), 0, 200
    gate(trials)
    monkeypatch.setenv("PAUSE", "0.3")
    running = [start(SEARCH, where, trials, 2, False) for _ in range(2)]
    while running:
        try:
            running[0].wait(4.0 if kills < 6 else 300.0)
        except subprocess.TimeoutExpired:
            victim = rng.randrange(len(running))
            running[victim].kill()
            running[victim].communicate()
            running[victim] = start(SEARCH, where, trials, 2, False)
            kills += 1
            continue
        done(running.pop(0))
    assert kills >= 2
    assert 0 < check_whole(where, trials) <= 2 * kills


@pytest.fixture
def executor(request):
    if request.param == "ray":
        need_ray()
        return Ray()
    return {"inline": "inline", "processes": Processes(1)}[request.param]


@pytest.fixture
def where(request, tmp_path):
    if request.param != "server":
        yield tmp_path / request.param
        return
    with postgres.server() as server:
        yield server.fresh()


def outcomes(study):
    return [(t.dna.values, t.state, t.reason, t.rewards, t.metrics, t.curve) for t in study.trials]


@pytest.mark.parametrize(("executor", "where"), [
    ("inline", "study.db"), ("inline", "study.jsonl"), ("processes", "study.db"), ("processes", "study.jsonl"),
    *(pytest.param(executor, "server", marks=pytest.mark.slow) for executor in ("inline", "processes")),
    *(pytest.param("ray", store, marks=pytest.mark.slow) for store in ("study.db", "study.jsonl", "server")),
], indirect=True)  # fmt: skip
def test_every_executor_records_in_every_store_what_it_records_in_memory(executor, where):
    settings = {"objective": moody, "trials": 12}
    with pytest.warns(MutandisWarning, match="trial 1 failed: ValueError: x is 1"):
        expected = mu.search({"x": mu.intv(0, 11)}, mu.algorithms.Grid(), executor="inline", **settings)
    with pytest.warns(MutandisWarning, match="trial 1 failed: ValueError: x is 1"):
        study = mu.search({"x": mu.intv(0, 11)}, mu.algorithms.Grid(), executor=executor, study=where, **settings)
    assert outcomes(study) == outcomes(expected)
    assert outcomes(mu.Study(where)) == outcomes(expected)
    assert study.counts() == {"completed": 6, "failed": 3, "skipped": 3}


def give_up(study):
    """Runs a search that gives up while its first trial runs."""
    with pytest.warns(MutandisWarning), pytest.raises(SearchError):
        mu.search({"x": mu.intv(0, 99)}, mu.algorithms.Grid(), workers=2, objective=stubborn, max_failures=3,
                  study=study)  # fmt: skip


def test_a_search_that_gives_up_gives_back_what_runs(tmp_path):
    study = mu.Study(tmp_path / "study.db")
    give_up(study)
    assert study.counts() == {"running": 1, "failed": 3}
    with open_store(tmp_path / "study.db") as store:
        lease = store.open("study").take_over()
    assert (lease.number, lease.attempt, lease.losses) == (0, 2, 0)


def test_a_search_in_memory_that_gives_up_leaves_nothing_running():
    study = mu.Study()
    give_up(study)
    assert study.counts() == {"abandoned": 1, "failed": 3}


def test_a_search_whose_store_fails_keeps_nobody_waiting_for_its_trials(tmp_path, monkeypatch):
    study = mu.Study(tmp_path / "study.jsonl", lease=0.5)
    counts = iter(range(99))

    def settle(cursor):
        if next(counts) > 2:  # The header and the results of two trials.
            raise StorageError("cannot use a study file", got="an unplugged cable")

    mu.search({"x": mu.intv(0, 9)}, mu.algorithms.Grid(), trials=1, objective=quadratic, executor="inline",
              study=study)  # fmt: skip
    monkeypatch.setattr(study.archive.log._medium, "settle", settle)
    with pytest.raises(StorageError, match="an unplugged cable"):
        mu.search({"x": mu.intv(0, 9)}, mu.algorithms.Grid(), objective=quadratic, executor="inline", study=study)
    assert study.archive._heart._leases == {}
    again = mu.search({"x": mu.intv(0, 9)}, mu.algorithms.Grid(), objective=quadratic, executor="inline",
                      study=tmp_path / "study.jsonl")  # fmt: skip
    assert again.counts() == {"completed": 10}
