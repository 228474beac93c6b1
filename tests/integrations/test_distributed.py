"""One search of two processes: the same children, one study, one decision to stop."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

import mutandis as mu
from mutandis.errors import SettingError
from mutandis.integrations import distributed_sample

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="this torch has no distributed package")

WORKER = Path(__file__).with_name("two_ranks.py")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What two processes saw, by rank."""
    folder = tmp_path_factory.mktemp("ranks")
    env = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    env["PYTHONPATH"] = os.pathsep.join([str(Path(mu.__file__).parents[1]), env.get("PYTHONPATH", "")])
    running = [
        subprocess.Popen([sys.executable, str(WORKER), str(rank), str(folder)], env=env, stderr=subprocess.PIPE)
        for rank in range(2)
    ]
    try:
        for process in running:
            _, errors = process.communicate(timeout=200)
            assert process.returncode == 0, errors.decode()
    finally:
        for process in running:
            process.kill()  # One that waits for the other, which has failed.
            process.communicate()
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)]


def test_all_ranks_see_the_same_children(ranks):
    assert len(ranks[0]["children"]) == 6
    assert ranks[0]["children"] == ranks[1]["children"]
    assert len({str(child) for child in ranks[0]["children"]}) > 1


def test_the_children_are_those_of_one_process(ranks):
    loop = mu.sample(two_ranks().program(), mu.algorithms.RegularizedEvolution(4, 2), trials=6, seed=3)
    alone = []
    for child, feedback in loop:
        alone.append([feedback.trial.id, child["x"], child["op"] if isinstance(child["op"], str) else child["op"]["k"]])
        for step in range(1, 4):
            feedback.report({"reward": child["x"]}, step=step)
        feedback(child["x"])
    assert alone == ranks[0]["children"]


def two_ranks():
    import importlib.util

    spec = importlib.util.spec_from_file_location("two_ranks", WORKER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_rank_0_alone_writes_the_study(ranks):
    assert [found["is_leader"] for found in ranks] == [True, False]
    assert ranks[0]["rewards"] == [child[1] for child in ranks[0]["children"]]
    assert ranks[1]["rewards"] is None


def test_what_other_ranks_report_and_answer_does_not_count(ranks):
    assert ranks[0]["curves"] == [[[step, child[1]] for step in range(1, 3)] for child in ranks[0]["children"]]


def test_the_decision_of_rank_0_to_stop_is_that_of_all(ranks):
    assert ranks[0]["lengths"] == ranks[1]["lengths"] == [2] * 6
    assert ranks[0]["states"] == ["stopped"] * 6


def test_a_checkpoint_is_one_directory(ranks):
    assert ranks[0]["checkpoint"] == ranks[1]["checkpoint"]


def test_a_skip_on_rank_0_counts_alone(ranks):
    assert ranks[0]["skipped"] == ["skipped", "failed"]


def test_a_child_that_cannot_be_built_ends_the_turn_on_all_ranks(ranks):
    assert ranks[0]["broken"] == "ZeroDivisionError"
    assert ranks[1]["broken"].startswith(
        "ExecutorError: cannot go on: rank 0 could not make a trial\n  at:       rank 0\n"
        "  got:      'ZeroDivisionError: division by zero' (str)"
    )


@pytest.mark.parametrize("rank", [0, 1])
def test_another_program_on_another_rank_is_refused_on_all(ranks, rank):
    assert ranks[rank]["mismatch"].startswith("SpaceError: cannot share a search\n  at:       rank 1\n")


def test_a_search_that_cannot_begin_on_rank_0_is_refused_on_all(ranks):
    assert ranks[0]["refused"].startswith("SettingError: cannot sample\n  at:       trials")
    assert ranks[1]["refused"].startswith("ExecutorError: cannot share a search\n  at:       rank 0\n")


def test_without_a_process_group_it_is_refused():
    assert not dist.is_initialized()
    with pytest.raises(SettingError) as caught:
        distributed_sample({"x": mu.oneof([1, 2])}, mu.algorithms.Random())
    assert str(caught.value) == (
        "cannot share a search\n  at:       torch.distributed\n  got:      'no process group' (str)\n"
        "  expected: a process group that all ranks have joined\n"
        "  fix:      call torch.distributed.init_process_group(...) first, or use mu.sample"
    )


@pytest.fixture
def alone(tmp_path, monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("alone")
def test_a_group_of_one_is_an_ordinary_search():
    study = mu.Study(name="mine")
    shared = distributed_sample({"x": mu.floatv(0.0, 1.0)}, mu.algorithms.Random(), trials=5, study=study, seed=2)
    for child, feedback in shared:
        assert feedback.is_leader and feedback.fidelity is None and feedback.inherited is None
        feedback(torch.tensor(child["x"]), metrics={"twice": 2 * child["x"]})
    assert shared.study is study and len(study) == 5
    plain = mu.sample({"x": mu.floatv(0.0, 1.0)}, mu.algorithms.Random(), trials=5, seed=2)
    assert [trial.dna["['x']"] for trial in study] == [child["x"] for child, f in plain if f(0.0) is None]


@pytest.mark.usefixtures("alone")
def test_leaving_the_loop_abandons_the_trial():
    shared = distributed_sample({"x": mu.oneof([1, 2])}, mu.algorithms.Random(), trials=5)
    study = shared.study
    next(shared)
    del shared
    assert [trial.state for trial in study] == ["abandoned"]
