"""Selectors: who goes on."""

from __future__ import annotations

import collections

import pytest
from scripted import Scripted

import mutandis as mu
from mutandis.algorithms.evolution import (
    Bottom,
    Context,
    First,
    Individual,
    Last,
    Linear,
    Proportional,
    RandomSample,
    Top,
    Tournament,
)
from mutandis.errors import SettingError
from mutandis.hyper import Rng

SPACE = mu.space(mu.intv(0, 99)).bare()
POPULATION = [Individual(SPACE.dna({"": n}), (float(r),), n) for n, r in enumerate([3, 1, 4, 1, 5])]


def numbers(selector, rng=None, step=0):
    return [individual.born for individual in selector(POPULATION, Context(SPACE, rng or Rng(0), step))]


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        (Top(2), [4, 2]), (Top(4), [4, 2, 0, 1]), (Top(99), [4, 2, 0, 1, 3]), (Bottom(3), [1, 3, 0]),
        (First(2), [0, 1]), (Last(2), [3, 4]), (Last(99), [0, 1, 2, 3, 4]), (Top(0.4), [4, 2]), (Top(0.01), [4]),
    ],
)  # fmt: skip
def test_a_selector_takes_whom_it_names(selector, expected):
    assert numbers(selector) == expected


def test_an_amount_may_be_a_schedule():
    assert numbers(Top(Linear(1, 4, 3)), step=2) == [4, 2, 0]


def test_a_tournament_is_drawn_with_replacement_and_ties_go_to_the_first_drawn():
    assert numbers(Tournament(3), Scripted(0.2, 0.6, 0.2)) == [1]
    assert numbers(Tournament(3), Scripted(0.6, 0.2, 0.0)) == [0]


def test_a_tournament_of_one_is_a_random_walk():
    counts = collections.Counter(numbers(Tournament(1), Rng(seed))[0] for seed in range(500))
    assert set(counts) == {0, 1, 2, 3, 4}


def test_a_sample_has_no_one_twice_unless_it_may():
    assert sorted(numbers(RandomSample(5))) == [0, 1, 2, 3, 4]
    assert len(numbers(RandomSample(50))) == 5
    assert len(numbers(RandomSample(50, replace=True))) == 50


def test_proportional_selection_never_takes_the_worst_while_there_are_better():
    counts = collections.Counter(numbers(Proportional(3000)))
    assert set(counts) == {0, 2, 4}
    assert [counts[n] / 3000 for n in (0, 2, 4)] == pytest.approx([2 / 9, 3 / 9, 4 / 9], abs=0.04)


def test_proportional_selection_among_equals_is_uniform():
    equal = [Individual(SPACE.dna({"": n}), (1.0,), n) for n in range(4)]
    drawn = Proportional(400)(equal, Context(SPACE, Rng(0)))
    assert {individual.born for individual in drawn} == {0, 1, 2, 3}


@pytest.mark.parametrize(
    "make",
    [lambda: Top(0), lambda: Top(2.5), lambda: Top(1.0), lambda: Proportional(-1), lambda: Last("2"),
     lambda: RandomSample(True), lambda: First(float("nan"))],
)  # fmt: skip
def test_an_impossible_amount_is_refused(make):
    with pytest.raises(SettingError, match="select at least one individual"):
        make()


def test_the_refusal_of_an_amount_tells_everything():
    with pytest.raises(SettingError) as error:
        Bottom(0)
    assert str(error.value) == (
        "cannot select\n"
        "  at:       Bottom.n\n"
        "  got:      0 (int)\n"
        "  expected: an int >= 1, a share in (0, 1), or a schedule\n"
        "  fix:      select at least one individual"
    )


@pytest.mark.parametrize("selector", [RandomSample(0.4, replace=True), RandomSample(0.4), Proportional(0.4)])
def test_a_share_is_of_the_population_however_it_is_drawn(selector):
    assert len(numbers(selector)) == 2


@pytest.mark.parametrize("kind", [lambda n: RandomSample(n, replace=True), Proportional])
def test_a_draw_with_replacement_follows_a_schedule_beyond_the_population(kind):
    assert len(numbers(kind(Linear(1, 9, 4)), step=3)) == 7


@pytest.mark.parametrize("kind", [Top, Bottom, First, Last, RandomSample])
def test_a_schedule_below_zero_selects_no_one(kind):
    assert numbers(kind(Linear(-2, 4, 10))) == []


def test_a_tournament_of_a_share_is_refused():
    with pytest.raises(SettingError, match=r"Tournament\.size"):
        Tournament(0.5)
