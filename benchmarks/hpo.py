"""Search algorithms on test functions beside Optuna's, in one run: regret, and CPU time per trial.

    pip install -c constraints.txt -e '.[benchmarks]'
    python benchmarks/hpo.py                                             # TPE beside Optuna's: half an hour
    python benchmarks/hpo.py --problems mixedcond cash --algorithms TPE optuna_tpe_group --seeds 100
    python benchmarks/hpo.py --throughput                                # the cost of the loop itself: seconds

Every problem is an annotated program, so that all see the same decisions; Optuna meets them in its own way, one
suggestion for each active decision. Regret is the distance to the known optimum, means are over seeds, with
standard errors and [medians]. Times are CPU milliseconds of the process, the objective included (microseconds). A
difference is the mean over seeds of the rival's regret less the first algorithm's; above two standard errors it counts.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import mutandis as mu

Curve = list[float]
Objective = Callable[[Any], float]


@dataclass(frozen=True)
class Problem:
    """A program and what to minimise.

    Attributes:
        program: The annotated program; its children are dictionaries.
        objective: A function of the child.
        optimum: The least value of the objective.
        budgets: After how many trials the regret is read.
    """

    program: Any
    objective: Objective
    optimum: float
    budgets: tuple[int, ...] = (100, 200)


# Continuous. ------------------------------------------------------------------------------------------------------


def branin() -> Problem:
    """Branin and Hoo, with three optima."""

    def value(child: dict[str, float]) -> float:
        x, y = child["x1"], child["x2"]
        bowl = (y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6) ** 2
        return bowl + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10

    return Problem({"x1": mu.floatv(-5.0, 10.0), "x2": mu.floatv(0.0, 15.0)}, value, 0.39788735772973816)


def hartmann6() -> Problem:
    """Hartmann's function of six variables."""
    heights = np.array([1.0, 1.2, 3.0, 3.2])
    steepness = np.array([[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14],
                          [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]])  # fmt: skip
    centres = 1e-4 * np.array([[1312, 1696, 5569, 124, 8283, 5886], [2329, 4135, 8307, 3736, 1004, 9991],
                               [2348, 1451, 3522, 2883, 3047, 6650], [4047, 8828, 8732, 5743, 1091, 381]])  # fmt: skip

    def value(child: list[float]) -> float:
        distances = (steepness * (np.array(child) - centres) ** 2).sum(axis=1)
        return -float((heights * np.exp(-distances)).sum())

    return Problem([mu.floatv(0.0, 1.0) for _ in range(6)], value, -3.32236801141551)


def ackley10() -> Problem:
    """Ackley's function of ten variables; the optimum, at x_i = 2 i - 9, is off the middle of the box."""
    shift = 2.0 * (np.arange(10) - 4.5)

    def value(child: list[float]) -> float:
        z = np.array(child) - shift
        waves = math.exp(np.cos(2 * np.pi * z).mean())
        return float(-20 * math.exp(-0.2 * math.sqrt((z * z).mean())) - waves + 20 + math.e)

    return Problem([mu.floatv(-32.768, 32.768) for _ in range(10)], value, 0.0)


