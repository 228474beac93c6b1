"""A continuous range as a normal distribution over its unit interval, cut off at both ends.

*Notation*: the table is [a, b]; mu = sigmoid(a), sigma = 0.3 exp(b); alpha = -mu / sigma, beta = (1 - mu) / sigma;
Z = Phi(beta) - Phi(alpha); u = the place of a value in the unit interval of its range (of its logarithm, on a log
scale). All densities are with respect to u. Moments: Johnson, Kotz, Balakrishnan, Continuous Univariate Distributions
1, 1994, Sec. 10.1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_WIDTH = 0.3
_LEAST, _MOST = 1e-3, 10.0
"""Bounds of sigma: a normal that is narrower has densities that no step survives, a wider one is uniform."""


def parameters(table: Tensor) -> tuple[Tensor, Tensor]:
    """Returns mu in (0, 1) and sigma of a table, `[2]`."""
    return torch.sigmoid(table[0]), (_WIDTH * torch.exp(table[1])).clamp(_LEAST, _MOST)


def log_density(table: Tensor, place: float) -> Tensor:
    """Returns the logarithm of the density at a place in [0, 1], in nats, with its gradient."""
    mu, sigma = parameters(table)
    z = (place - mu) / sigma
    return -0.5 * z * z - torch.log(sigma * math.sqrt(2.0 * math.pi)) - torch.log(_mass(mu, sigma))


def moments(table: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the mean and the variance of the place."""
    mu, sigma = parameters(table)
    alpha, beta = -mu / sigma, (1.0 - mu) / sigma
    mass, low, high = _mass(mu, sigma), _bell(alpha), _bell(beta)
    shift = (low - high) / mass
    return mu + sigma * shift, sigma**2 * (1.0 + (alpha * low - beta * high) / mass - shift**2)


def entropy(table: Tensor) -> Tensor:
    """Returns the differential entropy of the place, in nats: at most 0, that of the uniform distribution."""
    return -_mean_log_density(table, table)


def divergence(table: Tensor, other: Tensor) -> Tensor:
    """Returns the Kullback-Leibler divergence from the distribution of another table, in nats."""
    return _mean_log_density(table, table) - _mean_log_density(table, other)


def draw(table: Tensor, uniform: float) -> float:
    """Returns the place below which a share of the distribution lies.

    Args:
        table: `[2]`.
        uniform: The share, in [0, 1).
    """
    mu, sigma = parameters(table.detach())
    low = torch.special.ndtr(-mu / sigma)
    share = low + uniform * _mass(mu, sigma)
    place = float(mu + sigma * torch.special.ndtri(share))
    return min(max(place, 0.0), 1.0)


def _mass(mu: Tensor, sigma: Tensor) -> Tensor:
    mass: Tensor = torch.special.ndtr((1.0 - mu) / sigma) - torch.special.ndtr(-mu / sigma)
    return mass


def _bell(x: Tensor) -> Tensor:
    return torch.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)


def _mean_log_density(table: Tensor, other: Tensor) -> Tensor:
    """Returns the mean of the other log-density under a table."""
    mean, variance = moments(table)
    mu, sigma = parameters(other)
    spread = variance + (mean - mu) ** 2
    return -0.5 * spread / sigma**2 - torch.log(sigma * math.sqrt(2.0 * math.pi)) - torch.log(_mass(mu, sigma))


__all__ = ["divergence", "draw", "entropy", "log_density", "moments", "parameters"]
