"""Axes: the decisions of a flat space as the continuous, integer and categorical variables of an evolution strategy.

| decision                                         | variables                                                  |
|--------------------------------------------------|------------------------------------------------------------|
| a continuous range, or one of very many steps    | a continuous one in [0, 1]                                 |
| a range of steps                                 | an integer one over the places of its values in [0, 1]     |
| a choice, or a range of two values               | a categorical one                                          |
| distinct picks, an order                         | random keys, one a candidate (Bean, ORSA J. Comp. 1994)    |
| picks with repetition                            | a categorical one a slot                                   |

A varying number of picks is one more integer variable.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mutandis.errors import SettingError
from mutandis.hyper import Point, SearchSpace

Array = NDArray[np.float64]
_MOST_STEPS = 256
"""A range with more values is continuous, for the margin that keeps integers moving is of no use there."""


class Axes:
    """The variables of a space.

    Args:
        space: The space.

    Attributes:
        smooth: Coordinates of the unit cube that are continuous variables.
        steps: Integer variables, by coordinate: the ascending places of their values in the unit cube.
        cells: Categorical variables, by coordinate: the number of their values.

    Raises:
        SettingError: the space is conditional or open-ended.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.smooth: list[int] = []
        self.steps: dict[int, Array] = {}
        self.cells: dict[int, int] = {}
        self.num_units = 0
        for point in space.points:
            _refuse(point)
            self._add(point)
            self.num_units += point.num_units

    @property
    def num_numbers(self) -> int:
        """The number of continuous and integer variables."""
        return len(self.smooth) + len(self.steps)

    def _add(self, point: Point) -> None:
        place = self.num_units
        if point.kind == "choice":
            self._add_cells(place, point.num_candidates)
        elif point.kind == "many":
            slots = range(place, place + point.num_units)
            if point.k_min != point.k_max:
                span = point.k_max - point.k_min + 1
                self._add_steps(place, (np.arange(span) + 0.5) / span)
                slots = slots[1:]
            for slot in slots:
                if point.distinct:
                    self.smooth.append(slot)
                else:
                    self._add_cells(slot, point.num_candidates)
        elif point.is_finite and point.num_steps <= _MOST_STEPS:
            self._add_steps(place, np.array([point.to_unit(point.at(i))[0] for i in range(point.num_steps)]))
        else:
            self.smooth.append(place)

    def _add_cells(self, place: int, count: int) -> None:
        if count > 1:
            self.cells[place] = count

    def _add_steps(self, place: int, values: Array) -> None:
        if len(values) > 2:
            self.steps[place] = values
        elif len(values) == 2:
            self.cells[place] = 2

    def join(self, numbers: Array, picks: list[int]) -> Array:
        """Returns the place in the unit cube of variables.

        Args:
            numbers: `[num_numbers]`, the continuous ones, then the integer ones; rounded and clipped here.
            picks: One value for each categorical variable.

        Returns:
            `[num_units]`.
        """
        made = np.full(self.num_units, 0.5)
        made[self.smooth] = np.clip(numbers[: len(self.smooth)], 0.0, 1.0)
        for (place, values), number in zip(self.steps.items(), numbers[len(self.smooth) :], strict=True):
            made[place] = values[int(np.searchsorted((values[1:] + values[:-1]) / 2, number))]
        for (place, count), pick in zip(self.cells.items(), picks, strict=True):
            made[place] = (pick + 0.5) / count
        return made

    def split(self, place: Array) -> tuple[Array, list[int]]:
        """Returns the variables of a place in the unit cube; `join` leads back."""
        numbers = place[[*self.smooth, *self.steps]]
        return numbers, [min(int(place[unit] * count), count - 1) for unit, count in self.cells.items()]

    def spans(self) -> Array:
        """Returns the widths of the continuous and integer variables."""
        return np.array([*(1.0 for _ in self.smooth), *(float(v[-1] - v[0]) for v in self.steps.values())])


def _refuse(point: Point) -> None:
    if point.conditions:
        raise SettingError(
            "cannot adapt a covariance over decisions that come and go",
            at=point.path,
            got=point.describe(),
            expected="a space in which every decision is always active",
            fix="use TPE(), GaussianProcess() or RegularizedEvolution()",
        )
    if point.kind == "custom":
        raise SettingError("cannot adapt a covariance over programs", at=point.path, got=point.describe(),
                           expected="choices, ranges and picks", fix="use RegularizedEvolution()")  # fmt: skip


__all__ = ["Axes"]
