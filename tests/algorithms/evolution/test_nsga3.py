"""NSGA-III: reference points, normalisation, niches, and what it finds with three objectives."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

import mutandis as mu
from mutandis.algorithms import NSGA2, NSGA3, Random
from mutandis.algorithms.evolution.nsga3 import (
    _Niching,
    fitting_divisions,
    nearest_directions,
    normalised,
    reference_points,
)
from mutandis.algorithms.evolution.population import Individual
from mutandis.errors import SettingError
from mutandis.hyper import Feedback, Rng

SPACE = mu.space([mu.floatv(0.0, 1.0) for _ in range(7)]).bare()


def test_reference_points_are_the_lattice_of_the_simplex():
    points = reference_points(3, 2)
    assert sorted(map(tuple, points.tolist())) == [
        (0.0, 0.0, 1.0), (0.0, 0.5, 0.5), (0.0, 1.0, 0.0), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0), (1.0, 0.0, 0.0),
    ]  # fmt: skip


@pytest.mark.parametrize(("num_objectives", "divisions", "count"), [(1, 4, 1), (2, 4, 5), (3, 12, 91), (5, 6, 210)])
def test_there_are_as_many_as_the_paper_counts(num_objectives, divisions, count):
    points = reference_points(num_objectives, divisions)
    assert points.shape == (count, num_objectives)
    assert points.sum(1) == pytest.approx(np.ones(count))


@pytest.mark.parametrize(("num_objectives", "size", "divisions"), [(3, 92, 12), (3, 90, 11), (5, 212, 6), (2, 10, 9),
                                                                    (8, 3, 1), (1, 50, 1)])  # fmt: skip
def test_there_are_as_many_divisions_as_the_population_allows(num_objectives, size, divisions):
    assert fitting_divisions(num_objectives, size) == divisions


def test_gaps_are_measured_in_intercepts_of_the_plane_through_the_extreme_points():
    gaps = np.array([[4.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 8.0], [1.0, 1.0, 1.0]])
    assert normalised(gaps, [0, 1, 2, 3], [0, 1, 2, 3]) == pytest.approx(gaps / [4.0, 2.0, 8.0])


def test_a_slanted_plane_has_its_intercepts_beyond_the_points():
    gaps = np.array([[3.0, 1.0], [1.0, 3.0]])  # The line x + y = 4.
    assert normalised(gaps, [0, 1], [0, 1]) == pytest.approx(gaps / 4.0)


def test_without_a_plane_the_largest_gaps_of_the_first_front_count():
    gaps = np.array([[2.0, 1.0], [6.0, 5.0]])  # One point is extreme on both axes.
    assert normalised(gaps, [0], [0, 1]) == pytest.approx(gaps / [2.0, 1.0])


def test_an_objective_that_is_the_same_for_all_divides_by_one():
    gaps = np.array([[2.0, 0.0], [1.0, 0.0]])
    assert normalised(gaps, [1], [0, 1]) == pytest.approx(gaps)


def test_the_distance_to_a_direction_is_perpendicular():
    directions = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    nearest, distance = nearest_directions(np.array([[3.0, 0.4], [1.0, 1.0], [0.0, 2.0], [1.0, 2.0]]), directions)
    assert nearest.tolist() == [0, 1, 2, 1]
    assert distance == pytest.approx([0.4, 0.0, 0.0, math.sqrt(0.5)], abs=1e-6)


def individuals(rewards):
    draw = Rng(0)
    return [Individual(SPACE.random(draw), r, born) for born, r in enumerate(rewards)]


def test_an_empty_niche_gets_its_nearest_point():
    population = individuals([(0.0, -10.0), (-10.0, 0.0), (-5.0, -5.2), (-5.0, -5.0), (-1.0, -8.9), (-1.1, -8.8)])
    survival = _Niching(3, reference_points(2, 2), Rng(0))
    assert [individual.born for individual in survival.select(population)] == [0, 1, 3]


def test_better_fronts_survive_whole_and_the_order_is_that_of_age():
    population = individuals([(-9.0, -9.0), (0.0, -1.0), (-1.0, 0.0), (-8.0, -9.5)])
    survival = _Niching(3, reference_points(2, 4), Rng(0))
    kept = [individual.born for individual in survival.select(population)]
    assert kept in ([0, 1, 2], [1, 2, 3])


def test_a_niche_with_survivors_comes_after_an_empty_one():
    population = individuals([(0.0, 0.0, -1.0), (0.0, -1.0, 0.0), (-1.0, 0.0, 0.0), (-2.0, -0.1, -0.1),
                              (-1.0, -1.0, -1.0)])  # fmt: skip
    survival = _Niching(4, np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1 / 3] * 3]), Rng(0))
    assert [individual.born for individual in survival.select(population)] == [0, 1, 2, 4]


def test_the_best_values_are_remembered_when_their_owners_are_gone():
    survival = _Niching(1, reference_points(2, 1), Rng(0))
    survival.select(individuals([(5.0, 0.0), (0.0, 5.0)]))
    again = _Niching(1, reference_points(2, 1), Rng(1))
    again.load_state_dict(json.loads(json.dumps(survival.state_dict())))
    assert again._best.tolist() == [-5.0, -5.0]


def dtlz2(dna):
    """Returns the negated three objectives of DTLZ2 (Deb et al. 2002): the front is an eighth of the unit sphere."""
    x = dna.to_numbers()
    g = sum((value - 0.5) ** 2 for value in x[2:])
    a, b = x[0] * math.pi / 2, x[1] * math.pi / 2
    return tuple(-(1 + g) * part for part in (math.cos(a) * math.cos(b), math.cos(a) * math.sin(b), math.sin(a)))


def spread(algorithm, seed, trials):
    """Returns the mean distance of an evenly spread sample of the front to what was found (IGD)."""
    search = algorithm.start(SPACE, seed=seed, num_objectives=3)
    found = []
    for _ in range(trials):
        proposal = search.propose()
        rewards = dtlz2(proposal.dna)
        found.append([-reward for reward in rewards])
        search.feedback(Feedback(proposal.id, proposal.dna, None, None, rewards))
    targets = reference_points(3, 8)
    targets = targets / np.linalg.norm(targets, axis=1, keepdims=True)
    return float(np.linalg.norm(targets[:, None] - np.array(found)[None], axis=2).min(1).mean())


@pytest.mark.parametrize("seed", range(3))
def test_it_spreads_over_the_front_of_three_objectives(seed):
    mutation = mu.algorithms.evolution.Local(0.1)
    ours = spread(NSGA3(population_size=36, mutation=mutation), seed, 1800)
    assert ours < 0.15
    assert ours < 0.5 * spread(Random(), seed, 1800)


def test_it_takes_as_many_objectives_as_another_that_weighs_them():
    assert NSGA3(population_size=4).objectives == NSGA2(population_size=4).objectives == "many"


@pytest.mark.parametrize(
    ("settings", "name"),
    [({"population_size": 0}, "population_size"), ({"divisions": 0}, "divisions"), ({"mutation": 3}, "mutation"),
     ({"crossover": NSGA2}, "crossover"), ({"crossover_probability": 2}, "crossover_probability")],
)  # fmt: skip
def test_wrong_settings_are_refused(settings, name):
    with pytest.raises(SettingError, match=rf"NSGA3\.{name}"):
        NSGA3(**settings)
