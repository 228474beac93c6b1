"""Mutators: small changes of a DNA that keep it legal.

All leave the decisions they do not touch as they are, drop those that became inactive, and draw those that
became active. A mutator changes every individual it is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from mutandis.algorithms.base import settings
from mutandis.algorithms.evolution.operations import Operation, Population
from mutandis.algorithms.evolution.population import Context, Individual
from mutandis.algorithms.evolution.schedules import Schedule, at_step
from mutandis.errors import SettingError
from mutandis.hyper import DNA, Point
from mutandis.hyper.rng import Rng

Where = Callable[[Point], bool]


class Mutator(Operation):
    """An operation that replaces each individual by a changed one."""

    def __call__(self, population: Population, context: Context) -> Population:
        """Returns one mutant per individual, not tried yet."""
        return [Individual(self.mutate(individual.dna, context.rng, context.step)) for individual in population]

    def mutate(self, dna: DNA, rng: Rng, step: int = 0) -> DNA:
        """Returns a changed DNA.

        Args:
            dna: The parent.
            rng: The generator.
            step: The number of results so far, for schedules.
        """
        raise TypeError("Mutator is the base class; use Uniform, Local or Swap")


def movable(dna: DNA, where: Where | None) -> list[int]:
    """Returns the indices of the active points that have more than one value and that `where` takes."""
    return [
        point.index
        for point, value in zip(dna.space.points, dna.values, strict=True)
        if value is not None and point.size > 1 and (where is None or where(point))
    ]


@settings
class Uniform(Mutator):
    """Redraws one active decision to a different value (Real et al. 2019; NATS-Bench topology).

    Args:
        where: Which points may be touched; all by default.
        redraw_children: Whether the decisions below the touched one are drawn anew too, as PyGlove does;
            otherwise those that stay active keep their values.
        weight: How often a point is touched, in proportion to the others that could be; equally often by default.
    """

    where: Where | None = None
    redraw_children: bool = False
    weight: Callable[[Point], float] | None = None

    def mutate(self, dna: DNA, rng: Rng, step: int = 0) -> DNA:
        """Returns a DNA that differs in one decision, and in what hangs on it."""
        options = movable(dna, self.where)
        if not options:
            return dna
        index = self._touched(dna, options, rng)
        values = list(dna.values)
        values[index] = dna.space.points[index].mutate(values[index], rng)
        if self.redraw_children:
            for child in descendants(dna, index):
                values[child] = None
        return dna.space.repair(values, lambda point: point.draw(rng))  # type: ignore[no-any-return]

    def _touched(self, dna: DNA, options: list[int], rng: Rng) -> int:
        place = rng.random()
        if self.weight is None:
            return options[int(place * len(options))]
        weights = [self.weight(dna.space.points[index]) for index in options]
        total = sum(weights)
        if not total > 0 or min(weights) < 0:
            raise SettingError("cannot mutate", at="Uniform.weight", got=weights, expected="numbers >= 0, one above 0",
                               fix="give the points that may be touched a weight above 0")  # fmt: skip
        place *= total
        for index, weight in zip(options, weights, strict=True):
            place -= weight
            if place < 0:
                return index
        return options[-1]


def descendants(dna: DNA, index: int) -> set[int]:
    """Returns the indices of all points whose activity hangs on a point."""
    found = {index}
    for point in dna.space.points:  # Parents come before children.
        if any(parent in found for parent, _ in point.conditions):
            found.add(point.index)
    return found - {index}


@settings
class Local(Mutator):
    """Moves one active decision a little.

    A range moves by a normal step in its unit interval (after the logarithm for a log scale), at least to the
    next legal value; an order swaps two places; other picks replace one, or add or drop one where their number may
    vary; a choice takes another candidate.

    Args:
        scale: Standard deviation of the step, as a share of the range.
        where: Which points may be touched; all by default.
    """

    scale: float | Schedule = 0.1
    where: Where | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.scale, Schedule) and not 0 < self.scale <= 1:
            raise SettingError("cannot mutate locally", at="Local.scale", got=self.scale,
                               expected="a share of the range in (0, 1]", fix="use 0.1")  # fmt: skip

    def mutate(self, dna: DNA, rng: Rng, step: int = 0) -> DNA:
        """Returns a DNA that differs a little in one decision."""
        options = movable(dna, self.where)
        if not options:
            return dna
        index = options[int(rng.random() * len(options))]
        point = dna.space.points[index]
        values = list(dna.values)
        values[index] = local_move(point, values[index], at_step(self.scale, step), rng)
        return dna.space.repair(values, lambda added: added.draw(rng))  # type: ignore[no-any-return]


def local_move(point: Point, value: Any, scale: float, rng: Rng) -> Any:
    """Returns another legal value of a point, near the present one."""
    if point.kind in ("float", "int"):
        place = point.to_unit(value)[0]
        for _ in range(16):
            moved = place + rng.gauss(0.0, scale)
            moved = moved if 0 <= moved <= 1 else abs(moved % 2 - 2 * (math.floor(moved) % 2 and moved % 2 > 1))
            other = point.from_unit(min(max(moved, 0.0), 1.0))
            if other != value:
                return other
        return neighbour(point, value, rng) if point.is_finite else point.mutate(value, rng)
    if point.kind == "many" and point.ordered and len(value) > 1 and (point.size == math.factorial(len(value))):
        return swapped(value, rng)
    if point.kind == "many" and point.k_min != point.k_max and (not value or rng.random() < 0.5):
        return resized_picks(point, value, rng)
    if point.kind == "many" and value:
        return replaced_pick(point, value, rng)
    return point.mutate(value, rng)


def neighbour(point: Point, value: Any, rng: Rng) -> Any:
    """Returns the legal value next to one of a stepped range, up or down."""
    position = round((value - point.low) / (point.step or 1))
    options = [p for p in (position - 1, position + 1) if 0 <= p < point.num_steps]
    return point.at(options[int(rng.random() * len(options))])


def replaced_pick(point: Point, value: tuple[int, ...], rng: Rng) -> tuple[int, ...]:
    """Returns picks of which one is another candidate."""
    unused = [c for c in range(point.num_candidates) if c not in value] if point.distinct else list(
        range(point.num_candidates))  # fmt: skip
    if not unused:
        return swapped(value, rng) if point.ordered and len(value) > 1 else point.mutate(value, rng)  # type: ignore[no-any-return]
    place = int(rng.random() * len(value))
    options = [c for c in unused if c != value[place]]
    if not options:
        return point.mutate(value, rng)  # type: ignore[no-any-return]
    made = [*value[:place], options[int(rng.random() * len(options))], *value[place + 1 :]]
    return tuple(made if point.ordered else sorted(made))


def resized_picks(point: Point, value: tuple[int, ...], rng: Rng) -> tuple[int, ...]:
    """Returns picks of which there is one more or one fewer."""
    options = [c for c in range(point.num_candidates) if not (point.distinct and c in value)]
    can_grow = len(value) < point.k_max
    made = list(value)
    if can_grow and (len(value) == point.k_min or rng.random() < 0.5):
        made.insert(int(rng.random() * (len(made) + 1)), options[int(rng.random() * len(options))])
    else:
        del made[int(rng.random() * len(made))]
    return tuple(made if point.ordered else sorted(made))


def swapped(value: tuple[int, ...], rng: Rng) -> tuple[int, ...]:
    """Returns picks with two different places exchanged."""
    first = int(rng.random() * len(value))
    second = int(rng.random() * (len(value) - 1))
    second += second >= first
    made = list(value)
    made[first], made[second] = made[second], made[first]
    return tuple(made)


@settings
class Swap(Mutator):
    """Exchanges two places of one ordered pick, such as a permutation; other DNAs stay as they are.

    Args:
        where: Which points may be touched; all by default.
    """

    where: Where | None = None

    def mutate(self, dna: DNA, rng: Rng, step: int = 0) -> DNA:
        """Returns a DNA with two picks exchanged."""
        options = [
            index
            for index in movable(dna, self.where)
            if dna.space.points[index].kind == "many" and dna.space.points[index].ordered and len(dna.values[index]) > 1
        ]
        if not options:
            return dna
        index = options[int(rng.random() * len(options))]
        values = list(dna.values)
        values[index] = swapped(values[index], rng)
        return dna.space.repair(values, lambda point: point.draw(rng))  # type: ignore[no-any-return]
