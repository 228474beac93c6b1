"""Parzen mixtures over the axes of a space: the densities of TPE.

Bergstra, Bardenet, Bengio, Kegl: Algorithms for Hyper-Parameter Optimization, NeurIPS 2011, Sec. 4. Watanabe: Tree-
Structured Parzen Estimator: Understanding Its Algorithm Components and Their Roles for Better Empirical Performance,
2023, arXiv 2304.11127, Sec. 3. Constants are those of Optuna.

*Notation*: n observations, m rows to judge, R range axes, C category axes, K categories; mu, sigma = place and width
of a kernel, `[n + 1, R]`, the last row being the prior.

A mixture has one component per observation and a prior. A component is a product over axes: on a range a normal
density cut off at 0 and 1, on categories the observed one with probability (n + 2) / (n + 1 + K), the others alike. The
prior is a normal of mu = 1/2, sigma = 1, and uniform on categories. sigma of a kernel is the larger gap to its
neighbours, or the inner one for those at the ends, within [1 / min(100, n + 2), 1].

*Departures*: on an axis that an observation does not have, since the decision was not active, its kernel is the
prior's. A range of cells has the density of the normal at their centres, made to sum to 1 where there are at most 50.
"""

from __future__ import annotations

import math

import numpy as np

from mutandis.algorithms.bayesian.parzen_axes import Axes, Floats, Ints, Rows

_FEW_CELLS = 50
_FAR = 7.0  # Beyond so many sigmas a normal has less than 2e-12 of its mass.
_RECENT = 25
_ALONE = 2**18  # So many multiplications are done in one thread (OpenBLAS, interface/gemm.c).


def age_weights(count: int) -> Floats:
    """Returns the weights of observations from the oldest to the newest: a ramp up to 1, then 25 ones (Optuna)."""
    if count < _RECENT:
        return np.ones(count)
    return np.concatenate([np.linspace(1.0 / count, 1.0, count - _RECENT), np.ones(_RECENT)])


def kernel_widths(places: Floats) -> Floats:
    """Returns sigma of the kernels at some places of the unit interval.

    Args:
        places: `[n, R]`, nan where there is no observation.

    Returns:
        `[n, R]`; where there is no observation it is of no meaning.
    """
    by_axis = np.ascontiguousarray(places.T)
    order = np.argsort(by_axis, axis=1, kind="stable")
    widths = sorted_widths(np.take_along_axis(by_axis, order, axis=1))
    result = np.empty_like(widths)
    np.put_along_axis(result, order, widths, axis=1)
    return result.T


def sorted_widths(places: Floats) -> Floats:
    """Returns sigma of the kernels at places that are sorted along each axis.

    Args:
        places: `[R, n]`, ascending along each row, nan where there is no observation.
    """
    counts = (places == places).sum(axis=1)
    num_axes, num_rows = places.shape
    axes = np.arange(num_axes)
    padded = np.zeros((num_axes, num_rows + 2))
    padded[:, 1:-1] = places
    padded[axes, counts + 1] = 1.0
    gaps = np.diff(padded, axis=1)  # [R, n + 1]; nan behind the observations.
    widths = np.maximum(gaps[:, :-1], gaps[:, 1:])
    several = counts >= 2
    widths[several, 0] = gaps[several, 1]
    widths[axes[several], counts[several] - 1] = gaps[axes[several], counts[several] - 1]
    return np.clip(widths, 1.0 / np.minimum(100.0, counts + 2.0)[:, None], 1.0)


def mass_inside(mu: Floats, sigma: Floats) -> Floats:
    """Returns how much of a normal density lies in [0, 1]; mu lies there too."""
    mass = np.ones_like(mu)
    for gap in (mu / sigma, (1.0 - mu) / sigma):
        near = gap < _FAR
        mass[near] -= 0.5 * np.fromiter(map(math.erfc, (gap[near] * math.sqrt(0.5)).tolist()), np.float64)
    return mass


def log_scales(axes: Axes, mu: Floats, sigma: Floats) -> Floats:
    """Returns the logarithm of what makes the densities of kernels sum to 1, `[n, R]`."""
    scale = sigma * math.sqrt(2 * math.pi) * mass_inside(mu, sigma)
    for axis, cells in enumerate(axes.cells):
        if cells is not None and len(cells.centres) <= _FEW_CELLS:
            z = (cells.centres - mu[:, axis, None]) / sigma[:, axis, None]
            # Not a product of matrices, whose rounding hangs on how many kernels there are.
            scale[:, axis] = (np.exp(-0.5 * z * z) * cells.widths).sum(axis=1)
    return np.log(scale)


