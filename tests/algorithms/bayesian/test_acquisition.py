"""Acquisition functions: known values, tails, slopes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from mutandis.algorithms.bayesian.acquisition import Acquisition, expected_improvement, log_h

MEAN, DEVIATION = 0.8459108014125657, 0.362683827825044


def test_the_upper_confidence_bound_has_its_known_value():
    assert Acquisition("ucb", 1.8, 0.0)(np.array([MEAN]), np.array([DEVIATION]))[0] == pytest.approx(
        1.4987416914976448, abs=1e-14
    )


def test_the_expected_improvement_has_its_known_value():
    found = expected_improvement(np.array([MEAN]), np.array([DEVIATION]), 1.0)
    assert found[0] == pytest.approx(0.08051096503644642, abs=1e-14)


def test_the_expected_improvement_is_the_mean_of_what_exceeds_the_best():
    mean, deviation, best = 0.3, 0.7, 0.5
    area, _ = quad(lambda y: (y - best) * norm.pdf(y, mean, deviation), best, 20)
    assert expected_improvement(np.array([mean]), np.array([deviation]), best)[0] == pytest.approx(area, rel=1e-8)


def test_the_logarithm_goes_on_where_the_improvement_is_zero_in_floating_point():
    value, slope = log_h(np.array([-100.0, -9_999.0, -10_001.0]))
    assert value == pytest.approx(-0.5 * np.array([100.0, 9999.0, 10001.0]) ** 2 - 0.5 * np.log(2 * np.pi)
                                  - 2 * np.log([100.0, 9999.0, 10001.0]), rel=1e-6)  # fmt: skip
    assert slope == pytest.approx([100, 9999, 10001], rel=1e-3)


@pytest.mark.parametrize("z", [-30.0, -1.001, -0.999, 0.0, 3.0])
def test_the_slope_of_the_logarithm_is_its_derivative(z):
    step = 1e-5
    around = log_h(np.array([z - step, z + step]))[0]
    assert log_h(np.array([z]))[1][0] == pytest.approx((around[1] - around[0]) / (2 * step), rel=1e-5)


@pytest.mark.parametrize("kind", ["ucb", "ei"])
def test_slopes_by_mean_and_deviation_are_derivatives(kind):
    acquire = Acquisition(kind, 1.8, 1.0)
    step = 1e-6
    value, by_mean, by_deviation = acquire.slopes(0.4, 0.3)
    scores = acquire(np.array([0.4, 0.4 + step, 0.4]), np.array([0.3, 0.3, 0.3 + step]))
    assert value == pytest.approx(scores[0])
    assert by_mean == pytest.approx((scores[1] - scores[0]) / step, rel=1e-4)
    assert by_deviation == pytest.approx((scores[2] - scores[0]) / step, rel=1e-4)
