"""Axes: which variables a space has, and the way there and back."""

from __future__ import annotations

import numpy as np
import pytest

import mutandis as mu
from mutandis.algorithms.bayesian.cma_axes import Axes
from mutandis.errors import SettingError
from mutandis.hyper import Point, SearchSpace, permutate, space

MIXED = {
    "x": mu.floatv(0.0, 1.0),
    "log": mu.intv(1, 100, scale="log"),
    "many": mu.intv(1, 100_000),
    "two": mu.intv(1, 2),
    "op": mu.oneof(["a", "b", "c"]),
    "order": permutate(["a", "b", "c"]),
    "set": mu.subset(["a", "b", "c", "d"], min=1, max=3),
    "slots": mu.manyof(2, ["a", "b", "c"], distinct=False),
}


def test_every_kind_of_decision_has_its_variables():
    axes = Axes(space(MIXED).bare())
    assert len(axes.smooth) == 1 + 1 + 3 + 4  # x, many, and the keys of the order and the set.
    assert [len(values) for values in axes.steps.values()] == [100, 3]
    assert list(axes.cells.values()) == [2, 3, 3, 3]


@pytest.mark.parametrize("seed", range(10))
def test_the_variables_of_a_place_lead_back_to_the_same_point(seed):
    bare = space(MIXED).bare()
    dna, axes = bare.random(seed), Axes(bare)
    found = bare.from_unit(axes.join(*axes.split(np.array(dna.to_unit()))).tolist())
    assert found.values[0] == pytest.approx(dna.values[0])
    assert found.values[1:] == dna.values[1:]


def test_numbers_outside_are_clipped_and_rounded():
    bare = space([mu.floatv(0.0, 2.0), mu.intv(0, 9)]).bare()
    axes = Axes(bare)
    assert bare.from_unit(axes.join(np.array([1.7, 0.349]), []).tolist()).values == (2.0, 3)
    assert bare.from_unit(axes.join(np.array([-3.0, 99.0]), []).tolist()).values == (0.0, 9)


def test_spans_are_the_widths_of_the_variables():
    assert Axes(space([mu.floatv(0.0, 2.0), mu.intv(0, 3)]).bare()).spans() == pytest.approx([1.0, 0.75])


def test_a_conditional_space_is_refused_with_what_to_use_instead():
    with pytest.raises(SettingError) as error:
        Axes(space(mu.oneof([mu.floatv(0.0, 1.0), "b"])).bare())
    assert error.value.problem == "cannot adapt a covariance over decisions that come and go"
    assert error.value.expected == "a space in which every decision is always active"
    assert error.value.fix == "use TPE(), GaussianProcess() or RegularizedEvolution()"


def test_a_program_is_refused():
    with pytest.raises(SettingError, match=r"cannot adapt a covariance over programs(.|\n)*use RegularizedEvolution"):
        Axes(SearchSpace([Point(index=0, path="program", kind="custom")]))
