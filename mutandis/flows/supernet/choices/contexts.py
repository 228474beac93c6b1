"""Which decisions hold while an arm of a choice is put together that runs beside others.

Each arm is a child of its own below the choice: decisions that stand in it are active there whatever the DNA says, and
may run several arms themselves. What is decided elsewhere is as the DNA has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
        self._conditional = [point for point in space.points if point.conditions]

    def __bool__(self) -> bool:
        return bool(self._selections)

    def find(self, part: Part, values: Sequence[Any]) -> int | None:
        """Returns the outermost choice with a selection of which a part is an arm, or None."""
        for index in part.decisions:
            if index in self._open and index in part.arms and values[index] is not None:
                return index
        return None

    @contextmanager
    def arms(self, index: int, values: Sequence[Any]) -> Iterator[dict[int, list[Any]]]:
        """Gives the raw values inside each arm that runs; meanwhile the arms themselves are mounted as they are."""
        self._placed.add(index)
        self._open.discard(index)
        try:
            yield {arm: self._within(values, index, arm) for arm in self._selections[index].weights}
        finally:
            self._open.add(index)

    def selection(self, index: int) -> Selection:
        """Returns the selection of a decision."""
        return self._selections[index]

    def _within(self, values: Sequence[Any], index: int, arm: int) -> list[Any]:
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
                got="a choice inside of modules that hold each other in plain attributes",
                expected="an arm that stands where a module registers it, and nowhere else",
                fix="register the layers that meet in one module, and let forward pass on what they share",
            )


__all__ = ["Context"]
