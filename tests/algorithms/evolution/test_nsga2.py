"""NSGA-II: survivors, parents, and what it finds."""

from __future__ import annotations

import itertools
import json

import pytest

import mutandis as mu
from mutandis.algorithms.evolution import NSGA2, Individual, Local
from mutandis.algorithms.evolution.generations import distinct
from mutandis.algorithms.evolution.nsga2 import _Crowding
from mutandis.errors import SettingError
from mutandis.hyper import Feedback

SPACE = mu.space([mu.oneof(list(range(5))) for _ in range(6)]).bare()


def individuals(rewards, equal=()):
    dnas = [SPACE.dna_at(i) for i in range(len(rewards))]
    for a, b in equal:
        dnas[b] = dnas[a]
    return [Individual(dna, r, born) for born, (dna, r) in enumerate(zip(dnas, rewards, strict=True))]


def survivors(population, size):
    return _Crowding(size).select(distinct(population))


def test_whole_fronts_survive_and_the_loneliest_of_the_last():
    crowded = [(0, 10), (1, 9), (2, 8.5), (6, 4), (10, 0), (0, 0)]
    kept = survivors(individuals(crowded), 4)
    assert [individual.rewards for individual in kept] == [(0, 10), (10, 0), (6, 4), (2, 8.5)]


def test_copies_are_merged_before_the_population_is_cut():
    population = individuals([(1, 1), (1, 1), (0, 0)], equal=[(0, 1)])
    assert [individual.born for individual in survivors(population, 2)] == [0, 2]


def test_the_older_of_equals_comes_first():
    assert [i.born for i in survivors(individuals([(0, 0), (2, 1), (2, 1), (1, 2), (1, 2)]), 2)] == [1, 2]


def objectives(dna):
    """Returns two rewards that are at odds: each decision is worth something to one or to the other."""
    values = dna.to_numbers()
    first = sum(v * (i + 1) for i, v in enumerate(values)) / 84
    second = sum((4 - v) ** 1.5 * (6 - i) for i, v in enumerate(values)) / 168
    return first, second


def hypervolume(points):
    """Returns the area that points cover above the origin."""
    area, height = 0.0, 0.0
    for x, y in sorted(set(points), reverse=True):
        if y > height:
            area += x * (y - height)
            height = y
    return area


def searched(algorithm, seed, trials):
    search = algorithm.start(SPACE, seed=seed, num_objectives=2)
    found = []
    for _ in range(trials):
        proposal = search.propose()
        found.append(objectives(proposal.dna))
        search.feedback(Feedback(proposal.id, proposal.dna, None, None, found[-1]))
    return found


@pytest.mark.parametrize("seed", range(5))
def test_it_covers_the_front(seed):
    exact = hypervolume([objectives(dna) for dna in itertools.islice(SPACE.enumerate(), 0, None)])
    found = hypervolume(searched(NSGA2(population_size=20), seed, 40 * 20))
    chance = hypervolume(searched(mu.algorithms.Random(), seed, 40 * 20))
    assert found >= 0.95 * exact
    assert found > chance


def test_the_tournament_prefers_the_better_front():
    search = NSGA2(population_size=2, crossover_probability=0.0).start(SPACE, seed=0)
    good, bad = SPACE.dna_at(0), SPACE.dna_at(15_624)
    search.feedback(Feedback(None, good, None, None, (2.0,)))
    search.feedback(Feedback(None, bad, None, None, (1.0,)))
    children = [search.propose().dna.to_numbers() for _ in range(400)]
    share = sum(sum(child) <= 4 for child in children) / 400  # Children of `good` have five zeros.
    assert 0.68 < share < 0.82  # Both draws must be the bad one: one in four.


def test_a_run_resumes_in_the_middle_of_a_generation_with_two_objectives():
    first, second = (NSGA2(population_size=5).start(SPACE, seed=3, num_objectives=2) for _ in range(2))

    def go_on(search, count):
        made = []
        for _ in range(count):
            proposal = search.propose()
            made.append(proposal.dna.values)
            search.feedback(Feedback(proposal.id, proposal.dna, None, None, objectives(proposal.dna)))
        return made

    go_on(first, 13)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert go_on(first, 20) == go_on(second, 20)


@pytest.mark.parametrize("chance", [-0.1, 1.5, True, "often"])
def test_what_is_no_probability_is_refused(chance):
    with pytest.raises(SettingError) as error:
        NSGA2(crossover_probability=chance)
    assert str(error.value) == (
        "cannot use a setting\n"
        "  at:       NSGA2.crossover_probability\n"
        f"  got:      {chance!r} ({type(chance).__name__})\n"
        "  expected: a finite number >= 0 and <= 1\n"
        "  fix:      use 0.9"
    )


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"population_size": 0}, r"NSGA2\.population_size"),
        ({"mutation": Local}, r"NSGA2\.mutation"),
        ({"crossover": Local(0.1)}, r"NSGA2\.crossover"),
    ],
)
def test_wrong_settings_are_refused(settings, name):
    with pytest.raises(SettingError, match=name):
        NSGA2(**settings)
