"""Evolution from parts."""

from __future__ import annotations

import pytest

import mutandis as mu
from mutandis.algorithms import Evolution, HillClimb, RegularizedEvolution
from mutandis.algorithms.evolution import Last, RandomSample, Top, Tournament, Uniform, UniformCrossover
from mutandis.errors import SettingError
from mutandis.hyper import Feedback
from mutandis.testing import contract_spaces, reward_of, run, trace_of


@pytest.mark.parametrize("name", contract_spaces())
@pytest.mark.parametrize("seed", [0, 1])
def test_regularized_evolution_is_its_parts(name, seed):
    parts = Evolution(Tournament(3) >> Uniform(), Last(8), population_size=8)
    space = contract_spaces()[name]
    assert trace_of(parts, space, 80, seed) == trace_of(RegularizedEvolution(8, 3), space, 80, seed)


def test_elitism_never_loses_the_best():
    space = mu.space([mu.intv(0, 9) for _ in range(4)])
    search = Evolution(RandomSample(2) >> UniformCrossover() >> Uniform(), Top(5), population_size=5).start(
        space.bare(), seed=0
    )
    best = []
    for dna in run(search, 200):
        best.append(max([reward_of(dna), *best[-1:]]))
    assert max(individual.reward for individual in search._population) == best[-1]
    assert len(search._population) == 5


def test_children_of_one_reproduction_are_proposed_one_by_one():
    space = mu.space(mu.oneof(list(range(100)))).bare()
    search = Evolution(Top(3), Last(3), population_size=3).start(space, seed=0)
    for number in (5, 7, 6):
        search.feedback(Feedback(None, space.dna({"": number}), None, None, (float(number),)))
    assert [search.propose().dna[""] for _ in range(4)] == [7, 6, 5, 7]


def test_everyone_survives_until_the_population_is_full():
    space = mu.space(mu.oneof(list(range(9)))).bare()
    search = Evolution(Top(1) >> Uniform(), Top(1), population_size=3).start(space, seed=0)
    for number in (0, 1, 2):
        search.feedback(Feedback(None, space.dna({"": number}), None, None, (float(number),)))
    assert [rewards for _, rewards, _ in search.state_dict()["population"]] == [[0.0], [1.0], [2.0]]


def test_the_birth_of_an_individual_is_the_number_of_results_before_it():
    space = mu.space(mu.oneof(list(range(9)))).bare()
    search = Evolution(Top(1) >> Uniform(), Last(2), population_size=2).start(space, seed=0)
    run(search, 5)
    assert [born for _, _, born in search.state_dict()["population"]] == [3, 4]


def test_a_reproduction_without_children_is_reported():
    space = mu.space(mu.oneof([1, 2])).bare()
    search = Evolution(lambda population: [], Last(2), population_size=1).start(space, seed=0)
    search.feedback(Feedback(None, space.random(0), None, None, (1.0,)))
    with pytest.raises(SettingError) as error:
        search.propose()
    lines = str(error.value).splitlines()
    assert [*lines[:2], *lines[3:]] == [  # Between them stands the function, whose text holds an address.
        "cannot evolve",
        "  at:       Evolution.reproduction",
        "  expected: at least one child",
        "  fix:      select before you mutate",
    ]


def test_several_objectives_reach_the_operations():
    space = mu.space(mu.intv(0, 9)).bare()

    def second_best(population):
        return sorted(population, key=lambda individual: -individual.rewards[1])[:1]

    search = Evolution(second_best, Last(3), population_size=3).start(space, seed=0, num_objectives=2)
    for value in (1, 2, 3):
        search.feedback(Feedback(None, space.dna({"": value}), None, None, (float(value), -float(value))))
    assert search.propose().dna[""] == 1


def test_an_evolution_is_searched_like_any_program():
    program = Evolution(Tournament(mu.oneof([2, 5])) >> Uniform(), Last(4), population_size=4)
    space = mu.space(program)
    sizes = {space.materialize(dna).reproduction.operations[0].size for dna in space.enumerate()}
    assert sizes == {2, 5}


def test_a_climber_made_of_parts_climbs_as_high():
    space = mu.space([mu.oneof(list(range(5))) for _ in range(6)])
    parts = Evolution(Top(1) >> Uniform(), Top(1), population_size=1)
    highs = [max(map(reward_of, run(a.start(space.bare(), seed=3), 300))) for a in (parts, HillClimb())]
    assert highs == [84.0, 84.0]  # 4 times 1 + 2 + ... + 6, the top of the table.
