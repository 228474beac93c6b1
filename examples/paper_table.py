"""The table of the PyGlove paper on real images: what a search costs, in lines changed and in training steps.

    python examples/paper_table.py                                      # scikit-learn's digits; under three minutes
    python examples/paper_table.py --data DIR --train-size 10000        # Fashion-MNIST (or MNIST) from IDX files

Each row of the ImageNet table of Peng et al. 2020 (arXiv 2101.08809) is a program below: a static MobileNetV2; a space
S1 made of it (kernel sizes and expansions) under random search, then Bayesian optimisation, then TuNAS with weight
sharing; S2 (filters); S3 (both). "Lines" is the difference between the texts of two programs; "search" the training
batches gone through, in trainings of one network. All searches prefer networks that multiply as often as the static
one. Network and data are small: what differs by less than the spread of the trainings shows nothing. The last column
is the paper's. Needs scikit-learn, matplotlib and rich. DIR holds the four IDX files, gzipped or not, directly or in
torchvision's layout.
"""

from __future__ import annotations

import argparse
import difflib
import gzip
import inspect
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import mutandis as mu
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn import functional as F

Bottleneck, scaled = mu.models.mobilenet.Bottleneck, mu.models.mobilenet.scale_filters

# The programs, one a row of the table. ----------------------------------------------------------------------------


def static(task):
    program = task.network()
    return task.final(program)


def kernels_and_expansions(value):
    if isinstance(value, Bottleneck) and value.expansion > 1:
        return Bottleneck(mu.oneof([3, 5, 7]), mu.oneof([3, 6]))
    return value


def s1_random(task):
    program = task.network()
    program.rebind(kernels_and_expansions)
    found = mu.search(program, mu.algorithms.Random(), **task.trials).best
    return task.final(mu.clone(found.child()))


def s1_bayesian(task):
    program = task.network()
    program.rebind(kernels_and_expansions)
    found = mu.search(program, mu.algorithms.GaussianProcess(), **task.trials).best
    return task.final(mu.clone(found.child()))


def s1_tunas(task):
    program = task.network()
    program.rebind(kernels_and_expansions)
    found = mu.one_shot(mu.share_weights(program, task.x), task.tunas, **task.shared(program))
    return task.final(mu.clone(found.child()))


def filters(key, value):
    if key == "filters":
        return mu.oneof(sorted({scaled(value, ratio, 4) for ratio in (0.5, 0.625, 0.75, 1.0, 1.25, 1.5, 2.0)}))
    return value


def s2_tunas(task):
    program = task.network()
    program.rebind(filters)
    found = mu.one_shot(mu.share_weights(program, task.x), task.tunas, **task.shared(program))
    return task.final(mu.clone(found.child()))


def s3_tunas(task):
    program = task.network()
    program.rebind(kernels_and_expansions)
    program.rebind(filters)
    found = mu.one_shot(mu.share_weights(program, task.x), task.tunas, **task.shared(program))
    return task.final(mu.clone(found.child()))


class Row(NamedTuple):
    space: str
    algorithm: str
    paper: str  # Lines, search, accuracy and multiply-adds there.
    program: Callable
    rules: tuple[Callable, ...] = ()
    base: int = 0  # Index of the row whose program was edited.
    known: tuple[Callable, ...] = ()  # Rules that had been written before.


S1, S2 = kernels_and_expansions, filters
ROWS = (
    Row("(static)", "none", "73.1, 300M", static),
    Row("(static) -> S1", "random", "+23, 25, 73.7, 299M", s1_random, (S1,)),
    Row("S1", "random -> Bayesian", "+1, 25, 73.9, 305M", s1_bayesian, (S1,), 1, (S1,)),
    Row("S1", "Bayesian -> TuNAS", "+1, 1, 74.2, 301M", s1_tunas, (S1,), 2, (S1,)),
    Row("(static) -> S2", "TuNAS", "+10, 1, 73.3, 307M", s2_tunas, (S2,)),
    Row("S1, S2 -> S3", "TuNAS", "+1, 2, 73.8, 303M", s3_tunas, (S1, S2), 4, (S1, S2)),
)


def text(program: Callable, rules: tuple[Callable, ...]) -> list[str]:
    """Returns the lines of a program, blank ones aside, without its name."""
    sources = [inspect.getsource(rule) for rule in rules] + [inspect.getsource(program).partition("\n")[2]]
    return [line for source in sources for line in source.splitlines() if line.strip()]


