"""Every algorithm, one suite."""

from __future__ import annotations

from mutandis.algorithms import (
    NSGA2,
    Constrained,
    Deduped,
    Evolution,
    Grid,
    HillClimb,
    LocalSearch,
    Random,
    RegularizedEvolution,
)
from mutandis.algorithms.evolution import (
    Last,
    Local,
    PartiallyMapped,
    RandomSample,
    Swap,
    Tournament,
    Uniform,
    UniformCrossover,
)
from mutandis.testing import AlgorithmContract


class TestRandom(AlgorithmContract):
    algorithm = Random()


class TestGrid(AlgorithmContract):
    algorithm = Grid()
    is_seeded = False


class TestGridWithPoints(AlgorithmContract):
    algorithm = Grid(points=5)
    is_seeded = False


class TestRegularizedEvolution(AlgorithmContract):
    algorithm = RegularizedEvolution(population_size=6, tournament_size=3)


class TestRegularizedEvolutionWithLocalMoves(AlgorithmContract):
    algorithm = RegularizedEvolution(population_size=6, tournament_size=3, mutation=Local(0.2))


class TestHillClimb(AlgorithmContract):
    algorithm = HillClimb(num_initial=3)


class TestHillClimbInBatches(AlgorithmContract):
    algorithm = HillClimb(batch_size=4)


class TestLocalSearch(AlgorithmContract):
    algorithm = LocalSearch(num_initial=2, num_samples=3)


class TestFirstImprovingLocalSearch(AlgorithmContract):
    algorithm = LocalSearch(first_improving=True)


class TestNSGA2(AlgorithmContract):
    algorithm = NSGA2(population_size=6)


class TestEvolutionWithCrossover(AlgorithmContract):
    algorithm = Evolution(
        (Tournament(3) * 2) >> (UniformCrossover() | PartiallyMapped()) >> Uniform().with_prob(0.7) >> Swap(),
        Last(6),
        population_size=6,
    )


class TestEvolutionOfSeveralChildren(AlgorithmContract):
    algorithm = Evolution(RandomSample(3) >> Uniform(redraw_children=True), Last(6), population_size=5)


class TestDedupedEvolution(AlgorithmContract):
    algorithm = Deduped(RegularizedEvolution(population_size=5, tournament_size=2))


class TestDedupedRandom(AlgorithmContract):
    algorithm = Deduped(Random())


def is_small(dna):
    return len(str(dna.to_numbers())) % 7 != 3


class TestConstrained(AlgorithmContract):
    algorithm = Constrained(RegularizedEvolution(population_size=5, tournament_size=2), is_small)


class TestWrappersOfWrappers(AlgorithmContract):
    algorithm = Deduped(Constrained(Random(), is_small))
