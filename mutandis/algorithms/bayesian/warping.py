"""Warping of rewards before a Gaussian process is fitted to them: bad ones by rank, good ones stretched.

Song, Zhang, Lee, Fertig, Huang, et al.: The Vizier Gaussian Process Bandit Algorithm, 2024, arXiv 2408.11527,
Sec. 4.2 and Appendix B: half-rank, then log. How bad a bad point is carries little information, and outliers would
decide the scale of the model; the differences among good points are what the search is about.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_OFFSET = 1.5


def warped(rewards: Array) -> Array:
    """Returns rewards as labels in [-0.5, 0.5]: half-rank, then log; zeros if all are equal.

    Args:
        rewards: `[N]` finite numbers, larger is better.
    """
    if len(np.unique(rewards)) <= 1:
        return np.zeros(len(rewards))
    largest = float(np.max(np.abs(rewards)))
    return log_warped(half_rank(rewards / largest))  # Squares of huge or tiny rewards would leave the floats.


def half_rank(rewards: Array) -> Array:
    """Returns rewards with those below the median moved to the quantiles of a normal distribution.

    The distribution has its mean at the median and the spread of the good half. The order stays.

    Args:
        rewards: `[N]` finite numbers, at least two different ones.
    """
    from scipy.special import ndtri

    median = float(np.median(rewards))
    unique, dense = np.unique(rewards, return_inverse=True)
    place = int(np.searchsorted(unique, median))
    half = place + 0.5 * (unique[place] == median)  # Different rewards in the bad half.
    is_bad = rewards < median
    made = rewards.copy()
    quantiles = 0.5 * (dense[is_bad] + 0.5) / half
    made[is_bad] = median + ndtri(quantiles) * _good_spread(unique, median)
    return made


def _good_spread(unique: Array, median: float) -> float:
    good = unique[unique >= median]
    spread = float(np.sqrt(np.mean((good - median) ** 2)))
    return spread if spread > 0 else float(np.sqrt(np.mean((unique - median) ** 2)))


def log_warped(rewards: Array) -> Array:
    """Returns rewards in [-0.5, 0.5], the best ones stretched.

    Args:
        rewards: `[N]` finite numbers, at least two different ones.
    """
    best = float(rewards.max())
    gap = (best - rewards) / (best - float(rewards.min()))
    made: Array = 0.5 - np.log1p(gap * (_OFFSET - 1)) / np.log(_OFFSET)
    return made


__all__ = ["half_rank", "log_warped", "warped"]
