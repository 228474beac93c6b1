from __future__ import annotations

import math

import numpy as np
import pytest

import mutandis as mu
from mutandis.algorithms.bayesian import parzen
from mutandis.algorithms.bayesian.parzen import (
    Kernels,
    Mixture,
    age_weights,
    kernel_widths,
    log_scales,
    mass_inside,
    truncated_normals,
)
from mutandis.algorithms.bayesian.parzen_axes import Axes


def axes_of(program):
    return Axes(mu.space(program).bare())


FLOAT = axes_of({"x": mu.floatv(0.0, 1.0)})
CHOICE = axes_of({"x": mu.oneof(["a", "b", "c"])})
PAIR = axes_of({"x": mu.floatv(0.0, 1.0), "y": mu.oneof(["a", "b", "c"])})


def rows(floats=None, ints=None):
    count = len(floats if floats is not None else ints)
    places = np.zeros((count, 0)) if floats is None else np.array(floats, dtype=float).reshape(count, 1)
    categories = np.zeros((count, 0), dtype=int) if ints is None else np.array(ints).reshape(count, 1)
    return places, categories


def mixture(axes, observed):
    return Mixture(axes, observed, age_weights(len(observed[0])))


# Known answers, made with Optuna 5. ---


def test_the_widths_of_kernels_are_known():
    assert mixture(FLOAT, rows([0.2, 0.3])).sigma[:, 0] == pytest.approx([0.25, 0.25, 1.0])
    assert mixture(FLOAT, rows([0.6, 0.8, 0.9])).sigma[:, 0] == pytest.approx([0.2, 0.2, 0.2, 1.0])


@pytest.mark.parametrize("is_joint", [True, False])
def test_the_ratio_of_two_densities_is_known(is_joint):
    good, bad = mixture(FLOAT, rows([0.2, 0.3])), mixture(FLOAT, rows([0.6, 0.8, 0.9]))
    asked = rows([0.1, 0.25, 0.5, 0.7])
    if is_joint:
        ratio = np.exp(good.log_density(asked) - bad.log_density(asked))
    else:
        ratio = np.exp(good.axis_log_density(asked, True, 0) - bad.axis_log_density(asked, True, 0))
    assert ratio == pytest.approx([5.2260387154, 4.1817083979, 1.1122139305, 0.3596350062], abs=1e-9)


def test_the_density_of_categories_is_known():
    found = np.exp(mixture(CHOICE, rows(ints=[0, 0, 1])).log_density(rows(ints=[0, 1, 2])))
    assert found == pytest.approx([0.4761904762, 0.3333333333, 0.1904761905], abs=1e-10)


def test_a_joint_density_is_not_the_product_of_its_axes():
    asked = rows([0.2, 0.2], [0, 1])
    found = mixture(PAIR, rows([0.2, 0.8], [0, 1])).log_density(asked)
    apart = mixture(PAIR, rows([0.2, 0.8], [1, 0])).log_density(asked)
    assert found[0] == pytest.approx(apart[1])
    assert found[0] > found[1] + 0.1


# Properties. ---


@pytest.mark.parametrize("count", [0, 1, 2, 30, 150])
def test_a_density_on_a_range_sums_to_one(count):
    observed = rows(np.random.default_rng(0).random(count) ** 3)
    grid = (np.arange(20_000) + 0.5) / 20_000
    assert np.exp(mixture(FLOAT, observed).log_density(rows(grid))).mean() == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("program", [mu.intv(1, 5), mu.intv(1, 40, scale="log"), mu.floatv(0.0, 1.0, step=0.25)])
def test_a_density_on_cells_sums_to_one(program):
    axes = axes_of({"x": program})
    centres, _, widths = axes.cells[0]
    observed = rows([centres[0], centres[0], centres[2], centres[-1]])
    density = np.exp(mixture(axes, observed).log_density(rows(centres)))
    assert (density * widths).sum() == pytest.approx(1.0, abs=1e-12)


def test_a_density_on_categories_and_a_range_together_sums_to_one():
    grid = np.tile((np.arange(2000) + 0.5) / 2000, 3)
    asked = rows(grid, np.repeat([0, 1, 2], 2000))
    density = np.exp(mixture(PAIR, rows([0.1, 0.5, 0.6], [0, 2, 2])).log_density(asked))
    assert density.sum() / 2000 == pytest.approx(1.0, abs=1e-5)


