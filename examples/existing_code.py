"""A training script of the kind people have: plain PyTorch, argparse, a small ResNet on scikit-learn's digits.

`existing_code_before.py` is the script as it was, `existing_code.py` the same script made searchable:

    diff examples/existing_code_before.py examples/existing_code.py
    python examples/existing_code.py              # a minute
"""

from __future__ import annotations

import argparse

import mutandis as mu
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    def __init__(self, width_in: int, width: int, stride: int = 1):
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.short = nn.Conv2d(width_in, width, 1, stride, bias=False) if stride > 1 or width_in != width else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        return F.relu(y + (x if self.short is None else self.short(x)))


@mu.symbolize
class ResNet(nn.Module):
    def __init__(self, width: int = 16, depths: tuple[int, ...] = (2, 2, 2, 2), classes: int = 10):
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        stages, width_in = [], width
        for stage, depth in enumerate(depths):
            for i in range(depth):
                stages.append(Block(width_in, width * 2**stage, stride=2 if i == 0 and stage > 0 else 1))
                width_in = width * 2**stage
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(width_in, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.stages(self.stem(x)).mean((2, 3)))


def load() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    y = torch.tensor(labels)
    return x[:1200], y[:1200], x[1200:], y[1200:]


def train(model: nn.Module, lr: float, momentum: float, epochs: int, batch_size: int = 64) -> float:
    x, y, x_valid, y_valid = load()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum)
    model.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(batch_size):
            loss = F.cross_entropy(model(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()
    with torch.no_grad():
        return (model(x_valid).argmax(1) == y_valid).float().mean().item()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--momentum", type=float, default=0.9)
    parser.add_argument("--trials", type=int, default=20)
    args = parser.parse_args()

    torch.manual_seed(0)
    torch.set_num_threads(1)
    program = mu.bind(train, ResNet(mu.intv(4, 16)), mu.floatv(0.01, 0.5, scale="log"), args.momentum, args.epochs)
    loop = mu.sample(program, mu.algorithms.RegularizedEvolution(10, 3), trials=args.trials)
    for child, feedback in loop:
        feedback(child())
    print(f"accuracy {loop.study.best.reward:.4f} with {loop.study.best.dna}")


if __name__ == "__main__":
    main()
