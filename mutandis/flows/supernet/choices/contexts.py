"""Which decisions hold while an arm of a choice is put together that runs beside others.

Each arm is a child of its own below the choice: decisions that stand in it are active there whatever the DNA says, and
may run several arms themselves. What is decided elsewhere is as the DNA has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mutandis.errors import LoweringError
from mutandis.flows.supernet.lowering.partition import Part
from mutandis.flows.supernet.selections import Selection
from mutandis.hyper import SearchSpace


class Context:
    """The selections with which a live program is put together.

    Args:
        space: The space of the program.
        selections: By index of the decision.
        below: Raw values of decisions that stand in arms other than that of the DNA; the first ones where missing.
    """

    def __init__(self, space: SearchSpace, selections: Mapping[int, Selection], below: Mapping[int, Any]) -> None:
        self._space = space
        self._selections = dict(selections)
        self._below = below
        self._open = set(selections)
        self._placed: set[int] = set()
        self._met: set[int] = set()
        self._single: dict[int, int] = {}
        self._conditional = [point for point in space.points if point.conditions]

        if not self._conditional:
            self._single = {i: next(iter(s.weights)) for i, s in selections.items() if len(s.weights) == 1}

    def __bool__(self) -> bool:
        return bool(self._selections)

    def find(self, part: Part, values: Sequence[Any]) -> int | None:
        """Returns the outermost choice with a selection of which a part is an arm, or None."""
        for index in part.decisions:
            if index in self._open and index in part.arms and values[index] is not None:
                return index
        return None

    def arms(self, index: int, values: Sequence[Any]) -> _Arms:
        """Gives the raw values inside each arm that runs; meanwhile the arms themselves are mounted as they are."""
        self._placed.add(index)
        return _Arms(self._open, index, {
            arm: self._within(values, index, arm) for arm in self._selections[index].weights
        })  # fmt: skip

    def single(self, index: int, values: Sequence[Any]) -> bool:
        """Returns whether one arm runs, that of raw values, with no decisions in it; the choice is placed then."""
        if index not in self._single or values[index] != self._single[index]:
            return False
        self._placed.add(index)
        return True

    def selection(self, index: int) -> Selection:
        """Returns the selection of a decision."""
        return self._selections[index]

    def _within(self, values: Sequence[Any], index: int, arm: int) -> Sequence[Any]:
        if not self._conditional and values[index] == arm:
            return values
        given = list(values)
        given[index] = arm
        for point in self._conditional:
            if not self._space.is_active(point, given):
                given[point.index] = None
            elif given[point.index] is None:
                given[point.index] = self._below.get(point.index, point.first())
            if point.index in self._selections and given[point.index] is not None:
                self._met.add(point.index)
        return given

    def check(self, values: Sequence[Any]) -> None:
        """Refuses selections that no layer has read, after the program was put together.

        Raises:
            LoweringError: an active choice has no place of its own in the live program.
        """
        met = self._met | {index for index in self._selections if values[index] is not None}
        for index in sorted(met - self._placed):
            raise LoweringError(
                "cannot run several arms of a choice at once",
                at=self._space.points[index].path,
                got="a value that code branches on, or layers that others hold in plain attributes",
                expected="a choice among layers, each where one module registers it",
                fix="write the branches as layers, or use an algorithm that takes one candidate at a time, such as "
                "ENAS(), RSPS() or TuNAS(op_warmup=0.0)",
            )


class _Arms:
    """The arms of a choice while they are mounted; a class, since there are many of them in a step.

    Args:
        choices: Those that are choices, not arms.
        index: Of the choice.
        values: The raw values inside each arm.
    """

    __slots__ = ("_choices", "_index", "_values")

    def __init__(self, choices: set[int], index: int, values: dict[int, Sequence[Any]]) -> None:
        self._choices, self._index, self._values = choices, index, values

    def __enter__(self) -> dict[int, Sequence[Any]]:
        self._choices.discard(self._index)
        return self._values

    def __exit__(self, *error: object) -> None:
        self._choices.add(self._index)


__all__ = ["Context"]
