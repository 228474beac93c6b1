"""Ranks: how well a prediction orders, and rewards as normal scores."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_DIGITS = 9


def ranks(values: Sequence[float] | Array) -> Array:
    """Returns the ranks of numbers from 0; ties share their mean rank."""
    given = np.asarray(values, dtype=float)
    places = np.empty(len(given))
    places[np.argsort(given, kind="stable")] = np.arange(len(given))
    _, group = np.unique(given, return_inverse=True)
    made: Array = (np.bincount(group, places) / np.bincount(group))[group]
    return made


def kendall_tau(left: Sequence[float] | Array, right: Sequence[float] | Array) -> float:
    """Returns Kendall's tau-b: concordant minus discordant pairs, as a share of those that are not tied.

    Takes memory of N^2 numbers.

    Args:
        left: `[N]` numbers.
        right: `[N]` numbers.

    Returns:
        A number in [-1, 1]; 0 where one side is constant.
    """
    a, b = np.asarray(left, dtype=float), np.asarray(right, dtype=float)
    first = np.sign(a[:, None] - a[None, :])
    second = np.sign(b[:, None] - b[None, :])
    untied = float(np.sqrt(np.abs(first).sum() * np.abs(second).sum()))
    return float((first * second).sum()) / untied if untied else 0.0


def spearman_rho(left: Sequence[float] | Array, right: Sequence[float] | Array) -> float:
    """Returns Spearman's rank correlation.

    Args:
        left: `[N]` numbers.
        right: `[N]` numbers.

    Returns:
        A number in [-1, 1]; 0 where one side is constant.
    """
    a, b = ranks(left), ranks(right)
    a, b = a - a.mean(), b - b.mean()
    spread = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / spread if spread else 0.0


def normal_scores(values: Sequence[float] | Array) -> Array:
    """Returns numbers as quantiles of the standard normal distribution, in the same order.

    What is left of the numbers is their order, so that a few bad trials do not decide the scale.

    Args:
        values: `[N]` finite numbers.
    """
    place = ranks(values)
    whole = np.floor(place).astype(int)
    table = _quantiles(len(place))
    upper = np.minimum(whole + 1, len(place) - 1)
    made: Array = table[whole] + (place - whole) * (table[upper] - table[whole])  # A mean rank may end in a half.
    return made


def order(values: Array) -> NDArray[np.int64]:
    """Returns the places of numbers, the largest first; those within rounding errors of each other as they came.

    Sums differ in the last digits between machines and numbers of threads; a search must not.

    Args:
        values: `[N]` finite numbers.
    """
    largest = float(np.abs(values).max(initial=0.0))
    made: NDArray[np.int64] = np.argsort(-np.round(values / (largest or 1.0), _DIGITS), kind="stable")
    return made


@functools.lru_cache(maxsize=8)
def _quantiles(count: int) -> Array:
    normal = NormalDist()
    return np.array([normal.inv_cdf((place + 0.5) / count) for place in range(count)])


__all__ = ["kendall_tau", "normal_scores", "order", "ranks", "spearman_rho"]
