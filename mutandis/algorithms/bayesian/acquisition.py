"""Acquisition functions: how much a point promises, from its mean and standard deviation.

- `ucb`: mean + beta * deviation (Srinivas, Krause, Kakade, Seeger, ICML 2010, arXiv 0912.3995); Vizier's beta is 1.8.
- `ei`: the expected improvement on the best label (Jones, Schonlau, Welch 1998). Its logarithm is what is climbed,
  since the improvement itself is 0 in floating point nearly everywhere (Ament, Daulton, Eriksson, Balandat, Bakshy:
  Unexpected Improvements to Expected Improvement, NeurIPS 2023, arXiv 2310.20708, eq. (8)).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_ROOT_TWO_PI = math.sqrt(2 * math.pi)
_FAR = -1e4  # Below so many deviations only the leading term of the tail is left.


@dataclass(frozen=True)
class Acquisition:
    """A function of mean and standard deviation.

    Attributes:
        kind: `ucb` or `ei`.
        exploration: beta (`ucb`).
        best: The best label so far (`ei`).
    """

    kind: str
    exploration: float
    best: float

    def __call__(self, mean: Array, deviation: Array) -> Array:
        """Returns the scores of points; larger is more promising."""
        if self.kind == "ucb":
            return mean + self.exploration * deviation
        return np.log(deviation) + log_h((mean - self.best) / deviation)[0]

    def slopes(self, mean: float, deviation: float) -> tuple[float, float, float]:
        """Returns the score of one point and its derivatives by mean and deviation."""
        if self.kind == "ucb":
            return mean + self.exploration * deviation, 1.0, self.exploration
        z = (mean - self.best) / deviation
        value, slope = log_h(np.array([z]))
        by_mean = float(slope[0]) / deviation
        return math.log(deviation) + float(value[0]), by_mean, 1 / deviation - z * by_mean


def expected_improvement(mean: Array, deviation: Array, best: float) -> Array:
    """Returns by how much points exceed the best label on average, in units of the label."""
    made: Array = deviation * np.exp(log_h((mean - best) / deviation)[0])
    return made


def log_h(z: Array) -> tuple[Array, Array]:
    """Returns the logarithm of h(z) = phi(z) + z Phi(z) and its derivative Phi(z) / h(z).

    Args:
        z: `[M]`, improvement in deviations.
    """
    from scipy.special import erfcx, ndtr

    near = np.maximum(z, -1.0)
    density = np.exp(-0.5 * near * near) / _ROOT_TWO_PI
    h = density + near * ndtr(near)
    far = np.clip(z, _FAR, -1.0)
    ratio = math.sqrt(math.pi / 2) * erfcx(-far / math.sqrt(2))  # Phi / phi.
    rest = 1 + far * ratio
    tail = -0.5 * z * z - math.log(_ROOT_TWO_PI) + np.where(z < _FAR, -2 * np.log(np.maximum(-z, 1.0)), np.log(rest))
    is_near = z > -1.0
    return np.where(is_near, np.log(h), tail), np.where(is_near, ndtr(near) / h, np.where(z < _FAR, -z, ratio / rest))


__all__ = ["Acquisition", "expected_improvement", "log_h"]
