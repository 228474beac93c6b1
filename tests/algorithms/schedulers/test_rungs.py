"""Rungs: order, ranks, levels."""

from __future__ import annotations

import json
import random

import pytest

from mutandis.algorithms.schedulers.rungs import Rung, levels


def rung_of(*rewards, num_objectives=1):
    rung = Rung(num_objectives)
    for trial, found in enumerate(rewards):
        rung.add(trial, found if found is None or isinstance(found, tuple) else (found,))
    return rung


def test_the_best_come_first_and_the_earliest_of_equals():
    assert rung_of(1.0, 3.0, None, 2.0, 3.0).best(9) == [1, 4, 3, 0]


def test_no_more_than_asked_for_are_given():
    assert rung_of(1.0, 3.0, 2.0).best(2) == [1, 2]
    assert rung_of(1.0).best(0) == []


def test_a_result_without_a_rank_counts_for_the_size_alone():
    rung = rung_of(1.0, None, None)
    assert len(rung) == 3
    assert not rung.is_among(1, 3)


def test_only_the_first_result_of_a_trial_counts():
    rung = rung_of(1.0, 2.0)
    rung.add(0, (9.0,))
    assert (len(rung), rung.best(1)) == (2, [1])


@pytest.mark.parametrize(("trial", "place"), [(1, 0), (4, 1), (3, 2), (0, 3)])
def test_a_trial_is_among_the_best_from_its_place_on(trial, place):
    rung = rung_of(1.0, 3.0, None, 2.0, 3.0)
    assert [rung.is_among(trial, count) for count in range(5)] == [count > place for count in range(5)]


def test_the_best_that_rests_is_looked_for_among_the_best_alone():
    rung = rung_of(1.0, 3.0, 2.0)
    rung.rest(0)
    rung.rest(2)
    assert [rung.best_resting(count) for count in range(4)] == [None, None, 2, 2]
    rung.wake(2)
    assert [rung.best_resting(count) for count in range(4)] == [None, None, None, 0]


def test_several_objectives_are_ordered_by_front_and_then_by_distance():
    points = [(0.0, 1.0), (0.5, 0.6), (1.0, 0.0), (0.4, 0.5), (0.45, 0.58), (0.1, 0.1), None]
    assert rung_of(*points, num_objectives=2).best(9) == [0, 2, 1, 4, 3, 5]
    assert rung_of(*points, num_objectives=2).is_among(1, 3)
    assert not rung_of(*points, num_objectives=2).is_among(1, 2)


def test_a_later_result_changes_the_order_of_several_objectives():
    rung = rung_of((0.5, 0.5), num_objectives=2)
    assert rung.best(1) == [0]
    rung.add(7, (0.6, 0.6))
    assert rung.best(1) == [7]


@pytest.mark.parametrize("num_objectives", [1, 2, 3])
def test_a_state_that_went_through_json_has_the_same_order(num_objectives):
    draw = random.Random(num_objectives)
    rung = rung_of(
        *(tuple(draw.randrange(5) / 4 for _ in range(num_objectives)) for _ in range(40)), None,
        num_objectives=num_objectives,
    )  # fmt: skip
    rung.rest(3)
    other = Rung(num_objectives)
    other.load_state_dict(json.loads(json.dumps(rung.state_dict())))
    assert other.best(50) == rung.best(50)
    assert other.state_dict() == rung.state_dict()
    assert other.rests(3)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((1, 81, 3), (1, 3, 9, 27, 81)),
        ((1, 64, 4), (1, 4, 16, 64)),
        ((1, 10, 3), (1, 3, 9, 10)),
        ((5, 5, 3), (5,)),
        ((0.1, 0.9, 3), (0.1, pytest.approx(0.3), 0.9)),
        ((2, 9, 1.5), (2, 3, 4.5, 6.75, 9)),
    ],
)
def test_levels_grow_by_a_factor_and_end_at_the_largest(arguments, expected):
    assert levels(*arguments) == expected
