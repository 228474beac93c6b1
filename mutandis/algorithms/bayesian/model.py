"""Gaussian-process regression: the posterior, and hyper-parameters at the maximum a posteriori.

Song et al.: The Vizier Gaussian Process Bandit Algorithm, 2024, arXiv 2408.11527, Sec. 4.1; the posterior is eq. (2.25)
and (2.26), the likelihood eq. (2.30) and its gradient eq. (5.9) of Rasmussen and Williams 2006. Points that have no
label yet take part in the variance alone, which needs none (Desautels, Krause, Burdick: Parallelizing
Exploration-Exploitation Tradeoffs in Gaussian Process Bandit Optimization, JMLR 2014, Sec. 3.3).

*Notation*: y = labels; K = kernel matrix of the labelled points with n2 on its diagonal; L = its Cholesky factor;
m = level of the process, its mean far from all points: 0, or by generalised least squares

    m = (1' K^-1 y) / (1' K^-1 1)   (Jones, Schonlau, Welch 1998, doi 10.1023/A:1008306431147, eq. (5)).

*Complexity*: a fit costs O(N^3 + N^2 D) per step of L-BFGS-B and O(N^2 D) memory; a posterior O(N^3) once and O(N^2) a
point.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mutandis.algorithms.bayesian.kernel import Hyper, matern, matern_slope, pair_distances, squared_distances

Array = NDArray[np.float64]
CENTRE = Hyper(amplitude=0.039, noise=0.0039, scales=(0.5,))
"""Where the penalties of the maximum a posteriori vanish; the scale holds for every decision."""
_PENALTY = 0.01  # Times the squared logarithm of the ratio to the centre, for each hyper-parameter.
_BOUNDS = {"amplitude": (1e-3, 10.0), "noise": (1e-10, 1.0), "scale": (1e-2, 1e2)}
_JITTERS = (0.0, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4)  # Tried one after another, as shares of the amplitude.
_TINY = 1e-16
_BLOCK = 16


class Posterior:
    """A Gaussian process that has seen some points.

    Args:
        hyper: Its hyper-parameters.
        owner: `[num_columns]`, the decision of each column.
        features: `[N, num_columns]`, first the points with a label, then those without.
        labels: `[n]`, n <= N.
        has_level: Whether the level is that of the labels instead of 0.

    Attributes:
        hyper: The hyper-parameters.
        weights: Of the columns.
        level: m.
    """

    def __init__(self, hyper: Hyper, owner: NDArray[np.int64], features: Array, labels: Array, *,
                 has_level: bool = False) -> None:  # fmt: skip
        self.hyper = hyper
        self.weights = hyper.column_weights(owner)
        self._points = features * self.weights
        count = len(labels)
        matrix = hyper.amplitude * matern(squared_distances(self._points, self._points))
        matrix[np.diag_indices_from(matrix)] = hyper.amplitude + hyper.noise
        self._inverse = cholesky(matrix, hyper.amplitude)[1]
        head = self._inverse[:count, :count]  # The labelled points come first: their factor is a block of the whole.
        ones = head.sum(axis=1)  # L^-1 1.
        self.level = float(ones @ (head @ labels) / (ones @ ones)) if has_level else 0.0
        self._alpha: Array = np.concatenate([head.T @ (head @ (labels - self.level)), np.zeros(len(features) - count)])

    def predict(self, features: Array) -> tuple[Array, Array]:
        """Returns the means and standard deviations of the process, noise left aside.

        Args:
            features: `[M, num_columns]`.

        Returns:
            `[M]` and `[M]`.
        """
        cross = self.hyper.amplitude * matern(squared_distances(features * self.weights, self._points))
        spread = cross @ self._inverse.T
        variance = self.hyper.amplitude - np.einsum("ij,ij->i", spread, spread)
        return self.level + cross @ self._alpha, np.sqrt(np.maximum(variance, _TINY))

    def gradient(self, features: Array) -> tuple[float, float, Array, Array]:
        """Returns mean and deviation at one point and their gradients by its features.

        Args:
            features: `[num_columns]`.

        Returns:
            The mean, the deviation, and two `[num_columns]` gradients.
        """
        gap = features * self.weights - self._points
        r2 = np.einsum("ij,ij->i", gap, gap)
        cross = self.hyper.amplitude * matern(r2)
        spread = self._inverse @ cross
        deviation = math.sqrt(max(self.hyper.amplitude - float(spread @ spread), _TINY))
        slope = 2 * self.hyper.amplitude * matern_slope(r2)[:, None] * gap * self.weights  # Of the cross-covariances.
        rate: Array = -((self._inverse.T @ spread) @ slope) / deviation
        return self.level + float(cross @ self._alpha), deviation, self._alpha @ slope, rate


def cholesky(matrix: Array, amplitude: float) -> tuple[Array, Array]:
    """Returns the lower Cholesky factor and its inverse; grows the diagonal where rounding made a matrix singular."""
    unit = amplitude * np.eye(len(matrix))
    for jitter in _JITTERS:
        try:
            return _factors(matrix + jitter * unit if jitter else matrix)
        except np.linalg.LinAlgError:
            pass
    return _factors(matrix + 1e-2 * unit)


def _factors(matrix: Array) -> tuple[Array, Array]:
    """Returns the lower Cholesky factor and its inverse, block by block.

    Products of matrices do not depend on the number of threads; the routines of LAPACK do, and so would proposals.
    """
    count = len(matrix)
    if count <= _BLOCK:
        factor = np.asarray(np.linalg.cholesky(matrix), dtype=np.float64)
        return factor, np.tril(np.linalg.inv(factor)).astype(np.float64)
    half = count // 2
    factor, inverse = np.zeros((count, count)), np.zeros((count, count))
    factor[:half, :half], inverse[:half, :half] = _factors(matrix[:half, :half])
    below = matrix[half:, :half] @ inverse[:half, :half].T
    factor[half:, half:], inverse[half:, half:] = _factors(matrix[half:, half:] - below @ below.T)
    factor[half:, :half] = below
    inverse[half:, :half] = -inverse[half:, half:] @ below @ inverse[:half, :half]
    return factor, inverse


@dataclass(frozen=True)
class _Problem:
    """What the likelihood needs, computed once a fit."""

    distances: Array
    labels: Array
    pairs: tuple[NDArray[np.int64], NDArray[np.int64]]


def fit(features: Array, owner: NDArray[np.int64], num_decisions: int, labels: Array, start: Hyper | None) -> Hyper:
    """Returns the hyper-parameters at the maximum a posteriori.

    Args:
        features: `[N, num_columns]` of the points with a label.
        owner: `[num_columns]`, the decision of each column.
        num_decisions: D.
        labels: `[N]`, warped.
        start: Hyper-parameters to climb from, besides the centre of the penalties.
    """
    from scipy.optimize import minimize

    problem = make_problem(features, owner, num_decisions, labels)
    centre = np.log([CENTRE.amplitude, CENTRE.noise, *CENTRE.scales * num_decisions])
    starts = [centre] if start is None else [_to_logs(start), centre]
    bounds = [_BOUNDS["amplitude"], _BOUNDS["noise"], *[_BOUNDS["scale"]] * num_decisions]
    limits = [(math.log(low), math.log(high)) for low, high in bounds]

    def climb(logs: Array) -> Any:
        return minimize(lambda x: loss(x, problem), logs, jac=True, method="L-BFGS-B", bounds=limits,
                        options={"maxiter": 60})  # fmt: skip

    found = min((climb(logs) for logs in starts), key=lambda result: float(result.fun))
    return _from_logs(found.x)


def _to_logs(hyper: Hyper) -> Array:
    return np.log([hyper.amplitude, hyper.noise, *hyper.scales])


def _from_logs(logs: Array) -> Hyper:
    low, high = np.array([_BOUNDS["amplitude"], _BOUNDS["noise"], *[_BOUNDS["scale"]] * (len(logs) - 2)]).T
    amplitude, noise, *scales = np.clip(np.exp(logs), low, high).tolist()  # Rounding may leave the bounds.
    return Hyper(amplitude, noise, tuple(scales))


def make_problem(features: Array, owner: NDArray[np.int64], num_decisions: int, labels: Array) -> _Problem:
    """Returns what `loss` needs of some labelled points."""
    return _Problem(pair_distances(features, owner, num_decisions), labels, np.triu_indices(len(labels), 1))


def loss(logs: Array, problem: _Problem) -> tuple[float, Array]:
    """Returns the negative log posterior of hyper-parameters and its gradient.

    Args:
        logs: `[2 + D]`, logarithms of the amplitude, the noise and the scales.
        problem: The labelled points.
    """
    amplitude, noise = math.exp(logs[0]), math.exp(logs[1])
    inverse_scales = np.exp(-logs[2:])
    r2 = inverse_scales @ problem.distances
    count = len(problem.labels)
    correlation = matern(r2)
    matrix = np.zeros((count, count))
    matrix[problem.pairs] = matrix[problem.pairs[::-1]] = amplitude * correlation
    matrix[np.diag_indices(count)] = amplitude + noise
    factor, root = cholesky(matrix, amplitude)
    inverse = root.T @ root
    alpha = inverse @ problem.labels
    value = 0.5 * float(problem.labels @ alpha) + float(np.log(np.diag(factor)).sum())
    value += 0.5 * count * math.log(2 * math.pi)
    weight = 0.5 * (inverse - np.outer(alpha, alpha))  # d value / dK.
    pair_weight = 2 * weight[problem.pairs]  # Each pair stands twice in K.
    trace = float(np.trace(weight))
    by_scale = -amplitude * inverse_scales * (problem.distances @ (pair_weight * matern_slope(r2)))
    by_amplitude = amplitude * (float(pair_weight @ correlation) + trace)
    gradient = np.concatenate([[by_amplitude, noise * trace], by_scale])
    away = logs - np.log([CENTRE.amplitude, CENTRE.noise, *CENTRE.scales * len(inverse_scales)])
    return value + _PENALTY * float(away @ away), gradient + 2 * _PENALTY * away


__all__ = ["CENTRE", "Posterior", "cholesky", "fit", "loss", "make_problem"]
