"""Evolution put together from operations."""

from __future__ import annotations

from mutandis.algorithms.base import JSON, Algorithm, Search, from_state, need_int, settings, to_state
from mutandis.algorithms.evolution.operations import Operation, as_operation
from mutandis.algorithms.evolution.population import Context, Individual
from mutandis.errors import SettingError
from mutandis.hyper import DNA, Feedback, Proposal, SearchSpace
from mutandis.hyper.rng import Rng


@settings
class Evolution(Algorithm):
    """Evolution from two operations: who has children and how, and who survives.

        Evolution(Tournament(10) >> Uniform(), Last(100), population_size=100)

    Args:
        reproduction: From the population to children that were not tried yet; they are proposed one by one.
        survival: From the population with a new individual at its end to those that stay.
        population_size: How many random individuals must have a result before reproduction begins.
    """

    reproduction: Operation
    survival: Operation
    population_size: int = 100
    objectives = "many"

    def __post_init__(self) -> None:
        need_int("Evolution.population_size", self.population_size, 1)

    def start(self, space: SearchSpace, *, seed: int, num_objectives: int = 1) -> Search:
        """Begins a run with random individuals."""
        return _EvolutionSearch(self, space.bare(), seed)


class _EvolutionSearch(Search):
    def __init__(self, settings: Evolution, space: SearchSpace, seed: int) -> None:
        self._size = settings.population_size
        self._reproduction = as_operation(settings.reproduction)
        self._survival = as_operation(settings.survival)
        self._space = space
        self._rng = Rng(seed, "evolution")
        self._population: list[Individual] = []
        self._children: list[DNA] = []
        self._proposed = 0
        self._born = 0

    def propose(self) -> Proposal:
        number = self._proposed
        self._proposed += 1
        if self._born < self._size or not self._population:
            return Proposal(number, self._space.random(self._rng))
        if not self._children:
            context = Context(self._space, self._rng, self._born)
            self._children = [child.dna for child in self._reproduction(list(self._population), context)]
            if not self._children:
                raise SettingError("cannot evolve", at="Evolution.reproduction", got=self._reproduction,
                                   expected="at least one child", fix="select before you mutate")  # fmt: skip
        return Proposal(number, self._children.pop(0))

    def feedback(self, feedback: Feedback) -> None:
        if feedback.rewards is None:
            return
        self._population.append(Individual(feedback.dna, feedback.rewards, self._born))
        self._born += 1
        if self._born > self._size:
            self._population = self._survival(self._population, Context(self._space, self._rng, self._born))

    def state_dict(self) -> JSON:
        return {
            "rng": self._rng.state(),
            "population": [individual.to_state() for individual in self._population],
            "children": [to_state(dna) for dna in self._children],
            "proposed": self._proposed,
            "born": self._born,
        }

    def load_state_dict(self, state: JSON) -> None:
        self._rng.set_state(state["rng"])
        self._population = [Individual.from_state(self._space, item) for item in state["population"]]
        self._children = [from_state(self._space, item) for item in state["children"]]
        self._proposed, self._born = state["proposed"], state["born"]
