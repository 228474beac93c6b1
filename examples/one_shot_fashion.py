"""Weight sharing: one training for all children of a program, then the best of them trained alone.

    python examples/one_shot_fashion.py                                 # scikit-learn's digits; under two minutes
    python examples/one_shot_fashion.py --algorithm GDAS                # or DARTS, TuNAS, RegularizedEvolution ...
    python examples/one_shot_fashion.py --data DIR --train-size 10000   # Fashion-MNIST (or MNIST) from IDX files

DIR holds the four IDX files, gzipped or not, directly or in torchvision's layout (FashionMNIST/raw). Prints what was
found, and the test accuracy and cost of the hand-written default, of the best of a random search that may go through
the training data as often as the shared weights did, and of the child that was found. Needs scikit-learn and rich.
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


@mu.symbolize
class ConvBlock(nn.Sequential):
    """A convolution, a norm and an activation; `separable` splits it into depthwise and pointwise."""

    def __init__(self, width: int, kernel: int = 3, separable: bool = False):
        convs = [nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width if separable else 1, bias=False)]
        if separable:
            convs.append(nn.Conv2d(width, width, 1, bias=False))
        super().__init__(*convs, nn.BatchNorm2d(width), nn.ReLU())


@mu.symbolize
class ConvNet(nn.Module):
    """A stem, then two stages of residual blocks with a pool between them."""

    def __init__(self, width: int, first: list[nn.Module], second: list[nn.Module]):
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        self.first, self.second = nn.ModuleList(first), nn.ModuleList(second)
        self.head = nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in self.first:
            x = x + block(x)
        x = F.max_pool2d(x, 2)
        for block in self.second:
            x = x + block(x)
        return self.head(x.mean((2, 3)))


def searchable_program(width: int) -> ConvNet:
    """Six places for one of four operations: 4,096 networks."""

    def block():
        return mu.oneof([ConvBlock(width, 3), ConvBlock(width, 5), ConvBlock(width, 5, separable=True),
                         mu.nn.Identity()])  # fmt: skip

    return ConvNet(width, [block() for _ in range(3)], [block() for _ in range(3)])


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


def train(model: nn.Module, batches: list, epochs: int, seed: int) -> None:
    """Trains a model alone, with the recipe of the shared weights at a larger step size."""
    torch.manual_seed(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(batches))
    model.train()
    for _ in range(epochs):
        for i in torch.randperm(len(batches)):
            x, y = batches[i]
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            schedule.step()


@torch.no_grad()
def accuracy(model: nn.Module, batches: list) -> float:
    model.eval()
    hits = sum(int((model(x).argmax(1) == y).sum()) for x, y in batches)
    return hits / sum(len(y) for _, y in batches)


def operations(model: ConvNet) -> str:
    """Returns the blocks of a network in a few words."""

    def word(block: nn.Module) -> str:
        settings = mu.arguments(block)
        return f"conv{settings['kernel']}" + "s" * settings["separable"] if "kernel" in settings else "skip"

    return " | ".join(" ".join(map(word, stage)) for stage in (model.first, model.second))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algorithm", default="RSPS", help="a name in mu.algorithms")
    parser.add_argument("--epochs", type=int, default=30, help="of the shared weights")
    parser.add_argument("--final-epochs", type=int, default=10, help="of a network alone")
    parser.add_argument("--runs", type=int, default=3, help="repetitions of the final comparison")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--data", type=Path, help="a folder with IDX files; by default scikit-learn's digits")
    parser.add_argument("--train-size", type=int, help="how many training images to use; by default all")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    weights, policy, test = load(options.data, options.train_size)
    algorithm = getattr(mu.algorithms, options.algorithm)()

    # The search: one training of shared weights.
    program = searchable_program(options.width)
    shared = mu.share_weights(program)
    started = time.perf_counter()
    result = mu.one_shot(shared, algorithm, train=weights, valid=policy, epochs=options.epochs,
                         num_eval_batches=len(policy), seed=options.seed)  # fmt: skip
    seconds = time.perf_counter() - started
    print(
        f"{options.algorithm} searched {shared.space.size:,} networks in {seconds:.0f} s: {operations(result.child())}"
    )
    print(f"accuracy with the shared weights: {accuracy(result.child(), policy):.4f} (validation)")

    # Random search that goes through the training data as often.
    trials = max(1, round(options.epochs / options.final_epochs))
    loop = mu.sample(program, mu.algorithms.Random(), trials=trials, seed=options.seed)
    for child, feedback in loop:
        train(child, weights, options.final_epochs, options.seed)
        feedback(accuracy(child, policy))

    # All three are trained alone, on all training data, several times.
    space = mu.space(program)
    plain = {"hand-written default": space.dna({point.path: 0 for point in space.points}),
             f"random search ({trials} trials)": loop.study.best.dna,
             f"found by {options.algorithm}": result.dna}  # fmt: skip
    flops = mu.flows.fit_cost(program, "flops", test[0][0][:1])
    table = Table(
        "network", "blocks (s: separable)", "MFLOPs", "test", title=f"Mean accuracy of {options.runs} trainings"
    )
    for name, dna in plain.items():
        found = []
        for run in range(options.runs):
            torch.manual_seed(run)
            model = space.materialize(dna)
            train(model, weights + policy, options.final_epochs, run)
            found.append(accuracy(model, test))
        table.add_row(name, operations(model), f"{flops(dna) / 1e6:.2f}", f"{np.mean(found):.4f}")
    Console().print(table)


if __name__ == "__main__":
    main()
