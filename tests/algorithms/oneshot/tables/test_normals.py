"""Cut-off normal distributions: densities, moments, entropy and divergence against sums over a fine grid."""

from __future__ import annotations

import math

import pytest
import torch
from oneshot_probe import vector

from mutandis.algorithms.oneshot.tables import normals

TABLES = [vector(0.0, 0.0), vector(2.0, -1.0), vector(-3.0, 0.5), vector(0.3, -2.0), vector(1.0, 3.0)]
GRID = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000


def density(table):
    return torch.stack([normals.log_density(table, float(u)) for u in GRID[::20]]).exp()


def mean(values):
    return float(values.mean())


@pytest.mark.parametrize("table", TABLES)
def test_densities_integrate_to_one_with_their_moments(table):
    p, u = density(table), GRID[::20]
    first, second = normals.moments(table)
    assert mean(p) == pytest.approx(1.0, abs=2e-3)
    assert mean(p * u) / mean(p) == pytest.approx(float(first), abs=1e-3)
    assert mean(p * (u - float(first)) ** 2) / mean(p) == pytest.approx(float(second), abs=1e-3)


@pytest.mark.parametrize("table", TABLES)
def test_the_entropy_is_the_mean_of_the_logarithm(table):
    p = density(table)
    assert float(normals.entropy(table)) == pytest.approx(-mean(p * p.log()), abs=3e-3)
    assert float(normals.entropy(table)) <= 1e-12


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("other", TABLES)
def test_the_divergence_is_the_mean_of_the_log_ratio(table, other):
    p, q = density(table), density(other)
    wanted = mean(p * (p.log() - q.log()))
    assert float(normals.divergence(table, other)) == pytest.approx(wanted, rel=1e-2, abs=3e-3)


def test_nothing_diverges_from_itself():
    assert [float(normals.divergence(table, table)) for table in TABLES] == pytest.approx([0.0] * 5, abs=1e-12)


def test_a_wide_normal_is_uniform():
    assert float(normals.log_density(vector(0.0, 9.0), 0.9)) == pytest.approx(0.0, abs=2e-3)
    assert float(normals.parameters(vector(0.0, 99.0))[1]) == 10.0
    assert float(normals.parameters(vector(0.0, -99.0))[1]) == 1e-3


@pytest.mark.parametrize("table", TABLES)
def test_draws_are_the_quantiles(table):
    p = density(table)
    below = torch.cumsum(p, 0) / p.sum()
    for share in (0.1, 0.5, 0.9):
        place = normals.draw(table, share)
        assert float(below[int(place * 999)]) == pytest.approx(share, abs=2e-2)


@pytest.mark.parametrize(("table", "share"), [(vector(-30.0, -99.0), 0.0), (vector(30.0, 0.0), 1.0 - 2.0**-53)])
def test_draws_stay_within_the_range(table, share):
    assert 0.0 <= normals.draw(table, share) <= 1.0


@pytest.mark.parametrize("table", TABLES)
def test_the_gradient_of_the_density_is_right_by_finite_differences(table):
    leaf = table.clone().requires_grad_()
    (slope,) = torch.autograd.grad(normals.log_density(leaf, 0.4), leaf)
    for i in range(2):
        step = torch.zeros(2, dtype=torch.float64)
        step[i] = 1e-6
        gap = normals.log_density(table + step, 0.4) - normals.log_density(table - step, 0.4)
        assert float(slope[i]) == pytest.approx(float(gap) / 2e-6, abs=1e-5)


def test_known_answers():
    # mu = 1/2, sigma = 0.3: Z = 2 Phi(5/3) - 1 = 0.904419, log density at the middle = -log(0.3 sqrt(2 pi) Z).
    assert float(normals.log_density(vector(0.0, 0.0), 0.5)) == pytest.approx(
        -math.log(0.3 * math.sqrt(2 * math.pi) * 0.9044192954), abs=1e-8
    )
    assert normals.draw(vector(0.0, 0.0), 0.5) == pytest.approx(0.5, abs=1e-12)
