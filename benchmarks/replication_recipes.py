"""How large the runs of `replication.py` are, and the algorithms with their published settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

import mutandis as mu


@dataclass(frozen=True)
class Scale:
    """How large a run is.

    Attributes:
        channels: Of the first stage; the size space has widths of its own.
        cells: Per stage, likewise.
        pixels: Height and width of images.
        num_images: For weights and policy together.
        epochs: Of the shared weights.
        batch: Of weight and policy steps.
        large_batch: Of measurements and of the rewards of ENAS.
        step_size: Of the weights, at the start.
        rate: Factor of the step size of policies.
        num_candidates: How many architectures are compared at the end by algorithms that do.
        num_updates: Of the controller of ENAS per epoch.
        num_compared: Architectures for Kendall's tau.
        num_batches: Large batches that each of these is measured on.
    """

    channels: int = 16
    cells: int = 5
    pixels: int = 32
    num_images: int = 50_000
    epochs: int = 100
    batch: int = 64
    large_batch: int = 512
    step_size: float = 0.025
    rate: float = 1.0
    num_candidates: int = 100
    num_updates: int = 50
    num_compared: int = 100
    num_batches: int = 10

    def optimizer(self, weights: list[torch.Tensor]) -> torch.optim.Optimizer:
        """Returns the published optimizer; `one_shot` lets its step size fall to a 25th along a cosine."""
        return torch.optim.SGD(weights, lr=self.step_size, momentum=0.9, nesterov=True, weight_decay=5e-4)


FULL = Scale()
SHORT = Scale(channels=8, cells=1, pixels=16, num_images=20_000, epochs=16, batch=32, step_size=0.1, rate=8.0,
              num_updates=5, num_batches=4)  # fmt: skip
SHORT_SIZE = replace(SHORT, pixels=8, num_images=10_000, epochs=4, large_batch=256, rate=20.0, num_batches=2)
SMOKE = Scale(channels=2, cells=1, pixels=8, num_images=64, epochs=2, batch=16, large_batch=32, num_candidates=3,
              num_updates=1, num_compared=4, num_batches=1)  # fmt: skip
SCALES = {
    "topology": {"full": FULL, "short": SHORT, "smoke": SMOKE},
    "size": {"full": FULL, "short": SHORT_SIZE, "smoke": SMOKE},
}


@dataclass(frozen=True)
class Method:
    """An algorithm with its settings.

    Attributes:
        make: From the scale and, in the size space, a cost in MFLOPs and a budget, to the algorithm.
        published: Mean and deviation of the figure that the table looks up.
        is_rewarded_on_large: Whether rewards are taken on large batches without augmentation.
        is_free: Whether it goes without the budget.
        is_costed: Whether the loop shall tell it costs.
    """

    make: Callable[..., Any]
    published: tuple[float, float] | None = None
    is_rewarded_on_large: bool = False
    is_free: bool = True
    is_costed: bool = False


def topology_methods() -> dict[str, Method]:
    """Returns what can be run in the topology space; published is the test accuracy after 200 epochs."""
    known = mu.algorithms
    return {
        "RSPS": Method(lambda s: known.RSPS(s.num_candidates), (91.05, 0.66)),
        "DARTS 1st": Method(lambda s: known.DARTS(policy_first=False, learning_rate=3e-4 * s.rate), (59.84, 7.84)),
        "DARTS 2nd": Method(
            lambda s: known.DARTS(order=2, policy_first=False, learning_rate=3e-4 * s.rate), (65.38, 7.84)
        ),
        "GDAS": Method(lambda s: known.GDAS(form="autodl", learning_rate=3e-4 * s.rate), (93.23, 0.58)),
        "SETN": Method(lambda s: known.SETN(s.num_candidates, learning_rate=3e-4 * s.rate), (92.72, 0.73)),
        "ENAS": Method(_enas, (93.76, 0.00), is_rewarded_on_large=True),
        "GDAS selected": Method(lambda s: known.GDAS(learning_rate=3e-4 * s.rate)),
        "SPOS": Method(lambda s: known.SPOS(num_trials=s.num_candidates)),
        "TuNAS": Method(lambda s: known.TuNAS(learning_rate=_tunas_rate(s))),
        "SNAS": Method(lambda s: known.SNAS(learning_rate=3e-4 * s.rate)),
        "DSNAS": Method(lambda s: known.DSNAS(learning_rate=1e-3 * s.rate)),
        "ProxylessNAS": Method(lambda s: known.ProxylessNAS(learning_rate=1e-3 * s.rate)),
    }


def _enas(scale: Scale) -> Any:
    return mu.algorithms.ENAS(learning_rate=1e-3 * scale.rate, num_steps=scale.num_updates, baseline="epoch",
                              baseline_decay=0.99, num_candidates=scale.num_candidates)  # fmt: skip


def _tunas_rate(scale: Scale) -> float:
    return 3e-4 * scale.batch / 256 * scale.rate


def size_methods() -> dict[str, Method]:
    """Returns what can be run in the size space; published is the validation accuracy after 90 epochs, unbounded."""
    known = mu.algorithms

    def random(scale: Scale, cost: Any, budget: float | None) -> Any:
        search = known.Random()
        if budget is not None:
            search = known.Constrained(search, lambda dna: cost(dna) <= budget)
        return known.SPOS(search, num_trials=scale.num_candidates)

    def bounded(inner: Any, cost: Any, budget: float | None) -> Any:
        if budget is None:
            return inner
        return known.oneshot.ResourceConstrained(inner, cost, form="band", budget=budget, weight=2.0)

    def tas(scale: Scale, cost: Any, budget: float | None) -> Any:
        return bounded(known.TAS(learning_rate=3e-4 * scale.rate), cost, budget)

    def fbnet(scale: Scale, cost: Any, budget: float | None) -> Any:
        return bounded(known.FBNetV2(warmup=0.3, learning_rate=3e-4 * scale.rate), cost, budget)

    def tunas(scale: Scale, cost: Any, budget: float | None) -> Any:
        return known.TuNAS(target=budget, learning_rate=_tunas_rate(scale))

    return {
        "Random": Method(random, is_free=False),
        "TuNAS": Method(tunas, is_free=False, is_costed=True),
        "TAS": Method(tas, is_free=False),
        "FBNetV2": Method(fbnet, is_free=False),
        "Random free": Method(random),
        "TuNAS free": Method(tunas, (89.73, 0.37)),
        "TAS free": Method(tas, (90.71, 0.00)),
        "FBNetV2 free": Method(fbnet, (90.41, 0.10)),
    }


METHODS = {"topology": topology_methods, "size": size_methods}


__all__ = ["METHODS", "SCALES", "Method", "Scale"]
