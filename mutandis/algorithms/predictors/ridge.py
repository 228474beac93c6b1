"""An ensemble of linear models of DNAs and of pairs of their decisions.

Ridge regression in its dual form (Saunders, Gammerman, Vovk 1998): with rows z of columns and their products, the
prediction is k(x)' (K + p I)^-1 y with K = Z Z'. The penalty p is that of a grid with the smallest leave-one-out
error, which has a closed form (Hastie, Tibshirani, Friedman 2009, eq. (7.64)): residual i is a_i / C_ii, with
C = (K + p I)^-1 and a = C y. Each member leaves out one part of the results in turn, as Liu et al. 2018 (arXiv
1712.00559, Sec. 4.2) train their ensembles; the deviation is that among the members.

Columns of a role (`Encoding` with `pooled=True`) mean the same in programs of any length, so that what is learnt from
short ones carries over to long ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mutandis.algorithms.base import need_int, settings
from mutandis.algorithms.predictors.encoding import Encoding
from mutandis.algorithms.predictors.predictor import Predictor, Regressor
from mutandis.algorithms.predictors.ranks import normal_scores
from mutandis.hyper import DNA, SearchSpace
from mutandis.hyper.rng import Rng

Array = NDArray[np.float64]
_PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
_SMALLEST = 1e-6
_MARGIN = 1e-9
"""Share that an error must be smaller by; less is rounding."""


@settings
class RidgeEnsemble(Predictor):
    """Linear models that each leave out a part of the results; a fit takes time of N^3 per member.

    Args:
        num_members: How many models there are, and in how many parts the results are cut.
        interactions: Whether products of columns of different decisions are columns too.
        pooled: Whether columns of a role are columns too, for programs of different length.

    Raises:
        SettingError: `num_members` is not a whole number of at least 2.
    """

    num_members: int = 5
    interactions: bool = True
    pooled: bool = False

    def __post_init__(self) -> None:
        need_int("RidgeEnsemble.num_members", self.num_members, 2)

    def start(self, space: SearchSpace, *, seed: int) -> Regressor:
        """Begins with nothing learnt."""
        return _Ensemble(self, space.bare(), seed)


@dataclass(frozen=True)
class _Member:
    """One model: the mean of its columns and of its scores, and the weight of each column."""

    offset: Array
    level: float
    weights: Array


class _Ensemble(Regressor):
    def __init__(self, settings: RidgeEnsemble, space: SearchSpace, seed: int) -> None:
        self._settings = settings
        self._encode = Encoding(space, pooled=settings.pooled)
        self._seed = seed

    def fit(self, dnas: Sequence[DNA], rewards: Sequence[float]) -> None:
        columns = self._columns(dnas)
        self._scores = normal_scores(rewards)
        order = list(range(len(dnas)))
        Rng(self._seed, "ridge", len(dnas)).shuffle(order)
        part = np.empty(len(dnas), dtype=int)
        part[order] = np.arange(len(dnas)) % self._settings.num_members
        self._members = []
        for number in range(self._settings.num_members):
            kept = part != number
            kept = kept if kept.any() else ~kept
            self._members.append(ridge(columns[kept], self._scores[kept]))

    def _columns(self, dnas: Sequence[DNA]) -> Array:
        rows = self._encode(dnas)
        if self._settings.interactions:
            return np.concatenate([rows, self._encode.interactions(rows)], axis=1)
        return rows

    def predict(self, dnas: Sequence[DNA]) -> tuple[Array, Array]:
        columns = self._columns(dnas)
        found = np.stack([(columns - m.offset) @ m.weights + m.level for m in self._members])
        return found.mean(axis=0), np.maximum(found.std(axis=0), _SMALLEST)

    def scores(self) -> Array:
        return self._scores


def ridge(columns: Array, scores: Array) -> _Member:
    """Returns the ridge regression with the smallest leave-one-out error.

    Args:
        columns: `[N, C]`.
        scores: `[N]`.
    """
    offset, level = columns.mean(axis=0), float(scores.mean())
    centred, rest = columns - offset, scores - level
    values, vectors = np.linalg.eigh(centred @ centred.T)
    turned = vectors.T @ rest
    best: tuple[float, Array] | None = None
    for penalty in _PENALTIES:
        scale = 1.0 / (np.maximum(values, 0.0) + penalty)
        dual = vectors @ (scale * turned)
        left_out = dual / ((vectors * vectors) @ scale)
        error = float(left_out @ left_out)
        if best is None or error < best[0] * (1 - _MARGIN):
            best = (error, dual)
    assert best is not None  # The grid is not empty.
    return _Member(offset, level, centred.T @ best[1])


__all__ = ["RidgeEnsemble", "ridge"]
