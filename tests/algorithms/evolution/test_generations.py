"""Generations of parents and offspring."""

from __future__ import annotations

import mutandis as mu
from mutandis.algorithms.evolution import NSGA2, Local
from mutandis.algorithms.evolution.generations import distinct
from mutandis.algorithms.evolution.population import Individual
from mutandis.hyper import Feedback

SPACE = mu.space([mu.oneof(list(range(5))) for _ in range(6)]).bare()


def test_children_come_only_after_a_whole_population_has_results():
    search = NSGA2(population_size=4, crossover_probability=0.0, mutation=Local(0.1)).start(SPACE, seed=0)
    first = [search.propose() for _ in range(6)]
    for proposal in first[:3]:
        search.feedback(Feedback(proposal.id, proposal.dna, None, None, (1.0,)))
    assert search.state_dict()["parents"] == []
    search.feedback(Feedback(first[3].id, first[3].dna))  # A failure is nobody's parent.
    assert search.state_dict()["parents"] == []
    search.feedback(Feedback(first[4].id, first[4].dna, None, None, (1.0,)))
    assert len(search.state_dict()["parents"]) == 4


def test_a_mutated_child_without_crossover_differs_from_a_parent_in_one_decision():
    search = NSGA2(population_size=3, crossover_probability=0.0).start(SPACE, seed=0)
    parents = [search.propose() for _ in range(3)]
    for proposal in parents:
        search.feedback(Feedback(proposal.id, proposal.dna, None, None, (1.0,)))
    child = search.propose().dna
    differences = [sum(a != b for a, b in zip(child.values, p.dna.values, strict=True)) for p in parents]
    assert min(differences) == 1


def test_the_first_result_of_a_dna_stays():
    individuals = [Individual(SPACE.dna_at(i), (float(born),), born) for born, i in enumerate([4, 7, 4, 9, 7])]
    assert [individual.born for individual in distinct(individuals)] == [0, 1, 3]
