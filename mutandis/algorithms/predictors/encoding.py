"""DNAs as rows of numbers, for regression.

- A choice has one column per candidate: 1 for the one that is taken.
- Distinct picks have one per candidate: whether it is picked; where their order matters, one more for its place.
- Picks with repetition have one per candidate: how often it is picked; where their order matters, one per place and
  candidate.
- A range has its place in the unit interval, after the logarithm for a log scale; where it may be inactive, one more
  says that it is active.

All columns of an inactive decision are zero. Columns are scaled so that two values of one decision are at most about
sqrt(2) apart, as two candidates of a choice are: half the squared distance of two rows then counts the decisions in
which they differ, and where the decisions are ranges or picks, it counts by degrees.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from mutandis.errors import SettingError
from mutandis.hyper import DNA, Point, SearchSpace

Array = NDArray[np.float64]
_WIDTH = math.sqrt(2.0)
_INDICES = re.compile(r"(\.candidates)?\[\d+\]")


class Encoding:
    """Writes the DNAs of a space as rows of numbers.

    Args:
        space: The space.
        pooled: Whether to add columns for each role, i.e. for all decisions whose paths differ in indices only, such
            as `blocks[0].op` and `blocks[1].op`: the mean of their columns over those that are active. These mean
            the same for programs of any length.

    Attributes:
        num_columns: The number of columns.
        owner: `[num_columns]`, the decision of each column; that of the first decision of the role where pooled.

    Raises:
        SettingError: a decision is open-ended and has no columns.
    """

    def __init__(self, space: SearchSpace, *, pooled: bool = False) -> None:
        self._space = space.bare()
        self._starts: list[int] = []
        owner: list[int] = []
        for point in space.points:
            if point.kind == "custom":
                raise SettingError("cannot predict an open-ended decision", at=point.path, got=point.describe(),
                                   expected="choices, ranges and picks",
                                   fix="use RegularizedEvolution() or LocalSearch()")  # fmt: skip
            self._starts.append(len(owner))
            owner.extend([point.index] * width(point))
        self._num_single = len(owner)
        self._roles = _roles(space) if pooled else []
        self._role_starts: list[int] = []
        for members in self._roles:
            self._role_starts.append(len(owner))
            owner.extend([members[0].index] * max(map(width, members)))
        self.owner: NDArray[np.int64] = np.array(owner, dtype=np.int64)
        self.num_columns = len(owner)

    def __call__(self, dnas: Sequence[DNA]) -> Array:
        """Returns the `[N, num_columns]` rows of DNAs."""
        made = np.zeros((len(dnas), self.num_columns))
        rows: list[int] = []
        columns: list[int] = []
        numbers: list[float] = []
        for row, dna in enumerate(dnas):
            for point, start, value in zip(self._space.points, self._starts, dna.values, strict=True):
                if value is None:
                    continue
                if point.kind == "choice":
                    rows.append(row)
                    columns.append(start + value)
                    numbers.append(1.0)
                    continue
                for column, number in _entries(point, value):
                    rows.append(row)
                    columns.append(start + column)
                    numbers.append(number)
        np.add.at(made, (rows, columns), numbers)
        self._pool(made, dnas)
        return made

    def _pool(self, made: Array, dnas: Sequence[DNA]) -> None:
        for members, start in zip(self._roles, self._role_starts, strict=True):
            active = np.array([sum(dna.values[point.index] is not None for point in members) for dna in dnas])
            for point in members:
                own = self._starts[point.index]
                made[:, start : start + width(point)] += made[:, own : own + width(point)]
            made[:, start : start + max(map(width, members))] /= np.maximum(active, 1)[:, None]

    def interactions(self, rows: Array) -> Array:
        """Returns the products of all pairs of columns of different decisions, the pooled ones left aside.

        Args:
            rows: `[N, num_columns]`.
        """
        owner = self.owner[: self._num_single]
        first, second = np.nonzero(owner[:, None] < owner[None, :])
        made: Array = rows[:, first] * rows[:, second]
        return made


def width(point: Point) -> int:
    """Returns the number of columns of a decision."""
    if point.kind == "choice":
        return point.num_candidates
    if point.kind == "many":
        if not point.ordered:
            return point.num_candidates
        return point.num_candidates * (2 if point.distinct else max(point.k_max, 1))
    return 2 if point.conditions else 1


def _entries(point: Point, value: object) -> Iterable[tuple[int, float]]:
    """Yields the columns of an active value that are not zero."""
    if isinstance(value, tuple):
        yield from _pick_entries(point, value)
        return
    yield 0, _WIDTH * point.to_unit(value)[0]
    if point.conditions:
        yield 1, 1.0


def _pick_entries(point: Point, picks: tuple[int, ...]) -> Iterable[tuple[int, float]]:
    share = 1.0 / math.sqrt(max(point.k_max, 1))
    for place, candidate in enumerate(picks):
        if not point.distinct and point.ordered:
            yield place * point.num_candidates + candidate, share
        elif not point.distinct:
            yield candidate, 1.0 / point.k_max
        else:
            yield candidate, share
            if point.ordered:
                yield point.num_candidates + candidate, share * (place + 1) / point.k_max


def _roles(space: SearchSpace) -> list[list[Point]]:
    """Returns the decisions by role, in the order of their first ones."""
    found: dict[tuple[str, str], list[Point]] = {}
    for point in space.points:
        found.setdefault((point.kind, _INDICES.sub("", point.path)), []).append(point)
    return list(found.values())


__all__ = ["Encoding", "width"]
