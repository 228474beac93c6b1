"""Counting without listing: closed forms, and numbers of DNAs."""

from __future__ import annotations

import math

import pytest

import mutandis as mu
from mutandis.hyper.counting import position_of, value_at


def halves(count):
    """Candidates that hold a decision for one of two values each."""
    return [[i, mu.oneof([0, 1])] for i in range(count)]


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (lambda: mu.manyof(10, list(range(20))), math.perm(20, 10)),
        (lambda: mu.manyof(10, list(range(20)), ordered=False), math.comb(20, 10)),
        (lambda: mu.manyof(10, list(range(20)), distinct=False), 20**10),
        (lambda: mu.manyof(10, list(range(20)), distinct=False, ordered=False), math.comb(29, 10)),
        (lambda: mu.manyof(10, halves(20)), math.perm(20, 10) * 2**10),
        (lambda: mu.manyof(10, halves(20), ordered=False), math.comb(20, 10) * 2**10),
        (lambda: mu.manyof(0, [1, 2]), 1),
        (lambda: mu.permutate(list(range(30))), math.factorial(30)),
        (lambda: mu.permutate(halves(30)), math.factorial(30) * 2**30),
        (lambda: mu.subset(list(range(60))), 2**60),
        (lambda: mu.subset(halves(60)), 3**60),
        (lambda: mu.subset(list(range(60)), min=2, max=3), math.comb(60, 2) + math.comb(60, 3)),
        (lambda: mu.intv(-5, 5), 11),
        (lambda: [mu.intv(1, 10**6)] * 3, 10**6),
        (lambda: [mu.intv(1, 10**6) for _ in range(3)], 10**18),
    ],
)
def test_a_large_space_has_its_closed_form(value, size):
    assert mu.space(value()).size == size


def tied():
    shared = mu.oneof([1, 2])
    return [[mu.oneof([1, 2]), shared] for _ in range(3)] + ["plain"]


@pytest.mark.parametrize("distinct", [True, False])
@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("k", [0, 1, 2, 3])
def test_picks_that_share_a_decision_are_counted_as_they_are_listed(k, distinct, ordered):
    space = mu.space(mu.manyof(k, tied(), distinct=distinct, ordered=ordered))
    assert space.size == sum(1 for _ in space.enumerate())


def test_many_candidates_that_share_a_decision_are_counted():
    shared = mu.oneof([1, 2])
    space = mu.space(mu.manyof(2, [[mu.oneof([1, 2]), shared] for _ in range(60)]))
    assert space.size == 60 * 59 * 2**2 * 2


def test_a_decision_that_two_choices_share_is_counted_once():
    shared = mu.oneof([1, 2, 3])
    assert mu.space([mu.oneof([[shared], 0]), mu.oneof([[shared], 0])]).size == 3 * 3 + 1


def test_a_choice_with_a_continuous_candidate_is_infinite():
    assert mu.space(mu.oneof([1, [mu.floatv(0.0, 1.0)]])).size == math.inf


@pytest.mark.parametrize("index", [0, 1, 10**5])
def test_a_number_of_a_huge_space_leads_to_a_dna_and_back(index):
    space = mu.space(mu.manyof(10, halves(20)))
    assert space.index_of(space.dna_at(index)) == index


@pytest.mark.parametrize(
    "value",
    [
        lambda: mu.manyof(2, list("abcd")),
        lambda: mu.manyof(2, list("abc"), distinct=False),
        lambda: mu.manyof(2, list("abcd"), ordered=False),
        lambda: mu.manyof(2, list("abc"), distinct=False, ordered=False),
        lambda: mu.subset(list("abcd"), min=1, max=3),
        lambda: mu.permutate(list("abc")),
        lambda: mu.intv(-3, 9, step=4),
        lambda: mu.floatv(0.0, 1.0, step=0.25),
        lambda: mu.oneof(list("abc")),
    ],
)
def test_the_place_of_a_value_is_its_place_in_the_list(value):
    point = mu.space(value()).points[0]
    listed = list(point.values())
    assert [position_of(point, v) for v in listed] == list(range(len(listed)))
    assert [value_at(point, i) for i in range(len(listed))] == listed
