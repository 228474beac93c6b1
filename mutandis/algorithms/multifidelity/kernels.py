"""Kernel densities over the decisions of a space, conditional ones included.

A DNA is a row of `[A]` floats, one per axis, nan where the decision is not active. A choice is one axis of categories;
a number one coordinate of the unit interval (after the logarithm for a log scale); an unordered set of different picks
one yes-or-no axis per candidate; ordered different picks one sort key per candidate (random keys: Bean, ORSA Journal
on Computing 6(2), 1994); other picks one axis of categories per slot. A varying number of picks adds a coordinate,
where it does not show in the yesses.

The kernel of a coordinate is Gaussian; that of an axis with c categories is Aitchison and Aitken's (Biometrika 63,
1976): 1 - h where they are equal, h / (c - 1) elsewhere, 0 <= h <= (c - 1) / c. A density is the mean over the data of
the product over the axes.

*Conditional spaces*: an axis that is not active in x has no factor; one that is active in x but not in the datum has
the density of its prior, 1 or 1 / c. So it is a density of legal DNAs, over their active decisions alone. (The code of
Falkner et al. 2018 fills the gaps of the data with values of other data instead.)

*Bandwidths*: the normal reference rule, h = 1.06 sigma n^(-1 / (4 + A)) (Silverman 1986; Racine and Li for the
exponent), of the data in which the axis is active. For categories sigma^2 is half of Gini's impurity, which does not
hang on the order of the candidates and is the variance of the index where there are two of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from mutandis.errors import SettingError
from mutandis.hyper import DNA, Point, SearchSpace
from mutandis.hyper.rng import Rng

Floats = npt.NDArray[np.float64]
_NAN = float("nan")
_NORMAL = NormalDist()
_EDGE = 1e-15


def axes_of(point: Point) -> tuple[int, ...]:
    """Returns the number of categories of each axis of a point, 0 for a coordinate.

    Raises:
        SettingError: the point is open-ended, so that it has no axes.
    """
    if point.kind == "choice":
        return (point.num_candidates,)
    if point.kind in ("float", "int"):
        return (0,)
    if point.kind != "many":
        raise SettingError(
            "cannot estimate a density of open-ended programs",
            at=point.path,
            got=point.describe(),
            expected="choices, picks and ranges",
            fix="use RegularizedEvolution(), or Hyperband(...) or ASHA(...) with its default sampler",
        )
    lead = (0,) if point.k_min != point.k_max else ()
    if not point.distinct:
        return lead + (point.num_candidates,) * point.k_max
    return lead + (0,) * point.num_candidates if point.ordered else (2,) * point.num_candidates


def encoded(point: Point, value: Any) -> list[float]:
    """Returns a raw value on the axes of its point; all nan for None."""
    if value is None:
        return [_NAN] * len(axes_of(point))
    if point.kind == "choice":
        return [float(value)]
    if point.kind != "many" or (point.distinct and point.ordered):
        return list(point.to_unit(value))
    if point.distinct:
        return [float(candidate in value) for candidate in range(point.num_candidates)]
    lead = list(point.to_unit(value)[:1]) if point.k_min != point.k_max else []
    return [*lead, *map(float, value), *[_NAN] * (point.k_max - len(value))]


def decoded(point: Point, place: Sequence[float], rng: Rng) -> Any:
    """Returns the raw value at a place of the axes of a point.

    A wrong number of yesses, and slots that have no value, are mended at random.
    """
    if point.kind == "choice":
        return int(place[0])
    if point.kind != "many" or (point.distinct and point.ordered):
        return point.from_unit(place)
    if point.distinct:
        return _mended(point, [i for i, bit in enumerate(place) if bit], rng)
    count = point.k_max
    if point.k_min != point.k_max:
        count = point.k_min + min(int(place[0] * (point.k_max - point.k_min + 1)), point.k_max - point.k_min)
        place = place[1:]
    n = point.num_candidates
    picks = [int(rng.random() * n) if p != p else int(p) for p in place[:count]]
    return tuple(picks if point.ordered else sorted(picks))


def _mended(point: Point, picks: list[int], rng: Rng) -> tuple[int, ...]:
    while len(picks) > point.k_max:
        del picks[int(rng.random() * len(picks))]
    while len(picks) < point.k_min:
        others = [i for i in range(point.num_candidates) if i not in picks]
        picks.append(others[int(rng.random() * len(others))])
    return tuple(sorted(picks))


def coordinates(space: SearchSpace, dnas: Sequence[DNA]) -> Floats:
    """Returns the rows of some DNAs, `[N, A]`."""
    rows = [[x for p, v in zip(space.points, dna.values, strict=True) for x in encoded(p, v)] for dna in dnas]
    return np.array(rows, dtype=np.float64).reshape(len(dnas), -1)


def bandwidths(rows: Floats, categories: Sequence[int], low: float) -> Floats:
    """Returns the bandwidth of each axis, `[A]`, at least `low` and for c categories at most (c - 1) / c.

    Args:
        rows: `[N, A]`, the data.
        categories: The number of categories of each axis, 0 for a coordinate.
        low: The smallest bandwidth.
    """
    made = np.full(rows.shape[1], low)
    for axis, c in enumerate(categories):
        column = rows[:, axis]
        column = column[~np.isnan(column)]
        if len(column):
            shares = np.bincount(column.astype(int)) / len(column) if c else None
            sigma = np.std(column) if shares is None else np.sqrt((1 - np.sum(shares**2)) / 2)
            made[axis] = max(low, 1.06 * sigma * len(column) ** (-1 / (4 + rows.shape[1])))
        if c:
            made[axis] = min(made[axis], (c - 1) / c)
    return made


class Density:
    """A kernel density of some DNAs.

    Args:
        space: The space of the DNAs.
        dnas: The data, at least one.
        min_bandwidth: The smallest bandwidth.
    """

    def __init__(self, space: SearchSpace, dnas: Sequence[DNA], min_bandwidth: float) -> None:
        self._space = space
        self._dnas = dnas
        self._categories = [c for point in space.points for c in axes_of(point)]
        self._rows = coordinates(space, dnas)
        self.bandwidths = bandwidths(self._rows, self._categories, min_bandwidth)
        counts = np.array(self._categories, dtype=np.float64)
        self._is_category = counts > 0
        self._prior = np.where(self._is_category, -np.log(np.maximum(counts, 1)), 0.0)
        self._scale = np.where(self._is_category, 1.0, self.bandwidths)  # Of the Gaussian kernels.
        self._height = -np.log(self._scale) - 0.5 * np.log(2 * np.pi)
        with np.errstate(divide="ignore"):  # A choice of one candidate has the bandwidth 0.
            self._stay = np.log(1 - np.where(self._is_category, self.bandwidths, 0.0))
            self._leave = np.log(self.bandwidths) - np.log(np.maximum(counts - 1, 1))

    def log_pdf(self, dnas: Sequence[DNA]) -> Floats:
        """Returns the logarithm of the density at some DNAs, `[M]`; it takes M N A kernels for N data on A axes."""
        x_MA = coordinates(self._space, dnas)
        delta_MNA = x_MA[:, None, :] - self._rows[None, :, :]
        gauss = self._height - 0.5 * (delta_MNA / self._scale) ** 2
        kernel = np.where(self._is_category, np.where(delta_MNA == 0, self._stay, self._leave), gauss)
        kernel = np.where(np.isnan(self._rows)[None, :, :], self._prior, kernel)
        log_MN = np.where(np.isnan(x_MA)[:, None, :], 0.0, kernel).sum(axis=2)
        top = log_MN.max(axis=1)
        shares: Floats = np.exp(log_MN - top[:, None]).mean(axis=1)
        logs: Floats = top + np.log(shares)
        return logs

    def sample_near(self, rng: Rng, factor: float) -> DNA:
        """Returns a DNA near a datum.

        Coordinates move by normal steps of `factor` bandwidths, truncated to the unit interval; a category stays with
        probability 1 - h and is drawn from all of them otherwise. Decisions that the datum lacks come from the prior.
        """
        datum = self._dnas[int(rng.random() * len(self._dnas))]
        values: list[Any] = []
        start = 0
        for point, value in zip(self._space.points, datum.values, strict=True):
            stop = start + len(axes_of(point))
            place = [] if value is None else self._moved(encoded(point, value), start, factor, rng)
            values.append(None if value is None else decoded(point, place, rng))
            start = stop
        return self._space.repair(values, lambda point: point.draw(rng))

    def _moved(self, place: list[float], start: int, factor: float, rng: Rng) -> list[float]:
        made = []
        for axis, x in enumerate(place, start):
            c, h = self._categories[axis], float(self.bandwidths[axis])
            if x != x:
                made.append(x)
            elif not c:
                made.append(truncated_normal(x, factor * h, rng))
            else:
                made.append(x if rng.random() < 1 - h else float(int(rng.random() * c)))
        return made


def truncated_normal(mean: float, deviation: float, rng: Rng) -> float:
    """Returns a normal number in [0, 1], drawn by inversion.

    Args:
        mean: Of the untruncated distribution; in [0, 1].
        deviation: Of the untruncated distribution; above 0.
        rng: The generator.
    """
    low, high = _NORMAL.cdf(-mean / deviation), _NORMAL.cdf((1 - mean) / deviation)
    share = low + rng.random() * (high - low)
    x = mean + deviation * _NORMAL.inv_cdf(min(max(share, _EDGE), 1 - _EDGE))
    return min(max(x, 0.0), 1.0)