def lines_changed(row: Row) -> tuple[int, int]:
    """Returns how many lines a row has added to the program that it began from, and how many it has removed."""
    lines = list(difflib.unified_diff(text(ROWS[row.base].program, row.known), text(row.program, row.rules), n=0))
    return tuple(sum(line.startswith(sign) and line[:3] != 3 * sign for line in lines) for sign in "+-")


# The task: data, training, and what a network is worth. -----------------------------------------------------------


class Batches:
    """Shuffled batches of images and labels, that can be gone through any number of times; counts them."""

    def __init__(self, x: torch.Tensor, y: torch.Tensor, size: int = 64):
        self.x, self.y, self.size, self.count = x, y, size, 0

    def __len__(self) -> int:
        return len(self.y) // self.size or 1

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for batch in torch.randperm(len(self.y)).split(self.size)[: len(self)]:
            self.count += 1
            yield self.x[batch], self.y[batch]


class Task:
    """Everything that is the same in all rows."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor, test_size: int, options: argparse.Namespace):
        rest = len(labels) - test_size
        used = min(options.train_size or rest, rest)
        cut = used * 7 // 10  # Without shuffling: neighbours in these files are often by the same writer.
        x = (images - images[:cut].mean()) / images[:cut].std()
        self.train, self.valid = Batches(x[:cut], labels[:cut]), Batches(x[cut:used], labels[cut:used])
        self.everything, self.test = Batches(x[:used], labels[:used]), (x[rest:], labels[rest:])
        self.options, self.x = options, x[:2]
        self.madds = self.cost(self.network())
        self.tunas = mu.algorithms.TuNAS(self.madds, learning_rate=0.1)
        self.trials = {"objective": self.reward, "trials": options.trials, "executor": "inline", "seed": options.seed}

    def network(self) -> nn.Module:
        stages = [(1, 8, 1, 1), (6, 8, 2, 1), (6, 16, 2, 2)]
        stride = 1 if self.x.shape[-1] <= 16 else 2
        return mu.models.mobilenet.mobilenet_v2(stages=stages, stem_filters=8, head_filters=64, num_classes=10,
                                                in_channels=1, stem_stride=stride)  # fmt: skip

    def cost(self, network: nn.Module) -> float:
        """Returns the multiply-adds for one image."""
        return mu.flows.measure(network, "flops", self.x[:1]) / 2

    def shared(self, program: nn.Module) -> dict:
        cost = mu.flows.fit_cost(program, self.cost)
        return {"train": self.train, "valid": self.valid, "epochs": self.options.shared_epochs, "cost": cost,
                "seed": self.options.seed}  # fmt: skip

    def fit(self, network: nn.Module, batches: Batches, seed: int) -> None:
        torch.manual_seed(seed)
        epochs = self.options.epochs
        optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(batches))
        network.train()
        for _ in range(epochs):
            for x, y in batches:
                optimizer.zero_grad()
                F.cross_entropy(network(x), y).backward()
                optimizer.step()
                schedule.step()

    @torch.no_grad()
    def accuracy(self, network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
        network.eval()
        return float(torch.cat([network(part).argmax(1) for part in x.split(500)]).eq(y).float().mean())

    def reward(self, network: nn.Module) -> float:
        """Trains a network and returns its accuracy, less what it costs beside the static one, as TuNAS does."""
        self.fit(network, self.train, self.options.seed)
        accuracy = self.accuracy(network, self.valid.x, self.valid.y)
        return accuracy + self.tunas.exponent * abs(self.cost(network) / self.madds - 1)

    def final(self, program: nn.Module) -> tuple[float, list[float], float, str]:
        """Trains a network several times from scratch, on all but the test images.

        Returns what was spent on the search, the test accuracies, the multiply-adds, and the network in words.
        """
        spent, found = self.train.count / (self.options.epochs * len(self.train)), []
        for run in range(self.options.runs):
            torch.manual_seed(1000 + run)
            network = mu.clone(program)
            self.fit(network, self.everything, 1000 + run)
            found.append(self.accuracy(network, *self.test))
        self.train.count = 0
        return spent, found, self.cost(program), words(program)


def words(network: nn.Module) -> str:
    """Returns for each stage its filters, and the kernel size x expansion of each bottleneck."""
    stages = mu.arguments(network)["stages"]
    units = [" ".join(f"{unit.kernel_size}x{unit.expansion}" for unit in stage.bottlenecks) for stage in stages]
    return " | ".join(f"{stage.filters}: {unit}" for stage, unit in zip(stages, units, strict=True))


def read_idx(folder: Path, stem: str) -> np.ndarray:
    """Reads one IDX file, gzipped or not, from anywhere below `folder`."""
    found = sorted(path for path in folder.rglob(f"{stem}*") if path.suffix in ("", ".gz"))
    if not found:
        raise SystemExit(f"no file {stem} or {stem}.gz below {folder}: --data needs the four IDX files")
    data = gzip.decompress(found[0].read_bytes()) if found[0].suffix == ".gz" else found[0].read_bytes()
    shape = struct.unpack(f">{data[3]}I", data[4 : 4 + 4 * data[3]])
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)


def load(folder: Path | None) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Returns images `[N, 1, H, W]`, labels `[N]`, and how many at the end are for the test."""
    if folder is None:
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        images, test_size = images.reshape(-1, 8, 8), 500
    else:
        parts = [[read_idx(folder, f"{part}-{kind}-ubyte") for part in ("train", "t10k")]
                 for kind in ("images-idx3", "labels-idx1")]  # fmt: skip
        images, labels, test_size = np.concatenate(parts[0]), np.concatenate(parts[1]), len(parts[1][1])
    return torch.tensor(images, dtype=torch.float32)[:, None], torch.tensor(labels, dtype=torch.int64), test_size


