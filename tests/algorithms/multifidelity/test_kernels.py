"""Kernel densities: exact values, all kinds of decisions, and conditional spaces."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from scripted import Scripted

import mutandis as mu
from mutandis.algorithms.multifidelity.kernels import (
    Density,
    axes_of,
    bandwidths,
    coordinates,
    decoded,
    encoded,
    truncated_normal,
)
from mutandis.errors import SettingError
from mutandis.hyper import Rng
from mutandis.testing import contract_spaces

MIXED = mu.space([mu.oneof(list("abcd"), name="c"), mu.floatv(0.0, 1.0, name="x")]).bare()
DEEP = mu.space(mu.oneof(["none", mu.floatv(0.0, 1.0, name="x"), mu.oneof([1, 2, 3], name="k")], name="c")).bare()
PICKS = {
    "permutation": mu.permutate(list("abcde")),
    "some in order": mu.manyof(2, list("abcde")),
    "a subset": mu.subset(list("abcde"), min=1, max=3),
    "two of five": mu.manyof(2, list("abcde"), ordered=False),
    "with repetition": mu.manyof(3, list("abcde"), distinct=False),
    "with repetition, no order": mu.manyof(3, list("abcde"), distinct=False, ordered=False),
}


def density(space, *decisions, min_bandwidth=0.2):
    return Density(space, [space.dna(one) for one in decisions], min_bandwidth)


def pdf(made, space, **decisions):
    return math.exp(made.log_pdf([space.dna(decisions)])[0])


def test_the_kernel_of_categories_is_the_known_one():
    space = mu.space(mu.oneof(list("abcd"), name="c")).bare()
    made = density(space, {"c": 1})
    assert pdf(made, space, c=1) == pytest.approx(0.8, abs=1e-12)
    assert pdf(made, space, c=2) == pytest.approx(0.2 / 3, abs=1e-12)


def test_the_density_is_the_mean_of_products():
    data = [(0, 0.1), (0, 0.4), (2, 0.6)]
    made = density(MIXED, *({"c": c, "x": x} for c, x in data), min_bandwidth=1e-3)
    sigma = np.std([0.1, 0.4, 0.6])
    h_x = 1.06 * sigma * 3 ** (-1 / 6)
    h_c = 1.06 * math.sqrt((1 - 5 / 9) / 2) * 3 ** (-1 / 6)
    assert made.bandwidths == pytest.approx([h_c, h_x], abs=1e-12)
    expected = np.mean([(1 - h_c if c == 0 else h_c / 3) * NormalDist(x, h_x).pdf(0.3) for c, x in data])
    assert pdf(made, MIXED, c=0, x=0.3) == pytest.approx(expected, rel=1e-12)


def test_the_spread_of_two_categories_is_that_of_their_index():
    column = [0.0, 0.0, 1.0, 1.0, 1.0]
    expected = 1.06 * np.std(column) * 5 ** (-1 / 5)
    assert bandwidths(np.array(column)[:, None], [2], 1e-3) == pytest.approx([expected])


def test_the_spread_of_categories_does_not_hang_on_their_order():
    first, second = np.array([[0.0], [0.0], [4.0]]), np.array([[2.0], [2.0], [3.0]])
    assert bandwidths(first, [5], 1e-3) == pytest.approx(bandwidths(second, [5], 1e-3))


@pytest.mark.parametrize(
    ("categories", "low", "expected"), [(2, 0.9, 0.5), (5, 0.9, 0.8), (0, 0.9, 0.9), (1, 0.1, 0.0)]
)
def test_bandwidths_have_a_floor_and_for_categories_a_ceiling(categories, low, expected):
    assert bandwidths(np.zeros((3, 1)), [categories], low) == pytest.approx([expected])


def test_a_choice_of_one_candidate_changes_nothing():
    space = mu.space([mu.oneof(["only"], name="c"), mu.floatv(0.0, 1.0, name="x")]).bare()
    made = density(space, {"c": 0, "x": 0.5})
    assert pdf(made, space, c=0, x=0.5) == pytest.approx(NormalDist(0.5, 0.2).pdf(0.5))


def test_only_active_decisions_count_and_missing_ones_have_their_prior():
    made = density(DEEP, {"c": 0}, {"c": 1, "x": 0.5}, min_bandwidth=0.3)
    c = made.bandwidths[0]
    kernel = NormalDist(0.5, 0.3).pdf(0.5)
    assert pdf(made, DEEP, c=0) == pytest.approx((1 - c + c / 2) / 2)
    assert pdf(made, DEEP, c=1, x=0.5) == pytest.approx((c / 2 * 1.0 + (1 - c) * kernel) / 2)
    assert pdf(made, DEEP, c=2, k=1) == pytest.approx(c / 2 / 3)


def test_the_density_of_a_finite_conditional_space_sums_to_one():
    space = mu.space(
        mu.oneof(["none", mu.oneof([1, 2, mu.oneof([5, 6])]), mu.manyof(2, [7, 8], distinct=False)])
    ).bare()
    made = Density(space, [space.random(seed) for seed in range(6)], 0.1)
    assert np.exp(made.log_pdf(list(space.enumerate()))).sum() == pytest.approx(1.0, abs=1e-12)


def test_the_bandwidth_is_of_the_data_in_which_the_axis_is_active():
    rows = np.array([[0.2], [np.nan], [0.6], [np.nan]])
    assert bandwidths(rows, [0], 1e-3) == pytest.approx([1.06 * 0.2 * 2 ** (-1 / 5)])


@pytest.mark.parametrize("picks", list(PICKS))
def test_picks_come_back_from_their_axes(picks):
    space = mu.space(PICKS[picks]).bare()
    (point,) = space.points
    for seed in range(20):
        value = space.random(seed).values[0]
        place = encoded(point, value)
        assert len(place) == len(axes_of(point))
        assert decoded(point, place, Rng(0)) == value


@pytest.mark.parametrize("name", list(contract_spaces()))
def test_draws_are_legal_and_most_often_near_the_datum(name):
    space = contract_spaces()[name].bare()
    if not space.points:
        return
    datum = space.random(3)
    made = Density(space, [datum], 1e-3)
    rng = Rng(0)
    drawn = [made.sample_near(rng, 1.0) for _ in range(60)]
    assert all(space.dna(dna.to_json()) == dna for dna in drawn)
    rows = coordinates(space, [datum, *drawn])
    assert (np.nan_to_num(np.abs(rows[1:] - rows[0])) < 0.01).all(axis=1).mean() > 0.9


def test_draws_keep_a_category_or_take_any_and_move_a_coordinate():
    made = density(MIXED, {"c": 1, "x": 0.5})
    dna = made.sample_near(Scripted(0.0, 0.79, 0.5), 3)
    assert dna.values == (1, pytest.approx(0.5))
    dna = made.sample_near(Scripted(0.0, 0.81, 0.99, 0.75), 3)
    expected = truncated_normal(0.5, 0.6, Scripted(0.75))
    assert dna.values == (3, pytest.approx(expected))


@pytest.mark.parametrize(("bits", "expected"), [([1, 1, 1, 1, 0], 3), ([0, 0, 0, 0, 0], 1), ([0, 1, 0, 0, 0], 1)])
def test_a_wrong_number_of_picks_is_mended(bits, expected):
    (point,) = mu.space(PICKS["a subset"]).points
    picks = decoded(point, bits, Rng(0))
    assert len(picks) == expected
    assert point.check(picks) == picks


def test_picks_without_an_order_are_sorted_and_empty_slots_drawn():
    (point,) = mu.space(PICKS["with repetition, no order"]).points
    assert decoded(point, [3.0, 1.0, float("nan")], Scripted(0.5)) == (1, 2, 3)


@pytest.mark.parametrize("u", [0.1, 0.5, 0.93])
def test_truncated_normals_are_drawn_by_inversion(u):
    normal = NormalDist(0.8, 0.5)
    x = truncated_normal(0.8, 0.5, Scripted(u))
    low, high = normal.cdf(0), normal.cdf(1)
    assert (normal.cdf(x) - low) / (high - low) == pytest.approx(u, abs=1e-9)


@pytest.mark.parametrize("mean", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("u", [0.0, 1 - 2**-53])
@pytest.mark.parametrize("deviation", [1e-6, 3.0])
def test_truncated_normals_stay_in_the_unit_interval(mean, u, deviation):
    assert 0 <= truncated_normal(mean, deviation, Scripted(u)) <= 1


def test_open_ended_programs_are_refused_in_full():
    space = mu.space(mu.evolve([1, 2], lambda tree, rng: tree)).bare()
    with pytest.raises(SettingError) as caught:
        axes_of(space.points[0])
    assert str(caught.value).splitlines() == [
        "cannot estimate a density of open-ended programs",
        "  at:       (the root)",
        "  got:      'a program, open-ended' (str)",
        "  expected: choices, picks and ranges",
        "  fix:      use RegularizedEvolution(), or Hyperband(...) or ASHA(...) with its default sampler",
    ]
