"""Early losses of real trainings: what successive halving saves against training everything to the end.

    python benchmarks/multifidelity.py --logs logs.jsonl.gz [--seeds 200] [--json FILE]

The file holds one JSON object a line, one per recurrent network trained on WikiText-2 (NAS-Bench-NLP, Klyuchnikov et
al. 2020, arXiv 2006.07116), with its `status`, `num_params` and the `val_losses` after each of 50 epochs. Whole runs
alone are used. The decision is which network to train, by its place in the order of size; a proposal with fidelity f
costs the epochs from what it inherits up to floor(f), and is answered with the loss that was really measured then. What
counts is the loss after 50 epochs of the best network so far that was trained to the end.

The order of size says little about the loss (a rank correlation of 0.10), so that a model has little to learn from
here; what successive halving saves is what is measured. BOHB may train a network twice, which gives the same loss here.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import mutandis as mu
from mutandis.errors import SpaceExhausted
from mutandis.hyper import Feedback

EPOCHS = 50
BUDGETS = tuple(range(50, 5001, 50))
SHOWN = (250, 500, 1000, 2000, 5000)


def algorithms() -> dict[str, Callable[[], Any]]:
    """Returns what is compared, by name; only BOHB itself may start a network twice."""
    a = mu.algorithms
    return {
        "Random": lambda: a.Deduped(a.Random()),
        "SuccessiveHalving": lambda: a.Hyperband(1, EPOCHS, sampler=a.Deduped(a.Random()), brackets=(3,)),
        "Hyperband": lambda: a.Hyperband(1, EPOCHS, sampler=a.Deduped(a.Random())),
        "ASHA": lambda: a.ASHA(1, EPOCHS, 3, sampler=a.Deduped(a.Random())),
        "BOHB": lambda: a.BOHB(1, EPOCHS),
        "BOHB without repeats": lambda: a.Hyperband(
            1, EPOCHS, sampler=a.Deduped(a.multifidelity.KernelDensity(), retries=3), bracket_sizes="hpbandster"
        ),
    }


def read_losses(path: Path) -> Any:
    """Returns the validation losses, `[runs, EPOCHS]`, smallest network first."""
    with gzip.open(path, "rt") as file:
        records = [json.loads(line) for line in file]
    whole = [r for r in records if r["status"] == "OK" and len(r["val_losses"]) == EPOCHS]
    return np.array([r["val_losses"] for r in sorted(whole, key=lambda r: (r["num_params"], r["recepie_id"]))])


def run(algorithm: Any, losses: Any, seed: int, budgets: tuple[int, ...] = BUDGETS) -> list[float]:
    """Runs one search; no training begins that would go beyond the last budget.

    Returns:
        The least loss after 50 epochs of what was trained to the end within each budget; nan where nothing was.
    """
    space = mu.space(mu.intv(0, len(losses) - 1, name="network")).bare()
    search = algorithm.start(space, seed=seed)
    trained: dict[int | None, int] = {None: 0}
    spent, best = 0, math.nan
    found: list[float] = []
    while len(found) < len(budgets):
        try:
            proposal = search.propose()
        except SpaceExhausted:
            break
        epochs = EPOCHS if proposal.fidelity is None else math.floor(proposal.fidelity + 1e-9)
        trained[proposal.id] = epochs
        spent += epochs - trained[proposal.inherit]
        while len(found) < len(budgets) and spent > budgets[len(found)]:
            found.append(best)
        loss = float(losses[proposal.dna["network"], epochs - 1])
        if epochs == EPOCHS and not loss >= best:
            best = loss
        search.feedback(Feedback(proposal.id, proposal.dna, None, proposal.fidelity, (-loss,)))
    return found + [best] * (len(budgets) - len(found))


def measure(losses: Any, names: list[str], seeds: int) -> dict[str, dict[str, Any]]:
    """Returns the losses of all seeds, `[seeds, budgets]`, and the CPU seconds that they took, by name."""
    made: dict[str, dict[str, Any]] = {}
    for name in names:
        start = time.process_time()
        found = np.array([run(algorithms()[name](), losses, seed) for seed in range(seeds)])
        made[name] = {"losses": found, "seconds": time.process_time() - start}
    return made


def saved(result: Any, plain: Any) -> str:
    """Returns the first budget at which a mean is as good as that of random search at the last one, as a share."""
    goal = np.nanmean(plain[:, -1])
    for column, budget in enumerate(BUDGETS):
        values = result[:, column]
        if not np.isnan(values).any() and values.mean() <= goal:
            return f"{budget / BUDGETS[-1]:.0%}"
    return "more"


def table(losses: Any, made: dict[str, dict[str, Any]]) -> str:
    """Returns the figures as Markdown: regrets, i.e. losses above the least of all runs, and their standard errors."""
    least = losses[:, -1].min()
    rows = [f"| regret within | {' | '.join(f'{b:,} epochs' for b in SHOWN)} | epochs for Random's last |",
            "|---|" + "---:|" * (len(SHOWN) + 1)]  # fmt: skip
    for name, result in made.items():
        cells = []
        for budget in SHOWN:
            values = result["losses"][:, BUDGETS.index(budget)]
            known = values[~np.isnan(values)] - least
            error = known.std(ddof=1) / math.sqrt(len(known)) if len(known) > 1 else math.nan
            note = f" ({len(known)} of {len(values)})" if len(known) < len(values) else ""
            cells.append(f"{known.mean():.3f}±{error:.3f}{note}" if len(known) else "nothing")
        share = saved(result["losses"], made["Random"]["losses"]) if "Random" in made else ""
        rows.append(f"| {name} | {' | '.join(cells)} | {share} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logs", type=Path, required=True, help="a gzipped file of JSON lines")
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--algorithms", nargs="+", default=list(algorithms()), choices=list(algorithms()))
    parser.add_argument("--json", type=Path, help="where to write the losses")
    options = parser.parse_args()
    losses = read_losses(options.logs)
    made = measure(losses, options.algorithms, options.seeds)
    print(f"{len(losses)} runs, {options.seeds} seeds; least loss {losses[:, -1].min():.4f}")
    print(table(losses, made))
    for name, result in made.items():
        print(f"{name}: {result['seconds']:.1f} s of CPU")
    if options.json:
        options.json.write_text(json.dumps({name: r["losses"].tolist() for name, r in made.items()}))


if __name__ == "__main__":
    main()
