"""The benchmark on NATS-Bench: its curves, its exact row, and its table."""

from __future__ import annotations

import importlib.util
import itertools
import json
import math
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tables import TOPOLOGY, needs_topology

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "nats.py"


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("bench_nats", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("trials", [1, 2, 3])
def test_the_exact_best_of_random_draws_is_the_mean_over_all_of_them(bench, trials):
    values = [3.0, 1.0, 4.0, 1.5]
    draws = [max(draw) for draw in itertools.product(values, repeat=trials)]
    mean, deviation = bench.exact_random(values, trials)
    assert mean == pytest.approx(statistics.fmean(draws))
    assert deviation == pytest.approx(statistics.pstdev(draws))


def test_the_reference_code_touches_a_node_first_and_then_one_of_its_edges(bench):
    weights = [bench.node_then_edge(point) for point in bench.SPACE.points]
    assert weights == pytest.approx([1 / 3, 1 / 6, 1 / 6, 1 / 9, 1 / 9, 1 / 9])


def test_a_paired_comparison_is_in_standard_errors(bench):
    assert bench.paired_z([2.0, 4.0, 6.0], [1.0, 2.0, 3.0]) == pytest.approx(2.0 / (1.0 / 3**0.5))
    assert bench.paired_z([1.0, 1.0], [1.0, 1.0]) == 0.0


def test_a_run_is_charged_its_simulated_time(bench):
    class Flat:
        valid = list(np.arange(15_625.0))
        test = list(np.arange(15_625.0) / 2)
        seconds = [100.0] * 15_625

    valid, test, timed = bench.run(bench.algorithms()["Random"](), Flat, seed=0, budget_s=1000.0)
    assert len(valid) == len(test) == 300
    assert valid == sorted(valid)
    assert all(b == a / 2 for a, b in zip(valid, test, strict=True))
    assert timed[-1] == test[9]  # Ten trainings fit into the time.
    assert timed[19:180:20] == test[:9]
    assert all(math.isnan(value) for value in timed[:19])  # Nothing is known before the first training ends.


def test_distances_are_in_standard_errors_of_the_difference(bench):
    valid = np.tile(np.array([[1.0], [3.0]]), (1, 300))
    reference = [(1.0, 0.0), (2.0, 500**0.5), *[(2.0, 1.0)] * 5]
    assert bench.distances(valid, reference, [10, 25]) == pytest.approx([2**0.5, 0.0])


@needs_topology
def test_it_writes_a_table_json_and_a_picture(tmp_path):
    command = [sys.executable, str(SCRIPT), "--table", str(TOPOLOGY), "--seeds", "3", "--datasets", "cifar10",
               "--algorithms", "Random", "REA", "--workers", "1", "--json", str(tmp_path / "figures.json"),
               "--picture", str(tmp_path / "curves.png")]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "| random search, exactly | 80.62±2.48 | 82.38±1.52 | 83.20±0.93 |" in done.stdout
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert len(figures["cifar10"]["REA"]["valid_mean"]) == 300
    assert "| cifar10, test after | 100 trials | 200 trials | 300 trials | 20,000 s | published |" in done.stdout
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_an_unknown_algorithm_is_refused_with_what_is_known():
    command = [sys.executable, str(SCRIPT), "--table", "none.npz", "--algorithms", "Annealing"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "unknown algorithms ['Annealing']; known are Random, REA" in done.stderr
