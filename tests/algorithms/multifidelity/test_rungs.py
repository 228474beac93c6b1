"""Fidelities, the sizes of brackets, and rungs."""

from __future__ import annotations

import json

import pytest

from mutandis.algorithms.multifidelity.rungs import Rung, bracket_counts, fidelities


@pytest.mark.parametrize(
    ("low", "high", "eta", "expected"),
    [
        (1, 81, 3, [1, 3, 9, 27, 81]),
        (1, 12, 3, [4 / 3, 4, 12]),
        (1, 8, 2, [1, 2, 4, 8]),
        (1, 1000, 10, [1, 10, 100, 1000]),
        (12, 12, 3, [12]),
        (0.5, 5, 2.5, [0.8, 2, 5]),
        (1, 243, 3, [1, 3, 9, 27, 81, 243]),  # log(243) / log(3) is 4.999...
    ],
)
def test_fidelities_are_counted_down_from_a_full_training(low, high, eta, expected):
    assert fidelities(low, high, eta) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ("paper", [(81, 27, 9, 3, 1), (34, 11, 3, 1), (15, 5, 1), (8, 2), (5,)]),
        ("hpbandster", [(81, 27, 9, 3, 1), (27, 9, 3, 1), (9, 3, 1), (6, 2), (5,)]),
    ],
)
def test_brackets_have_the_published_sizes(sizes, expected):
    assert [bracket_counts(s, 4, 3, sizes) for s in (4, 3, 2, 1, 0)] == expected


def test_the_brackets_of_nats_bench_have_the_published_sizes():
    assert [bracket_counts(s, 2, 3, "hpbandster") for s in (2, 1, 0)] == [(9, 3, 1), (3, 1), (3,)]


def filled(*rewards):
    rung = Rung()
    for configuration, reward in enumerate(rewards):
        rung.add(configuration, reward)
    return rung


def test_the_best_go_on_in_their_order():
    rung = filled(0.1, 0.9, 0.5, 0.7)
    assert [rung.take(3) for _ in range(4)] == [1, 3, 2, None]


def test_equal_rewards_go_on_as_they_came():
    rung = filled(0.5, 0.5, 0.5)
    assert [rung.take(2) for _ in range(3)] == [0, 1, None]


def test_failed_ones_count_for_the_size_and_never_go_on():
    rung = filled(None, 0.1, None)
    assert rung.size == 3
    assert [rung.take(3) for _ in range(2)] == [1, None]


def test_a_place_among_the_best_that_was_given_away_stays_given_away():
    rung = filled(0.5, 0.4)
    assert rung.take(1) == 0
    rung.add(2, 0.9)
    rung.add(3, 0.8)
    assert [rung.take(2) for _ in range(3)] == [2, 3, None]  # The best two of four; 0 went on before.
    assert rung.take(3) is None
    assert rung.take(4) == 1


def test_a_rung_goes_on_from_json():
    rung = filled(0.1, 0.9, None, 0.7)
    rung.take(2)
    again = Rung.from_state(json.loads(json.dumps(rung.to_state())))
    assert again.size == 4
    assert [again.take(9) for _ in range(3)] == [rung.take(9) for _ in range(3)] == [3, 0, None]
