"""Regularized (aging) evolution.

Real, Aggarwal, Huang, Le: Regularized Evolution for Image Classifier Architecture Search, AAAI 2019,
arXiv 1802.01548, Algorithm 1.

Notation: P = `population_size`, S = `tournament_size`. Defaults are PyGlove's (100, 10); NATS-Bench uses P=10, S=3,
AmoebaNet P=100, S=25.

Departures: age is counted from the result, not from the proposal, so that it is defined for parallel workers.
Failed trials never enter the population. A mutation always changes an active decision.
"""

from __future__ import annotations

from collections import deque
from dataclasses import field

from mutandis.algorithms.base import JSON, Algorithm, Search, from_state, need_instance, need_int, settings, to_state
from mutandis.algorithms.evolution.mutators import Mutator, Uniform
from mutandis.hyper import DNA, Feedback, Proposal, SearchSpace
from mutandis.hyper.rng import Rng


@settings
class RegularizedEvolution(Algorithm):
    """Mutates the best of a random sample; the oldest dies, not the worst.

    Args:
        population_size: P; so many random individuals come first.
        tournament_size: S, drawn with replacement; 1 degrades to a random walk.
        mutation: How a child differs from its parent.

    Raises:
        SettingError: a size is not a whole number of at least 1.
    """

    population_size: int = 100
    tournament_size: int = 10
    mutation: Mutator = field(default_factory=Uniform)

    def __post_init__(self) -> None:
        need_int("RegularizedEvolution.population_size", self.population_size, 1)
        need_int("RegularizedEvolution.tournament_size", self.tournament_size, 1)
        need_instance("RegularizedEvolution.mutation", self.mutation, Mutator, "mutation=Uniform()")

    def start(self, space: SearchSpace, *, seed: int, num_objectives: int = 1) -> Search:
        """Begins a run with random individuals."""
        self.check_objectives(num_objectives)
        return _AgingSearch(self, space.bare(), seed)


class _AgingSearch(Search):
    def __init__(self, settings: RegularizedEvolution, space: SearchSpace, seed: int) -> None:
        self._size = settings.population_size
        self._tournament = settings.tournament_size
        self._mutate = settings.mutation.mutate
        self._space = space
        self._rng = Rng(seed, "evolution")
        self._population: deque[tuple[float, DNA]] = deque(maxlen=self._size)
        self._proposed = 0
        self._born = 0

    def propose(self) -> Proposal:
        number = self._proposed
        self._proposed += 1
        if self._born < self._size:
            return Proposal(number, self._space.random(self._rng))
        return Proposal(number, self._mutate(self._parent(), self._rng, self._born))

    def _parent(self) -> DNA:
        draw, population, count = self._rng.random, self._population, len(self._population)
        best = population[int(draw() * count)]
        for _ in range(self._tournament - 1):
            other = population[int(draw() * count)]
            if other[0] > best[0]:
                best = other
        return best[1]

    def feedback(self, feedback: Feedback) -> None:
        if feedback.rewards is not None:
            self._population.append((feedback.rewards[0], feedback.dna))  # The oldest falls out by itself.
            self._born += 1

    def state_dict(self) -> JSON:
        return {
            "rng": self._rng.state(),
            "population": [[reward, to_state(dna)] for reward, dna in self._population],
            "proposed": self._proposed,
            "born": self._born,
        }

    def load_state_dict(self, state: JSON) -> None:
        self._rng.set_state(state["rng"])
        members = [(reward, from_state(self._space, values)) for reward, values in state["population"]]
        self._population = deque(members, maxlen=self._size)
        self._proposed, self._born = state["proposed"], state["born"]
