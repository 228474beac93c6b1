"""Multi-trial search on NATS-Bench's topology space: 500 runs of every algorithm on three datasets.

    python benchmarks/nats.py --table nasbench201.npz [--seeds 500] [--algorithms Random RegularizedEvolution ...]

Searches on the validation accuracy after 12 epochs and reports the test accuracy after 200 epochs of the best cell so
far, at budgets of trials and of simulated seconds (Dong et al. 2021, sections 5 and 6; thesis, figure 5.6). The table
needs the columns that `mutandis.models.tabular.load_topology` names. Writes a table, a plot with bands, and JSON.

Beside the means stand those of the reference code's algorithms on the same table (500 runs each), and how many standard
errors ours are away from them.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import mutandis as mu
from mutandis.errors import SpaceExhausted
from mutandis.hyper import Feedback
from mutandis.models.nats import EDGES
from mutandis.models.tabular import load_topology

SPACE = mu.space([mu.oneof(list(range(5)), name=f"edge {a} to {b}") for a, b in EDGES]).bare()
DATASETS = ("cifar10", "cifar100", "imagenet16")
CHECKPOINTS = (10, 25, 50, 100, 150, 200, 300)
TIMES_S = {"cifar10": 20_000, "cifar100": 40_000, "imagenet16": 120_000}
MOST_TRIALS = 1000

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
    """Returns what can be run, by name; `REA` and `Reinforce` with the settings of the reference code."""
    evolution = mu.algorithms.evolution
    known: dict[str, Callable[[], Any]] = {
        "Random": mu.algorithms.Random,
        "REA": lambda: mu.algorithms.RegularizedEvolution(10, 3, mutation=evolution.Uniform(weight=node_then_edge)),
        "REA, uniform edges": lambda: mu.algorithms.RegularizedEvolution(10, 3),
        "REA 50/10": lambda: mu.algorithms.RegularizedEvolution(50, 10),
        "HillClimb": lambda: mu.algorithms.HillClimb(),
    }
    for name, make in MORE.items():
        if hasattr(mu.algorithms, name):
            known[name] = make
    return known


MORE: dict[str, Callable[[], Any]] = {
    "Reinforce": lambda: mu.algorithms.Reinforce(),
    "LocalSearch": lambda: mu.algorithms.LocalSearch(),
    "TPE": lambda: mu.algorithms.TPE(),
    "Screened": lambda: mu.algorithms.Screened(mu.algorithms.RegularizedEvolution(10, 3)),
    "NSGA2": lambda: mu.algorithms.NSGA2(population_size=20),
    "QLearning": lambda: mu.algorithms.QLearning(),
}
"""Algorithms beyond the published ones, with settings that are the same for all datasets."""


class Columns:
    """The columns of a table by the code of a cell, plain lists for speed."""

    def __init__(self, path: Path, dataset: str) -> None:
        table = load_topology(path, dataset)
        rows = table.rows
        self.valid = table.results["valid", 12][rows].tolist()
        self.test = table.results["test", 200][rows].tolist()
        self.seconds = (table.training_seconds[12] + table.validation_seconds)[rows].tolist()


def run(algorithm: Any, columns: Columns, seed: int, budget_s: float) -> tuple[list[float], list[float], float]:
    """Runs one search.

    Returns:
        The best 12-epoch validation so far by trial; the 200-epoch test of that cell by trial; and that test at the
        end of the simulated time.
    """
    search = algorithm.start(SPACE, seed=seed)
    best, chosen, spent, at_time = float("-inf"), 0.0, 0.0, math.nan
    valid_so_far: list[float] = []
    test_so_far: list[float] = []
    while len(valid_so_far) < CHECKPOINTS[-1] or (spent < budget_s and len(valid_so_far) < MOST_TRIALS):
        try:
            proposal = search.propose()
        except SpaceExhausted:
            break
        code = 0
        for value in proposal.dna.values:
            code = code * 5 + value
        reward = columns.valid[code]
        search.feedback(Feedback(proposal.id, proposal.dna, None, proposal.fidelity, (reward,)))
        spent += columns.seconds[code]
        if reward > best:
            best, chosen = reward, columns.test[code]
        valid_so_far.append(best)
        test_so_far.append(chosen)
        if spent <= budget_s:
            at_time = chosen
    return valid_so_far[: CHECKPOINTS[-1]], test_so_far[: CHECKPOINTS[-1]], at_time


_STATE: dict[str, Any] = {}


def _prepare(path: Path, dataset: str, name: str) -> None:
    _STATE.update(columns=Columns(path, dataset), algorithm=algorithms()[name](), budget_s=TIMES_S[dataset])


def _run(seed: int) -> tuple[list[float], list[float], float]:
    return run(_STATE["algorithm"], _STATE["columns"], seed, _STATE["budget_s"])


def measure(path: Path, dataset: str, name: str, seeds: int, workers: int) -> dict[str, Any]:
    """Returns the curves of all seeds, `[seeds, trials]`, and the seconds that they took."""
    start = time.perf_counter()
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, _prepare, (path, dataset, name)) as pool:
        results = pool.map(_run, range(seeds), chunksize=max(1, seeds // (4 * workers)))
    length = min(len(valid) for valid, _, _ in results)
    return {
        "valid": np.array([valid[:length] for valid, _, _ in results]),
        "test": np.array([test[:length] for _, test, _ in results]),
        "at_time": np.array([at_time for _, _, at_time in results]),
        "seconds": time.perf_counter() - start,
    }


def paired_z(better: Any, worse: Any) -> float:
    """Returns the mean of the differences over its standard error."""
    differences = np.asarray(better) - np.asarray(worse)
    error = differences.std(ddof=1) / math.sqrt(len(differences))
    return float(differences.mean() / error) if error else 0.0


def table(dataset: str, found: dict[str, dict[str, Any]]) -> str:
    """Returns the figures of a dataset as Markdown."""
    shown = [c for c in CHECKPOINTS if c <= min(len(r["valid"][0]) for r in found.values())]
    rows = [
        f"| {dataset} | {' | '.join(f'{c} trials' for c in shown)} | largest distance | test at {TIMES_S[dataset]:,} s"
        " | published | against REA at 100, 200 |",
        "|---|" + "---:|" * (len(shown) + 4),
    ]
    for name, result in found.items():
        valid = result["valid"]
        cells, distances = [], []
        for column, checkpoint in enumerate(CHECKPOINTS):
            if checkpoint not in shown:
                continue
            values = valid[:, checkpoint - 1]
            cells.append(f"{values.mean():.2f}±{values.std():.2f}")
            if (dataset, name) in REFERENCE:
                mean, deviation = REFERENCE[dataset, name][column]
                error = math.sqrt(deviation**2 / 500 + values.var() / len(values))
                distances.append(abs(values.mean() - mean) / error)
        published = PUBLISHED.get((dataset, name))
        at_time = result["at_time"][~np.isnan(result["at_time"])]
        against = [f"{paired_z(valid[:, c - 1], found['REA']['valid'][:, c - 1]):+.1f}" for c in (100, 200)
                   if "REA" in found and name != "REA" and c in shown]  # fmt: skip
        rows.append(
            f"| {name} | {' | '.join(cells)} | {f'{max(distances):.1f} s.e.' if distances else ''} "
            f"| {at_time.mean():.2f}±{at_time.std():.2f} | {'' if published is None else '{}±{}'.format(*published)} "
            f"| {', '.join(against)} |"
        )
    return "\n".join(rows)


def draw(results: dict[str, dict[str, dict[str, Any]]], path: Path) -> None:
    """Draws the mean 200-epoch test accuracy by trial, with bands of one standard deviation over four."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(results), figsize=(5 * len(results), 4), constrained_layout=True, squeeze=False)
    for axis, (dataset, found) in zip(axes[0], results.items(), strict=True):
        for name, result in found.items():
            mean, spread = result["test"].mean(0), result["test"].std(0) / 4
            trials = np.arange(1, len(mean) + 1)
            axis.plot(trials, mean, label=name)
            axis.fill_between(trials, mean - spread, mean + spread, alpha=0.15)
        low = min(result["test"].mean(0)[min(20, result["test"].shape[1] - 1)] for result in found.values())
        axis.set(title=dataset, xlabel="trials", ylabel="test accuracy after 200 epochs (%)", ylim=(low, None))
    axes[0][-1].legend(loc="lower right", fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


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
        print(table(dataset, results[dataset]), flush=True)
        for better, worse in (("REA", "Reinforce"), ("Reinforce", "Random")):
            if {better, worse} <= set(names):
                z = paired_z(results[dataset][better]["valid"][:, 199], results[dataset][worse]["valid"][:, 199])
                print(f"{better} over {worse} at 200 trials: {z:+.1f} standard errors (paired by seed)")
    if options.picture:
        draw(results, options.picture)
    if options.json:
        summary = {
            dataset: {name: {"valid_mean": r["valid"].mean(0).tolist(), "valid_std": r["valid"].std(0).tolist(),
                             "test_mean": r["test"].mean(0).tolist(), "at_time": r["at_time"].tolist(),
                             "seconds": r["seconds"]} for name, r in found.items()}
            for dataset, found in results.items()
        }  # fmt: skip
        options.json.write_text(json.dumps(summary))


if __name__ == "__main__":
    main()
