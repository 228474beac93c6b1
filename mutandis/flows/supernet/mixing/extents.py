"""How long the axes of weights are that depend on a depth, and on widths that count at some depths only.

What comes behind a sequence of layers is as wide as the last of them that runs, so that which width counts is up to the
depth. Found with everything else at its largest: at each depth each width is varied alone, and those that count are
gone through together.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from mutandis.flows.supernet.assembly import Home, Instance
from mutandis.flows.supernet.cuts import Axis, Cut
from mutandis.flows.supernet.lowering.dependencies import Dependencies
from mutandis.flows.supernet.tensors.loans import Loan
from mutandis.hyper.points import CHOICE

MOST_JOINT = 512
"""The largest number of combinations of sizes that one axis is looked up for."""

Table = tuple[tuple[int, ...], Mapping[tuple[int, ...], Axis]]
"""Decisions, and an axis for each combination of their candidates."""


@dataclass(frozen=True, slots=True)
class Extent:
    """How long an axis of a weight is, by the depth and by what counts there.

    Attributes:
        cases: By candidate of the depth, what counts there; one entry under None where the depth changes nothing.
    """

    cases: Mapping[int | None, Table]

    def at(self, candidate: int) -> Table:
        """Returns what counts at a depth; without an axis where there are too many combinations."""
        return self.cases[None if None in self.cases else candidate]


class Extents:
    """Looks up the axes of layers behind a depth, once for each layer, with everything else at its largest.

    Args:
        known: Knows which decisions what depends on.
        twin: Returns the part of a layer under some changes, built if no child had it.
    """

    def __init__(self, known: Dependencies, twin: Callable[[Home, Mapping[int, int]], Instance]) -> None:
        self._known, self._twin = known, twin
        self._made: dict[tuple[object, ...], dict[tuple[str, int], Extent]] = {}

    def of(self, home: Home, depth: int) -> dict[tuple[str, int], Extent]:
        """Returns the axes of a layer that any number changes, by name of the tensor and axis.

        Args:
            home: The layer.
            depth: The decision for a depth that its tensors depend on.
        """
        numbers = [i for i in home.part.decisions if is_size(self._known, i)]
        base = dict(zip(home.part.decisions, home.values, strict=True))
        key = (home.path, *(value for index, value in base.items() if index not in numbers))
        if key not in self._made:
            most = self._known.extreme(True)
            largest = {i: base[i] if most[i] is None else most[i] for i in numbers}
            self._made[key] = self._found(home, depth, largest)
        return self._made[key]

    def _found(self, home: Home, depth: int, largest: dict[int, int]) -> dict[tuple[str, int], Extent]:
        found: dict[tuple[str, int], dict[int | None, Table]] = {}
        for candidate in range(self._known.point(depth).num_candidates):
            values = {**largest, depth: candidate}
            base = entries(self._twin(home, values), home.path)
            counting: dict[tuple[str, int], list[int]] = {}
            for index in (i for i in largest if i != depth):
                small = entries(self._twin(home, {**values, index: self._smallest(index)}), home.path)
                for name, (_, cut) in base.items():
                    for axis in differing(cut, small[name][1]):
                        counting.setdefault((name, axis), []).append(index)
            for name, (_, cut) in base.items():
                for axis in range(len(cut)):
                    decisions = tuple(counting.get((name, axis), ()))
                    table = self._axes(home, values, (name, axis), decisions)
                    found.setdefault((name, axis), {})[candidate] = (decisions, table)
        made = {place: Extent(_merged(cases)) for place, cases in found.items()}
        return {place: extent for place, extent in made.items() if _is_varied(extent)}

    def _smallest(self, index: int) -> int:
        values = [self._known.literal(index, c) for c in range(self._known.point(index).num_candidates)]
        return min(range(len(values)), key=lambda c: values[c])

    def _axes(self, home: Home, values: Mapping[int, int], place: tuple[str, int],
              decisions: tuple[int, ...]) -> dict[tuple[int, ...], Axis]:  # fmt: skip
        rows = [range(self._known.point(i).num_candidates) for i in decisions]
        found: dict[tuple[int, ...], Axis] = {}
        for picks in itertools.product(*rows) if math.prod(map(len, rows)) <= MOST_JOINT else ():
            twin = self._twin(home, {**values, **dict(zip(decisions, picks, strict=True))})
            found[picks] = entries(twin, home.path)[place[0]][1][place[1]]
        return found


def is_size(known: Dependencies, index: int) -> bool:
    """Returns whether a decision is a choice among numbers."""
    point = known.point(index)
    return known.is_number(point) and point.kind == CHOICE


def _merged(cases: Mapping[int | None, Table]) -> Mapping[int | None, Table]:
    """Returns one case where all depths agree."""
    (decisions, axes), *rest = cases.values()
    same = all(
        others == decisions and all(equal(axis, axes.get(picks)) for picks, axis in table.items())
        for others, table in rest
    )
    return {None: (decisions, axes)} if same else cases


def _is_varied(extent: Extent) -> bool:
    return len(extent.cases) > 1 or any(decisions for decisions, _ in extent.cases.values())


def entries(instance: Instance, path: str) -> dict[str, tuple[Loan, Cut]]:
    """Returns what a module shares, by name of its tensor."""
    return {loan.name: (loan, cut) for loan, cut in instance.loans if loan.path == path}


def differing(cut: Cut, other: Cut) -> list[int]:
    """Returns the axes at which two cuts differ."""
    return [axis for axis, (a, b) in enumerate(zip(cut, other, strict=True)) if not equal(a, b)]


def equal(a: object, b: object) -> bool:
    """Returns whether two cuts of an axis are the same."""
    if isinstance(a, torch.Tensor) or isinstance(b, torch.Tensor):
        return isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) and torch.equal(a, b)
    return bool(a == b)


__all__ = ["MOST_JOINT", "Extent", "Extents", "differing", "entries", "equal", "is_size"]
