"""The kernel: known values, slopes, distances by decision."""

from __future__ import annotations

import numpy as np
import pytest

from mutandis.algorithms.bayesian.kernel import Hyper, matern, matern_slope, pair_distances, squared_distances


@pytest.mark.parametrize(("r2", "expected"), [(1.0, 0.5239941088318203), (0.5, 0.7024957601538033), (0.0, 1.0)])
def test_the_matern_correlation_has_its_known_values(r2, expected):
    assert matern(np.array([r2]))[0] == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("r2", [0.01, 0.5, 4.0])
def test_the_slope_is_the_derivative(r2):
    step = 1e-6
    around = matern(np.array([r2 - step, r2 + step]))
    assert matern_slope(np.array([r2]))[0] == pytest.approx((around[1] - around[0]) / (2 * step), rel=1e-6)


def test_the_slope_is_finite_at_distance_zero():
    assert matern_slope(np.zeros(1))[0] == pytest.approx(-5 / 6)


def test_pair_distances_add_up_to_the_distance_of_the_rows():
    rows = np.random.default_rng(1).random((6, 4))
    owner = np.array([0, 0, 1, 2])
    by_decision = pair_distances(rows, owner, 3)
    whole = squared_distances(rows, rows)[np.triu_indices(6, 1)]
    np.testing.assert_allclose(by_decision.sum(axis=0), whole, atol=1e-12)
    assert by_decision[1][0] == pytest.approx((rows[0, 2] - rows[1, 2]) ** 2)


def test_weights_divide_squared_distances_by_squared_length_scales():
    hyper = Hyper(amplitude=1.0, noise=0.1, scales=(4.0, 0.25))
    assert hyper.column_weights(np.array([0, 1, 1])) == pytest.approx([0.5, 2.0, 2.0])