class Kernels:
    """The kernels of a growing table of observations: they stay sorted, and what has not changed is not computed anew.

    A new observation costs O(R N); the kernels of a part of the table O(R N), without a sort and with few logarithms,
    since an observation more changes the widths of its neighbours alone.

    Args:
        axes: The axes.
    """

    def __init__(self, axes: Axes) -> None:
        self._axes = axes
        num_axes = len(axes.cells)
        self._count = 0
        self._order = np.empty((num_axes, 16), dtype=np.int64)  # Of each axis, the rows in ascending order.
        self._sorted = np.empty((num_axes, 16))
        self._sigma = np.full((16, num_axes), np.nan)  # The widths that the logarithms belong to.
        self._log_scale = np.empty((16, num_axes))

    def add(self, places: Floats) -> None:
        """Adds a row, `[R]`; nan where it has no observation."""
        if self._count == self._order.shape[1]:
            self._order, self._sorted = (np.concatenate([a, np.empty_like(a)], axis=1)
                                         for a in (self._order, self._sorted))  # fmt: skip
            self._sigma = np.concatenate([self._sigma, np.full_like(self._sigma, np.nan)])
            self._log_scale = np.concatenate([self._log_scale, np.empty_like(self._log_scale)])
        count = self._count
        behind = (self._sorted[:, :count] <= places[:, None]).sum(axis=1)
        behind[places != places] = count
        for axis, at in enumerate(behind.tolist()):
            for row, new in ((self._order[axis], count), (self._sorted[axis], places[axis])):
                row[at + 1 : count + 1] = row[at:count]
                row[at] = new
        self._count += 1

    def of(self, which: Ints, places: Floats) -> tuple[Floats, Floats]:
        """Returns sigma and the logarithm of the scale of some rows; kernels of the prior where these have nothing.

        Args:
            which: `[n]` rows, ascending.
            places: `[n, R]`, their places, 1/2 where they have none.
        """
        mask = np.zeros(self._count, dtype=np.bool_)
        mask[which] = True
        order = self._order[:, : self._count]
        keep = mask[order]
        shape = (len(order), len(which))
        ascending = self._sorted[:, : self._count][keep].reshape(shape)
        widths = np.where(ascending == ascending, sorted_widths(ascending), 1.0)
        rows = (np.cumsum(mask) - 1)[order[keep]].reshape(shape)
        sigma = np.empty((len(which), len(order)))
        sigma[rows, np.arange(len(order))[:, None]] = widths
        changed = (self._sigma[which] != sigma).any(axis=1)
        self._sigma[which[changed]] = sigma[changed]
        self._log_scale[which[changed]] = log_scales(self._axes, places[changed], sigma[changed])
        return sigma, self._log_scale[which]


