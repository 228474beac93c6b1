"""The benchmark of search algorithms: its problems have the optima they say, and it runs at its smallest size."""

from __future__ import annotations

import importlib.util
import itertools
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

import mutandis as mu

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "hpo.py"


@pytest.fixture(scope="module")
def hpo():
    spec = importlib.util.spec_from_file_location("hpo", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["hpo"] = module  # Its dataclass looks there.
    spec.loader.exec_module(module)
    yield module
    del sys.modules["hpo"]


MODEL = {"family": 2, "shared": 0.8, "model": {"number": 1, "x": [((19 + 3 * j) % 10 + 0.5) / 11 for j in range(4)]}}
CNN = {"model": {"model": "cnn", "lr": 1e-3, "kernel": 5, "channels": 64, "dropout": 0.3}}
CONV = [{"kind": "conv", "width": width, "kernel": 3} for width in (16, 2**4.5, 2**6.5)]
ATTENTION = {"kind": "attention", "heads": 4, "dropout": 0.1}
LAYERS = [CONV[0], CONV[1], ATTENTION, {"kind": "skip"}, ATTENTION, CONV[2]]


@pytest.mark.parametrize(
    ("name", "best"),
    [
        ("branin", {"x1": math.pi, "x2": 2.275}),
        ("hartmann6", [0.20169, 0.150011, 0.476874, 0.275332, 0.311652, 0.6573]),
        ("ackley10", [2 * i - 9.0 for i in range(10)]),
        ("rosenbrock10", [1.0] * 10),
        ("mixedcond", CNN),
        ("cash", MODEL),
        ("network", {"lr": 1e-3, "layers": LAYERS}),
        ("mixed30", {"floats": [0.0] * 10, "ints": [50] * 10, "choices": ["c"] * 10}),
    ],
)
def test_the_optimum_is_where_it_is_said_to_be(hpo, name, best):
    problem = hpo.PROBLEMS[name]()
    assert problem.objective(best) == pytest.approx(problem.optimum, abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", ["branin", "hartmann6", "ackley10", "rosenbrock10", "mixedcond", "cash", "network",
                                  "nas100", "mixed30"])  # fmt: skip
def test_no_child_is_below_the_optimum(hpo, name, seed):
    problem = hpo.PROBLEMS[name]()
    space = mu.space(problem.program)
    assert problem.objective(space.materialize(space.random(seed))) > problem.optimum


def test_the_maximum_of_a_ring_is_that_of_all_its_values(hpo):
    tables = np.random.default_rng(0).random((5, 3, 3, 3))
    all_values = (
        sum(tables[i, x[i], x[(i + 1) % 5], x[(i + 2) % 5]] for i in range(5))
        for x in itertools.product(range(3), repeat=5)
    )
    assert hpo.ring_maximum(tables) == pytest.approx(max(all_values))


def test_both_sides_run_at_the_smallest_size(hpo, capsys, tmp_path):
    pytest.importorskip("optuna", reason="the rival is in the extra [optuna]")
    target = tmp_path / "figures.json"
    hpo.main(["--problems", "mixedcond", "--algorithms", "TPE", "optuna_tpe_group", "--seeds", "2", "--trials", "15",
              "--json", str(target)])  # fmt: skip
    shown = capsys.readouterr().out
    assert "| mixedcond | TPE | 15 | " in shown and "| mixedcond | optuna_tpe_group | 15 | " in shown
    regrets = json.loads(target.read_text())["mixedcond"]["TPE"]["regrets"]["15"]
    assert len(regrets) == 2 and min(regrets) > 0


def test_a_table_compares_with_the_first_algorithm(hpo):
    found = {"f": {name: {"regrets": {100: values}, "ms": 1.0} for name, values in
                   {"A": [1.0, 2.0], "B": [2.0, 4.0]}.items()}}  # fmt: skip
    assert "| f | B | 100 | 3 +- 1 [3] | 2.00 | +1.5 +- 0.5 | 1.00 |" in hpo.table(found)


def test_the_cost_of_the_loop_is_measured(hpo):
    assert hpo.throughput(50).startswith("50 trials of 30 decisions: ")


@pytest.mark.slow
def test_a_bandit_between_branches_halves_the_regret_of_plain_densities(hpo):
    found = {name: hpo.measure(hpo.PROBLEMS["mixedcond"](), name, range(30), 200) for name in ("TPE", "TPE_plain")}
    ours, plain = (np.mean(found[name]["regrets"][200]) for name in ("TPE", "TPE_plain"))
    assert ours < 0.5 * plain
