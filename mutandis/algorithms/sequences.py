"""DNAs as sequences of categorical steps, for methods that decide one thing after the other.

A space is cut into slots, parents before children:

- a choice is one slot (`choice`) with an option per candidate;
- a range is one slot (`bin`): an option per legal value where there are at most `bins` of them, else an option per
  cell, the cells being equal parts of the unit interval, i.e. of the logarithm for a log scale;
- several picks are a slot for their number where it varies (`count`), then one per pick (`pick`) with an option per
  candidate. Distinct picks are drawn without replacement: what was picked is not legal any more.

A DNA takes steps through the slots of its active decisions only. A step into a cell decides the value up to a
uniform draw within the cell; everything else is exact both ways.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from mutandis.algorithms.base import need_int
from mutandis.errors import DecisionError, SettingError
from mutandis.hyper import DNA, Point, SearchSpace
from mutandis.hyper.rng import Rng

Legal = tuple[bool, ...] | None


@dataclass(frozen=True, slots=True)
class Slot:
    """A place where one of finitely many options is taken.

    Attributes:
        index: Its place in `Codec.slots`.
        point: The decision it belongs to.
        place: Which of the picks of the decision it is, from 0; 0 for all other roles.
        role: `choice`, `count`, `pick` or `bin`.
        num_options: How many options there are, legal or not.
    """

    index: int
    point: Point
    place: int
    role: str
    num_options: int


@dataclass(frozen=True, slots=True)
class Step:
    """An option that was taken in a slot.

    Attributes:
        slot: Where.
        option: Which, from 0.
        legal: Whether each option could be taken; None where all could.
    """

    slot: Slot
    option: int
    legal: Legal


Choose = Callable[[Slot, Legal], int]


class Codec:
    """Leads between the DNAs of a space and sequences of steps.

    Args:
        space: The space.
        bins: Into how many cells a range with more values is cut, at least 1.
        canonical: Whether unordered picks may only be walked in rising order, so that there is one sequence per
            set. Otherwise any order leads to the sorted picks; `steps` gives the rising one either way.

    Attributes:
        slots: All slots of all decisions, in the order in which they are visited.

    Raises:
        SettingError: a decision is open-ended, or `bins` not a whole number of at least 1.
    """

    def __init__(self, space: SearchSpace, bins: int = 16, *, canonical: bool = False) -> None:
        need_int("Codec.bins", bins, 1)
        self._space = space.bare()
        self._canonical = canonical
        self._empty = [None] * len(space.points)
        self._cells: dict[int, Cells] = {}
        self._parts: list[tuple[Slot, ...]] = []
        made: list[Slot] = []
        for point in self._space.points:
            parts = tuple(Slot(len(made) + i, point, *part) for i, part in enumerate(self._cut(point, bins)))
            self._parts.append(parts)
            made.extend(parts)
        self.slots: tuple[Slot, ...] = tuple(made)

    def _cut(self, point: Point, bins: int) -> list[tuple[int, str, int]]:
        """Returns place, role and number of options of each slot of a point."""
        if point.kind == "choice":
            return [(0, "choice", point.num_candidates)]
        if point.kind == "many":
            counts = point.k_max - point.k_min + 1
            picks = [(place, "pick", point.num_candidates) for place in range(point.k_max)]
            return picks if counts == 1 else [(0, "count", counts), *picks]
        if point.kind == "custom":
            raise SettingError(
                "cannot cut a decision into steps",
                at=point.path,
                got=point.describe(),
                expected="decisions among candidates or within ranges",
                fix="use an algorithm that rewrites programs, such as RegularizedEvolution()",
            )
        cells = self._cells[point.index] = Cells(point, bins)
        return [(0, "bin", len(cells))]

    def walk(self, choose: Choose, rng: Random) -> tuple[DNA, tuple[Step, ...]]:
        """Visits the slots of all decisions that become active, parents before children.

        Args:
            choose: Returns the option to take in a slot, given which are legal (None for all).
            rng: Draws the values within cells.

        Returns:
            The DNA, and the steps in the order in which they were taken.

        Raises:
            DecisionError: `choose` returned no legal option.
        """
        steps: list[Step] = []

        def draw(point: Point) -> Any:
            start = len(steps)
            self._visit(point, choose, steps)
            return self._value(point, [step.option for step in steps[start:]], rng)

        return self._space.repair(self._empty, draw), tuple(steps)

    def steps(self, dna: DNA) -> tuple[Step, ...]:
        """Returns the steps that lead to a DNA; unordered picks in rising order.

        Raises:
            DecisionError: the DNA is of another space.
        """
        steps: list[Step] = []
        for point, value in zip(self._space.points, self._space.own(dna).values, strict=True):
            if value is not None:
                known = iter(self._options(point, value))
                self._visit(point, lambda slot, legal, known=known: next(known), steps)  # type: ignore[misc]
        return tuple(steps)

    def decode(self, options: Sequence[int], rng: Random) -> DNA:
        """Returns the DNA that a sequence of options leads to.

        Args:
            options: One option per step, in order.
            rng: Draws the values within cells.

        Raises:
            DecisionError: an option is not legal, or there are too few or too many.
        """
        left = iter(options)
        dna, steps = self.walk(lambda slot, legal: next(left, -1), rng)
        if len(steps) != len(options):
            raise DecisionError(
                "cannot decode a sequence",
                got=len(options),
                expected=f"{len(steps)} options, one per step",
                fix="stop where the walk ends: slots of inactive decisions take no option",
            )
        return dna

    def trace(self, options: Sequence[int]) -> tuple[Step, ...]:
        """Returns the steps of a sequence of options, without the DNA.

        Raises:
            DecisionError: an option is not legal, or there are too few.
        """
        left = iter(options)
        return self.walk(lambda slot, legal: next(left, -1), Rng(0))[1]  # Which steps there are hangs on no cell.

    def _visit(self, point: Point, choose: Choose, steps: list[Step]) -> None:
        """Takes the steps of one point and appends them."""
        parts = self._parts[point.index]
        if point.kind != "many":
            _take(parts[0], None, choose, steps)
            return
        count = point.k_min
        if parts and parts[0].role == "count":
            count += _take(parts[0], None, choose, steps)
            parts = parts[1:]
        picked: list[int] = []
        for slot in parts[:count]:
            picked.append(_take(slot, self._legal(point, picked, count), choose, steps))

    def _legal(self, point: Point, picked: list[int], count: int) -> Legal:
        n = point.num_candidates
        if self._canonical and not point.ordered:
            low = picked[-1] + point.distinct if picked else 0
            high = n - (count - len(picked)) if point.distinct else n - 1  # Room for the picks that follow.
            return None if low == 0 and high == n - 1 else tuple(low <= c <= high for c in range(n))
        if point.distinct and picked:
            return tuple(c not in picked for c in range(n))
        return None

    def _value(self, point: Point, options: list[int], rng: Random) -> Any:
        if point.kind == "choice":
            return options[0]
        if point.kind == "many":
            picks = options if point.k_min == point.k_max else options[1:]
            return tuple(picks if point.ordered else sorted(picks))
        return self._cells[point.index].draw(options[0], rng)

    def _options(self, point: Point, value: Any) -> list[int]:
        if point.kind == "choice":
            return [value]
        if point.kind == "many":
            return list(value) if point.k_min == point.k_max else [len(value) - point.k_min, *value]
        return [self._cells[point.index].find(value)]


def _take(slot: Slot, legal: Legal, choose: Choose, steps: list[Step]) -> int:
    option = choose(slot, legal)
    if not 0 <= option < slot.num_options or not (legal is None or legal[option]):
        allowed = [o for o in range(slot.num_options) if legal is None or legal[o]]
        raise DecisionError(
            "cannot take a step",
            at=slot.point.path,
            got=option,
            expected=f"one of the legal options {allowed} of step {len(steps)} ({slot.role} {slot.place})",
            fix="ask the walk which options are legal",
        )
    steps.append(Step(slot, option, legal))
    return option


class Cells:
    """The options of a range: its legal values one by one, or cells of the unit interval.

    A cell of a stepped range holds the values whose middle lies in it; empty cells are left out.

    Args:
        point: A range.
        bins: The largest number of cells.
    """

    def __init__(self, point: Point, bins: int) -> None:
        self._point = point
        self._bins = bins
        self._starts = list(range(point.num_steps)) if point.is_finite and point.num_steps <= bins else None
        if point.is_finite and self._starts is None:
            self._starts = sorted({*_first_positions(point, bins)})

    def __len__(self) -> int:
        return self._bins if self._starts is None else len(self._starts)

    def draw(self, option: int, rng: Random) -> float:
        """Returns a value of a cell, uniform in the unit interval; nothing is drawn where it has only one."""
        point = self._point
        if self._starts is None:
            return point.from_unit((option + rng.random()) / self._bins)  # type: ignore[no-any-return]
        first = self._starts[option]
        last = (self._starts[option + 1] if option + 1 < len(self._starts) else point.num_steps) - 1
        if first == last:
            return point.at(first)
        if point.scale != "log":
            return point.at(first + int(rng.random() * (last - first + 1)))
        half = (point.step or 1) / 2
        low, high = point.at(first), point.at(last)
        below, above = math.log(low - half if low > half else low / 2), math.log(high + half)
        value = math.exp(below + rng.random() * (above - below))
        return point.at(min(max(round((value - point.low) / (point.step or 1)), first), last))

    def find(self, value: float) -> int:
        """Returns the cell of a value."""
        if self._starts is None:
            return min(max(int(self._point.to_unit(value)[0] * self._bins), 0), self._bins - 1)
        position = round((value - self._point.low) / (self._point.step or 1))
        return bisect.bisect_right(self._starts, position) - 1


def _first_positions(point: Point, bins: int) -> Iterator[int]:
    """Yields the first legal value whose middle lies in or above each cell."""
    yield 0
    for edge in range(1, bins):
        low, high = 0, point.num_steps  # Bisection by hand: a range may be longer than `len` can say.
        while low < high:
            middle = (low + high) // 2
            if point.to_unit(point.at(middle))[0] < edge / bins:
                low = middle + 1
            else:
                high = middle
        if low < point.num_steps:
            yield low


__all__ = ["Cells", "Choose", "Codec", "Legal", "Slot", "Step"]
