"""Multi-trial search on NATS-Bench's topology space: 500 runs of every algorithm on three datasets.

    python benchmarks/nats.py --table nasbench201.npz [--seeds 500] [--algorithms Random RegularizedEvolution ...]

Searches on the validation accuracy after 12 epochs and reports the test accuracy after 200 epochs of the best cell so
far, at budgets of trials and of simulated seconds (Dong et al. 2021, sections 5 and 6; thesis, figure 5.6). The table
needs the columns that `mutandis.models.tabular.load_topology` names. Writes a table, a plot with bands, and JSON.

Beside the means stand those of the reference code's algorithms on the same table (500 runs each), and how many standard
errors of the difference ours are away from them. For random search the mean can be computed exactly, which shows how
far chance takes 500 runs.

The table knows of no training shorter than 12 epochs. So `BOHB` runs with that one fidelity, i.e. its model without its
brackets; the published row is of fidelities 1.33, 4 and 12. An algorithm that asks for another fidelity is refused.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import mutandis as mu
from mutandis.algorithms.policies.qlearning import exploration
from mutandis.errors import SpaceExhausted
from mutandis.hyper import Feedback
from mutandis.models.nats import EDGES
from mutandis.models.tabular import load_topology

SPACE = mu.space([mu.oneof(list(range(5)), name=f"edge {a} to {b}") for a, b in EDGES]).bare()
DATASETS = ("cifar10", "cifar100", "imagenet16")
CHECKPOINTS = (10, 25, 50, 100, 150, 200, 300)
TIMES_S = {"cifar10": 20_000, "cifar100": 40_000, "imagenet16": 120_000}
FIDELITY = 12
MOST_TRIALS = 1000
NUM_TIMES = 200
REFERENCE_RUNS = 500

_REFERENCE = """
cifar10    Random    80.54 2.41  82.38 1.46  83.25 0.87  83.72 0.58  83.89 0.47  84.00 0.41  84.15 0.36
cifar10    REA       80.54 2.41  82.33 1.82  83.36 1.30  84.12 0.69  84.37 0.52  84.52 0.39  84.65 0.29
cifar10    Reinforce 80.61 2.48  82.40 1.51  83.25 0.93  83.80 0.53  84.02 0.42  84.16 0.36  84.37 0.29
cifar100   Random    53.53 3.66  56.57 2.63  58.08 1.78  59.09 1.14  59.48 0.91  59.71 0.78  59.97 0.67
cifar100   REA       53.53 3.66  56.63 3.21  58.43 2.46  59.99 1.44  60.50 0.99  60.78 0.80  61.04 0.52
cifar100   Reinforce 53.80 3.83  56.52 2.71  58.18 1.80  59.28 1.10  59.77 0.88  60.12 0.76  60.62 0.57
imagenet16 Random    31.08 3.00  33.67 2.29  35.01 1.57  35.88 1.06  36.24 0.89  36.45 0.82  36.73 0.73
imagenet16 REA       31.08 3.00  33.81 2.80  35.67 2.11  36.90 1.39  37.43 1.06  37.72 0.78  38.02 0.67
imagenet16 Reinforce 31.38 3.13  33.62 2.38  35.10 1.61  36.15 1.01  36.68 0.83  37.02 0.73  37.47 0.56
"""

REFERENCE = {
    (dataset, name): tuple(zip(map(float, numbers[::2]), map(float, numbers[1::2]), strict=True))
    for dataset, name, *numbers in map(str.split, _REFERENCE.strip().splitlines())
}
"""Best 12-epoch validation so far, mean and deviation over 500 runs at `CHECKPOINTS`, by dataset and algorithm."""

PUBLISHED = {
    ("cifar10", "BOHB"): (93.94, 0.28), ("cifar100", "BOHB"): (72.00, 0.86), ("imagenet16", "BOHB"): (45.70, 0.86),
    ("cifar10", "REA"): (94.02, 0.31), ("cifar10", "Reinforce"): (93.90, 0.26), ("cifar10", "Random"): (93.86, 0.23),
    ("cifar100", "REA"): (72.23, 0.84), ("cifar100", "Reinforce"): (71.86, 0.89), ("cifar100", "Random"): (71.55, 0.97),
    ("imagenet16", "REA"): (45.77, 0.80), ("imagenet16", "Reinforce"): (45.64, 0.78),
    ("imagenet16", "Random"): (45.28, 0.97),
}  # fmt: skip
"""Mean and deviation of the 200-epoch test accuracy at `TIMES_S` (NATS-Bench, table 4)."""


def node_then_edge(point: Any) -> float:
    """Returns how often the reference code's mutation touches an edge: a node first, then one of its edges."""
    _, node = EDGES[point.index]
    return 1 / 3 / node


