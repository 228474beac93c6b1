"""The settings of a run on shared weights, with the published defaults.

Weights: SGD with momentum 0.9 (Nesterov), decay 5e-4, a step size of 0.025 that falls to 0.001 along a cosine, clipped
to a norm of 5 (Liu et al. 2019, arXiv 1806.09055, Sec. 3.1; Dong et al. 2021, arXiv 2009.00437, Sec. 5.4).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mutandis.algorithms.base import need_int, need_number
from mutandis.errors import SettingError
from mutandis.flows.oneshot.measuring import NORMS, PRECISIONS, Loss, Metric

_LAST = 0.04  # 0.001 / 0.025.


def sgd(weights: list[Tensor]) -> torch.optim.Optimizer:
    """Returns the optimizer of the published recipe."""
    return torch.optim.SGD(weights, lr=0.025, momentum=0.9, nesterov=True, weight_decay=5e-4)


def cosine(fraction: float) -> float:
    """Returns the factor of the step size after a fraction of the run: 1 at first, 0.04 at last."""
    return _LAST + (1.0 - _LAST) * 0.5 * (1.0 + math.cos(math.pi * fraction))


_FUNCTIONS = {
    "loss": "pass loss=lambda child, batch: F.cross_entropy(child(batch[0]), batch[1])",
    "metric": "leave it out for accuracy, or pass metric=lambda child, batch: ..., larger is better",
    "optimizer": "pass optimizer=lambda weights: torch.optim.SGD(weights, lr=0.1)",
    "schedule": "pass the factor of the step size by what is done: schedule=lambda done: 1.0 - done",
}
"""What is called, with an example."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How weights are trained and children measured; the arguments of `one_shot`, which explains them.

    Raises:
        SettingError: a number is out of its range, or a word unknown.
    """

    epochs: int
    loss: Loss | None = None
    metric: Metric | None = None
    optimizer: Callable[[list[Tensor]], torch.optim.Optimizer] | None = None
    schedule: Callable[[float], float] | None = cosine
    clip: float | None = 5.0
    norm: str | None = None
    num_eval_batches: int = 1
    num_calibration: int = 20
    precision: str = "auto"
    collapse: float = 0.8
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "num_eval_batches", "num_calibration"):
            need_int(f"one_shot.{name}", getattr(self, name), 1)
        for name, fix in _FUNCTIONS.items():
            value = getattr(self, name)
            if value is not None and not callable(value):
                raise SettingError("cannot use a setting", at=f"one_shot.{name}", got=value, expected="a function",
                                   fix=fix)  # fmt: skip
        if self.clip is not None:
            need_number("one_shot.clip", self.clip, above=0.0)
        need_number("one_shot.collapse", self.collapse, above=0.0)
        if self.norm is not None and self.norm not in NORMS:
            raise SettingError("cannot use a setting", at="one_shot.norm", got=self.norm,
                               expected=f"None or one of {', '.join(NORMS)}",
                               fix="leave it out: the algorithm says what it needs")  # fmt: skip

        if self.precision not in PRECISIONS:
            raise SettingError("cannot use a setting", at="one_shot.precision", got=self.precision,
                               expected=f"one of {', '.join(PRECISIONS)}",
                               fix="leave it out: bfloat16 on a GPU, float32 elsewhere")  # fmt: skip

    def make(self, weights: list[Tensor]) -> torch.optim.Optimizer:
        """Returns an optimizer over weights."""
        return (self.optimizer or sgd)(weights)


__all__ = ["Recipe", "cosine", "sgd"]
