"""What is behind the choices of a shared program: which weights are searched, and which candidates have none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mutandis.algorithms.oneshot.selections import sizes
from mutandis.flows.costs.measures import modules_of
from mutandis.flows.oneshot.running import layers_of, storage_of
from mutandis.flows.supernet import Shared
from mutandis.flows.supernet.calibrate import NORMS
from mutandis.hyper import Point


class Inventory:
    """The weights of a shared program, looked up by switching to every candidate of every choice once.

    Args:
        shared: The shared program; where it stands changes.

    Attributes:
        norms: Storages of scales and shifts of norms that only some children have.
        free: By path of a choice, its candidates without weights of their own, such as skip connections and pools;
            choices where that says nothing (all have weights, or none) are left out, and so are choices among
            numbers, since the weights of a depth of one are those that every depth has.
    """

    def __init__(self, shared: Shared) -> None:
        everywhere: set[int] | None = None
        norms: set[int] = set()
        self.free: dict[str, frozenset[int]] = {}
        for point in shared.points:
            found = []
            for candidate in range(point.num_candidates if point.kind == "choice" else 0):
                child = shared.materialize(dna_with(shared, point, candidate))
                used = {storage_of(p) for root in modules_of(child) for p in root.parameters()}
                norms |= {storage_of(p) for layer in layers_of(child) if isinstance(layer, NORMS)
                          for p in layer.parameters(recurse=False)}  # fmt: skip
                everywhere = used if everywhere is None else everywhere & used
                found.append(used)
            common = set.intersection(*found) if found else set()
            free = frozenset(candidate for candidate, used in enumerate(found) if used == common)
            if free and len(free) < len(found) and sizes(point) is None:
                self.free[point.path] = free
        self.norms = norms - (everywhere or set())

    def free_share(self, probabilities: Mapping[str, list[float]]) -> float | None:
        """Returns the share of choices whose likeliest candidate has no weights; None where nothing is known."""
        known = [path for path in self.free if path in probabilities]
        if not known:
            return None
        taken = [max(range(len(row)), key=row.__getitem__) for row in (probabilities[path] for path in known)]
        return sum(best in self.free[path] for path, best in zip(known, taken, strict=True)) / len(known)


def likeliest(shared: Shared, probabilities: Mapping[str, list[float]]) -> dict[str, Any]:
    """Returns the label of the likeliest candidate of each decision, by path."""
    found = {}
    for path, row in probabilities.items():
        best = max(range(len(row)), key=row.__getitem__)
        labels = shared.space.point(path).candidates
        found[path] = labels[best] if best < len(labels) else best
    return found


def dna_with(shared: Shared, point: Point, candidate: int) -> Any:
    """Returns a DNA with a candidate, the decisions above set so that it is active and all others at their first."""
    values: list[Any] = [None] * len(shared.points)
    values[point.index] = candidate
    while point.conditions:
        parent, needed = point.conditions[0]
        point = shared.points[parent]
        if point.kind != "choice":
            break
        values[parent] = needed
    return shared.space.repair(values, lambda p: p.first())


__all__ = ["Inventory", "dna_with", "likeliest"]
