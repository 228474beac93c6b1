"""A Gaussian process over DNAs, in closed form.

    k(x, x') = s2 * exp(-d(x, x') / l),   d(x, x') = 0.5 * sum_c w_c (x_c - x'_c)^2

where x are rows of `Encoding`: for choices, d is the number of decisions that differ, and k the exponential of the
overlap kernel (Couto 2005; Ru et al. 2021 use it for cells), a product over decisions, so that interactions of any
order are in it. Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, algorithm 2.1.

*Notation*: l = the length scale, s2 = the variance of the process, n2 = that of the noise as a share of s2,
w = weights of decisions.

l and n2 are those of a grid with the largest marginal likelihood, in which s2 has its best value. They are chosen on
the first N results, N being the last of a sequence that grows by a fifth; hence their choice costs a constant number
of decompositions each time and its share of the work stays the same. Rewards are taken as normal scores.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mutandis.algorithms.base import need_int, settings
from mutandis.algorithms.predictors.encoding import Encoding
from mutandis.algorithms.predictors.predictor import Predictor, Regressor
from mutandis.algorithms.predictors.ranks import normal_scores
from mutandis.hyper import DNA, SearchSpace

Array = NDArray[np.float64]
_LENGTHS = (0.15, 0.3, 0.6, 1.2, 2.4)
"""Length scales, in shares of the number of decisions."""
_NOISES = (0.003, 0.01, 0.03, 0.1, 0.3)
"""Variances of the noise, in shares of that of the process."""
_FIRST, _GROWTH = 8, 1.2
_SMALLEST = 1e-12
_MARGIN = 1e-9
"""What a likelihood must be better by; less is rounding."""


@settings
class GPPredictor(Predictor):
    """A Gaussian process with the kernel of the module docstring; a fit takes time of N^3, a prediction N^2.

    Args:
        max_results: With more results, half of them are the best and half the latest.
        sweeps: How often the weight of each decision is halved or doubled where that raises the likelihood; 0 leaves
            all weights equal. One sweep costs two decompositions per decision.

    Raises:
        SettingError: a number is not whole or too small.
    """

    max_results: int = 400
    sweeps: int = 2

    def __post_init__(self) -> None:
        need_int("GPPredictor.max_results", self.max_results, 2)
        need_int("GPPredictor.sweeps", self.sweeps, 0)

    def start(self, space: SearchSpace, *, seed: int) -> Regressor:
        """Begins with nothing learnt; nothing is random."""
        return _Process(self, space.bare())


@dataclass(frozen=True)
class _Scales:
    """Hyper-parameters: the factor of each column that gives d / l, and the share of the noise."""

    factors: Array
    noise: float


class _Process(Regressor):
    def __init__(self, settings: GPPredictor, space: SearchSpace) -> None:
        self._settings = settings
        self._encode = Encoding(space)
        self._num_decisions = max(1, len(space.points))
        self._known: dict[DNA, Array] = {}
        self._chosen_on: tuple[object, ...] = ()  # The results that the hyper-parameters were chosen on.

    def fit(self, dnas: Sequence[DNA], rewards: Sequence[float]) -> None:
        count = _milestone(len(dnas))
        rows = self._rows(dnas)
        chosen_on = (*dnas[:count], *rewards[:count])
        if self._chosen_on != chosen_on:
            self._chosen_on = chosen_on
            self._scales = self._choose(*_kept(rows[:count], rewards[:count], self._settings.max_results))
        rows, kept = _kept(rows, rewards, self._settings.max_results)
        self._scaled = rows * self._scales.factors
        self._scores = _centred(normal_scores(kept))
        covariance = _correlation(self._scaled, self._scaled)
        covariance[np.diag_indices(len(kept))] += self._scales.noise
        self._inverse = np.linalg.inv(covariance)
        self._weights = self._inverse @ self._scores
        self._variance = _variance(float(self._scores @ self._weights), len(kept))

    def _rows(self, dnas: Sequence[DNA]) -> Array:
        known = self._known
        missing = [dna for dna in dnas if dna not in known]
        known.update(zip(missing, self._encode(missing), strict=True))
        return np.array([known[dna] for dna in dnas]).reshape(len(dnas), self._encode.num_columns)

    def _choose(self, rows: Array, rewards: Array) -> _Scales:
        """Returns the hyper-parameters with the largest marginal likelihood."""
        scores = _centred(normal_scores(rewards))
        even = np.ones(self._num_decisions)
        value, weights, noise = -math.inf, even, _NOISES[0]
        for length in _LENGTHS:
            for share in _NOISES:
                found = self._likelihood(rows, scores, even / (length * self._num_decisions), share)
                if found > value + _MARGIN:
                    value, weights, noise = found, even / (length * self._num_decisions), share
        for _ in range(self._settings.sweeps):
            for decision in range(self._num_decisions):
                for factor in (0.5, 2.0):
                    changed = weights.copy()
                    changed[decision] *= factor
                    found = self._likelihood(rows, scores, changed, noise)
                    if found > value + _MARGIN:
                        value, weights = found, changed
        return _Scales(self._factors(weights), noise)

    def _factors(self, weights: Array) -> Array:
        factors: Array = np.sqrt(weights[self._encode.owner] / 2)
        return factors

    def _likelihood(self, rows: Array, scores: Array, weights: Array, noise: float) -> float:
        scaled = rows * self._factors(weights)
        covariance = _correlation(scaled, scaled)
        covariance[np.diag_indices(len(rows))] += noise
        return log_likelihood(covariance, scores)

    def predict(self, dnas: Sequence[DNA]) -> tuple[Array, Array]:
        rows = self._encode(dnas) * self._scales.factors
        cross = _correlation(rows, self._scaled)
        rest = 1.0 - ((cross @ self._inverse) * cross).sum(axis=1)
        return cross @ self._weights, np.sqrt(self._variance * np.maximum(rest, _SMALLEST))

    def scores(self) -> Array:
        return self._scores


def log_likelihood(covariance: Array, scores: Array) -> float:
    """Returns the log marginal likelihood of scores, with the best variance of the process and without constants.

    Args:
        covariance: `[N, N]`, of the results, as a share of the variance of the process.
        scores: `[N]`, of mean 0.
    """
    root = np.linalg.cholesky(covariance)
    whitened = np.linalg.solve(root, scores)
    half = -0.5 * len(scores) * math.log(_variance(float(whitened @ whitened), len(scores)))
    return half - float(np.log(np.diag(root)).sum())


def _variance(square: float, count: int) -> float:
    """Returns the variance of the process; two more results of variance 1 keep it away from zero."""
    return (square + 2.0) / (count + 2.0)


def _correlation(left: Array, right: Array) -> Array:
    square = (left * left).sum(axis=1)[:, None] + (right * right).sum(axis=1)[None, :] - 2.0 * (left @ right.T)
    made: Array = np.exp(-np.maximum(square, 0.0))
    return made


def _centred(scores: Array) -> Array:
    made: Array = scores - scores.mean()
    return made


def _milestone(count: int) -> int:
    """Returns the last number of a sequence that grows by a fifth that is not above `count`."""
    reached = min(_FIRST, count)
    while (following := math.ceil(reached * _GROWTH)) <= count:
        reached = following
    return reached


def _kept(rows: Array, rewards: Sequence[float], limit: int) -> tuple[Array, Array]:
    """Returns at most `limit` results in their order: the latest half, and the best of the others."""
    values = np.asarray(rewards, dtype=float)
    if len(values) <= limit:
        return rows, values
    latest = len(values) - limit // 2
    best = np.sort(np.argsort(-values[:latest], kind="stable")[: limit - limit // 2])
    chosen = np.concatenate([best, np.arange(latest, len(values))])
    return rows[chosen], values[chosen]


__all__ = ["GPPredictor", "log_likelihood"]
