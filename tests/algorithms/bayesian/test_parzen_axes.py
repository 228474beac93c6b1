from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from strategies import spaces_and_dnas

import mutandis as mu
from mutandis.algorithms.bayesian.parzen_axes import Axes
from mutandis.errors import SettingError
from mutandis.hyper import Rng


def axes_of(program):
    return Axes(mu.space(program).bare())


@given(spaces_and_dnas())
@settings(max_examples=150, deadline=None)
def test_a_dna_comes_back_from_its_row(pair):
    space, dna = pair
    axes = Axes(space.bare())
    assert axes.decode(*axes.encode(dna), Rng(0)) == dna


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(
    "program",
    [mu.floatv(0.0, 2.0), mu.intv(8, 512, scale="log"), mu.floatv(1e-4, 1.0, scale="log"), mu.intv(0, 100_000)],
)
def test_a_range_comes_back_from_its_row(program, seed):
    axes = axes_of({"x": program})
    dna = axes.space.random(seed)
    assert axes.decode(*axes.encode(dna), Rng(0)).values == pytest.approx(dna.values, rel=1e-12)


def test_subsets_are_one_axis_per_candidate_and_orders_one_per_place():
    assert list(axes_of(mu.subset(["a", "b", "c"], min=1, max=2)).sizes) == [2, 2, 2]
    assert list(axes_of(mu.permutate(["a", "b", "c"])).sizes) == [3, 3, 3]
    assert list(axes_of(mu.manyof(2, ["a", "b", "c"], distinct=False, ordered=False)).sizes) == [3, 3]


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(
    ("program", "categories"),
    [
        (mu.subset(list("abcd"), min=1, max=2), (1, 1, 1, 1)),
        (mu.subset(list("abcd"), min=1, max=2), (0, 0, 0, 0)),
        (mu.permutate(list("abcd")), (2, 2, 2, 0)),
        (mu.manyof(2, list("abc"), distinct=False, ordered=False), (2, 0)),
    ],
)
def test_rows_that_are_no_legal_picks_are_repaired(program, categories, seed):
    axes = axes_of(program)
    dna = axes.decode([], categories, Rng(seed))
    assert axes.space.dna(dna.to_json()) == dna


def test_a_repair_keeps_what_is_legal():
    axes = axes_of(mu.permutate(list("abcd")))
    assert axes.decode([], (2, 1, 2, 3), Rng(0)).values == ((2, 1, 0, 3),)


@pytest.mark.parametrize("program", [mu.intv(1, 7), mu.intv(1, 30, scale="log"), mu.floatv(0.0, 1.0, step=0.3)])
def test_a_place_is_snapped_to_the_value_that_it_stands_for(program):
    axes = axes_of({"x": program})
    point = axes.space.points[0]
    places = np.linspace(0.003, 0.997, 97)[:, None]
    expected = [point.to_unit(point.from_unit(place))[0] for place in places[:, 0]]
    assert axes.snap(places)[:, 0] == pytest.approx(expected)


def test_what_is_not_active_has_no_place():
    axes = axes_of({"m": mu.oneof(["a", {"x": mu.floatv(0.0, 1.0), "k": mu.oneof([1, 2])}])})
    floats, ints = axes.encode(axes.space.dna({"['m']": 0}))
    assert math.isnan(floats[0])
    assert ints == [0, -1]


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (mu.oneof(["a", "b"]), [False, True]),
        (mu.subset(["a", "b"], min=1), [True, True]),
        (mu.permutate(["a", "b"]), [True, True]),
    ],
)
def test_an_arm_is_taken_by_a_choice_and_by_picks_that_contain_it(program, expected):
    axes = axes_of(program)
    dnas = [axes.space.dna({"": 0 if program.__class__.__name__ == "OneOf" else [0, 1]}),
            axes.space.dna({"": 1 if program.__class__.__name__ == "OneOf" else [1, 0]})]  # fmt: skip
    rows = np.array([axes.encode(dna)[1] for dna in dnas])
    assert list(axes.is_taken(rows, (0, 1))) == expected


def test_points_that_hang_on_the_same_are_one_group():
    program = {"m": mu.oneof(["a", {"x": mu.floatv(0.0, 1.0), "k": mu.oneof([1, 2])}]), "n": mu.intv(1, 3)}
    assert axes_of(program).groups == [([0, 3], ()), ([1, 2], ((0, 1),))]


def test_an_open_ended_decision_is_refused():
    with pytest.raises(SettingError) as caught:
        axes_of({"x": mu.evolve([1], lambda path, value, rng: value)})
    assert "cannot model an open-ended decision" in str(caught.value)
    assert "use RegularizedEvolution(), which mutates programs" in str(caught.value)