def algorithms() -> dict[str, Callable[[], Any]]:
    """Returns what can be run, by name, each with the same settings for all datasets.

    `REA` and `Reinforce` have the settings of the reference code. The LSTM of `PolicyRNN` learns faster than by its
    defaults, which are made for thousands of trials.
    """
    known, evolution = mu.algorithms, mu.algorithms.evolution
    return {
        "Random": known.Random,
        "REA": lambda: known.RegularizedEvolution(10, 3, mutation=evolution.Uniform(weight=node_then_edge)),
        "Reinforce": known.Reinforce,
        "BOHB": lambda: known.BOHB(FIDELITY, FIDELITY, num_samples=4, random_fraction=0, min_bandwidth=0.3),
        "REA, uniform edges": lambda: known.RegularizedEvolution(10, 3),
        "REA 50/10": lambda: known.RegularizedEvolution(50, 10),
        "HillClimb": known.HillClimb,
        "LocalSearch": known.LocalSearch,
        "NSGA2": lambda: known.NSGA2(population_size=20),
        "QLearning": lambda: known.QLearning(exploration(150), learning_rate=0.5, num_replays=10),
        "PolicyRNN": lambda: known.PolicyRNN(learning_rate=0.01),
        "TPE": known.TPE,
        "CMAES": known.CMAES,
        "GaussianProcess": known.GaussianProcess,
        "Screened": known.Screened,
    }


class Columns:
    """The columns of a table by the code of a cell, plain lists for speed."""

    def __init__(self, path: Path, dataset: str) -> None:
        table = load_topology(path, dataset)
        rows = table.rows
        self.valid = table.results["valid", 12][rows].tolist()
        self.test = table.results["test", 200][rows].tolist()
        self.seconds = (table.training_seconds[12] + table.validation_seconds)[rows].tolist()


class Curves(NamedTuple):
    """What one search found.

    Attributes:
        valid: The best 12-epoch validation so far, by trial.
        test: The 200-epoch test of that cell, by trial.
        timed: The same test at `NUM_TIMES` equal steps of the simulated time; nan before the first result.
    """

    valid: list[float]
    test: list[float]
    timed: list[float]


def run(algorithm: Any, columns: Columns, seed: int, budget_s: float) -> Curves:
    """Runs one search for the most trials of `CHECKPOINTS`, and on until the simulated time is over."""
    search = algorithm.start(SPACE, seed=seed)
    best, chosen, spent = float("-inf"), math.nan, 0.0
    valid_so_far: list[float] = []
    test_so_far: list[float] = []
    timed: list[float] = []
    while len(valid_so_far) < CHECKPOINTS[-1] or (spent < budget_s and len(valid_so_far) < MOST_TRIALS):
        try:
            proposal = search.propose()
        except SpaceExhausted:
            break
        if proposal.fidelity not in (None, FIDELITY):
            raise ValueError(f"the table has no results after {proposal.fidelity} epochs, only after {FIDELITY}")
        code = 0
        for value in proposal.dna.values:
            code = code * 5 + value
        reward = columns.valid[code]
        search.feedback(Feedback(proposal.id, proposal.dna, None, proposal.fidelity, (reward,)))
        spent += columns.seconds[code]
        while len(timed) < NUM_TIMES and (len(timed) + 1) * budget_s / NUM_TIMES < spent:
            timed.append(chosen)  # What was known when that time had passed.
        if reward > best:
            best, chosen = reward, columns.test[code]
        valid_so_far.append(best)
        test_so_far.append(chosen)
    timed += [chosen] * (NUM_TIMES - len(timed))
    return Curves(valid_so_far[: CHECKPOINTS[-1]], test_so_far[: CHECKPOINTS[-1]], timed)


_STATE: dict[str, Any] = {}