def test_kernels_are_never_narrower_than_a_hundredth():
    many = np.linspace(0.4, 0.41, 200)[:, None]
    assert kernel_widths(many)[5:-5] == pytest.approx(0.01)


@pytest.mark.parametrize(("count", "least"), [(1, 1 / 3), (8, 0.1), (97, 1 / 99), (99, 0.01)])
def test_the_least_width_falls_with_the_number_of_observations(count, least):
    assert kernel_widths(np.full((count, 1), 0.5)).min() == pytest.approx(0.5 if count == 1 else least)


def test_the_width_of_a_kernel_is_its_larger_gap_wherever_it_stands():
    shuffled = np.array([[0.9], [0.1], [0.4], [0.5]])
    assert kernel_widths(shuffled)[:, 0] == pytest.approx([0.4, 0.3, 0.3, 0.4])


def test_an_axis_that_is_missing_does_not_change_the_widths_of_others():
    places = np.array([[0.2, 0.1], [0.3, math.nan], [0.9, 0.7]])
    assert kernel_widths(places)[:, 0] == pytest.approx(kernel_widths(places[:, :1])[:, 0])
    assert kernel_widths(places)[[0, 2], 1] == pytest.approx(kernel_widths(np.array([[0.1], [0.7]]))[:, 0])


def test_a_missing_observation_counts_as_the_prior_in_the_joint_density():
    found = mixture(FLOAT, rows([math.nan, math.nan])).log_density(rows([0.3, 0.9]))
    assert found == pytest.approx(mixture(FLOAT, rows([])).log_density(rows([0.3, 0.9])))
    found = mixture(CHOICE, rows(ints=[-1, -1])).log_density(rows(ints=[0, 1]))
    assert np.exp(found) == pytest.approx([1 / 3, 1 / 3])


def test_a_missing_observation_does_not_count_on_an_axis_alone():
    alone = mixture(FLOAT, rows([0.2, math.nan, math.nan])).axis_log_density(rows([0.2]), True, 0)
    assert alone == pytest.approx(mixture(FLOAT, rows([0.2])).log_density(rows([0.2])))


def test_a_row_is_judged_on_its_active_axes_only():
    made = mixture(PAIR, rows([0.2, 0.8], [0, 1]))
    by_axis = made.axis_terms(rows([0.3], [1]), True, 0) + np.log(made.weights)
    assert made.component_terms(rows([0.3], [-1])) == pytest.approx(by_axis)
    both = by_axis + made.axis_terms(rows([0.3], [1]), False, 0)
    assert made.component_terms(rows([0.3], [1])) == pytest.approx(both)
    assert made.component_terms(rows([math.nan], [-1]))[0] == pytest.approx(np.log(made.weights))


@pytest.mark.parametrize("sigma", [0.01, 0.2, 1.0])
def test_the_mass_inside_is_that_of_the_error_function(sigma):
    places = np.array([0.0, 0.003, 0.3, 1.0])
    expected = [0.5 * (math.erf((1 - m) / sigma / 2**0.5) + math.erf(m / sigma / 2**0.5)) for m in places]
    assert mass_inside(places, np.full(4, sigma)) == pytest.approx(expected, abs=1e-11)


def test_weights_ramp_up_to_the_newest_25():
    assert age_weights(24) == pytest.approx(1.0)
    assert age_weights(30)[:5] == pytest.approx(np.linspace(1 / 30, 1, 5))
    assert age_weights(30)[5:] == pytest.approx(1.0)
    assert len(age_weights(0)) == 0


# Draws. ---


def test_truncated_normals_have_the_mean_of_their_density():
    made = truncated_normals(np.zeros((20_000, 1)), np.full((20_000, 1), 0.2), np.random.default_rng(0))
    assert made.min() >= 0 and made.max() <= 1
    assert made.mean() == pytest.approx(0.2 * math.sqrt(2 / math.pi), abs=0.003)


def test_categories_are_drawn_with_the_probability_of_their_component():
    made = mixture(CHOICE, rows(ints=[1, 1, 2]))
    origin = np.zeros((20_000, 1), dtype=int)
    drawn = made.sample(origin, origin, np.random.default_rng(0))[1][:, 0]
    assert (drawn == 1).mean() == pytest.approx(5 / 7, abs=0.01)  # (n + 2) / (n + 1 + K) of three and three.
    assert (drawn == 0).mean() == pytest.approx(1 / 7, abs=0.01)


