"""Crossovers: a child of two parents.

Every crossover takes the first two individuals of a population and returns one child. It mixes the decisions of
its kind by its own rule and takes the others from either parent; what is active in the child but decided by
neither parent is drawn.

Sources: PMX, Goldberg & Lingle 1985; OX, Davis 1985; CX, Oliver et al. 1987; BLX-alpha, Eshelman & Schaffer 1993;
SBX, Deb & Agrawal 1995.
"""

from __future__ import annotations

from typing import Any

from mutandis.algorithms.base import need_number, settings
from mutandis.algorithms.evolution.operations import Operation, Population
from mutandis.algorithms.evolution.population import Context, Individual
from mutandis.errors import SettingError
from mutandis.hyper import DNA, Point
from mutandis.hyper.rng import Rng

Picks = tuple[int, ...]


class Crossover(Operation):
    """An operation that makes one child of the first two individuals."""

    def __call__(self, population: Population, context: Context) -> Population:
        """Returns the child alone, not tried yet.

        Raises:
            SettingError: there are fewer than two parents.
        """
        if len(population) < 2:
            raise SettingError("cannot cross over", at=type(self).__name__, got=len(population),
                               expected="two parents",
                               fix="select two before: (Tournament(3) * 2) >> UniformCrossover()")  # fmt: skip
        return [Individual(self.cross(population[0].dna, population[1].dna, context.rng))]

    def cross(self, a: DNA, b: DNA, rng: Rng) -> DNA:
        """Returns the child of two DNAs of one space."""
        values = [
            y if x is None else x if y is None else self.mix(point, x, y, rng)
            for point, x, y in zip(a.space.points, a.values, b.values, strict=True)
        ]
        return a.space.repair(values, lambda point: point.draw(rng))  # type: ignore[no-any-return]

    def mix(self, point: Point, x: Any, y: Any, rng: Rng) -> Any:
        """Returns a value of a point that both parents decided; here that of either."""
        return x if rng.random() < 0.5 else y


@settings
class UniformCrossover(Crossover):
    """Takes each decision from either parent with equal chance."""


@settings
class KPointCrossover(Crossover):
    """Cuts the sequence of decisions at `k` places and takes the pieces from the parents in turn."""

    k: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.k, int) or self.k < 1:
            raise SettingError("cannot cross over", at="KPointCrossover.k", got=self.k, expected="an int >= 1",
                               fix="cut at least once")  # fmt: skip

    def cross(self, a: DNA, b: DNA, rng: Rng) -> DNA:
        """Returns the child of two DNAs of one space."""
        count = len(a.values)
        cuts = sorted(rng.sample(range(1, count), min(self.k, count - 1))) if count > 1 else []
        values: list[Any] = []
        parents = (a.values, b.values)
        turn = int(rng.random() * 2)
        for start, end in zip([0, *cuts], [*cuts, count], strict=True):
            values.extend(parents[turn][start:end])
            turn = 1 - turn
        filled = [v if v is not None else (x if x is not None else y)
                  for v, x, y in zip(values, a.values, b.values, strict=True)]  # fmt: skip
        return a.space.repair(filled, lambda point: point.draw(rng))  # type: ignore[no-any-return]


@settings
class BlendCrossover(Crossover):
    """BLX-alpha on ranges, in their unit interval: uniform between the parents, widened by `alpha` to each side.

    `alpha=0` stays between them.
    """

    alpha: float = 0.5

    def __post_init__(self) -> None:
        need_number("BlendCrossover.alpha", self.alpha, low=0)

    def mix(self, point: Point, x: Any, y: Any, rng: Rng) -> Any:
        """Returns a value around those of the parents."""
        if point.kind not in ("float", "int"):
            return x if rng.random() < 0.5 else y
        low, high = sorted((point.to_unit(x)[0], point.to_unit(y)[0]))
        spread = self.alpha * (high - low)
        place = low - spread + rng.random() * (high - low + 2 * spread)
        return point.from_unit(min(max(place, 0.0), 1.0))


