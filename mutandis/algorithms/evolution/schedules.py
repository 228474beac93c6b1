"""Schedules: settings of operations as functions of the number of results so far."""

from __future__ import annotations

import math

from mutandis.algorithms.base import need_int, settings
from mutandis.errors import SettingError


class Schedule:
    """A number that depends on the step; call it with the step."""

    def __call__(self, step: int) -> float:
        """Returns the number at a step."""
        raise TypeError("Schedule is the base class; use Linear, Cosine, Exponential or StepWise")


@settings
class Linear(Schedule):
    """Goes from `start` to `end` in `steps`, then stays."""

    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        need_int("Linear.steps", self.steps, 1)

    def __call__(self, step: int) -> float:
        """Returns the number at a step."""
        return self.start + (self.end - self.start) * min(max(step / self.steps, 0.0), 1.0)


@settings
class Cosine(Schedule):
    """Goes from `start` to `end` along half a cosine in `steps`, then stays."""

    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        need_int("Cosine.steps", self.steps, 1)

    def __call__(self, step: int) -> float:
        """Returns the number at a step."""
        share = min(max(step / self.steps, 0.0), 1.0)
        return self.end + (self.start - self.end) * 0.5 * (1 + math.cos(math.pi * share))


@settings
class Exponential(Schedule):
    """Starts at `start` and is multiplied by `factor` at each step; not below `floor`."""

    start: float
    factor: float
    floor: float = 0.0

    def __call__(self, step: int) -> float:
        """Returns the number at a step."""
        return max(self.start * self.factor**step, self.floor)


@settings
class StepWise(Schedule):
    """The value of the last stage that has begun: `StepWise(((0, 0.5), (100, 0.1)))`."""

    stages: tuple[tuple[int, float], ...]

    def __post_init__(self) -> None:
        starts = [first for first, _ in self.stages]
        if not starts or starts[0] != 0 or starts != sorted(set(starts)):
            raise SettingError("cannot use a schedule", at="StepWise.stages", got=self.stages,
                               expected="pairs (first step, value) that begin at step 0 and ascend",
                               fix="add a first stage (0, value), and sort them")  # fmt: skip

    def __call__(self, step: int) -> float:
        """Returns the number at a step."""
        return [value for first, value in self.stages if first <= step][-1]


def at_step(value: float | Schedule, step: int) -> float:
    """Returns a setting at a step, be it a number or a schedule."""
    return value(step) if isinstance(value, Schedule) else value
