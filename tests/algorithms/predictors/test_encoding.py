"""Encoding: every kind of decision as columns whose distance counts differences."""

from __future__ import annotations

import math

import numpy as np
import pytest

import mutandis as mu
from mutandis.algorithms.predictors.encoding import Encoding
from mutandis.errors import SettingError
from mutandis.testing import contract_spaces


def rows(program, *decisions, **settings):
    """Encodes DNAs that are given as raw values by the index of the decision."""
    space = mu.space(program)
    named = [{space.points[index].path: value for index, value in each.items()} for each in decisions]
    return Encoding(space, **settings)([space.dna(each) for each in named])


def test_a_choice_has_a_column_per_candidate():
    assert rows(mu.oneof(list("abc")), {0: 1}, {0: 2}).tolist() == [[0, 1, 0], [0, 0, 1]]


def test_a_range_is_its_place_in_the_unit_interval():
    found = rows(mu.floatv(1e-4, 1.0, scale="log"), {0: 1e-4}, {0: 1e-2}, {0: 1.0})
    assert found[:, 0] == pytest.approx([0.0, math.sqrt(0.5), math.sqrt(2.0)])


def test_picks_without_order_are_marked():
    found = rows(mu.subset(list("abcd"), min=1, max=4), {0: [0, 2]}, {0: [1]})
    assert found.tolist() == [[0.5, 0, 0.5, 0], [0, 0.5, 0, 0]]


def test_picks_in_order_have_their_place_beside_the_mark():
    share = 1 / math.sqrt(3)
    found = rows(mu.permutate(list("abc")), {0: [2, 0, 1]})
    assert found[0] == pytest.approx([share] * 3 + [share * 2 / 3, share, share / 3])


def test_picks_with_repetition_are_counted():
    found = rows(mu.manyof(2, list("abc"), distinct=False, ordered=False), {0: [1, 1]}, {0: [0, 2]})
    assert found.tolist() == [[0, 1, 0], [0.5, 0, 0.5]]


def test_picks_with_repetition_in_order_have_columns_per_place():
    share = 1 / math.sqrt(2)
    found = rows(mu.manyof(2, list("ab"), distinct=False), {0: [1, 0]})
    assert found[0] == pytest.approx([0, share, share, 0])


PROGRAM = {"kind": mu.oneof(["none", {"rate": mu.floatv(0.0, 1.0), "act": mu.oneof(["a", "b"])}])}


def test_columns_of_inactive_decisions_are_zero_and_activity_is_marked():
    found = rows(PROGRAM, {0: 0}, {0: 1, 1: 0.0, 2: 0})
    assert found.tolist() == [[1, 0, 0, 0, 0, 0], [0, 1, 0, 1, 1, 0]]


def test_the_owner_of_a_column_is_its_decision():
    assert Encoding(mu.space(PROGRAM)).owner.tolist() == [0, 0, 1, 1, 2, 2]


def test_interactions_are_products_of_columns_of_different_decisions():
    space = mu.space([mu.oneof([1, 2]), mu.oneof([3, 4])])
    encode = Encoding(space)
    found = encode.interactions(encode([space.dna({"[0]": 1, "[1]": 0})]))
    assert found.tolist() == [[0, 0, 1, 0]]


def test_pooled_columns_are_means_over_the_active_decisions_of_a_role():
    first, second = {"op": mu.oneof(["a", "b"], name="op 1")}, {"op": mu.oneof(["a", "b"], name="op 2")}
    program = {"blocks": [first, second, {"op": mu.oneof(["a", "b", "c"])}]}
    found = rows(program, {0: 0, 1: 0, 2: 2}, pooled=True)
    assert found[0, 7:] == pytest.approx([2 / 3, 0, 1 / 3])


def test_pooled_means_leave_inactive_decisions_out():
    block = {"op": mu.oneof(["a", "b"])}
    program = {"blocks": [block, mu.oneof(["none", {"op": mu.oneof(["a", "b"])}])]}
    short, long = {0: 1, 1: 0}, {0: 1, 1: 1, 2: 0}
    found = rows(program, short, long, pooled=True)
    assert found[0, 6:8].tolist() == [0, 1]
    assert found[1, 6:8].tolist() == [0.5, 0.5]


@pytest.mark.parametrize("name", list(contract_spaces()))
def test_different_dnas_have_different_rows_and_decisions_are_about_as_far_apart_as_two_candidates(name):
    space = contract_spaces()[name].bare()
    dnas = list(dict.fromkeys(space.random(seed) for seed in range(30)))
    found = Encoding(space)(dnas)
    square = ((found[:, None] - found[None]) ** 2).sum(-1)
    assert (square[~np.eye(len(dnas), dtype=bool)] > 0).all()
    assert square.max(initial=0.0) <= 2.5 * len(space.points) + 1e-9


def test_no_dnas_are_no_rows():
    assert Encoding(mu.space(PROGRAM))([]).shape == (0, 6)


def test_an_open_ended_decision_is_refused():
    space = mu.space(mu.evolve([1, 2], lambda node, rng: node))
    with pytest.raises(SettingError) as error:
        Encoding(space)
    assert str(error.value) == (
        "cannot predict an open-ended decision\n"
        "  at:       (the root)\n"
        "  got:      'a program, open-ended' (str)\n"
        "  expected: choices, ranges and picks\n"
        "  fix:      use RegularizedEvolution() or LocalSearch()"
    )
