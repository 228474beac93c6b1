"""A real search: architecture, optimizer and augmentation of an image classifier, in one space.

    python examples/fashion_mnist.py                                    # scikit-learn's digits; a minute
    python examples/fashion_mnist.py --data DIR --epochs 2              # Fashion-MNIST (or MNIST) from IDX files
    python examples/fashion_mnist.py --algorithm Random                 # any name in mu.algorithms

DIR holds the four IDX files, gzipped or not, directly or in torchvision's layout (FashionMNIST/raw). Prints a bar
with the best so far, the five best programs, and the held-out test accuracy of the hand-written default beside that
of the best program found; writes the search curve to --picture. Needs scikit-learn and matplotlib.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import struct
from pathlib import Path
from typing import NamedTuple

import mutandis as mu
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn import functional as F

# The program: plain PyTorch, decorated. --------------------------------------------------------------------------


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
    """A stem, then stages of residual blocks; the first stage is `width` wide, each next one `growth` times that."""

    def __init__(self, width: int, growth: int, stages: list[list[nn.Module]], dropout: float = 0.0):
        super().__init__()
        widths = [width * growth**i for i in range(len(stages))]
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        self.stages = nn.ModuleList(nn.ModuleList(blocks) for blocks in stages)
        self.steps = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in itertools.pairwise(widths))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(widths[-1], 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for i, blocks in enumerate(self.stages):
            if i > 0:
                x = F.max_pool2d(self.steps[i - 1](x), 2)
            for block in blocks:
                x = x + block(x)
        return self.head(self.dropout(x.mean((2, 3))))


@mu.symbolize
class Shift:
    """Moves every image by up to `pixels` in both directions."""

    def __init__(self, pixels: int):
        self.pixels = pixels

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        dy, dx = (int(v) for v in torch.randint(-self.pixels, self.pixels + 1, (2,)))
        return torch.roll(x, (dy, dx), (2, 3))


@mu.symbolize
class Noise:
    """Adds Gaussian noise."""

    def __init__(self, std: float):
        self.std = std

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.std * torch.randn_like(x)


@mu.symbolize
class Trainer:
    """Trains a model, and measures its accuracy."""

    def __init__(self, model: nn.Module, optimizer, augment=None, epochs: int = 6, batch_size: int = 64):
        self.model, self.augment, self.epochs, self.batch_size = model, augment, epochs, batch_size
        self.optimizer = optimizer(model.parameters())

    def train(self, x: torch.Tensor, y: torch.Tensor) -> None:
        steps = self.epochs * -(-len(x) // self.batch_size)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, steps)
        self.model.train()
        for _ in range(self.epochs):
            for batch in torch.randperm(len(x)).split(self.batch_size):
                inputs = x[batch] if self.augment is None else self.augment(x[batch])
                loss = F.cross_entropy(self.model(inputs), y[batch])
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                schedule.step()

    @torch.no_grad()
    def accuracy(self, x: torch.Tensor, y: torch.Tensor) -> float:
        self.model.eval()
        hits = [(self.model(a).argmax(1) == b).sum() for a, b in zip(x.split(500), y.split(500), strict=True)]
        return float(sum(hits)) / len(x)


def default_program(epochs: int) -> Trainer:
    """What one writes by hand: two stages of two 3x3 convolutions, SGD with momentum, no augmentation."""
    stages = [[ConvBlock(16), ConvBlock(16)], [ConvBlock(32), ConvBlock(32)]]
    return Trainer(ConvNet(16, 2, stages), mu.partial(torch.optim.SGD, lr=0.05, momentum=0.9), epochs=epochs)


# The space: the same program with `oneof` and friends where a value shall be found. -------------------------------


def searchable_program(epochs: int) -> Trainer:
    """The joint space of operations, widths, depths, the optimizer with its own learning rate, and augmentation."""
    width, growth = mu.oneof([8, 12, 16, 24], name="width"), mu.oneof([1, 2], name="growth")

    def block(channels):
        return mu.oneof(
            [ConvBlock(channels, 3), ConvBlock(channels, 5), ConvBlock(channels, 5, separable=True), mu.nn.Identity()]
        )

    def stage(channels):
        return mu.oneof([[block(channels) for _ in range(depth)] for depth in (1, 2, 3)])

    optimizer = mu.oneof(
        [
            mu.partial(torch.optim.SGD, lr=mu.floatv(0.005, 0.5, scale="log"), momentum=mu.floatv(0.5, 0.95)),
            mu.partial(
                torch.optim.AdamW, lr=mu.floatv(0.0005, 0.05, scale="log"), weight_decay=mu.oneof([0.0, 0.01, 0.1])
            ),
        ]
    )
    augment = mu.oneof([None, Shift(1), Noise(mu.floatv(0.02, 0.3, scale="log"))])
    model = ConvNet(width, growth, [stage(width), stage(width * growth)], dropout=mu.floatv(0.0, 0.3))
    return Trainer(model, optimizer, augment, epochs)


# The data. --------------------------------------------------------------------------------------------------------


class Data(NamedTuple):
    train: tuple[torch.Tensor, torch.Tensor]
    valid: tuple[torch.Tensor, torch.Tensor]
    test: tuple[torch.Tensor, torch.Tensor]


def read_idx(folder: Path, stem: str) -> np.ndarray:
    """Reads one IDX file, gzipped or not, from anywhere below `folder`."""
    found = sorted(path for path in folder.rglob(f"{stem}*") if path.suffix in ("", ".gz"))
    if not found:
        raise SystemExit(f"no file {stem} or {stem}.gz below {folder}: --data needs the four IDX files")
    data = gzip.decompress(found[0].read_bytes()) if found[0].suffix == ".gz" else found[0].read_bytes()
    shape = struct.unpack(f">{data[3]}I", data[4 : 4 + 4 * data[3]])
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)


def load(folder: Path | None, train_size: int | None) -> Data:
    """Returns images `[N, 1, H, W]` of mean 0 and deviation 1 with labels `[N]`; validation is cut from training."""
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
    # Cut without shuffling: neighbours in these files are often by the same writer.
    train, valid, test = slice(0, used * 7 // 10), slice(used * 7 // 10, used), slice(rest, None)
    x = (x - x[train].mean()) / x[train].std()
    return Data((x[train], y[train]), (x[valid], y[valid]), (x[test], y[test]))


# The search. ------------------------------------------------------------------------------------------------------


def mean_accuracy(program: Trainer, data: Data, runs: int) -> tuple[float, float]:
    """Trains fresh copies of a program and returns the mean validation and test accuracies."""
    results = []
    for run in range(runs):
        torch.manual_seed(1000 + run)
        trainer = program.clone()
        trainer.train(*data.train)
        results.append((trainer.accuracy(*data.valid), trainer.accuracy(*data.test)))
    valid, test = np.mean(results, axis=0)
    return float(valid), float(test)


def summary(trainer: Trainer) -> tuple[str, ...]:
    """Returns what a person wants to know of a program: its width, its blocks, its optimizer, its augmentation."""

    def block(module: nn.Module) -> str:
        settings = mu.arguments(module)
        return f"conv{settings['kernel']}" + "s" * settings["separable"] if "kernel" in settings else "skip"

    stages = " | ".join(" ".join(map(block, stage)) for stage in trainer.model.stages)
    optimizer = f"{type(trainer.optimizer).__name__} {trainer.optimizer.defaults['lr']:.4f}"
    augment = "none" if trainer.augment is None else type(trainer.augment).__name__
    return str(trainer.model.stem.out_channels), stages, optimizer, augment


def show(study: mu.Study, picture: Path, default_valid: float) -> None:
    """Prints the five best programs, and draws the search curve."""
    heads = ("trial", "validation", "seconds", "width", "blocks (s: separable)", "optimizer", "augment")
    table = Table(*heads, title="The five best programs")
    for trial in study.top(5):
        table.add_row(str(trial.id), f"{trial.reward:.4f}", f"{trial.seconds:.1f}", *summary(trial.child()))
    Console().print(table)

    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    rewards = np.array([np.nan if trial.reward is None else trial.reward for trial in study.trials])
    figure, axes = plt.subplots(figsize=(7, 4), constrained_layout=True)
    axes.scatter(range(len(rewards)), rewards, s=14, alpha=0.5, label="a trial")
    axes.plot(np.fmax.accumulate(rewards), color="C1", label="best so far")
    axes.axhline(default_valid, color="0.4", linestyle="--", label="hand-written default")
    low = min(float(np.nanquantile(rewards, 0.2)), default_valid)
    axes.set(xlabel="trial", ylabel="validation accuracy", ylim=(max(0.0, low - 0.02), 1.005))
    axes.legend(loc="lower right")
    figure.savefig(picture, dpi=120)
    plt.close(figure)
    print(f"search curve: {picture}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algorithm", default="RegularizedEvolution", help="a name in mu.algorithms")
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=6, help="per trial")
    parser.add_argument("--runs", type=int, default=3, help="repetitions of the final comparison")
    parser.add_argument("--data", type=Path, help="a folder with IDX files; by default scikit-learn's digits")
    parser.add_argument("--train-size", type=int, help="how many training images to use; by default all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--picture", type=Path, default=Path("search_curve.png"))
    options = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    settings = {"population_size": 20, "tournament_size": 5} if options.algorithm == "RegularizedEvolution" else {}
    algorithm = getattr(mu.algorithms, options.algorithm)(**settings)
    data = load(options.data, options.train_size)
    program = searchable_program(options.epochs)
    print(mu.space(program).describe())

    loop = mu.sample(program, algorithm, trials=options.trials, objectives="accuracy", seed=options.seed)
    for child, feedback in loop:
        child.train(*data.train)
        feedback({"accuracy": child.accuracy(*data.valid)})

    default_valid, default_test = mean_accuracy(default_program(options.epochs), data, options.runs)
    show(loop.study, options.picture, default_valid)

    # A single run is noisy: train the best five again, and let the validation split choose among them.
    finalists = [(*mean_accuracy(trial.child(), data, options.runs), trial) for trial in loop.study.top(5)]
    best_valid, best_test, best = max(finalists, key=lambda finalist: finalist[0])
    table = Table("program", "validation", "test", title=f"Mean accuracy of {options.runs} trainings")
    table.add_row("hand-written default", f"{default_valid:.4f}", f"{default_test:.4f}")
    table.add_row(f"best found (trial {best.id})", f"{best_valid:.4f}", f"{best_test:.4f}")
    Console().print(table)
    print(mu.to_python(best.child()))


if __name__ == "__main__":
    main()
