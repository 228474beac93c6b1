"""The benchmark on real learning curves: its accounts, its table, and what it shows."""

from __future__ import annotations

import gzip
import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tables import RECURRENT, needs_recurrent

from mutandis.algorithms import ASHA, Deduped, Grid, Hyperband, Random

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "multifidelity.py"
FINAL = np.array([3.0, 2.0, 5.0, 1.0, 4.0, 6.0, 7.0, 8.0, 9.0])
LOSSES = FINAL[:, None] + 1 / np.arange(1, 51)
LEAST = 1 / 50


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("bench_multifidelity", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_full_trainings_cost_all_their_epochs(bench):
    found = bench.run(Grid(), LOSSES, 0, (49, 50, 99, 100, 200))
    assert math.isnan(found[0])
    assert found[1:] == pytest.approx([3 + LEAST, 3 + LEAST, 2 + LEAST, 1 + LEAST])


def test_what_is_inherited_costs_nothing(bench):
    """Nine networks for 5 epochs and three for 11 more are 78; the best of them takes 34 more."""
    algorithm = Hyperband(5, 50, sampler=Grid(), brackets=(2,))
    found = bench.run(algorithm, LOSSES, 0, (111, 112))
    assert math.isnan(found[0])
    assert found[1] == pytest.approx(1 + LEAST)


def test_what_is_trained_anew_costs_all_its_epochs(bench):
    """That is 45, 48 and 50."""
    algorithm = Hyperband(5, 50, sampler=Grid(), brackets=(2,), resume="retrain")
    found = bench.run(algorithm, LOSSES, 0, (142, 143))
    assert math.isnan(found[0])
    assert found[1] == pytest.approx(1 + LEAST)


def test_the_saved_share_is_that_of_the_first_budget_that_is_as_good(bench):
    plain = np.full((2, len(bench.BUDGETS)), 2.0)
    better = np.where(np.arange(len(bench.BUDGETS)) < 19, np.nan, 1.5)[None, :].repeat(2, 0)
    assert bench.saved(better, plain) == "20%"
    assert bench.saved(plain + 1, plain) == "more"


@pytest.mark.parametrize("name", ["Random", "SuccessiveHalving", "Hyperband", "ASHA", "BOHB", "BOHB without repeats"])
def test_every_algorithm_runs(bench, name):
    losses = np.tile(LOSSES, (5, 1)) + np.arange(45)[:, None]
    assert not math.isnan(bench.run(bench.algorithms()[name](), losses, 0, (1000,))[0])


def test_the_script_prints_its_table(tmp_path):
    path = tmp_path / "logs.jsonl.gz"
    records = [{"status": "OK", "num_params": i, "recepie_id": i, "val_losses": LOSSES[i].tolist()} for i in range(9)]
    records.append({"status": "NaN", "num_params": 1, "recepie_id": 99, "val_losses": [1.0]})
    with gzip.open(path, "wt") as file:
        file.write("\n".join(map(json.dumps, records)))
    command = [sys.executable, str(SCRIPT), "--logs", str(path), "--seeds", "2", "--algorithms", "Random", "ASHA"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines[0] == "9 runs, 2 seeds; least loss 1.0200"
    assert [line.split(" | ")[0] for line in lines[3:5]] == ["| Random", "| ASHA"]


@needs_recurrent
@pytest.mark.parametrize("algorithm", [Hyperband(1, 50, sampler=Deduped(Random())), ASHA(1, 50, 3)])
def test_early_losses_of_real_trainings_save_half_the_epochs(bench, algorithm):
    losses = bench.read_losses(RECURRENT)
    assert losses.shape == (341, 50)
    ours = [bench.run(algorithm, losses, seed, (1250,))[0] for seed in range(10)]
    plain = [bench.run(Deduped(Random()), losses, seed, (2500,))[0] for seed in range(10)]
    assert np.mean(ours) < np.mean(plain)
