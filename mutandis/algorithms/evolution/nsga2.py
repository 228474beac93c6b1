"""NSGA-II: evolution for several objectives at once.

Deb, Pratap, Agarwal, Meyarivan: A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II, IEEE Transactions on
Evolutionary Computation 6(2), 2002, doi 10.1109/4235.996017, Sec. III.

Fronts and crowding distances are those of `mutandis.algorithms.dominance`, generations those of
`mutandis.algorithms.evolution.generations`.

*Notation*: N = `population_size`; p_c = `crossover_probability`; d = crowding distance. The next parents are the best N
of parents and offspring by (front, larger d first); a tournament of two compares the same.

*Departures*: equal DNAs are merged before the population is cut, the first result staying, since copies have no
distance to each other. The distances that the tournament looks at are those among the parents alone, so that they
follow from these. Ties go to the older individual, and in a tournament to the one drawn first. The operators suit
decisions of any kind; the paper's for reals are `SimulatedBinaryCrossover` and, instead of its polynomial mutation,
`Local`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Any

from mutandis.algorithms.base import Algorithm, Search, need_instance, need_int, need_number, settings
from mutandis.algorithms.dominance import standing
from mutandis.algorithms.evolution.crossovers import Crossover, UniformCrossover
from mutandis.algorithms.evolution.generations import GenerationalSearch, Survival
from mutandis.algorithms.evolution.mutators import Mutator, Uniform
from mutandis.algorithms.evolution.population import Individual
from mutandis.hyper import SearchSpace
from mutandis.hyper.rng import Rng


@settings
class NSGA2(Algorithm):
    """Keeps the best fronts and, on the last that fits, the loneliest points; works with one objective too.

    Args:
        population_size: N; so many random individuals come first, and so many survive each generation.
        crossover: How two parents become a child.
        mutation: How the child is changed then.
        crossover_probability: p_c; otherwise the child is that of the first parent alone.

    Raises:
        SettingError: the size is not a whole number of at least 1, or the probability not in [0, 1].
    """

    population_size: int = 100
    crossover: Crossover = field(default_factory=UniformCrossover)
    mutation: Mutator = field(default_factory=Uniform)
    crossover_probability: float = 0.9
    objectives = "many"

    def __post_init__(self) -> None:
        need_int("NSGA2.population_size", self.population_size, 1)
        need_instance("NSGA2.crossover", self.crossover, Crossover, "crossover=UniformCrossover()")
        need_instance("NSGA2.mutation", self.mutation, Mutator, "mutation=Uniform()")
        need_number("NSGA2.crossover_probability", self.crossover_probability, low=0, high=1, fix="use 0.9")

    def start(self, space: SearchSpace, *, seed: int, num_objectives: int = 1) -> Search:
        """Begins a run with random individuals."""
        return GenerationalSearch(self, space.bare(), Rng(seed, "nsga2"), _Crowding(self.population_size))


class _Crowding(Survival):
    """The best fronts and, of the last that fits, the loneliest points."""

    def __init__(self, size: int) -> None:
        self._size = size

    def select(self, population: Sequence[Individual]) -> list[Individual]:
        places = self.standing(population)
        ranked = sorted(range(len(population)), key=lambda i: places[i])  # Stable: the older of equals comes first.
        return [population[i] for i in ranked[: self._size]]

    def standing(self, parents: Sequence[Individual]) -> list[Any]:
        """Returns front and negated crowding distance."""
        return list(standing([individual.rewards or () for individual in parents]))
