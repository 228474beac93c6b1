"""Fronts that grow point by point are, after every point, those of a sort of all."""

from __future__ import annotations

import pytest

from mutandis.algorithms import fronts as module
from mutandis.algorithms.dominance import standing
from mutandis.algorithms.fronts import Fronts
from mutandis.hyper.rng import Rng


def in_order(points):
    """Returns the numbers of points as a sort of all of them ranks them, front by front."""
    places = standing(points)
    ranked = sorted((*place, number) for number, place in enumerate(places))
    made = [[] for _ in range(ranked[-1][0] + 1)] if ranked else []
    for front, _, number in ranked:
        made[front].append(number)
    return made


def grown(points):
    fronts = Fronts()
    for number, point in enumerate(points):
        fronts.add(number, point)
    return list(fronts)


@pytest.mark.parametrize("num_values", [3, 12, 1000])
@pytest.mark.parametrize("num_objectives", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(4))
def test_after_every_point_the_fronts_are_those_of_a_sort(num_objectives, num_values, seed):
    rng = Rng(seed)
    points, fronts = [], Fronts()
    for number in range(70):
        points.append(tuple(float(rng.randrange(num_values)) for _ in range(num_objectives)))
        fronts.add(number, points[-1])
        assert list(fronts) == in_order(points)


@pytest.mark.parametrize("seed", range(4))
def test_points_on_a_curve_are_one_front(seed):
    rng = Rng(seed)
    points = [(x, 1.0 - x * x) for x in (rng.random() for _ in range(60))]
    assert grown(points) == in_order(points)
    assert len(grown(points)) == 1


def test_a_point_above_all_moves_every_front_back():
    points = [(1.0, 1.0), (2.0, 0.0), (0.0, 0.5), (3.0, 3.0)]
    assert grown(points) == [[3], [0, 1], [2]]


def test_what_a_new_point_dominates_takes_what_it_dominates_along():
    points = [(0.0, 9.0), (5.0, 5.0), (0.0, 8.0), (4.0, 4.0), (3.0, 3.0), (6.0, 6.0)]
    before, after = grown(points[:-1]), grown(points)
    assert before == [[0, 1], [2, 3], [4]]
    assert after == [[0, 5], [1, 2], [3], [4]]


def test_equal_points_stay_together_in_the_order_of_their_numbers():
    assert grown([(1.0, 1.0)] * 4 + [(2.0, 2.0)]) == [[4], [0, 3, 1, 2]]


def test_no_points_have_no_fronts():
    assert list(Fronts()) == []


def test_only_fronts_that_changed_are_ranked_again(monkeypatch):
    ranked = []

    def counted(rewards):
        ranked.append(len(rewards))
        return [0.0] * len(rewards)

    monkeypatch.setattr(module, "crowding_distance", counted)
    fronts = Fronts()
    for number, point in enumerate([(9.0, 9.0), (5.0, 5.0), (1.0, 1.0)]):
        fronts.add(number, point)
    assert [list(fronts), list(fronts)] == [[[0], [1], [2]]] * 2
    assert ranked == [1, 1, 1]
    fronts.add(3, (4.0, 6.0))
    assert list(fronts) == [[0], [1, 3], [2]]
    assert ranked == [1, 1, 1, 2]