def rosenbrock10() -> Problem:
    """Rosenbrock's valley of ten variables."""

    def value(child: list[float]) -> float:
        x = np.array(child)
        return float((100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum())

    return Problem([mu.floatv(-5.0, 10.0) for _ in range(10)], value, 0.0)


# Conditional. -----------------------------------------------------------------------------------------------------


def mixedcond() -> Problem:
    """Three models with decisions of their own, nested and shared ones; the best of each is 0.10, 0.05 and 0.12."""
    rate = mu.floatv(1e-5, 1.0, scale="log", name="lr")
    widths = [mu.intv(8, 512, scale="log", name=f"mlp_w{i}") for i in range(5)]
    mlp = {"model": "mlp", "lr": rate, "widths": mu.oneof([widths[: n + 1] for n in range(5)], name="mlp_n"),
           "act": mu.oneof(["relu", "gelu", "tanh"])}  # fmt: skip
    cnn = {"model": "cnn", "lr": rate, "kernel": mu.oneof([3, 5, 7]), "channels": mu.intv(8, 128, scale="log"),
           "dropout": mu.floatv(0.0, 0.8)}  # fmt: skip
    tree = {"model": "tree", "depth": mu.intv(1, 16), "eta": mu.floatv(1e-3, 1.0, scale="log"),
            "subsample": mu.oneof([None, mu.floatv(0.1, 1.0)])}  # fmt: skip

    def of_mlp(child: dict[str, Any]) -> float:
        rate, n = math.log10(child["lr"]), len(child["widths"])
        off = sum(0.03 * (math.log2(width) - (7 - 0.5 * i)) ** 2 for i, width in enumerate(child["widths"])) / n
        act = {"relu": 0.02, "gelu": 0.0, "tanh": 0.06}[child["act"]]
        return 0.10 + 0.08 * (rate + 2.5 + 0.2 * (n - 3)) ** 2 + 0.0125 * (n - 3) ** 2 + off + act

    def of_cnn(child: dict[str, Any]) -> float:
        rate, channels = math.log10(child["lr"]) + 3, math.log2(child["channels"]) - 6
        kernel = {3: 0.04, 5: 0.0, 7: 0.05}[child["kernel"]]
        dropout = 0.8 * (child["dropout"] - 0.3) ** 2
        return 0.05 + 0.06 * rate**2 + kernel + 0.02 * channels**2 + dropout + 0.04 * abs(rate - 0.3 * channels)

    def of_tree(child: dict[str, Any]) -> float:
        share = child["subsample"]
        base = 0.12 + 0.004 * (child["depth"] - 6) ** 2 + 0.1 * (math.log10(child["eta"]) + 1) ** 2
        return base + (0.06 if share is None else 0.5 * (share - 0.8) ** 2)

    of = {"mlp": of_mlp, "cnn": of_cnn, "tree": of_tree}
    return Problem(
        {"model": mu.oneof([mlp, cnn, tree])}, lambda child: of[child["model"]["model"]](child["model"]), 0.05
    )


def cash() -> Problem:
    """Three families of three models, each with 2 to 4 ranges; the best is narrow and its family looks poor."""
    least = [[0.10, 0.14, 0.30], [0.12, 0.13, 0.2], [0.25, 0.0, 0.3]]
    curvature = [[0.3, 0.3, 0.5], [0.4, 0.5, 0.4], [0.5, 1.2, 0.5]]
    sizes = [[2, 3, 2], [3, 4, 2], [2, 4, 3]]

    def model(family: int, number: int) -> dict[str, Any]:
        return {"number": number, "x": [mu.floatv(0.0, 1.0) for _ in range(sizes[family][number])]}

    families = [{"family": family, "shared": mu.floatv(0.0, 1.0, name="shared"),
                 "model": mu.oneof([model(family, number) for number in range(3)])} for family in range(3)]  # fmt: skip

    def value(child: dict[str, Any]) -> float:
        family, number = child["family"], child["model"]["number"]
        places = [((family * 7 + number * 5 + j * 3) % 10 + 0.5) / 11 for j in range(4)]
        off = sum((x - place) ** 2 for x, place in zip(child["model"]["x"], places))
        shared = 0.3 * (child["shared"] - (0.2 + 0.3 * family)) ** 2
        return least[family][number] + shared + curvature[family][number] * off

    return Problem(mu.oneof(families), value, 0.0)


def network() -> Problem:
    """Six layers, each skipped, a convolution or attention with decisions of its own, and a learning rate."""
    wanted = ("conv", "conv", "attention", "skip", "attention", "conv")

    def layer() -> Any:
        conv = {"kind": "conv", "width": mu.intv(8, 256, scale="log"), "kernel": mu.oneof([1, 3, 5, 7])}
        attention = {"kind": "attention", "heads": mu.oneof([1, 2, 4, 8]), "dropout": mu.floatv(0.0, 0.5)}
        return mu.oneof([{"kind": "skip"}, conv, attention])

    def cost(layer: dict[str, Any], depth: int) -> float:
        if layer["kind"] == "conv":
            return 0.03 * (math.log2(layer["width"]) - (4 + 0.5 * depth)) ** 2 + 0.04 * (layer["kernel"] != 3)
        if layer["kind"] == "attention":
            return 0.02 * abs(math.log2(layer["heads"]) - 2) + 0.8 * (layer["dropout"] - 0.1) ** 2
        return 0.02

    def value(child: dict[str, Any]) -> float:
        kinds = [layer["kind"] for layer in child["layers"]]
        total = 0.05 * (math.log10(child["lr"]) + 3) ** 2 + 0.12 * sum(map(str.__ne__, kinds, wanted))
        total += 0.1 * sum(pair == ("attention", "attention") for pair in itertools.pairwise(kinds))
        return total + sum(cost(layer, depth) for depth, layer in enumerate(child["layers"]))

    program = {"lr": mu.floatv(1e-5, 1.0, scale="log"), "layers": [layer() for _ in range(6)]}
    return Problem(program, value, 0.02)


# Discrete and mixed. ----------------------------------------------------------------------------------------------


def nas100() -> Problem:
    """A ring of 100 choices of 5, each worth what it and the next two make together; 0 is the best, 1 chance."""
    tables = np.random.RandomState(20260501).rand(100, 5, 5, 5)  # As others measured.
    places = np.arange(100)
    best = ring_maximum(tables) / 100

    def value(child: list[int]) -> float:
        x = np.array(child)
        found = tables[places, x, np.roll(x, -1), np.roll(x, -2)].mean()
        return float((best - found) / (best - 0.5))

    return Problem([mu.oneof([0, 1, 2, 3, 4]) for _ in range(100)], value, 0.0, (200,))


def ring_maximum(tables: Any) -> float:
    """Returns the largest sum of a ring of tables `[N, A, A, A]`, by dynamic programming from each first pair."""
    number, size = tables.shape[:2]
    best = -math.inf
    for first in range(size):
        for second in range(size):
            reach = np.full((size, size), -np.inf)  # By the last two choices.
            reach[first, second] = 0.0
            for table in tables[: number - 2]:
                reach = (reach[:, :, None] + table).max(axis=0)
            closed = reach + tables[-2][:, :, first] + tables[-1][:, first, second]
            best = max(best, float(closed.max()))
    return best


def mixed30() -> Problem:
    """Ten floats, ten ints, ten choices, all on their own: a space to measure time on."""

    def value(child: dict[str, list[Any]]) -> float:
        ints = sum((i / 100 - 0.5) ** 2 for i in child["ints"]) / 10
        return sum(x * x for x in child["floats"]) + ints + sum(c != "c" for c in child["choices"]) / 10

    program = {"floats": [mu.floatv(-1.0, 1.0) for _ in range(10)], "ints": [mu.intv(0, 100) for _ in range(10)],
               "choices": [mu.oneof(["a", "b", "c", "d", "e"]) for _ in range(10)]}  # fmt: skip
    return Problem(program, value, 0.0)


PROBLEMS: dict[str, Callable[[], Problem]] = {
    make.__name__: make
    for make in (branin, hartmann6, ackley10, rosenbrock10, mixedcond, cash, network, nas100, mixed30)
}

# Algorithms. ------------------------------------------------------------------------------------------------------

OURS: dict[str, Callable[[], Any]] = {
    "Random": lambda: mu.algorithms.Random(),
    "RegularizedEvolution": lambda: mu.algorithms.RegularizedEvolution(50, 10),
    "TPE": lambda: mu.algorithms.TPE(),
    "TPE_plain": lambda: mu.algorithms.TPE(branches=False),
    "TPE_separate": lambda: mu.algorithms.TPE(multivariate=False),
    "CMAES": lambda: mu.algorithms.CMAES(),
    "GaussianProcess": lambda: mu.algorithms.GaussianProcess(),
}
OPTUNA: dict[str, Callable[[Any, int], Any]] = {
    "optuna_random": lambda samplers, seed: samplers.RandomSampler(seed=seed),
    "optuna_tpe": lambda samplers, seed: samplers.TPESampler(seed=seed),
    "optuna_tpe_group": lambda samplers, seed: samplers.TPESampler(seed=seed, multivariate=True, group=True),
    "optuna_cmaes": lambda samplers, seed: samplers.CmaEsSampler(seed=seed),
    "optuna_gp": lambda samplers, seed: samplers.GPSampler(seed=seed, deterministic_objective=True),
}


def run_ours(problem: Problem, algorithm: Any, seed: int, trials: int) -> Curve:
    """Returns the least value after each trial."""
    curve: Curve = []
    for child, feedback in mu.sample(problem.program, algorithm, trials=trials, seed=seed):
        value = problem.objective(child)
        feedback(-value)
        curve.append(min(value, curve[-1]) if curve else value)
    return curve


def run_optuna(problem: Problem, sampler: Callable[[Any, int], Any], seed: int, trials: int) -> Curve:
    """Returns the least value after each trial of an Optuna sampler on the same decisions."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = mu.space(problem.program)
    curve: Curve = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # It warns of experimental arguments.
        study = optuna.create_study(sampler=sampler(optuna.samplers, seed))
        for _ in range(trials):
            trial = study.ask()
            dna = space.repair([None] * len(space.points), lambda point, trial=trial: suggest(trial, point))
            value = problem.objective(space.materialize(dna))
            study.tell(trial, value)
            curve.append(min(value, curve[-1]) if curve else value)
    return curve


def suggest(trial: Any, point: Any) -> Any:
    """Returns Optuna's suggestion for a decision."""
    if point.kind == "choice":
        return trial.suggest_categorical(point.key, list(range(point.num_candidates)))
    method = trial.suggest_int if point.kind == "int" else trial.suggest_float
    return method(point.key, point.low, point.high, log=point.scale == "log")


def measure(problem: Problem, name: str, seeds: range, trials: int) -> dict[str, Any]:
    """Returns the regrets by budget, one per seed, and the CPU milliseconds of a trial."""
    regrets: dict[int, list[float]] = {budget: [] for budget in problem.budgets if budget <= trials} or {trials: []}
    start, done = time.process_time(), 0
    for seed in seeds:
        curve = (run_optuna(problem, OPTUNA[name], seed, max(regrets)) if name in OPTUNA
                 else run_ours(problem, OURS[name](), seed, max(regrets)))  # fmt: skip
        done += len(curve)
        for budget, found in regrets.items():
            found.append(curve[min(budget, len(curve)) - 1] - problem.optimum)
    return {"regrets": regrets, "ms": (time.process_time() - start) / done * 1e3}


# Tables. ----------------------------------------------------------------------------------------------------------


def standard_error(values: list[float]) -> float:
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def table(figures: dict[str, dict[str, dict[str, Any]]]) -> str:
    """Returns the figures as a Markdown table, each algorithm beside the first one of its problem."""
    rows = ["| problem | algorithm | trials | regret: mean +- s.e. [median] | ratio | difference | ms |",
            "|---|---|---:|---:|---:|---:|---:|"]  # fmt: skip
    for problem, by_name in figures.items():
        first = next(iter(by_name.values()))["regrets"]
        for name, found in by_name.items():
            for budget, regrets in found["regrets"].items():
                mean, own = statistics.fmean(regrets), statistics.fmean(first[budget])
                apart = [theirs - ours for theirs, ours in zip(regrets, first[budget], strict=True)]
                rows.append(
                    f"| {problem} | {name} | {budget} | {mean:.4g} +- {standard_error(regrets):.2g} "
                    f"[{statistics.median(regrets):.3g}] | {mean / own if own else math.nan:.2f} | "
                    f"{statistics.fmean(apart):+.3g} +- {standard_error(apart):.2g} | {found['ms']:.2f} |"
                )
    return "\n".join(rows)


def throughput(trials: int) -> str:
    """Returns what a trial of `mu.sample` costs with evolution on 30 decisions, in the first and last fifth."""
    problem = mixed30()
    for child, feedback in mu.sample(problem.program, mu.algorithms.RegularizedEvolution(), trials=50):
        feedback(-problem.objective(child))  # Warms up.
    marks = [time.process_time()]
    loop = mu.sample(problem.program, mu.algorithms.RegularizedEvolution(50, 10), trials=trials)
    for done, (child, feedback) in enumerate(loop, 1):
        feedback(-problem.objective(child))
        if done % (trials // 5) == 0:
            marks.append(time.process_time())
    fifths = [(after - before) / (trials // 5) * 1e3 for before, after in itertools.pairwise(marks)]
    return (f"{trials} trials of 30 decisions: {statistics.fmean(fifths):.3f} ms each; "
            f"first fifth {fifths[0]:.3f}, last {fifths[-1]:.3f}")  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS)[:-1], metavar="NAME")
    parser.add_argument("--algorithms", nargs="+", choices=[*OURS, *OPTUNA], metavar="NAME",
                        default=["TPE", "RegularizedEvolution", "optuna_tpe", "optuna_tpe_group"])  # fmt: skip
    parser.add_argument("--seeds", type=int, default=20, help="how many seeds")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--trials", type=int, default=200, help="trials of a run")
    parser.add_argument("--throughput", action="store_true", help="measure the loop instead")
    parser.add_argument("--json", help="where to write all figures")
    options = parser.parse_args(arguments)
    if options.throughput:
        print(throughput(max(options.trials, 5000)))
        return
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    figures: dict[str, dict[str, dict[str, Any]]] = {}
    for problem in options.problems:
        for name in options.algorithms:
            print(f"{problem}: {name} ...", file=sys.stderr, flush=True)
            figures.setdefault(problem, {})[name] = measure(PROBLEMS[problem](), name, seeds, options.trials)
    print(table(figures))
    print(f"\n{len(seeds)} seeds, {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    if options.json:
        with open(options.json, "w") as file:
            json.dump(figures, file, indent=1)


if __name__ == "__main__":
    main()
