"""From what an algorithm selects to a live program that runs it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mutandis.algorithms.oneshot.selections import Gate, Index, Selection, Selections, Subset, Value
from mutandis.errors import LoweringError
from mutandis.flows import supernet
from mutandis.flows.costs.measures import modules_of
from mutandis.hyper import Point


@contextmanager
def running(shared: supernet.Shared, selections: Selections) -> Iterator[Any]:
    """Switches the live program to selections.

        with running(shared, search.policy()) as child:
            loss = cross_entropy(child(x), y)

    Candidates that are not selected do not run. Probed ones do, without gradients of their own.

    Args:
        shared: The shared program.
        selections: One for each active decision.

    Yields:
        The live program.

    Raises:
        LoweringError: a decision cannot run several candidates at once, or has no gradient that is asked for.
    """
    values: list[Any] = [None] * len(shared.points)
    lent: dict[str, Any] = {}
    for index, selection in selections.items():
        point = shared.points[index]
        values[index] = _raw(point, selection)
        made = _lent(point, selection)
        if made is not None:
            lent[point.path] = made
    dna = shared.space.repair(values, lambda point: point.first())
    if not lent:
        yield shared.materialize(dna)
        return
    for index, value in enumerate(values):  # What stands in arms that only run beside that of the DNA.
        if value is not None and dna.values[index] is None:
            lent.setdefault(shared.points[index].path, value)
    with shared.select(dna, lent) as child:
        yield child


def _raw(point: Point, selection: Selection) -> Any:
    """Returns the raw value of a decision; that of the first candidate that runs where several do."""
    if isinstance(selection, Value):
        if not isinstance(selection.value, Tensor):
            return selection.value
        if selection.value.requires_grad:
            raise _without_gradient(point)
        return point.check(float(selection.value))
    if point.kind != "many" or not isinstance(selection, Subset):
        return selection.runs[0]
    if selection.weights.requires_grad:
        raise _without_gradient(point)
    return selection.indices


def _lent(point: Point, selection: Selection) -> Any:
    """Returns what the layers of a choice run; None where the raw value says it all."""
    if isinstance(selection, (Index, Value)) or point.kind == "many":
        return None
    if isinstance(selection, Gate):
        gates = selection.gate.unbind()
        return supernet.Gate(selection.index, gates[selection.index], {j: gates[j] for j in selection.probe})
    if isinstance(selection, Subset):
        return supernet.Subset(selection.indices, selection.weights, selection.offset, selection.mode)
    return supernet.Mixture(selection.weights, selection.mode)


def _without_gradient(point: Point) -> LoweringError:
    return LoweringError(
        "cannot learn a decision from the gradient of a loss",
        at=point.path,
        got=point.describe(),
        expected="a choice among layers, whose outputs can be weighed",
        fix="search it with an algorithm that learns from rewards, such as TuNAS() or ENAS()",
    )


def layers_of(child: Any) -> list[nn.Module]:
    """Returns all modules of a live program, each once."""
    return list({id(module): module for root in modules_of(child) for module in root.modules()}.values())


def storage_of(tensor: Tensor) -> int:
    """Returns what tells whether two tensors share their memory."""
    return tensor.untyped_storage().data_ptr()


@contextmanager
def forked(device: torch.device, seed: int | None = None) -> Iterator[None]:
    """Puts the random numbers of torch back as they were, on the CPU and on one device; sets them to a seed first."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        if seed is not None:
            torch.manual_seed(seed)
        yield


def moved(batch: Any, device: torch.device) -> Any:
    """Returns a batch with its tensors on a device; of tuples, lists and dicts, what they hold."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, dict):
        return {key: moved(value, device) for key, value in batch.items()}
    if isinstance(batch, (tuple, list)):
        made = [moved(value, device) for value in batch]
        return type(batch)(*made) if hasattr(batch, "_fields") else type(batch)(made)
    return batch


__all__ = ["forked", "layers_of", "moved", "running", "storage_of"]
