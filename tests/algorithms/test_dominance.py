"""Dominance, fronts and crowding."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutandis.algorithms.dominance import crowding_distance, dominates, non_dominated_fronts, standing, undominated

INF = math.inf
POINTS = [(1, 5), (2, 4), (4, 2), (5, 1), (2, 2), (1, 1), (3, 3)]


def test_points_are_sorted_into_fronts():
    assert non_dominated_fronts(POINTS) == [[0, 1, 2, 3, 6], [4], [5]]


def test_the_ends_of_a_front_are_infinitely_alone():
    front = [POINTS[i] for i in (0, 1, 2, 3, 6)]
    assert crowding_distance(front) == [INF, 1.0, 1.0, INF, 1.0]


def is_below(b, a):
    return all(y <= x for x, y in zip(a, b, strict=True)) and any(y < x for x, y in zip(a, b, strict=True))


@given(st.integers(1, 4).flatmap(lambda m: st.lists(st.tuples(*[st.integers(0, 4)] * m), max_size=25)))
def test_fronts_are_what_peeling_gives(points):
    left = set(range(len(points)))
    peeled = []
    while left:
        front = sorted(i for i in left if not any(is_below(points[i], points[j]) for j in left))
        peeled.append(front)
        left -= set(front)
    assert non_dominated_fronts(points) == peeled
    assert undominated(points) == (peeled[0] if peeled else [])


def test_a_nan_comes_last_and_is_not_alone():
    points = [(math.nan, 9.0), (1.0, 1.0), (0.0, 0.0), (2.0, math.nan)]
    assert non_dominated_fronts(points) == [[1], [2], [0, 3]]
    assert crowding_distance(points)[0] == 0.0


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([], []),
        ([(1.0, 2.0)], [INF]),
        ([(1.0, 7.0), (2.0, 7.0), (4.0, 7.0)], [INF, 2 / 3 * 1.5, INF]),  # The second objective adds nothing.
        ([(0.0,), (1.0,), (INF,)], [INF, 0.0, INF]),
    ],
)
def test_an_objective_without_a_finite_range_adds_nothing(points, expected):
    assert crowding_distance(points) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("a", "b", "answer"),
    [
        ((1.0, 1.0), (0.0, 1.0), True),
        ((1.0, 1.0), (1.0, 1.0), False),
        ((1.0, 0.0), (0.0, 1.0), False),
        ((0.0,), (1.0,), False),
    ],
)
def test_one_result_dominates_another_where_it_is_nowhere_worse_and_somewhere_better(a, b, answer):
    assert dominates(a, b) is answer


def test_a_standing_is_the_front_and_then_the_loneliness():
    assert standing([(0, 10), (1, 9), (10, 0), (0, 0)]) == [(0, -INF), (0, -2.0), (0, -INF), (1, -INF)]
