"""Every algorithm, one suite."""

from __future__ import annotations

import pytest

import mutandis as mu
from mutandis.algorithms import (
    ASHA,
    BOHB,
    CMAES,
    ENAS,
    GNAS,
    NSGA2,
    NSGA3,
    RSPS,
    SPOS,
    Constrained,
    Deduped,
    Evolution,
    GaussianProcess,
    Grid,
    HillClimb,
    Hyperband,
    LocalSearch,
    Optuna,
    PolicyRNN,
    QLearning,
    Random,
    RegularizedEvolution,
    Reinforce,
    TuNAS,
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
from mutandis.algorithms.multifidelity import KernelDensity
from mutandis.algorithms.oneshot import TopKEvolution
from mutandis.testing import AlgorithmContract
from mutandis.testing.algorithm_contract import SPACES


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


class TestGNAS(AlgorithmContract):
    algorithm = GNAS((("['op']",),))
    is_seeded = False


class TestNSGA2(AlgorithmContract):
    algorithm = NSGA2(population_size=6)


class TestReinforce(AlgorithmContract):
    algorithm = Reinforce(learning_rate=0.1, entropy_weight=0.1, bins=6)


class TestPolicyRNNByPPO(AlgorithmContract):
    algorithm = PolicyRNN(hidden_size=4, learning_rate=0.05, batch_size=5, num_epochs=2, bins=6)


class TestPolicyRNNByReinforce(AlgorithmContract):
    algorithm = PolicyRNN("reinforce", hidden_size=4, num_layers=2, learning_rate=0.05, batch_size=5, tanh_constant=2.5)


class TestQLearning(AlgorithmContract):
    algorithm = QLearning(epsilon=0.3, learning_rate=0.2, num_replays=5, memory_size=20, bins=6)


class TestQLearningOfPrefixes(AlgorithmContract):
    algorithm = QLearning(epsilon=0.3, learning_rate=0.2, num_replays=5, state="prefix")


class TestNSGA3(AlgorithmContract):
    algorithm = NSGA3(population_size=6)


class TestEvolutionWithCrossover(AlgorithmContract):
    algorithm = Evolution(
        (Tournament(3) * 2) >> (UniformCrossover() | PartiallyMapped()) >> Uniform().with_prob(0.7) >> Swap(),
        Last(6),
        population_size=6,
    )


class TestEvolutionOfSeveralChildren(AlgorithmContract):
    algorithm = Evolution(RandomSample(3) >> Uniform(redraw_children=True), Last(6), population_size=5)


class TestGaussianProcess(AlgorithmContract):
    algorithm = GaussianProcess(num_initial=32)


class TestCMAES(AlgorithmContract):
    algorithm = CMAES(population_size=6)


class TestOptuna(AlgorithmContract):
    algorithm = Optuna("TPESampler", {"n_startup_trials": 32})


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


class TestHyperband(AlgorithmContract):
    algorithm = Hyperband(1, 4, 2, sampler=RegularizedEvolution(population_size=3, tournament_size=2), enough=3)


class TestHyperbandToldOfEveryResult(AlgorithmContract):
    algorithm = Hyperband(1, 9, 3, sampler=HillClimb(), told="every", bracket_sizes="hpbandster", patience=4)


class TestASHA(AlgorithmContract):
    algorithm = ASHA(1, 4, 2, sampler=RegularizedEvolution(population_size=3, tournament_size=2), enough=3)


class TestBOHB(AlgorithmContract):
    algorithm = BOHB(1, 4, 2, num_samples=4, random_fraction=0.2, min_points=2, top_percent=30)


class TestKernelDensity(AlgorithmContract):
    algorithm = KernelDensity(num_samples=4, random_fraction=0.2, min_points=3)


class TestASHAWithAModel(AlgorithmContract):
    algorithm = ASHA(1, 8, 2, sampler=KernelDensity(num_samples=4, random_fraction=0.2, min_points=3))


class TestScreened(AlgorithmContract):
    algorithm = mu.algorithms.Screened(
        RegularizedEvolution(5, 2), mu.algorithms.predictors.GPPredictor(sweeps=0), num_initial=5, num_candidates=12,
        num_new=6, acquisition="thompson", refit_every=2,
    )  # fmt: skip


class TestScreenedGrid(AlgorithmContract):
    algorithm = mu.algorithms.Screened(
        Grid(points=4), mu.algorithms.predictors.RidgeEnsemble(2), num_initial=4, num_candidates=8, num_new=4
    )
    is_seeded = False  # On the smallest spaces, the model has the same few left to rank.


class TestPNAS(AlgorithmContract):
    algorithm = mu.algorithms.PNAS(width=4, first=3, expansions=20)

    @pytest.fixture(autouse=True)
    def _other_space(self, monkeypatch):
        monkeypatch.setitem(SPACES, "choice", SPACES["subset"])  # The one for other processes must have levels.


class TestNAO(AlgorithmContract):
    algorithm = mu.algorithms.NAO(
        num_initial=12, num_new=14, num_top=3, epochs=2, batch_size=16, embedding_size=4, hidden_size=4, mlp_size=4,
        num_mlp_layers=1, max_eta=2,
    )  # fmt: skip


class TestTPE(AlgorithmContract):
    algorithm = mu.algorithms.TPE()


class TestTPEOfSeparateDecisions(AlgorithmContract):
    algorithm = mu.algorithms.TPE(num_startup=3, multivariate=False, branches=False, failed_are_bad=True)


class TestTPEWithoutALiar(AlgorithmContract):
    algorithm = mu.algorithms.TPE(num_startup=2, constant_liar=False)


class TestRSPSByTrials(AlgorithmContract):
    algorithm = RSPS()


class TestSPOSByTrials(AlgorithmContract):
    algorithm = SPOS(RegularizedEvolution(population_size=6, tournament_size=3))


class TestENASByTrials(AlgorithmContract):
    algorithm = ENAS(hidden_size=4, num_layers=1, learning_rate=0.05, batch_size=5, bins=6)


class TestTuNASByTrials(AlgorithmContract):
    algorithm = TuNAS(learning_rate=0.1, bins=6)


class TestTopKEvolution(AlgorithmContract):
    algorithm = TopKEvolution(population_size=6, num_top=3, num_mutants=2, num_crossovers=2)
