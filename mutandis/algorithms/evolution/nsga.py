"""NSGA-II: evolution for several objectives at once.

Deb, Pratap, Agarwal, Meyarivan: A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II, IEEE Transactions on
Evolutionary Computation 6(2), 2002, doi 10.1109/4235.996017, Sec. III.

All rewards are maximised: `a` dominates `b` iff it is nowhere smaller and somewhere larger. Front 0 is what nothing
dominates, front k what nothing dominates once the fronts before it are taken away. Within a front, with the points
in order of objective m,

    d_j = sum over m of (f_m(j + 1) - f_m(j - 1)) / (max f_m - min f_m),  infinite for the first and the last.

*Notation*: N = `population_size`; P = parents; Q = offspring, i.e. the results since P was chosen; p_c =
`crossover_probability`. The next P is the best N of P + Q by (front, larger d first).

*Departures*: a generation ends with N results, not with the N proposals made from it, so that it is defined for
parallel workers; the first N results, asked for or not, are the first P. Equal DNAs are merged before P is cut, the
first result staying, since copies have no distance to each other. A crossover makes one child. The distances that
the tournament looks at are those among P alone, so that they follow from P. Ties go to the older individual, and in
a tournament to the one drawn first. The operators suit decisions of any kind; the paper's for reals are
`SimulatedBinaryCrossover` and, instead of its polynomial mutation, `Local`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field

from mutandis.algorithms.base import JSON, Algorithm, Search, need_instance, need_int, settings
from mutandis.algorithms.dominance import Rewards, crowding_distance, non_dominated_fronts
from mutandis.algorithms.evolution.crossovers import Crossover, UniformCrossover
from mutandis.algorithms.evolution.mutators import Mutator, Uniform
from mutandis.algorithms.evolution.population import Individual
from mutandis.errors import SettingError
from mutandis.hyper import DNA, Feedback, Proposal, SearchSpace
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
        chance = self.crossover_probability
        if isinstance(chance, bool) or not isinstance(chance, (int, float)) or not 0 <= chance <= 1:
            raise SettingError("cannot use a setting", at="NSGA2.crossover_probability", got=chance,
                               expected="a number in [0, 1]", fix="use 0.9")  # fmt: skip

    def start(self, space: SearchSpace, *, seed: int, num_objectives: int = 1) -> Search:
        """Begins a run with random individuals."""
        return _SortingSearch(self, space.bare(), seed)


class _SortingSearch(Search):
    def __init__(self, settings: NSGA2, space: SearchSpace, seed: int) -> None:
        self._settings = settings
        self._space = space
        self._rng = Rng(seed, "nsga2")
        self._proposed = 0
        self._born = 0
        self._offspring: list[Individual] = []
        self._set_parents([])

    def _set_parents(self, parents: list[Individual]) -> None:
        self._parents = parents
        self._standing = standing([individual.rewards or () for individual in parents])

    def propose(self) -> Proposal:
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
        if feedback.rewards is None:
            return
        self._offspring.append(Individual(feedback.dna, feedback.rewards, self._born))
        self._born += 1
        size = self._settings.population_size
        if len(self._offspring) >= size:
            self._set_parents(survivors([*self._parents, *self._offspring], size))
            self._offspring = []

    def state_dict(self) -> JSON:
        return {
            "rng": self._rng.state(),
            "parents": [individual.to_state() for individual in self._parents],
            "offspring": [individual.to_state() for individual in self._offspring],
            "proposed": self._proposed,
            "born": self._born,
        }

    def load_state_dict(self, state: JSON) -> None:
        self._rng.set_state(state["rng"])
        self._set_parents([Individual.from_state(self._space, item) for item in state["parents"]])
        self._offspring = [Individual.from_state(self._space, item) for item in state["offspring"]]
        self._proposed, self._born = state["proposed"], state["born"]


def survivors(population: Sequence[Individual], size: int) -> list[Individual]:
    """Returns the best individuals of different DNA, by front and then by larger crowding distance.

    Args:
        population: Individuals with rewards, oldest first.
        size: How many stay at most.
    """
    unique: dict[DNA, Individual] = {}
    for individual in population:
        unique.setdefault(individual.dna, individual)
    members = list(unique.values())
    places = standing([individual.rewards or () for individual in members])
    ranked = sorted(range(len(members)), key=lambda i: places[i])  # Stable: the older of equals comes first.
    return [members[i] for i in ranked[:size]]


def standing(rewards: Sequence[Rewards]) -> list[tuple[int, float]]:
    """Returns the front and the negated crowding distance of each point: the smaller the better."""
    made = [(0, 0.0)] * len(rewards)
    for rank, front in enumerate(non_dominated_fronts(rewards)):
        for i, distance in zip(front, crowding_distance([rewards[i] for i in front]), strict=True):
            made[i] = (rank, -distance)
    return made
