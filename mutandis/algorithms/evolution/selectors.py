"""Selectors: which individuals of a population go on.

How many is an int, a share of the population in (0, 1), or a schedule of either.
"""

from __future__ import annotations

from mutandis.algorithms.base import need_int, settings
from mutandis.algorithms.evolution.operations import Operation, Population
from mutandis.algorithms.evolution.population import Context
from mutandis.algorithms.evolution.schedules import Schedule, at_step
from mutandis.errors import SettingError

Amount = int | float | Schedule


def amount(n: Amount, population: Population, step: int) -> int:
    """Returns how many individuals a setting means now: at most the population."""
    return min(num_draws(n, population, step), len(population))


def num_draws(n: Amount, population: Population, step: int) -> int:
    """Returns how many draws a setting means now: at least 1 for a share, never fewer than 0."""
    value = at_step(n, step)
    if isinstance(value, float) and 0 < value < 1:
        return max(1, round(value * len(population)))
    return max(int(value), 0)


def _check(name: str, n: Amount) -> None:
    if isinstance(n, Schedule) or (isinstance(n, int) and not isinstance(n, bool) and n > 0):
        return
    if isinstance(n, float) and 0 < n < 1:
        return
    raise SettingError("cannot select", at=name, got=n, expected="an int >= 1, a share in (0, 1), or a schedule",
                       fix="select at least one individual")  # fmt: skip


@settings
class RandomSample(Operation):
    """Individuals drawn uniformly, without replacement unless `replace=True`."""

    n: Amount = 1
    replace: bool = False

    def __post_init__(self) -> None:
        _check("RandomSample.n", self.n)

    def __call__(self, population: Population, context: Context) -> Population:
        """Returns the draw."""
        if self.replace:
            count = num_draws(self.n, population, context.step)
            return [population[int(context.rng.random() * len(population))] for _ in range(count)]
        return context.rng.sample(population, amount(self.n, population, context.step))


@settings
class Tournament(Operation):
    """The best of `size` individuals drawn with replacement (Real et al. 2019); ties go to the first drawn.

    `size=1` degrades evolution to a random walk.
    """

    size: int

    def __post_init__(self) -> None:
        need_int("Tournament.size", self.size, 1)

    def __call__(self, population: Population, context: Context) -> Population:
        """Returns the winner alone."""
        count = len(population)
        drawn = [population[int(context.rng.random() * count)] for _ in range(self.size)]
        return [max(drawn, key=lambda individual: individual.reward)]


@settings
class Top(Operation):
    """The individuals with the largest rewards, best first; ties in order of birth."""

    n: Amount = 1

    def __post_init__(self) -> None:
        _check("Top.n", self.n)

    def __call__(self, population: Population, context: Context) -> Population:
        """Returns the best."""
        ranked = sorted(population, key=lambda individual: -individual.reward)
        return ranked[: amount(self.n, population, context.step)]


@settings
class Bottom(Operation):
    """The individuals with the smallest rewards, worst first."""

    n: Amount = 1

    def __post_init__(self) -> None:
        _check("Bottom.n", self.n)

    def __call__(self, population: Population, context: Context) -> Population:
        """Returns the worst."""
        ranked = sorted(population, key=lambda individual: individual.reward)
        return ranked[: amount(self.n, population, context.step)]


@settings
class First(Operation):
    """The oldest individuals."""

    n: Amount = 1

    def __post_init__(self) -> None:
        _check("First.n", self.n)

    def __call__(self, population: Population, context: Context) -> Population:
        """Returns the head of the population."""
        return population[: amount(self.n, population, context.step)]


@settings
class Last(Operation):
    """The youngest individuals: what aging leaves alive."""

    n: Amount = 1

    def __post_init__(self) -> None:
        _check("Last.n", self.n)

    def __call__(self, population: Population, context: Context) -> Population:
        """Returns the tail of the population."""
        return population[len(population) - amount(self.n, population, context.step) :]


@settings
class Proportional(Operation):
    """Individuals drawn with replacement in proportion to reward above the worst of the population."""

    n: Amount = 1

    def __post_init__(self) -> None:
        _check("Proportional.n", self.n)

    def __call__(self, population: Population, context: Context) -> Population:
        """Returns the draw; uniform where all rewards are equal."""
        worst = min(individual.reward for individual in population)
        weights = [individual.reward - worst for individual in population]
        if not sum(weights):
            weights = [1.0] * len(population)
        return context.rng.choices(population, weights, k=num_draws(self.n, population, context.step))
