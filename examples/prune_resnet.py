"""Network pruning as a search: half of a residual network, found by TAS, and taught by the whole one.

    python examples/prune_resnet.py                                     # scikit-learn's digits; two minutes
    python examples/prune_resnet.py --budget 0.25                       # a quarter of the multiply-accumulates
    python examples/prune_resnet.py --widths layer                      # every layer decides, as published
    python examples/prune_resnet.py --data DIR --train-size 10000       # Fashion-MNIST (or MNIST) from IDX files

DIR holds the four IDX files, gzipped or not, directly or in torchvision's layout (FashionMNIST/raw). As Dong and Yang
(2019, arXiv 1905.09717) do: train the network; search widths and the depth of every stage on shared weights, with a
penalty outside a band around the budget; train what was found again, alone and with knowledge distillation. By default
the outputs of a stage share one width; with --widths layer each has its own. Beside it stand the network that is
thinned alike everywhere to the same cost, and the best of a random search in the band that takes as many
multiply-accumulates as the search of TAS. Prints a table, and draws widths and accuracies into --picture. Needs
scikit-learn, rich and matplotlib.
"""

from __future__ import annotations

import argparse
import gzip
import struct
import time
from pathlib import Path

import mutandis as mu
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn import functional as F

BATCH = 64
BAND = 0.05
resnet = mu.models.resnet


def read_idx(folder: Path, stem: str) -> np.ndarray:
    """Reads one IDX file, gzipped or not, from anywhere below `folder`."""
    found = sorted(path for path in folder.rglob(f"{stem}*") if path.suffix in ("", ".gz"))
    if not found:
        raise SystemExit(f"no file {stem} or {stem}.gz below {folder}: --data needs the four IDX files")
    data = gzip.decompress(found[0].read_bytes()) if found[0].suffix == ".gz" else found[0].read_bytes()
    shape = struct.unpack(f">{data[3]}I", data[4 : 4 + 4 * data[3]])
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)


