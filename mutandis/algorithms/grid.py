"""Grid search: every DNA once, in order, the last decision fastest.

The order is a bijection between numbers and DNAs that skips the children of candidates that were not chosen, so
a run goes on from any number.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from mutandis.algorithms.base import JSON, Algorithm, Search, need_int, settings
from mutandis.errors import SettingError, SpaceExhausted
from mutandis.hyper import DNA, Feedback, Point, Proposal, SearchSpace


@settings
class Grid(Algorithm):
    """Proposes every DNA of a finite space once.

    Args:
        points: How many values a continuous range is cut into, both ends included: evenly, or geometrically for
            a log scale. Without it a continuous space is refused.
    """

    points: int | None = None
    objectives = "many"

    def __post_init__(self) -> None:
        if self.points is not None:
            need_int("Grid.points", self.points, 2)

    def start(self, space: SearchSpace, *, seed: int, num_objectives: int = 1) -> Search:
        """Begins a run at the first DNA; the seed plays no part.

        Raises:
            SettingError: the space is continuous and `points` is not given, or it is open-ended.
        """
        bare = space.bare()
        for point in bare.points:
            if not point.is_finite and (self.points is None or point.kind != "float"):
                raise SettingError(
                    "cannot sweep an infinite space",
                    at=point.path,
                    got=point.describe(),
                    expected="a decision with finitely many values",
                    fix="use Grid(points=10), give the range a step=, or use another algorithm, such as Random()",
                )
        return _GridSearch(bare, self.points or 0)


class _GridSearch(Search):
    def __init__(self, space: SearchSpace, num_points: int) -> None:
        self._space = space
        self._num_points = num_points
        self._axes = SearchSpace([_as_choice(point, num_points) for point in space.points])
        self._next = 0

    def propose(self) -> Proposal:
        number = self._next
        if number >= self._axes.size:
            raise SpaceExhausted("cannot propose: every DNA of the grid was proposed", got=number,
                                 expected=f"at most {self._axes.size} proposals")  # fmt: skip
        self._next += 1
        values = self._axes.dna_at(number).values
        pairs = zip(self._space.points, values, strict=True)
        return Proposal(number, DNA(self._space, tuple(self._value(point, value) for point, value in pairs)))

    def _value(self, point: Point, value: Any) -> Any:
        if value is None or point.is_finite:
            return value
        return axis_value(point, value, self._num_points)

    def feedback(self, feedback: Feedback) -> None:
        """Learns nothing."""

    def state_dict(self) -> JSON:
        return {"next": self._next}

    def load_state_dict(self, state: JSON) -> None:
        self._next = state["next"]


def axis_value(point: Point, index: int, num_points: int) -> float:
    """Returns value `index` of a range cut into `num_points`: geometric for a log scale, else even."""
    if index == num_points - 1:
        return float(point.high)  # Rounding would miss it now and then.
    share = index / (num_points - 1)
    if point.scale == "log":
        value = point.low * (point.high / point.low) ** share
    else:
        value = point.low + share * (point.high - point.low)
    return float(min(max(value, point.low), point.high))


def _as_choice(point: Point, num_points: int) -> Point:
    if point.is_finite:
        return point
    return dataclasses.replace(point, kind="choice", num_candidates=num_points, candidates=tuple(range(num_points)),
                               default=None)  # fmt: skip
