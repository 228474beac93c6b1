"""Evolution in generations of parents and offspring, whatever decides who survives.

*Notation*: N = the size of the population; P = parents; Q = offspring, i.e. the results since P was chosen. The next P
is what a `Survival` chooses of P + Q.

*Departures* from the textbook scheme: a generation ends with N results, not with the N proposals made from it, so that
it is defined for parallel workers; the first N results, asked for or not, are the first P. A crossover makes one child.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any, Protocol

from mutandis.algorithms.base import JSON, Search
from mutandis.algorithms.evolution.crossovers import Crossover
from mutandis.algorithms.evolution.mutators import Mutator
from mutandis.algorithms.evolution.population import Individual
from mutandis.hyper import DNA, Feedback, Proposal, SearchSpace
from mutandis.hyper.rng import Rng


class Variation(Protocol):
    """Settings that say how large a generation is and how parents become a child."""

    @property
    def population_size(self) -> int:
        """N."""

    @property
    def crossover(self) -> Crossover:
        """How two parents become a child."""

    @property
    def mutation(self) -> Mutator:
        """How the child is changed then."""

    @property
    def crossover_probability(self) -> float:
        """How often; otherwise the child is that of the first parent alone."""


class Survival(abc.ABC):
    """Who is a parent of the next generation."""

    @abc.abstractmethod
    def select(self, population: Sequence[Individual]) -> list[Individual]:
        """Returns the next parents.

        Args:
            population: Parents and offspring of different DNA, oldest first, at least one; all have rewards.
        """

    def standing(self, parents: Sequence[Individual]) -> list[Any]:
        """Returns what a tournament of two compares, the smaller the better; by default all are equal."""
        return [0] * len(parents)

    def state_dict(self) -> JSON:
        """Returns what is remembered beside the parents, as JSON; by default nothing."""
        return {}

    def load_state_dict(self, state: JSON) -> None:  # noqa: B027  # Most remember nothing.
        """Goes on from what `state_dict` returned."""


class GenerationalSearch(Search):
    """A run: random individuals, then children of parents that won a tournament of two.

    Args:
        settings: Size and operators.
        space: The bare space.
        rng: The generator of the run.
        survival: Who survives.
    """

    def __init__(self, settings: Variation, space: SearchSpace, rng: Rng, survival: Survival) -> None:
        self._settings = settings
        self._space = space
        self._rng = rng
        self._survival = survival
        self._proposed = 0
        self._born = 0
        self._offspring: list[Individual] = []
        self._set_parents([])

    def _set_parents(self, parents: list[Individual]) -> None:
        self._parents = parents
        self._standing = self._survival.standing(parents)

    def propose(self) -> Proposal:
        """Returns a random DNA, or a child once a generation has results."""
        number = self._proposed
        self._proposed += 1
        if not self._parents:
            return Proposal(number, self._space.random(self._rng))
        child = self._parent()
        if self._rng.random() < self._settings.crossover_probability:
            child = self._settings.crossover.cross(child, self._parent(), self._rng)
        return Proposal(number, self._settings.mutation.mutate(child, self._rng, self._born))

    def _parent(self) -> DNA:
        count = len(self._parents)
        first, second = int(self._rng.random() * count), int(self._rng.random() * count)
        return self._parents[second if self._standing[second] < self._standing[first] else first].dna

    def feedback(self, feedback: Feedback) -> None:
        """Takes a result in; the N-th ends the generation. Failures are nobody's parents."""
        if feedback.rewards is None:
            return
        self._offspring.append(Individual(feedback.dna, feedback.rewards, self._born))
        self._born += 1
        if len(self._offspring) >= self._settings.population_size:
            self._set_parents(self._survival.select(distinct([*self._parents, *self._offspring])))
            self._offspring = []

    def state_dict(self) -> JSON:
        """Returns the state as JSON."""
        return {
            "rng": self._rng.state(),
            "parents": [individual.to_state() for individual in self._parents],
            "offspring": [individual.to_state() for individual in self._offspring],
            "proposed": self._proposed,
            "born": self._born,
            "survival": self._survival.state_dict(),
        }

    def load_state_dict(self, state: JSON) -> None:
        """Goes on from a state."""
        self._rng.set_state(state["rng"])
        self._survival.load_state_dict(state["survival"])
        self._set_parents([Individual.from_state(self._space, item) for item in state["parents"]])
        self._offspring = [Individual.from_state(self._space, item) for item in state["offspring"]]
        self._proposed, self._born = state["proposed"], state["born"]


def distinct(population: Sequence[Individual]) -> list[Individual]:
    """Returns the first individual of each DNA: copies would crowd out others."""
    unique: dict[DNA, Individual] = {}
    for individual in population:
        unique.setdefault(individual.dna, individual)
    return list(unique.values())
