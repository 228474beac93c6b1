"""The joint space of FCNet (Klein & Hutter 2019, arXiv 1905.04970): two layers, and how they are trained.

Nine decisions, 62,208 programs: widths, activations and dropout of two fully connected layers; batch size, learning
rate and its schedule.
"""

from __future__ import annotations

from typing import Any

from mutandis.hyper import oneof
from mutandis.symbolic import symbolize

CANDIDATES: dict[str, list[Any]] = {
    "activation_fn_1": ["relu", "tanh"],
    "activation_fn_2": ["relu", "tanh"],
    "batch_size": [8, 16, 32, 64],
    "dropout_1": [0.0, 0.3, 0.6],
    "dropout_2": [0.0, 0.3, 0.6],
    "init_lr": [0.0005, 0.001, 0.005, 0.01, 0.05, 0.1],
    "lr_schedule": ["cosine", "const"],
    "n_units_1": [16, 32, 64, 128, 256, 512],
    "n_units_2": [16, 32, 64, 128, 256, 512],
}
"""The candidates by decision, in the order of the table."""


@symbolize
class FCNet:
    """The settings of a network and of its training."""

    def __init__(
        self,
        activation_fn_1: str,
        activation_fn_2: str,
        batch_size: int,
        dropout_1: float,
        dropout_2: float,
        init_lr: float,
        lr_schedule: str,
        n_units_1: int,
        n_units_2: int,
    ) -> None:
        self.activations = activation_fn_1, activation_fn_2
        self.widths = n_units_1, n_units_2
        self.dropouts = dropout_1, dropout_2
        self.batch_size, self.init_lr, self.lr_schedule = batch_size, init_lr, lr_schedule


def fcnet_program() -> Any:
    """Returns the joint space: an abstract `FCNet` with nine decisions, 62,208 children."""
    return FCNet(**{name: oneof(values, name=name) for name, values in CANDIDATES.items()})  # type: ignore[arg-type]


__all__ = ["CANDIDATES", "FCNet", "fcnet_program"]
