"""Draws from Parzen mixtures over conditional spaces: all decisions together, or each on its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mutandis.algorithms.bayesian.parzen import Mixture
from mutandis.algorithms.bayesian.parzen_axes import Arm, Axes, Bools, Group, Ints, Rows


def joint_rows(mixture: Mixture, count: int, imposed: Sequence[Arm], rng: np.random.Generator) -> Rows:
    """Returns rows of the joint density, with some arms imposed and what is not active blank.

    Args:
        mixture: The density.
        count: How many rows.
        imposed: Choices and the candidates that they take, from the top down.
        rng: The generator.
    """
    axes = mixture.axes
    origin = rng.choice(mixture.num + 1, size=(count, 1), p=mixture.weights)
    rows = mixture.sample(origin, origin, rng)
    axes.impose(rows, imposed)
    for group in axes.groups:
        points, conditions = group
        if conditions:
            active = _taken(axes, rows, conditions)
            _fill(mixture, rows, origin[:, 0], group, active, rng)
            axes.blank(rows, points, np.logical_or.reduce(active))
    return rows


def _fill(mixture: Mixture, rows: Rows, origin: Ints, group: Group, active: Bools, rng: np.random.Generator) -> None:
    """Redraws a group of points in the rows that have it though their components do not.

    Args:
        mixture: The density.
        rows: `m` rows, changed in place.
        origin: `[m]`, the component of each.
        group: The points and their conditions.
        active: `[conditions, m]`, which conditions each row fulfils.
        rng: The generator.
    """
    points, conditions = group
    taken = np.pad(_taken(mixture.axes, mixture.rows, conditions), ((0, 0), (0, 1)))  # The prior has nothing.
    has = np.logical_or.reduce(taken)
    strangers = np.logical_or.reduce(active) & ~has[origin] & (origin < mixture.num)
    for row in np.flatnonzero(strangers):
        same = (taken & active[:, row, None]).any(axis=0)
        weights = mixture.weights * np.where(same, 1.0, has / (mixture.num + 1.0))
        weights[-1] = mixture.weights[-1]
        other = rng.choice(len(weights), size=(1, 1), p=weights / weights.sum())
        mixture.axes.copy(rows, int(row), mixture.sample(other, other, rng), points)


def separate_row(good: Mixture, bad: Mixture, count: int, rng: np.random.Generator) -> Rows:
    """Returns one row whose points each have the largest ratio of densities among `count` draws of their own.

    A density of one point knows only the observations in which the point was active. All points of the row are
    filled; those that its choices leave inactive are to be dropped.
    """
    axes = good.axes
    of_ranges = np.zeros((count, len(axes.cells)), dtype=np.int64)
    of_categories = np.zeros((count, len(axes.sizes)), dtype=np.int64)
    for points, conditions in axes.groups:
        has = _taken(axes, good.rows, conditions).any(axis=0) if conditions else np.ones(good.num, dtype=np.bool_)
        weights = good.weights * np.append(has, True)
        for index in points:
            is_range, columns = axes.columns[index]
            origin = rng.choice(len(weights), size=(count, 1), p=weights / weights.sum())
            (of_ranges if is_range else of_categories)[:, columns.start : columns.stop] = origin
    rows = good.sample(of_ranges, of_categories, rng)
    best: Rows = (rows[0][:1].copy(), rows[1][:1].copy())
    for index, (is_range, columns) in enumerate(axes.columns):
        ratio = np.zeros(count)
        for axis in columns:
            ratio += good.axis_log_density(rows, is_range, axis) - bad.axis_log_density(rows, is_range, axis)
        row = int(np.argmax(ratio))
        axes.copy(best, 0, (rows[0][row : row + 1], rows[1][row : row + 1]), [index])
    return best


def _taken(axes: Axes, rows: Rows, conditions: Sequence[Arm]) -> Bools:
    """Returns `[conditions, m]`, which conditions each row fulfils."""
    return np.stack([axes.is_taken(rows[1], arm) for arm in conditions])
