"""How many DNAs there are, which number a DNA has, and which DNA has a number: exact, without listing them.

A conditional space is a graph: a candidate makes points active. Sets of active, undecided points that cannot
reach a common point are independent, so their counts multiply; within such a set the first point is decided
case by case, and candidates that make the same points active are one case. Picks of several candidates are
counted by generating functions: a polynomial in the number of picks for unordered ones, an exponential one
(products with binomials) for ordered ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

from mutandis.hyper.points import CHOICE, MANY, Point

_Set = frozenset[int]
_NONE: _Set = frozenset()


class Counter:
    """Counts over the points of one space.

    Args:
        points: The points, parents before children.
    """

    def __init__(self, points: Sequence[Point]) -> None:
        self._points = points
        children: list[dict[int, set[int]]] = [{} for _ in points]
        for point in points:
            for parent, candidate in point.conditions:
                children[parent].setdefault(candidate, set()).add(point.index)
        self._children: list[dict[int, _Set]] = [{c: frozenset(s) for c, s in table.items()} for table in children]
        self._reach: list[_Set] = [_NONE] * len(points)
        for index in range(len(points) - 1, -1, -1):
            below = (self._reach[c] for group in self._children[index].values() for c in group)
            self._reach[index] = frozenset((index,)).union(*below)
        self._known: dict[_Set, int] = {_NONE: 1}
        self._roots = frozenset(p.index for p in points if not p.conditions)

    def total(self) -> int | float:
        """Returns the number of DNAs; inf when a point has no finite list of values."""
        if not all(point.is_finite for point in self._points):
            return math.inf
        return self._count(self._roots)

    def _count(self, active: _Set) -> int:
        """Returns the number of ways to decide `active`, undecided points and all they make active."""
        total = 1
        for part in self._independent(active):
            total *= self._count_entangled(part)
        return total

    def _independent(self, active: _Set) -> list[_Set]:
        """Returns the parts of `active` that cannot reach a common point."""
        if len(active) < 2:
            return [active] if active else []
        alone = [frozenset((i,)) for i in active if not self._children[i]]
        rest = [i for i in active if self._children[i]]
        reached = {c for i in rest for c in self._reach[i]}
        meeting = [next(iter(s)) for s in alone if next(iter(s)) in reached]
        parts = [s for s in alone if next(iter(s)) not in reached]
        groups: list[tuple[set[int], set[int]]] = []
        for index in [*rest, *meeting]:
            members, reach = {index}, set(self._reach[index])
            apart = []
            for other in groups:
                if reach.isdisjoint(other[1]):
                    apart.append(other)
                else:
                    members |= other[0]
                    reach |= other[1]
            groups = [*apart, (members, reach)]
        return parts + [frozenset(members) for members, _ in groups]

    def _count_entangled(self, active: _Set) -> int:
        known = self._known.get(active)
        if known is None:
            first = min(active)
            known = self._count_point(self._points[first], active - {first})
            self._known[active] = known
        return known

    def _count_point(self, point: Point, rest: _Set) -> int:
        table = self._children[point.index]
        if not table:
            return int(point.size) * self._count(rest)
        if point.kind == CHOICE:
            cases = _grouped([table.get(c, _NONE) for c in range(point.num_candidates)])
            return sum(weight * self._count(rest | below) for below, weight in cases.items())
        return self._count_picks(point, rest)

    def _count_picks(self, point: Point, rest: _Set) -> int:
        table = self._children[point.index]
        cases = _grouped([table.get(c, _NONE) for c in range(point.num_candidates)])
        others = frozenset(c for i in rest for c in self._reach[i])
        free: list[tuple[int, int]] = []
        tied: list[tuple[_Set, int]] = []
        groups = list(cases.items())
        reaches = [frozenset(c for i in below for c in self._reach[i]) for below, _ in groups]
        for here, (below, weight) in enumerate(groups):
            apart = all(reaches[here].isdisjoint(r) for j, r in enumerate(reaches) if j != here)
            alone = weight == 1 or not below
            if apart and alone and reaches[here].isdisjoint(others):
                free.append((self._count(below), weight))
            else:
                tied.append((below, weight))
        algebra = _Picks(point)
        base = algebra.one()
        for count, weight in free:
            base = algebra.times(base, algebra.power(count, weight))
        return sum(
            self._count(rest.union(*(below for below, _ in chosen))) * algebra.coefficients(base, chosen)
            for chosen in _subsets(tied, point.k_max)
        )

    def rank(self, values: Sequence[Any]) -> int:
        """Returns the number of a DNA in the order of `space.enumerate()`."""
        active, number = self._roots, 0
        while active:
            first = min(active)
            point, rest = self._points[first], active - {first}
            table, wanted = self._children[first], values[first]
            if not table:
                number += position_of(point, wanted) * self._count(rest)
                active = rest
                continue
            for value in point.values():
                after = rest | self._opened(point, value)
                if value == wanted:
                    break
                number += self._count(after)
            active = after
        return number

    def unrank(self, number: int) -> list[Any]:
        """Returns the values of the DNA with a number; None for inactive points."""
        values: list[Any] = [None] * len(self._points)
        active = self._roots
        while active:
            first = min(active)
            point, rest = self._points[first], active - {first}
            if not self._children[first]:
                position, number = divmod(number, self._count(rest))
                values[first] = value_at(point, position)
                active = rest
                continue
            for value in point.values():
                after = rest | self._opened(point, value)
                count = self._count(after)
                if number < count:
                    break
                number -= count
            values[first] = value
            active = after
        return values

    def _opened(self, point: Point, value: Any) -> _Set:
        table = self._children[point.index]
        if point.kind == CHOICE:
            return table.get(value, _NONE)
        return _NONE.union(*(table.get(c, _NONE) for c in value))


def _grouped(sets: list[_Set]) -> dict[_Set, int]:
    cases: dict[_Set, int] = {}
    for below in sets:
        cases[below] = cases.get(below, 0) + 1
    return cases


def _subsets(groups: list[tuple[_Set, int]], most: int) -> Iterator[tuple[tuple[_Set, int], ...]]:
    for count in range(min(most, len(groups)) + 1):
        yield from combinations(groups, count)


class _Picks:
    """Polynomials in the number of picks of one point, cut off at its largest number."""

    def __init__(self, point: Point) -> None:
        self._point = point
        self._top = point.k_max
        self._one_or_more = [0, *([1] + [0 if point.distinct else 1] * (self._top - 1))][: self._top + 1]

    def one(self) -> list[int]:
        return [1] + [0] * self._top

    def times(self, a: list[int], b: list[int]) -> list[int]:
        ordered = self._point.ordered
        made = [0] * (self._top + 1)
        for i, x in enumerate(a):
            if x:
                for j in range(self._top + 1 - i):
                    if b[j]:
                        made[i + j] += x * b[j] * (math.comb(i + j, i) if ordered else 1)
        return made

    def power(self, count: int, weight: int) -> list[int]:
        """Returns the polynomial of `weight` candidates, each with `count` ways below it."""
        single = self.one()
        for k in range(1, self._top + 1):
            single[k] = count * self._one_or_more[k]
        made, base = self.one(), single
        while weight:
            if weight & 1:
                made = self.times(made, base)
            base = self.times(base, base)
            weight >>= 1
        return made

    def coefficients(self, base: list[int], chosen: Sequence[tuple[_Set, int]]) -> int:
        """Returns the number of picks in which, of each chosen group, some candidate occurs."""
        made = base
        for _, weight in chosen:
            some = self.power(1, weight)
            some[0] -= 1
            made = self.times(made, some)
        return sum(made[self._point.k_min : self._top + 1])


def position_of(point: Point, value: Any) -> int:
    """Returns the place of a value among `point.values()`, without listing them."""
    if point.kind == CHOICE:
        return int(value)
    if point.kind != MANY:
        return int(round((value - point.low) / (point.step or 1)))  # noqa: RUF046 - the value may be Any
    before = sum(point.num_picks(k) for k in range(point.k_min, len(value)))
    used: list[int] = []
    for slot, pick in enumerate(value):
        for candidate in _options(point, used):
            if candidate == pick:
                break
            before += _completions(point, [*used, candidate], len(value) - slot - 1)
        used.append(pick)
    return before


def value_at(point: Point, position: int) -> Any:
    """Returns the value at a place of `point.values()`, without listing them."""
    if point.kind == CHOICE:
        return position
    if point.kind != MANY:
        return point.at(position)
    k = point.k_min
    while position >= point.num_picks(k):
        position -= point.num_picks(k)
        k += 1
    used: list[int] = []
    for slot in range(k):
        for candidate in _options(point, used):
            count = _completions(point, [*used, candidate], k - slot - 1)
            if position < count:
                break
            position -= count
        used.append(candidate)
    return tuple(used)


def _options(point: Point, used: list[int]) -> Iterator[int]:
    """Yields what may come after the picks `used`, in order."""
    start = 0 if point.ordered or not used else used[-1] + point.distinct
    for candidate in range(start, point.num_candidates):
        if not (point.distinct and point.ordered and candidate in used):
            yield candidate


def _completions(point: Point, used: list[int], left: int) -> int:
    """Returns how many ways there are to go on after the picks `used`."""
    n = point.num_candidates
    if point.ordered:
        return math.perm(n - len(used), left) if point.distinct else int(n**left)
    room: int = n - used[-1] - point.distinct
    if point.distinct:
        return math.comb(room, left)
    return math.comb(room + left - 1, left) if room or not left else 0


__all__ = ["Counter", "position_of", "value_at"]