def load(folder: Path | None, train_size: int | None) -> list[list[tuple[torch.Tensor, torch.Tensor]]]:
    """Returns batches of images `[B, 1, H, W]` and labels `[B]`, for training, validation and test."""
    if folder is None:
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        images, test_size = images.reshape(-1, 8, 8), 500
    else:
        parts = [[read_idx(folder, f"{part}-{kind}-ubyte") for part in ("train", "t10k")]
                 for kind in ("images-idx3", "labels-idx1")]  # fmt: skip
        images, labels, test_size = np.concatenate(parts[0]), np.concatenate(parts[1]), len(parts[1][1])
    x, y = torch.tensor(images, dtype=torch.float32)[:, None], torch.tensor(labels, dtype=torch.int64)
    rest = len(y) - test_size
    used = rest if train_size is None else min(train_size, rest)
    x = (x - x[: used // 2].mean()) / x[: used // 2].std()
    # Halves for weights and policy, as published; cut without shuffling, for neighbours are often by one writer.
    cuts = (slice(0, used // 2), slice(used // 2, used), slice(rest, None))
    return [list(zip(x[cut].split(BATCH), y[cut].split(BATCH), strict=True)) for cut in cuts]


def train(model: nn.Module, batches: list, epochs: int, seed: int, loss=None) -> None:
    """Trains a model alone; `loss(model, batch)` is cross-entropy where it is not given."""
    torch.manual_seed(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(batches))
    model.train()
    for _ in range(epochs):
        for i in torch.randperm(len(batches)):
            x, y = batches[i]
            optimizer.zero_grad()
            (F.cross_entropy(model(x), y) if loss is None else loss(model, (x, y))).backward()
            optimizer.step()
            schedule.step()


@torch.no_grad()
def accuracy(model: nn.Module, batches: list) -> float:
    model.eval()
    hits = sum(int((model(x).argmax(1) == y).sum()) for x, y in batches)
    return hits / sum(len(y) for _, y in batches)


def settings_of(program) -> dict:
    """Returns the sizes of a network, for the closed form of its cost."""
    given = mu.arguments(program)
    return {name: given[name] for name in ("widths", "depths", "num_classes", "in_channels", "shortcut")}


def last_in_band(space, result, cost, budget: float):
    """Returns the likeliest network of the last epoch at which it cost about the budget.

    A short search swings around the budget, for the penalty turns whenever the likeliest network leaves the band.
    """
    found = result.dna
    for epoch in result.history:
        values = {point.path: point.candidates.index(epoch.likeliest[point.path]) for point in space.points}
        if abs(cost(space.dna(values)) / budget - 1.0) <= BAND:
            found = space.dna(values)
    return found


def thinned(full: nn.Module, depth: int, base: int, macs: float, size: int) -> nn.Module:
    """Returns the network with the same part of every layer whose cost is the nearest."""
    found = [resnet.thinned_widths(float(ratio), depth, base) for ratio in np.linspace(1.0, 0.05, 96)]
    costs = [resnet.resnet_macs(**{**settings_of(full), "widths": widths}, size=size) for widths in found]
    return full.clone(widths=min(zip(found, costs, strict=True), key=lambda pair: abs(pair[1] - macs))[0])


def draw(path: Path, programs: dict, scores: dict) -> None:
    """Draws the width of every layer that runs, and the accuracies."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4), width_ratios=(2, 1))
    for name, program in programs.items():
        widths, depths = mu.arguments(program)["widths"], mu.arguments(program)["depths"]
        blocks = (len(widths) - 1) // 6
        runs = [0] + [1 + 2 * (s * blocks + b) + i for s in range(3) for b in range(depths[s]) for i in (0, 1)]
        left.plot(runs, [widths[i] for i in runs], marker="o", label=name)
    left.set(xlabel="3x3 convolution", ylabel="channels", title="What is left of each layer")
    left.legend()
    for row, kind in enumerate(("plain", "distilled")):
        points = [(i, value) for i, name in enumerate(scores) for value in scores[name].get(kind, [])]
        right.scatter([i + 0.2 * row - 0.1 for i, _ in points], [value for _, value in points], label=kind)
    right.set(ylabel="test accuracy", title="Each dot is one training")
    right.set_xticks(range(len(scores)), list(scores), rotation=15)
    right.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=float, default=0.5, help="the part of the multiply-accumulates that is kept")
    parser.add_argument("--epochs", type=int, default=30, help="of the search")
    parser.add_argument("--final-epochs", type=int, default=15, help="of a network alone")
    parser.add_argument("--runs", type=int, default=3, help="repetitions of the final comparison")
    parser.add_argument("--depth", type=int, default=14, help="of the network: 8, 14, 20, ...")
    parser.add_argument("--base", type=int, default=8, help="its first width")
    parser.add_argument("--widths", choices=("stage", "layer"), default="stage", help="what decides about widths")
    parser.add_argument("--data", type=Path, help="a folder with IDX files; by default scikit-learn's digits")
    parser.add_argument("--train-size", type=int, help="how many training images to use; by default all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--picture", type=Path, default=Path("pruned.png"))
    options = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    weights, policy, test = load(options.data, options.train_size)
    everything, images = weights + policy, test[0][0][:2]
    size = images.shape[-1]

    # The program, and what its children cost.
    program = resnet.resnet_program(options.depth, widths=options.widths, base=options.base, in_channels=1)
    space = mu.space(program)
    cost = mu.flows.fit_cost(mu.bind(resnet.resnet_macs, **settings_of(program), size=size), lambda call: call(),
                             most_builds=50_000)  # fmt: skip
    full = space.materialize(space.dna({point.path: point.num_candidates - 1 for point in space.points}))
    unpruned = cost(space.encode(full))
    budget = options.budget * unpruned

    # The search: sizes are mixed on one set of weights, and the expected cost is pulled towards the budget.
    # What shortcuts add up differs from network to network where each layer decides; the leading channels are meant.
    shared = mu.share_weights(program, images, positions="proven" if options.widths == "stage" else "leading")
    depths = tuple(point.name for point in space.points if point.hints == "depth")
    algorithm = mu.algorithms.TAS(full=depths, learning_rate=0.05)
    algorithm = mu.algorithms.ResourceConstrained(algorithm, cost, form="band", budget=budget, weight=2.0)
    started = time.perf_counter()
    result = mu.one_shot(shared, algorithm, train=weights, valid=policy, epochs=options.epochs, seed=options.seed,
                         optimizer=lambda w: torch.optim.SGD(w, lr=0.1, momentum=0.9, weight_decay=5e-4))  # fmt: skip
    seconds = time.perf_counter() - started
    dna = last_in_band(space, result, cost, budget)
    found = cost(dna)
    print(f"TAS searched {space.size:,} networks in {seconds:.0f} s: {found / unpruned:.1%} of the unpruned network's "
          f"multiply-accumulates, where {options.budget:.0%} was asked for")  # fmt: skip

    # Random search in the same band, for as many multiply-accumulates as TAS took: two passes of the largest network
    # per step, one for the weights and one for the policy.
    in_band = mu.algorithms.Constrained(mu.algorithms.Random(), lambda dna: abs(cost(dna) / budget - 1.0) <= BAND)
    trials = max(1, round(2 * options.epochs * unpruned / (options.final_epochs * budget)))
    loop = mu.sample(program, in_band, trials=trials, seed=options.seed)
    for child, feedback in loop:
        train(child, weights, options.final_epochs, options.seed)
        feedback(accuracy(child, policy))

    # All are trained alone on all training data, several times; the pruned ones with a teacher, too.
    programs = {"unpruned": full, "thinned alike": thinned(full, options.depth, options.base, found, size),
                f"random ({trials} trials)": space.materialize(loop.study.best.dna),
                "found by TAS": space.materialize(dna)}  # fmt: skip
    scores: dict = {name: {} for name in programs}
    for run in range(options.runs):
        teacher = None
        for name, plain in programs.items():
            for kind in ("plain",) if teacher is None else ("plain", "distilled"):
                torch.manual_seed(run)
                model = plain.clone()
                train(model, everything, options.final_epochs, run,
                      None if kind == "plain" else mu.flows.Distillation(teacher))  # fmt: skip
                scores[name].setdefault(kind, []).append(accuracy(model, test))
                teacher = teacher or model

    table = Table("network", "kMACs", "kept", "weights", "blocks", "plain", "distilled",
                  title=f"Test accuracy in percent, mean and range of {options.runs} trainings")  # fmt: skip
    for name, plain in programs.items():
        macs = resnet.resnet_macs(**settings_of(plain), size=size)
        count = sum(p.numel() for p in plain.parameters())
        percent = [100 * np.array(scores[name].get(kind, [])) for kind in ("plain", "distilled")]
        shown = [f"{v.mean():.1f} ({v.min():.1f}-{v.max():.1f})" if len(v) else "-" for v in percent]
        table.add_row(name, f"{macs / 1e3:.0f}", f"{macs / unpruned:.1%}", f"{count:,}",
                      " ".join(map(str, mu.arguments(plain)["depths"])), *shown)  # fmt: skip
    Console().print(table)
    one, other = scores["found by TAS"]["distilled"], scores["thinned alike"]["distilled"]
    if min(one) <= max(other) and min(other) <= max(one):
        print("The ranges of the networks found by TAS and thinned alike overlap: these runs do not tell them apart.")
    else:
        better = "better" if min(one) > max(other) else "worse"
        print(f"Distilled, what TAS found was {better} than thinning alike, {options.runs} trainings each.")
    draw(options.picture, programs, scores)


if __name__ == "__main__":
    main()