def draw(results: list[tuple], picture: Path) -> None:
    """Draws accuracy over multiply-adds, with the standard error of each mean."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), constrained_layout=True)
    for number, (row, (_, found, madds, _)) in enumerate(zip(ROWS, results, strict=True), 1):
        error = np.std(found, ddof=1) / len(found) ** 0.5 if len(found) > 1 else 0.0
        label = f"{number}: {row.space.split('-> ')[-1]}, {row.algorithm.split('-> ')[-1]}"
        axes.errorbar(madds / 1e6, 100 * np.mean(found), 100 * error, fmt="o", capsize=3, label=label)
    axes.set(xlabel="million multiply-adds", ylabel="test accuracy, %")
    axes.legend(fontsize="small")
    figure.savefig(picture, dpi=120)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=15, help="of random search and of Bayesian optimisation")
    parser.add_argument("--epochs", type=int, default=8, help="of a network alone")
    parser.add_argument("--shared-epochs", type=int, default=30, help="of shared weights")
    parser.add_argument("--runs", type=int, default=3, help="trainings of each final network")
    parser.add_argument("--data", type=Path, help="a folder with IDX files; by default scikit-learn's digits")
    parser.add_argument("--train-size", type=int, help="how many training images to use; by default all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--picture", type=Path, default=Path("paper_table.png"))
    options = parser.parse_args()

    torch.set_num_threads(1)
    task = Task(*load(options.data), options)
    results = []
    for number, row in enumerate(ROWS, 1):
        print(f"{number} of {len(ROWS)}: {row.space}, {row.algorithm}", flush=True)
        torch.manual_seed(options.seed)
        results.append(row.program(task))

    heads = ("#", "space", "algorithm", "lines", "search", "test, %", "MAdds", "filters: kernel x expansion", "paper")
    table = Table(*heads, title=f"Mean and standard deviation of {options.runs} trainings; seed {options.seed}")
    for number, (row, (spent, found, madds, shown)) in enumerate(zip(ROWS, results, strict=True), 1):
        added, removed = lines_changed(row)
        spread = f" +- {100 * np.std(found, ddof=1):.1f}" if len(found) > 1 else ""
        lines = "" if number == 1 else f"+{added} -{removed}"
        table.add_row(str(number), row.space, row.algorithm, lines, f"{spent:.1f}",
                      f"{100 * np.mean(found):.1f}{spread}", f"{madds / 1e6:.3f}M", shown, row.paper)  # fmt: skip
    Console().print(table)
    draw(results, options.picture)
    print(f"accuracy over multiply-adds: {options.picture}")


if __name__ == "__main__":
    main()
