"""Axes: the decisions of a space as columns of numbers, for densities.

*Notation*: m rows, one a DNA; R range axes, C category axes.

A range is one axis in the unit interval (after the logarithm for a log scale), a legal value standing in the middle
of its cell. A choice is one axis of categories. Several picks are many axes of categories: distinct ones without an
order one axis of two categories per candidate (picked or not); all others one axis per place, with one category more,
"nothing", for a place that may stay empty. Rows drawn axis by axis need not be legal picks: repeated candidates are
then replaced, and missing or superfluous ones added or dropped, at random.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mutandis.errors import SettingError
from mutandis.hyper import DNA, Point, SearchSpace
from mutandis.hyper.points import CHOICE, CUSTOM, MANY

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Rows = tuple[Floats, Ints]
"""Ranges `[m, R]`, nan where inactive, and categories `[m, C]`, -1 where inactive."""
Arm = tuple[int, int]
"""A candidate of a choice, or one that is among picks: point index and candidate index."""
Group = tuple[list[int], tuple[Arm, ...]]

_MOST_CELLS = 4096  # A range of more legal values is as good as continuous.


class Cells(NamedTuple):
    """What the legal values of a range own of the unit interval.

    Attributes:
        centres: `[N]`, their places.
        edges: `[N - 1]`, where one cell ends and the next begins.
        widths: `[N]`, which sum to 1.
    """

    centres: Floats
    edges: Floats
    widths: Floats


class Axes:
    """The columns of a space.

    Args:
        space: A bare space.

    Attributes:
        space: The space.
        cells: The cells of each range axis, or None where it is continuous.
        sizes: `[C]`, the number of categories of each category axis.
        columns: Per point, whether it is a range, and its axes in the array of its sort.
        groups: The points that always appear together, and what these hang on; parents before children.

    Raises:
        SettingError: a decision is open-ended.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self.cells: list[Cells | None] = []
        self.columns: list[tuple[bool, range]] = []
        sizes: list[int] = []
        for point in space.points:
            if point.kind == CUSTOM:
                raise SettingError("cannot model an open-ended decision", at=point.path, got=point.describe(),
                                   expected="choices, picks and ranges",
                                   fix="use RegularizedEvolution(), which mutates programs")  # fmt: skip
            if point.kind in (CHOICE, MANY):
                axes = _category_sizes(point)
                self.columns.append((False, range(len(sizes), len(sizes) + len(axes))))
                sizes += axes
            else:
                self.columns.append((True, range(len(self.cells), len(self.cells) + 1)))
                self.cells.append(_cells_of(point))
        self.sizes = np.array(sizes, dtype=np.int64)
        self.groups = _groups_of(space)

    def encode(self, dna: DNA) -> tuple[list[float], list[int]]:
        """Returns the row of a DNA: R floats and C ints."""
        floats = [float("nan")] * len(self.cells)
        ints = [-1] * len(self.sizes)
        for point, value, (is_range, axes) in zip(self.space.points, dna.values, self.columns, strict=True):
            if value is None:
                continue
            if is_range:
                floats[axes.start] = point.to_unit(value)[0]
            elif point.kind == CHOICE:
                ints[axes.start] = value
            else:
                ints[axes.start : axes.stop] = _categories_of(point, value)
        return floats, ints

    def decode(self, floats: Sequence[float], ints: Sequence[int], rng: Any) -> DNA:
        """Returns the DNA of a row; what is not active is left out.

        Args:
            floats: R numbers in [0, 1].
            ints: C categories.
            rng: Repairs picks that are not legal.
        """
        values: list[Any] = []
        for point, (is_range, axes) in zip(self.space.points, self.columns, strict=True):
            if is_range:
                place = floats[axes.start]
                values.append(None if place != place else point.from_unit(place))
            elif len(axes) and ints[axes.start] < 0:
                values.append(None)
            elif point.kind == CHOICE:
                values.append(ints[axes.start])
            else:
                values.append(_picks_of(point, ints[axes.start : axes.stop], rng))
        return self.space.repair(values, lambda point: point.draw(rng))

    def snap(self, floats: Floats) -> Floats:
        """Returns ranges moved to the middle of their cells."""
        snapped = floats.copy()
        for axis, cells in enumerate(self.cells):
            if cells is not None:
                snapped[:, axis] = cells.centres[np.searchsorted(cells.edges, floats[:, axis], side="right")]
        return snapped

    def is_taken(self, ints: Ints, arm: Arm) -> Bools:
        """Returns `[m]`, whether a choice takes a candidate, or picks contain it."""
        point, candidate = arm
        axes = self.columns[point][1]
        own = self.space.points[point]
        if own.kind == MANY and _is_set(own):
            return ints[:, axes.start + candidate] == 1  # type: ignore[no-any-return]
        return (ints[:, axes.start : axes.stop] == candidate).any(axis=1)  # type: ignore[no-any-return]

    def blank(self, rows: Rows, points: Sequence[int], keep: Bools) -> None:
        """Marks points as inactive in the rows that are not kept, in place."""
        for index in points:
            is_range, axes = self.columns[index]
            if is_range:
                rows[0][~keep, axes.start] = np.nan
            else:
                rows[1][~keep, axes.start : axes.stop] = -1

    def copy(self, rows: Rows, to: int, source: Rows, points: Sequence[int]) -> None:
        """Copies points from the only row of `source` into row `to`, in place."""
        for index in points:
            is_range, axes = self.columns[index]
            if is_range:
                rows[0][to, axes.start] = source[0][0, axes.start]
            else:
                rows[1][to, axes.start : axes.stop] = source[1][0, axes.start : axes.stop]

    def impose(self, rows: Rows, arms: Sequence[Arm]) -> None:
        """Makes choices take candidates in all rows, in place."""
        for point, candidate in arms:
            rows[1][:, self.columns[point][1].start] = candidate


