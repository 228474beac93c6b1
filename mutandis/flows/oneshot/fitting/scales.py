"""Which candidates can scale their own outputs.

The signal that a gate or a hard draw sees is <dL/do, o>, o being the output of the candidate. Where a weight scales o
it is w dL/dw, which training the weights drives to 0: then nothing is learnt about the choice (Dong and Yang 2019,
arXiv 1910.04465, search without affine norms; measured on a toy, 0 of 10 runs find the best child with scales, 10 of 10
without). So the weights of each candidate are doubled for a moment, and it is seen whether its output grows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mutandis.errors import LoweringError
from mutandis.flows import supernet
from mutandis.flows.costs.measures import modules_of, quiet
from mutandis.flows.oneshot.inventory import dna_with
from mutandis.flows.oneshot.running import layers_of, storage_of
from mutandis.flows.supernet.calibrate import NORMS
from mutandis.hyper import Point

_GROWTH = 1.2
"""An output that grows by this factor or more when all weights are doubled has a scale of its own."""
_EPSILON = 1e-12


def scaling_candidates(
    shared: supernet.Shared, run: Callable[[Any], Any], trained: Collection[int]
) -> dict[str, tuple[int, ...]]:
    """Returns, by path of a choice, the candidates whose output grows with their trained weights.

    Weights, buffers and random numbers are as before when it returns; where the live program stands changes.

    Args:
        shared: The shared program.
        run: Runs a live program on a batch.
        trained: Storages of the weights that are trained.
    """
    found: dict[str, tuple[int, ...]] = {}
    for point in shared.points:
        count = point.num_candidates if point.kind == "choice" else 0
        scaling = tuple(k for k in range(count if count > 1 else 0) if _scales(shared, point, k, run, trained))
        if scaling:
            found[point.path] = scaling
    return found


def _scales(shared: supernet.Shared, point: Point, candidate: int, run: Callable[[Any], Any],
            trained: Collection[int]) -> bool:  # fmt: skip
    gate = supernet.Gate(candidate, torch.ones(()))
    try:
        with shared.select(dna_with(shared, point, candidate), {point.path: gate}) as child:
            choices = [layer for layer in layers_of(child) if isinstance(layer, supernet.Choice)]
            own = {id(p): p for choice in choices for p in choice.parameters() if storage_of(p) in trained}
            if not own:
                return False
            with _sharp(choices):
                before = _size(child, choices, run)
                after = _with_doubled(list(own.values()), lambda: _size(child, choices, run))
            return before > 0.0 and after >= _GROWTH * before
    except LoweringError:  # It decides a number, or more than which layer stands at a place.
        return False


@contextmanager
def _sharp(choices: list[supernet.Choice]) -> Iterator[None]:
    """Lets norms divide by next to nothing more than the deviation: small inputs are normalised too."""
    norms = [layer for choice in choices for layer in choice.modules() if isinstance(layer, NORMS)]
    before = [norm.eps for norm in norms]
    for norm in norms:
        norm.eps = _EPSILON
    try:
        yield
    finally:
        for norm, epsilon in zip(norms, before, strict=True):
            norm.eps = epsilon


def _with_doubled(weights: list[Tensor], measure: Callable[[], float]) -> float:
    kept = [weight.detach().clone() for weight in weights]
    with torch.no_grad():
        for weight in weights:
            weight.mul_(2.0)
        try:
            return measure()
        finally:
            for weight, value in zip(weights, kept, strict=True):
                weight.copy_(value)


def _size(child: Any, choices: list[supernet.Choice], run: Callable[[Any], Any]) -> float:
    """Returns the size of what leaves some choices in a pass."""
    sizes: list[float] = []

    def note(module: nn.Module, inputs: Any, output: Tensor) -> None:
        sizes.append(float(output.detach().double().square().sum()))

    handles = [choice.register_forward_hook(note) for choice in choices]
    try:
        with quiet(nn.ModuleList(modules_of(child))), torch.no_grad():
            run(child)
    finally:
        for handle in handles:
            handle.remove()
    return math.sqrt(sum(sizes))


__all__ = ["scaling_candidates"]
