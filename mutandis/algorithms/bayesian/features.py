"""Features: every decision as a few columns between which Euclidean distance means something.

A place of the unit cube (`DNA.to_unit`) is decoded as `SearchSpace.from_unit` does, for many rows at once, and
written as columns. Within a decision, the squared distance of two values is

| decision                     | columns                                   | squared distance                     |
|------------------------------|-------------------------------------------|--------------------------------------|
| a range                      | its place u in [0, 1]                     | (u - u')^2                           |
| a choice                     | one per candidate                         | 1 if they differ                     |
| distinct picks without order | whether each candidate is picked          | share of candidates that differ      |
| distinct picks in order      | the rank of each candidate, unpicked last | sum of (rank - rank')^2, at most 1   |
| repeated picks in order      | one-hot slots                             | share of slots that differ           |
| repeated picks without order | the count of each candidate               | sum of (count - count')^2, at most 1 |

so that a product of kernels over decisions is one kernel of a weighted Euclidean distance, and positive definite.
Ranges with steps are rounded before they are written, as Garrido-Merchan and Hernandez-Lobato propose (Dealing with
Categorical and Integer-valued Variables in Bayesian Optimization with Gaussian Processes, Neurocomputing 2020,
arXiv 1805.03463). Ranks are the position distance of Zaefferer, Stork, Bartz-Beielstein (PPSN 2014).

A decision that is not active takes one place of its own, an isometric embedding as in Hutter and Osborne (A Kernel
for Hierarchical Parameter Spaces, 2013, arXiv 1310.5738): a further candidate for a choice, the middle of everything
else, with one more column that says whether it is active. Two points in which it is not active do not differ in it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mutandis.errors import SettingError
from mutandis.hyper import DNA, Point, SearchSpace

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
INACTIVE = 0.5
"""Squared distance that activity alone adds to a range or to picks."""


@dataclass(frozen=True)
class Decision:
    """One point with its places in the unit cube and among the columns.

    Attributes:
        point: The point.
        units: Its coordinates of the unit cube.
        columns: Its columns of the features.
        is_smooth: Whether a small move of its coordinate is a small move of its column.
    """

    point: Point
    units: slice
    columns: slice
    is_smooth: bool


class Features:
    """Writes places of the unit cube of a space as features.

    Args:
        space: The space.

    Attributes:
        decisions: One for each point.
        num_units: Number of coordinates of the unit cube.
        num_columns: Number of columns.
        owner: `[num_columns]` int, the decision of each column.

    Raises:
        SettingError: a decision is open-ended and has no place in the unit cube.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self.decisions: list[Decision] = []
        units = columns = 0
        for point in space.points:
            if point.kind == "custom":
                raise SettingError("cannot model an open-ended decision", at=point.path, got=point.describe(),
                                   expected="choices, ranges and picks",
                                   fix="use RegularizedEvolution() or LocalSearch()")  # fmt: skip
            width = _num_columns(point)
            smooth = point.kind == "float" and point.step is None
            self.decisions.append(
                Decision(point, slice(units, units + point.num_units), slice(columns, columns + width), smooth)
            )
            units, columns = units + point.num_units, columns + width
        self.num_units, self.num_columns = units, columns
        self.owner = np.repeat(np.arange(len(self.decisions)), [_num_columns(point) for point in space.points])

    def place(self, dnas: Sequence[DNA]) -> Array:
        """Returns the `[N, num_units]` places of DNAs in the unit cube; 0.5 where a decision is not active."""
        return np.array([dna.to_unit() for dna in dnas], dtype=float).reshape(len(dnas), self.num_units)

    def encode(self, units: Array) -> Array:
        """Returns the `[N, num_columns]` features of places in the unit cube."""
        return self.encode_with_activity(units)[0]

    def encode_with_activity(self, units: Array) -> tuple[Array, Flags]:
        """Returns the features of places in the unit cube, and which decisions are active there.

        Args:
            units: `[N, num_units]`, each in [0, 1].

        Returns:
            `[N, num_columns]` features and `[N, D]` flags.
        """
        count = len(units)
        made = np.zeros((count, self.num_columns))
        active = np.ones((count, len(self.decisions)), dtype=bool)
        picked: list[Flags | None] = []  # Which candidates are picked: `[N, num_candidates]`.
        for index, decision in enumerate(self.decisions):
            point = decision.point
            if point.conditions:
                active[:, index] = self._activity(point, active, picked, count)
            block, chosen = _block(point, units[:, decision.units])
            picked.append(chosen)
            width = block.shape[1]
            columns = made[:, decision.columns]
            columns[:, :width] = block
            if point.conditions:
                _mark(point, columns, width, active[:, index])
        return made, active

    def _activity(self, point: Point, active: Flags, picked: list[Flags | None], count: int) -> Flags:
        made = np.zeros(count, dtype=bool)
        for parent, candidate in point.conditions:
            chosen = picked[parent]
            assert chosen is not None  # Conditions hang on choices and picks only.
            made |= active[:, parent] & chosen[:, candidate]
        return made