def test_the_prior_is_drawn_uniformly():
    made = mixture(CHOICE, rows(ints=[1, 1, 1]))
    origin = np.full((20_000, 1), 3)
    drawn = made.sample(origin, origin, np.random.default_rng(0))[1][:, 0]
    assert (drawn == 1).mean() == pytest.approx(1 / 3, abs=0.01)


def test_draws_stand_in_the_middle_of_cells():
    axes = axes_of({"x": mu.intv(1, 4)})
    origin = np.zeros((50, 1), dtype=int)
    drawn = mixture(axes, rows([0.375])).sample(origin, origin, np.random.default_rng(0))[0]
    assert set(drawn[:, 0]) <= {0.125, 0.375, 0.625, 0.875}


@pytest.mark.parametrize("name", ["float", "int", "conditional", "mixed"])
@pytest.mark.parametrize("share", [0.2, 0.8, 1.0])
def test_kernels_of_a_growing_table_are_those_of_a_sort_bit_for_bit(name, share):
    program = {
        "float": [mu.floatv(0.0, 1.0), mu.floatv(1e-4, 1.0, scale="log")],
        "int": [mu.intv(0, 3), mu.intv(1, 200)],  # Ties, and few and many cells.
        "conditional": {"x": mu.oneof(["a", {"u": mu.floatv(0.0, 1.0), "n": mu.intv(1, 9)}]), "y": mu.floatv(0.0, 1.0)},
        "mixed": [mu.oneof([1, 2]), mu.floatv(0.0, 1.0, step=0.1)],
    }[name]
    axes = Axes(mu.space(program).bare())
    kernels, places, draw = Kernels(axes), np.empty((0, len(axes.cells))), np.random.default_rng(7)
    for seed in range(60):
        places = np.concatenate([places, [axes.encode(axes.space.random(seed))[0]]])
        kernels.add(places[-1])
        which = np.flatnonzero(draw.random(len(places)) < share)
        if seed % 3 or not len(which):
            continue
        own = places[which]
        middle = np.where(own == own, own, 0.5)
        sigma, scale = kernels.of(which, middle)
        wanted = np.where(own == own, kernel_widths(own), 1.0)
        np.testing.assert_array_equal(sigma, wanted)
        np.testing.assert_array_equal(scale, log_scales(axes, middle, wanted))


def test_only_kernels_whose_width_has_changed_are_computed_anew(monkeypatch):
    axes = Axes(mu.space(mu.floatv(0.0, 1.0)).bare())
    kernels, counted = Kernels(axes), []
    places = (np.arange(400)[:, None] + 0.5) / 400
    for place in places:
        kernels.add(place)
    monkeypatch.setattr(parzen, "log_scales", lambda axes, mu, sigma: counted.append(len(mu)) or mu)
    kernels.of(np.arange(399), places[:399])
    kernels.of(np.arange(400), places)
    assert counted[0] == 399 and counted[1] <= 2


def test_a_mixture_of_known_kernels_is_the_same_mixture():
    axes = Axes(mu.space([mu.floatv(0.0, 1.0), mu.oneof([1, 2, 3]), mu.intv(1, 20)]).bare())
    rows = [axes.encode(axes.space.random(seed)) for seed in range(30)]
    observed = np.array([row for row, _ in rows]), np.array([row for _, row in rows])
    kernels = Kernels(axes)
    for place in observed[0]:
        kernels.add(place)
    plain = Mixture(axes, observed, age_weights(30))
    known = Mixture(axes, observed, age_weights(30), kernels.of(np.arange(30), observed[0]))
    np.testing.assert_array_equal(plain.component_terms(observed), known.component_terms(observed))


@pytest.mark.parametrize("most", [1, 50, 120, 10**6])
def test_a_product_in_pieces_is_the_product(monkeypatch, most):
    monkeypatch.setattr(parzen, "_ALONE", most)
    draw = np.random.default_rng(0)
    left, right = draw.normal(size=(5, 8)), draw.normal(size=(17, 8))
    np.testing.assert_allclose(parzen._product(left, right), left @ right.T, atol=1e-13)
    assert parzen._product(np.zeros((5, 0)), np.zeros((17, 0))).tolist() == [[0.0] * 17] * 5
