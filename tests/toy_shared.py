"""Small programs with shared weights, and data they are trained on, for tests of runs on shared weights."""

from __future__ import annotations

import functools

import torch
from torch import nn

import mutandis as mu
from mutandis.models.nats import topology_program


@mu.symbolize
class Curve(nn.Module):
    """A fixed function of one input, times a number that is trained where it `has_scale`."""

    def __init__(self, name, has_scale=True):
        super().__init__()
        self.name = name
        self.scale = nn.Parameter(torch.ones(())) if has_scale else None

    def forward(self, x):
        y = {"sin": torch.sin(3 * x), "square": x * x - 1, "identity": x, "cosine": torch.cos(3 * x)}[self.name]
        return y if self.scale is None else y * self.scale


@mu.symbolize
class Sum(nn.Module):
    """The sum of a function of each input."""

    def __init__(self, curves):
        super().__init__()
        self.curves = nn.ModuleList(curves)

    def forward(self, x):
        return sum(curve(x[:, i]) for i, curve in enumerate(self.curves))


NAMES = ("identity", "sin", "square", "cosine")
BEST = (1, 2)


def toy_program(has_scale=True):
    """Two choices among four functions; the data are made by those of `BEST`."""
    return Sum([mu.oneof([Curve(name, has_scale) for name in NAMES], name=f"curve {i}") for i in range(2)])


def toy_batches(count, seed, size=64):
    generator = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(count):
        x = torch.randn(size, 2, generator=generator)
        made.append((x, torch.sin(3 * x[:, 0]) + x[:, 1] ** 2 - 1))
    return made


def squared(child, batch):
    """The loss of the toy."""
    x, y = batch
    return (child(x) - y).square().mean()


def new_cells():
    """A tiny network of searched cells, its weights shared."""
    return mu.share_weights(topology_program(channels=2, cells_per_stage=1, num_classes=3))


@functools.cache
def _made_once():
    shared = new_cells()
    return shared, {name: tensor.clone() for name, tensor in shared.module.state_dict().items()}


def cells():
    """The same network, made once: always the same object, with its initial weights."""
    shared, weights = _made_once()
    shared.module.load_state_dict(weights)
    shared.module.zero_grad()
    return shared


def images(count, seed, size=8):
    """Batches of noise with labels that hang on the mean of the first channel."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(count):
        x = torch.randn(size, 3, 8, 8, generator=generator)
        y = torch.randint(0, 3, (size,), generator=generator)
        made.append((x + (y - 1.0)[:, None, None, None], y))
    return made