class Mixture:
    """A weighted mixture of products of kernels.

    Args:
        axes: The axes.
        rows: The observations.
        weights: `[n]`, above 0; that of the prior is 1.
        kernels: Sigma of the observations and the logarithm of their scales, `[n, R]` each, where these are known.

    Building costs O(n R log n + n sum(K)), judging m rows O(m n (R + sum(K))).
    """

    def __init__(self, axes: Axes, rows: Rows, weights: Floats, kernels: tuple[Floats, Floats] | None = None) -> None:
        floats, ints = rows
        self.axes = axes
        self.rows = rows
        self.num = len(weights)
        total = np.append(weights, 1.0)
        self.weights = total / total.sum()
        self._log_weights = np.log(self.weights)
        self._fit_ranges(floats, kernels)
        self._fit_categories(ints)

    def _fit_ranges(self, floats: Floats, kernels: tuple[Floats, Floats] | None) -> None:
        present = floats == floats
        mu, sigma = np.full((self.num + 1, floats.shape[1]), 0.5), np.ones((self.num + 1, floats.shape[1]))
        if self.num:
            mu[:-1] = np.where(present, floats, 0.5)
        if kernels is not None:
            sigma[:-1] = kernels[0]
            log_scale = np.concatenate([kernels[1], log_scales(self.axes, mu[-1:], sigma[-1:])])
        else:
            if self.num:
                sigma[:-1] = np.where(present, kernel_widths(floats), 1.0)
            log_scale = log_scales(self.axes, mu, sigma)
        self.mu, self.sigma = mu, sigma
        inverse = 1.0 / (sigma * sigma)
        self._square, self._linear = -0.5 * inverse, mu * inverse
        self._constant = -0.5 * mu * mu * inverse - log_scale

    def _fit_categories(self, ints: Ints) -> None:
        sizes = self.axes.sizes
        counts = (ints >= 0).sum(axis=0)
        log_other = -np.log(counts + 1.0 + sizes)  # [C]
        log_same = np.log(counts + 2.0) + log_other
        self._spread = sizes / (counts + 1.0 + sizes)  # The probability of a draw at random, the same one included.
        owner = np.repeat(np.arange(len(sizes)), sizes)
        self._starts = np.cumsum(sizes) - sizes
        table = np.empty((self.num + 1, len(owner)))  # The logarithm of the probability of each category.
        table[:-1] = log_other[owner]
        rows, axes = np.nonzero(ints >= 0)
        table[rows, self._starts[axes] + ints[rows, axes]] = log_same[axes]
        uniform = -np.log(sizes)[owner]
        table[-1] = uniform
        if len(rows) < ints.size:
            table[:-1] = np.where((ints < 0)[:, owner], uniform, table[:-1])
        self._table = table

    def axis_terms(self, rows: Rows, is_range: bool, axis: int) -> Floats:
        """Returns `[m, n + 1]`, the logarithm of each component's density on one axis; 0 where a row is not active."""
        if is_range:
            x = rows[0][:, axis]
            terms = x[:, None] ** 2 * self._square[:, axis] + x[:, None] * self._linear[:, axis]
            return np.where((x == x)[:, None], terms + self._constant[:, axis], 0.0)
        categories = rows[1][:, axis]
        terms = self._table[:, self._starts[axis] + np.maximum(categories, 0)].T
        return np.where((categories >= 0)[:, None], terms, 0.0)

    def component_terms(self, rows: Rows) -> Floats:
        """Returns `[m, n + 1]`, the logarithm of each component's weight times its density at each row."""
        x, categories = rows
        active = x == x
        place = np.where(active, x, 0.0)
        picked = np.zeros((len(x), self._table.shape[1]))
        at, axes = np.nonzero(categories >= 0)
        picked[at, self._starts[axes] + categories[at, axes]] = 1.0
        terms = _product(picked, self._table) + _product(place * place, self._square) + _product(place, self._linear)
        return terms + _product(active.astype(np.float64), self._constant) + self._log_weights  # type: ignore[no-any-return]

    def log_density(self, rows: Rows) -> Floats:
        """Returns `[m]`, the logarithm of the density at each row, over its active axes."""
        return log_sum(self.component_terms(rows))

    def axis_log_density(self, rows: Rows, is_range: bool, axis: int) -> Floats:
        """Returns `[m]`, the logarithm of the density on one axis alone, of the observations that have it."""
        terms = self.axis_terms(rows, is_range, axis)
        observed = self.rows[0][:, axis] == self.rows[0][:, axis] if is_range else self.rows[1][:, axis] >= 0
        kept = np.append(observed, True)
        weights = self.weights[kept] / self.weights[kept].sum()
        return log_sum(terms[:, kept] + np.log(weights))

    def sample(self, of_ranges: Ints, of_categories: Ints, rng: np.random.Generator) -> Rows:
        """Returns rows with all axes filled, ranges snapped to their cells.

        Args:
            of_ranges: `[m, R]` or `[m, 1]`, from which component each value comes; n is the prior.
            of_categories: `[m, C]` or `[m, 1]`, likewise.
            rng: The generator.
        """
        ranges, sizes = np.arange(self.mu.shape[1]), self.axes.sizes
        place = truncated_normals(self.mu[of_ranges, ranges], self.sigma[of_ranges, ranges], rng)
        padded = np.concatenate([self.rows[1], np.full((1, len(sizes)), -1)])
        observed = padded[of_categories, np.arange(len(sizes))]
        drawn = (rng.random(observed.shape) * sizes).astype(np.int64)
        keeps = (rng.random(observed.shape) >= self._spread) & (observed >= 0)
        return self.axes.snap(place), np.where(keeps, observed, drawn)


def _product(left: Floats, right: Floats) -> Floats:
    """Returns left @ right.T, in pieces that OpenBLAS does not share out between threads.

    So small a product is done before they have woken; on a busy machine waiting for them takes a hundred times as long.
    """
    step = max(1, _ALONE // max(1, left.size))
    if len(right) <= step:
        return left @ right.T  # type: ignore[no-any-return]
    return np.concatenate([left @ right[at : at + step].T for at in range(0, len(right), step)], axis=1)


def log_sum(terms: Floats) -> Floats:
    """Returns the logarithm of the sum of exponentials over the last axis."""
    top = terms.max(axis=-1, keepdims=True)
    return np.log(np.exp(terms - top).sum(axis=-1)) + top[..., 0]  # type: ignore[no-any-return]


def truncated_normals(mu: Floats, sigma: Floats, rng: np.random.Generator) -> Floats:
    """Returns draws from normal densities cut off at 0 and 1, by rejection; `mu` lies there, so a third is accepted."""
    made = mu + sigma * rng.standard_normal(mu.shape)
    while (outside := (made < 0.0) | (made > 1.0)).any():
        made[outside] = mu[outside] + sigma[outside] * rng.standard_normal(int(outside.sum()))
    return made