def _prepare(path: Path, dataset: str, name: str) -> None:
    _STATE.update(columns=Columns(path, dataset), algorithm=algorithms()[name](), budget_s=TIMES_S[dataset])


def _run(seed: int) -> Curves:
    return run(_STATE["algorithm"], _STATE["columns"], seed, _STATE["budget_s"])


def measure(path: Path, dataset: str, name: str, seeds: int, workers: int) -> dict[str, Any]:
    """Returns the curves of all seeds as arrays, `[seeds, trials]` or `[seeds, NUM_TIMES]`, and what they took."""
    start = time.perf_counter()
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, _prepare, (path, dataset, name)) as pool:
        results = pool.map(_run, range(seeds), chunksize=max(1, seeds // (4 * workers)))
    length = min(len(curves.valid) for curves in results)
    return {
        "valid": np.array([curves.valid[:length] for curves in results]),
        "test": np.array([curves.test[:length] for curves in results]),
        "timed": np.array([curves.timed for curves in results]),
        "seconds": time.perf_counter() - start,
    }


def exact_random(values: Any, trials: int) -> tuple[float, float]:
    """Returns the mean and deviation of the best of so many cells drawn with replacement, exactly.

    Args:
        values: `[N]` float, the results of all cells.
        trials: How many are drawn.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    chance = np.diff((np.arange(len(ordered) + 1) / len(ordered)) ** trials)
    mean = float(chance @ ordered)
    return mean, math.sqrt(max(float(chance @ ordered**2) - mean**2, 0.0))


def paired_z(better: Any, worse: Any) -> float:
    """Returns the mean of the differences over its standard error."""
    differences = np.asarray(better) - np.asarray(worse)
    error = differences.std(ddof=1) / math.sqrt(len(differences))
    return float(differences.mean() / error) if error else 0.0


def cell(values: Any) -> str:
    """Returns mean and deviation; nan is left out."""
    known = values[~np.isnan(values)]
    return f"{known.mean():.2f}±{known.std():.2f}" if len(known) else ""


def validation_table(dataset: str, found: dict[str, dict[str, Any]], all_valid: Any) -> str:
    """Returns the best 12-epoch validation by trial as Markdown, beside the reference code and REA.

    Args:
        dataset: Its name.
        found: What `measure` returned, by algorithm.
        all_valid: `[N]` float, the 12-epoch validation of all cells, for the exact row of random search.
    """
    shown = [c for c in CHECKPOINTS if c <= min(len(result["valid"][0]) for result in found.values())]
    rows = [
        f"| {dataset}, validation after | {' | '.join(f'{c} trials' for c in shown)} | from the reference "
        "| against REA at 100, 200 |",
        "|---|" + "---:|" * (len(shown) + 2),
    ]
    for name, result in found.items():
        valid = result["valid"]
        cells = [cell(valid[:, checkpoint - 1]) for checkpoint in shown]
        distance = ""
        if (dataset, name) in REFERENCE:
            distance = f"at most {max(abs(z) for z in distances(valid, REFERENCE[dataset, name], shown)):.1f} s.e."
        against = ""
        if "REA" in found and name != "REA":
            pairs = ((valid[:, c - 1], found["REA"]["valid"][:, c - 1]) for c in (100, 200) if c in shown)
            against = ", ".join(f"{paired_z(ours, theirs):+.1f}" for ours, theirs in pairs)
        rows.append(f"| {name} | {' | '.join(cells)} | {distance} | {against} |")
    exact = ["{:.2f}±{:.2f}".format(*exact_random(all_valid, checkpoint)) for checkpoint in shown]
    rows.append(f"| random search, exactly | {' | '.join(exact)} | | |")
    return "\n".join(rows)


def distances(valid: Any, reference: Sequence[tuple[float, float]], shown: Sequence[int]) -> list[float]:
    """Returns how far the means are from those of the reference, in standard errors of the difference."""
    found = []
    for checkpoint, (mean, deviation) in zip(CHECKPOINTS, reference, strict=True):
        if checkpoint in shown:
            values = valid[:, checkpoint - 1]
            error = math.sqrt(deviation**2 / REFERENCE_RUNS + values.var() / len(values))
            found.append(float(values.mean() - mean) / error)
    return found


def test_table(dataset: str, found: dict[str, dict[str, Any]]) -> str:
    """Returns the 200-epoch test accuracy at budgets of trials and of time as Markdown, beside the published one."""
    budgets = [c for c in (100, 200, 300) if c <= min(len(result["test"][0]) for result in found.values())]
    rows = [
        f"| {dataset}, test after | {' | '.join(f'{c} trials' for c in budgets)} | {TIMES_S[dataset]:,} s "
        "| published |",
        "|---|" + "---:|" * (len(budgets) + 2),
    ]
    for name, result in found.items():
        cells = [cell(result["test"][:, budget - 1]) for budget in budgets]
        published = PUBLISHED.get((dataset, name))
        shown = "" if published is None else "{:.2f}±{:.2f}".format(*published)
        rows.append(f"| {name} | {' | '.join(cells)} | {cell(result['timed'][:, -1])} | {shown} |")
    return "\n".join(rows)


def draw(results: dict[str, dict[str, dict[str, Any]]], path: Path) -> None:
    """Draws the mean 200-epoch test accuracy by simulated time and by trial, with bands of a fourth of a deviation."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, len(results), figsize=(5 * len(results), 8), constrained_layout=True, squeeze=False)
    for column, (dataset, found) in enumerate(results.items()):
        hours = np.arange(1, NUM_TIMES + 1) * TIMES_S[dataset] / NUM_TIMES / 3600
        trials = np.arange(1, CHECKPOINTS[-1] + 1)
        for axis, key, places in ((axes[0][column], "timed", hours), (axes[1][column], "test", trials)):
            for name, result in found.items():
                mean, spread = np.nanmean(result[key], 0), np.nanstd(result[key], 0) / 4
                axis.plot(places[: len(mean)], mean, label=name)
                axis.fill_between(places[: len(mean)], mean - spread, mean + spread, alpha=0.15)
            start = min(np.nanmean(result[key], 0)[len(result[key][0]) // 12] for result in found.values())
            axis.set(title=dataset, ylabel="test accuracy after 200 epochs (%)", ylim=(start, None))
            axis.set_xlabel("simulated hours" if key == "timed" else "trials")
    axes[0][-1].legend(loc="lower right", fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def summary(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Returns means and deviations of all curves as JSON, by algorithm."""
    return {
        name: {
            "seconds": result["seconds"],
            **{f"{key}_mean": np.nanmean(result[key], 0).tolist() for key in ("valid", "test")},
            **{f"{key}_std": np.nanstd(result[key], 0).tolist() for key in ("valid", "test")},
            "timed_mean": [
                None if np.isnan(column).all() else float(np.nanmean(column)) for column in result["timed"].T
            ],
        }
        for name, result in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, required=True, help="an npz file, see load_topology")
    parser.add_argument("--seeds", type=int, default=500)
    parser.add_argument("--datasets", nargs="+", default=list(DATASETS), choices=DATASETS)
    parser.add_argument("--algorithms", nargs="+", help=f"of {', '.join(algorithms())}; by default all")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, help="where to write all means and deviations")
    parser.add_argument("--picture", type=Path, help="where to draw the curves")
    options = parser.parse_args()
    names = options.algorithms or list(algorithms())
    unknown = sorted(set(names) - set(algorithms()))
    if unknown:
        parser.error(f"unknown algorithms {unknown}; known are {', '.join(algorithms())}")
    results: dict[str, dict[str, dict[str, Any]]] = {}
    for dataset in options.datasets:
        results[dataset] = {}
        for name in names:
            results[dataset][name] = measure(options.table, dataset, name, options.seeds, options.workers)
            print(f"{dataset}, {name}: {results[dataset][name]['seconds']:.1f} s", flush=True)
        all_valid = Columns(options.table, dataset).valid
        print(validation_table(dataset, results[dataset], all_valid), test_table(dataset, results[dataset]), sep="\n\n")
        for better, worse in (("REA", "Reinforce"), ("Reinforce", "Random")):
            if {better, worse} <= set(names):
                z = paired_z(results[dataset][better]["valid"][:, 199], results[dataset][worse]["valid"][:, 199])
                print(f"{better} over {worse} at 200 trials: {z:+.1f} standard errors (paired by seed)")
    if options.picture:
        draw(results, options.picture)
    if options.json:
        options.json.write_text(json.dumps({dataset: summary(found) for dataset, found in results.items()}))


if __name__ == "__main__":
    main()
