"""DNA: one point of a search space, as an immutable tuple of raw values."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from mutandis.errors import DecisionError, closest
from mutandis.hyper.points import CHOICE, CUSTOM, INT, MANY, Point


class PointTable(Protocol):
    """What a DNA needs of its space: the points, without the program."""

    points: tuple[Point, ...]

    @property
    def fingerprint(self) -> str:
        """The version of the space."""
        ...

    def point(self, path: str) -> Point:
        """Returns the point of a path or name."""
        ...

    def dna(self, decisions: Mapping[str, Any]) -> DNA:
        """Returns the checked DNA of decisions."""
        ...


@functools.total_ordering
class DNA:
    """One decision for every active point of a space.

    Made by a space (`space.dna`, `space.random`, ...), which checks it. Raw values are an index for a choice, a
    tuple of indices for several picks, the number itself for a range, JSON text for an open-ended program.

    Attributes:
        space: The points it belongs to, without the program.
        values: One raw value per point of the space; None where the point is not active.
    """

    __slots__ = ("_hash", "space", "values")

    space: Any
    values: tuple[Any, ...]

    def __init__(self, space: PointTable, values: tuple[Any, ...]) -> None:
        object.__setattr__(self, "space", space)
        object.__setattr__(self, "values", values)

    def __setattr__(self, name: str, value: Any) -> None:
        raise DecisionError(
            "cannot change a DNA",
            at=name,
            got=value,
            expected="nothing: a DNA is immutable",
            fix="make another one: space.dna({**dna.to_dict(), path: value})",
        )

    def __delattr__(self, name: str) -> None:
        self.__setattr__(name, None)

    def __reduce__(self) -> tuple[Any, ...]:
        return (DNA, (self.space, self.values))

    def __copy__(self) -> DNA:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> DNA:
        return self

    def __hash__(self) -> int:
        try:
            return self._hash  # type: ignore[attr-defined, no-any-return]
        except AttributeError:
            object.__setattr__(self, "_hash", hash(self.values))
            return hash(self.values)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, DNA):
            return NotImplemented
        return self.values == other.values and self._is_kin(other)

    def __lt__(self, other: DNA) -> bool:
        if not isinstance(other, DNA):
            return NotImplemented
        if not self._is_kin(other):
            return self.space.fingerprint < other.space.fingerprint  # type: ignore[no-any-return]
        return self._order() < other._order()

    def _is_kin(self, other: DNA) -> bool:
        return self.space is other.space or self.space.fingerprint == other.space.fingerprint

    def _order(self) -> list[Any]:
        return [(len(v), v) if p.kind == MANY else v for p, v in self._active()]

    def _active(self) -> Iterator[tuple[Point, Any]]:
        return ((p, v) for p, v in zip(self.space.points, self.values, strict=True) if v is not None)

    def __getitem__(self, path: str | int) -> Any:
        """Returns the raw value of an active point by its path, its name or its index."""
        point = self.space.points[path] if isinstance(path, int) else self.space.point(path)
        value = self.values[point.index]
        if value is None:
            raise DecisionError(
                "cannot read a decision",
                at=point.path,
                expected="an active decision",
                fix="the choice above it took another candidate; ask `path in dna` first",
            )
        return value

    def get(self, path: str, default: Any = None) -> Any:
        """Returns the raw value of a point, or `default` where it is not active or unknown."""
        return self[path] if path in self else default  # noqa: SIM401  # This is `get`.

    def __contains__(self, path: object) -> bool:
        if not isinstance(path, str):
            return False
        try:
            return self.values[self.space.point(path).index] is not None
        except DecisionError:
            return False

    def __iter__(self) -> Iterator[str]:
        """Yields the paths of the active points."""
        return (p.path for p, _ in self._active())

    def __len__(self) -> int:
        """Returns the number of active points."""
        return sum(v is not None for v in self.values)

    def __bool__(self) -> bool:
        return True

    @property
    def active(self) -> tuple[Point, ...]:
        """The active points."""
        return tuple(p for p, _ in self._active())

    def to_dict(self) -> dict[str, Any]:
        """Returns the raw active decisions by path."""
        return {p.path: v for p, v in self._active()}

    def literals(self) -> dict[str, Any]:
        """Returns the active decisions by path as people read them: labels of candidates for indices."""
        return {p.path: p.literal(v) for p, v in self._active()}

    def to_json(self) -> dict[str, Any]:
        """Returns the raw active decisions as a JSON value."""
        return {p.path: list(v) if p.kind == MANY else v for p, v in self._active()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | str, space: PointTable) -> DNA:
        """Returns the DNA that `to_json` wrote.

        Args:
            data: The JSON value, or its text.
            space: The space it belongs to.

        Raises:
            DecisionError: it does not fit the space.
        """
        return space.dna(json.loads(data) if isinstance(data, str) else data)

    def to_numbers(self) -> list[Any]:
        """Returns the active values in order, flat; a varying number of picks is preceded by that number."""
        numbers: list[Any] = []
        for point, value in self._active():
            if point.kind == MANY:
                numbers.extend(([len(value)] if point.k_min != point.k_max else []) + list(value))
            else:
                numbers.append(value)
        return numbers

    def to_unit(self, *, inactive: float = 0.5) -> tuple[float, ...]:
        """Returns the place in the unit cube of all points, active or not; `space.from_unit` leads back.

        Args:
            inactive: The coordinate of points that are not active.
        """
        place: list[float] = []
        for point, value in zip(self.space.points, self.values, strict=True):
            place.extend((inactive,) * point.num_units if value is None else point.to_unit(value))
        return tuple(place)

    def tokens(self, *, bins: int = 32) -> tuple[int, ...]:
        """Returns the active decisions as small ints, for sequence models.

        Args:
            bins: Into how many bins a range is cut. Open-ended programs have no token.
        """
        sequence: list[int] = []
        for point, value in self._active():
            if point.kind == CHOICE:
                sequence.append(value)
            elif point.kind == MANY:
                sequence.extend(value)
            elif point.kind == INT and point.num_steps <= bins:
                sequence.append(round((value - point.low) / (point.step or 1)))
            elif point.kind != CUSTOM:
                sequence.append(min(int(point.to_unit(value)[0] * bins), bins - 1))
        return tuple(sequence)

    def __str__(self) -> str:
        shown = ((path, f"{v:.6g}" if type(v) is float else v) for path, v in self.literals().items())
        return "{" + ", ".join(f"{path}: {value}" for path, value in shown) + "}"

    def __repr__(self) -> str:
        return f"DNA({self.to_dict()})"


def unknown_decision(name: object, known: list[str]) -> DecisionError:
    """Returns the error for a path that is no decision."""
    shown = ", ".join(known[:8]) + (", ..." if len(known) > 8 else "")
    return DecisionError(
        "cannot find a decision",
        at=name,
        expected=f"one of {shown or 'no decisions at all'}{closest(str(name), known)}",
        fix="list the decisions with print(space.describe())",
    )


def replaced(dna: DNA, index: int, value: Any, fill: Callable[[Point], Any]) -> DNA:
    """Returns a DNA with one raw value changed, newly active points filled and inactive ones dropped."""
    values = list(dna.values)
    values[index] = value
    return dna.space.repair(values, fill)  # type: ignore[no-any-return]


__all__ = ["DNA", "PointTable", "replaced", "unknown_decision"]
