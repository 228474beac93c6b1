"""The kernel: Matern-5/2 of a distance that weighs each decision by its own length scale.

    k(x, x') = s2 * M(r2),   M(r2) = (1 + r + r^2 / 3) exp(-r) with r = sqrt(5 r2),   r2 = sum_j d_j(x, x') / l2_j

*Notation*: s2 = `amplitude`, the variance of the process; l2_j = `scales[j]`, the squared length scale of decision j;
d_j = its squared distance (see `features`); n2 = `noise`, the variance of a result around the process.
Matern: Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, eq. (4.17).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Hyper:
    """The hyper-parameters of a Gaussian process.

    Attributes:
        amplitude: Variance of the process.
        noise: Variance of a result around it.
        scales: Squared length scales, one for each decision.
    """

    amplitude: float
    noise: float
    scales: tuple[float, ...]

    def column_weights(self, owner: NDArray[np.int64]) -> Array:
        """Returns the factor of each column of the features, so that r2 is a squared Euclidean distance."""
        weights: Array = 1 / np.sqrt(np.asarray(self.scales, dtype=float))[owner]
        return weights


def matern(r2: Array) -> Array:
    """Returns the Matern-5/2 correlation of squared distances."""
    r = np.sqrt(5 * r2)
    made: Array = (1 + r + r * r / 3) * np.exp(-r)
    return made


def matern_slope(r2: Array) -> Array:
    """Returns the derivative of `matern` by the squared distance; finite everywhere."""
    r = np.sqrt(5 * r2)
    made: Array = -5 / 6 * (1 + r) * np.exp(-r)
    return made


def squared_distances(left: Array, right: Array) -> Array:
    """Returns the `[N, M]` squared Euclidean distances of rows; never below 0."""
    made = (left * left).sum(axis=1)[:, None] + (right * right).sum(axis=1)[None, :] - 2 * left @ right.T
    distances: Array = np.maximum(made, 0.0)
    return distances


def pair_distances(features: Array, owner: NDArray[np.int64], num_decisions: int) -> Array:
    """Returns the squared distances of all pairs of rows, decision by decision.

    Args:
        features: `[N, num_columns]`.
        owner: `[num_columns]`, the decision of each column, ascending.
        num_decisions: D.

    Returns:
        `[D, N (N - 1) / 2]`, the pairs in the order of `np.triu_indices(N, 1)`.
    """
    first, second = np.triu_indices(len(features), 1)
    made = np.zeros((num_decisions, len(first)))
    for column, decision in enumerate(owner):
        gap = features[first, column] - features[second, column]
        made[decision] += gap * gap
    return made


__all__ = ["Hyper", "matern", "matern_slope", "pair_distances", "squared_distances"]