def _category_sizes(point: Point) -> list[int]:
    if point.kind == CHOICE:
        return [point.num_candidates]
    if _is_set(point):
        return [2] * point.num_candidates
    return [point.num_candidates + (place >= point.k_min) for place in range(point.k_max)]


def _is_set(point: Point) -> bool:
    return point.distinct and not point.ordered


def _categories_of(point: Point, value: tuple[int, ...]) -> list[int]:
    if _is_set(point):
        return [int(candidate in value) for candidate in range(point.num_candidates)]
    return [*value, *[point.num_candidates] * (point.k_max - len(value))]


def _picks_of(point: Point, categories: Sequence[int], rng: Any) -> tuple[int, ...]:
    """Returns the legal picks that are nearest to some categories, ties broken at random."""
    if _is_set(point):
        picks = [candidate for candidate, picked in enumerate(categories) if picked]
    else:
        picks = [candidate for candidate in categories if candidate < point.num_candidates]
    if point.distinct:
        unused = [candidate for candidate in range(point.num_candidates) if candidate not in picks]
        seen: set[int] = set()
        for place, candidate in enumerate(picks):
            if candidate in seen:
                picks[place] = unused.pop(int(rng.random() * len(unused)))
            seen.add(picks[place])
    while len(picks) > point.k_max:
        del picks[int(rng.random() * len(picks))]
    while len(picks) < point.k_min:
        options = [c for c in range(point.num_candidates) if not (point.distinct and c in picks)]
        picks.append(options[int(rng.random() * len(options))])
    return tuple(picks if point.ordered else sorted(picks))


def _cells_of(point: Point) -> Cells | None:
    if not point.is_finite or point.num_steps > _MOST_CELLS:
        return None
    values = [point.at(position) for position in range(point.num_steps)]
    half = (point.step or 1) / 2
    if point.scale == "log":
        inner = [point.to_unit(value - half)[0] for value in values[1:]]
    else:
        inner = [place / len(values) for place in range(1, len(values))]
    centres = np.array([point.to_unit(value)[0] for value in values])
    return Cells(centres, np.array(inner), np.diff(np.array([0.0, *inner, 1.0])))


def _groups_of(space: SearchSpace) -> list[Group]:
    """Returns the groups in the order of their first points: all that a group hangs on begins before it."""
    groups: dict[tuple[Arm, ...], list[int]] = {}
    for point in space.points:
        groups.setdefault(point.conditions, []).append(point.index)
    return [(points, conditions) for conditions, points in groups.items()]