@settings
class AverageCrossover(Crossover):
    """The middle of the parents on ranges, in their unit interval (geometric for a log scale)."""

    def mix(self, point: Point, x: Any, y: Any, rng: Rng) -> Any:
        """Returns the middle of the values of the parents."""
        if point.kind not in ("float", "int"):
            return x if rng.random() < 0.5 else y
        return point.from_unit((point.to_unit(x)[0] + point.to_unit(y)[0]) / 2)


@settings
class SimulatedBinaryCrossover(Crossover):
    """SBX on ranges, in their unit interval; a larger `eta` keeps children nearer to the parents."""

    eta: float = 15.0

    def __post_init__(self) -> None:
        need_number("SimulatedBinaryCrossover.eta", self.eta, low=0)

    def mix(self, point: Point, x: Any, y: Any, rng: Rng) -> Any:
        """Returns a value spread around those of the parents."""
        if point.kind not in ("float", "int"):
            return x if rng.random() < 0.5 else y
        u = rng.random()
        power = 1 / (self.eta + 1)
        beta = (2 * u) ** power if u <= 0.5 else (1 / (2 * (1 - u))) ** power
        a, b = point.to_unit(x)[0], point.to_unit(y)[0]
        sign = 1 if rng.random() < 0.5 else -1
        place = 0.5 * ((a + b) + sign * beta * (a - b))
        return point.from_unit(min(max(place, 0.0), 1.0))


class _PermutationCrossover(Crossover):
    def mix(self, point: Point, x: Any, y: Any, rng: Rng) -> Any:
        """Returns picks of both parents where these are orders of the same candidates."""
        fits = point.kind == "many" and point.distinct and point.ordered and set(x) == set(y) and len(x) > 1
        if not fits:
            return x if rng.random() < 0.5 else y
        first, second = sorted(rng.sample(range(len(x) + 1), 2))
        return self.permute(x, y, first, second)

    def permute(self, x: Picks, y: Picks, start: int, end: int) -> Picks:
        """Returns the order of the child, given the segment [start, end)."""
        raise TypeError("use PartiallyMapped, OrderCrossover or CycleCrossover")


@settings
class PartiallyMapped(_PermutationCrossover):
    """PMX: the segment of the first parent; elsewhere the second, conflicts followed through the segment."""

    def permute(self, x: Picks, y: Picks, start: int, end: int) -> Picks:
        """Returns the order of the child, given the segment [start, end)."""
        child = list(y)
        child[start:end] = x[start:end]
        partner = dict(zip(x[start:end], y[start:end], strict=True))
        for place in (*range(start), *range(end, len(x))):
            value = y[place]
            while value in partner:
                value = partner[value]
            child[place] = value
        return tuple(child)


@settings
class OrderCrossover(_PermutationCrossover):
    """OX: the segment of the first parent; elsewhere the order of the second, starting behind the segment."""

    def permute(self, x: Picks, y: Picks, start: int, end: int) -> Picks:
        """Returns the order of the child, given the segment [start, end)."""
        count = len(x)
        kept = set(x[start:end])
        rest = [value for value in (*y[end:], *y[:end]) if value not in kept]
        child = list(x)
        for place, value in zip((*range(end, count), *range(start)), rest, strict=True):
            child[place] = value
        return tuple(child)


@settings
class CycleCrossover(_PermutationCrossover):
    """CX: every value stays at a place it has in one of the parents; cycles are taken in turn."""

    def permute(self, x: Picks, y: Picks, start: int, end: int) -> Picks:
        """Returns the order of the child; the segment plays no part."""
        place_of = {value: place for place, value in enumerate(x)}
        child: list[int] = [-1] * len(x)
        from_first = True
        for first in range(len(x)):
            place = first
            if child[place] != -1:
                continue
            while child[place] == -1:
                child[place] = (x if from_first else y)[place]
                place = place_of[y[place]]
            from_first = not from_first
        return tuple(child)