def _num_columns(point: Point) -> int:
    extra = 1 if point.conditions else 0
    if point.kind == "choice":
        return point.num_candidates + extra
    if point.kind == "many":
        slots = not point.distinct and point.ordered
        return (point.k_max * (point.num_candidates + 1) if slots else point.num_candidates) + extra
    return 1 + extra


def _mark(point: Point, columns: Array, width: int, active: Flags) -> None:
    """Moves rows in which a decision is not active to the place for that."""
    if point.kind == "choice":
        columns[~active, :width] = 0.0
        columns[~active, width] = math.sqrt(0.5)
        return
    columns[~active, :width] = _middle(point)
    columns[active, width] = math.sqrt(INACTIVE)


def _middle(point: Point) -> float:
    if point.kind != "many":
        return 0.5
    if not point.distinct and point.ordered:
        return math.sqrt(0.5 / point.k_max) / (point.num_candidates + 1) if point.k_max else 0.0
    return 0.5 * _scale(point)


def _block(point: Point, units: Array) -> tuple[Array, Flags | None]:
    """Returns the columns of active values, and which candidates are picked."""
    if point.kind == "choice":
        chosen = _cell(units[:, 0], point.num_candidates)[:, None] == np.arange(point.num_candidates)
        return chosen * math.sqrt(0.5), chosen
    if point.kind == "many":
        return _picks(point, units)
    return snapped(point, units[:, 0])[:, None], None


def _cell(units: Array, count: int) -> NDArray[np.int64]:
    return np.minimum((np.clip(units, 0.0, 1.0) * count).astype(np.int64), count - 1)


def snapped(point: Point, units: Array) -> Array:
    """Returns coordinates of a range moved to those of legal values, as `to_unit(from_unit(u))` does."""
    units = np.clip(units, 0.0, 1.0)
    if not point.is_finite:
        return units
    count = point.num_steps
    if point.scale != "log":
        return (_cell(units, count) + 0.5) / count
    step = point.step or 1
    half = step / 2
    low = math.log(point.low - half if point.low > half else point.low / 2)
    high = math.log(point.at(count - 1) + half)
    position = np.clip(np.rint((np.exp(low + units * (high - low)) - point.low) / step), 0, count - 1)
    value: Array = (np.log(point.low + position * step) - low) / (high - low)
    return value


def _picks(point: Point, units: Array) -> tuple[Array, Flags]:
    """Returns the columns of picks, and which candidates are among them."""
    n, sizes = point.num_candidates, np.full(len(units), point.k_min)
    if point.k_min != point.k_max:
        sizes = point.k_min + _cell(units[:, 0], point.k_max - point.k_min + 1)
        units = units[:, 1:]
    if point.distinct:
        rank = np.argsort(np.argsort(units, axis=1, kind="stable"), axis=1)
        chosen = rank < sizes[:, None]
        if not point.ordered:
            return np.asarray(chosen * _scale(point), dtype=np.float64), chosen
        tail = (sizes[:, None] + n - 1) / 2  # The mean rank of those that are not picked.
        ranks: Array = np.where(chosen, rank, tail).astype(np.float64)
        return np.asarray(ranks * (_scale(point) / max(n - 1, 1)), dtype=np.float64), chosen
    used = np.arange(point.k_max) < sizes[:, None]
    slots = np.where(used, _cell(units, n), n)
    counts: Array = (slots[:, :, None] == np.arange(n)).sum(axis=1).astype(np.float64)
    if not point.ordered:
        return counts * _scale(point), counts > 0
    hot = (slots[:, :, None] == np.arange(n + 1)).reshape(len(units), point.k_max * (n + 1)).astype(np.float64)
    return hot * math.sqrt(0.5 / max(point.k_max, 1)), counts > 0


def _scale(point: Point) -> float:
    """Returns the factor that makes the largest squared distance of two picks 1."""
    n = point.num_candidates
    if not point.distinct:
        return math.sqrt(0.5) / max(point.k_max, 1)
    if not point.ordered:
        return math.sqrt(1 / n)
    largest = n * (n + 1) / (3 * max(n - 1, 1))  # An order against its reverse, with ranks in [0, 1].
    return math.sqrt(1 / largest)


__all__ = ["INACTIVE", "Decision", "Features", "snapped"]
