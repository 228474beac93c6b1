"""Spaces grow: what the decisions of a trial are in a space that has changed since.

A decision is found again by its name, or else its path, and its value by what it means: the label of a candidate, the
number itself. What the trial cannot have decided takes its default, and what is decided no longer must have had the
value that the program now has. Anything else would make up a trial that nobody ran, so that it is set aside instead.
"""

from __future__ import annotations

from typing import Any

from mutandis.errors import DecisionError, MutandisError
from mutandis.hyper import DNA, SearchSpace
from mutandis.hyper.points import CHOICE, CUSTOM, MANY, Point
from mutandis.hyper.programs.labels import label
from mutandis.symbolic.traverse import get


class Misfit(Exception):
    """Says why a trial has no place in a space."""


def regrown(dna: DNA, space: SearchSpace) -> DNA:
    """Returns the decisions of a trial as a DNA of another space.

    Args:
        dna: The decisions, in the space of their time.
        space: The space as it is now.

    Raises:
        Misfit: the trial is not one of this space; the text says why.
    """
    if dna.space.fingerprint == space.fingerprint:
        return dna
    old = {point.key: point for point in dna.active}
    values: list[Any] = [None] * len(space.points)
    for point in space.points:
        if not space.is_active(point, values):
            continue
        before = _before(point, old)
        values[point.index] = _default(point) if before is None else _carried(dna.values[before.index], before, point)
        if before is not None:
            del old[before.key]
    for point in old.values():
        _need_fixed(point, dna.values[point.index], space)
    made = DNA(space.bare(), tuple(values))
    if not space.allows(made):
        raise Misfit("the predicate of the space refuses it")
    return made


def _before(point: Point, old: dict[str, Point]) -> Point | None:
    """Returns what a point was before, among the active ones that are left."""
    if point.name in old:
        return old[point.name]
    return next((p for p in old.values() if p.path == point.path or p.path in point.paths), None)


def _default(point: Point) -> Any:
    if point.default is None:
        raise Misfit(f"{_called(point)} is new and has no default")
    return point.default


def _called(point: Point) -> str:
    return point.key or "(the root)"


def _carried(value: Any, before: Point, now: Point) -> Any:
    if CUSTOM in (before.kind, now.kind):
        if before.kind != now.kind:
            raise Misfit(f"{_called(now)} was {before.describe()} and is {now.describe()} now")
        return value
    meant = before.literal(value)
    try:
        if now.kind == CHOICE:
            return now.check(_index_of(meant, now))
        many = now.kind == MANY and before.kind == MANY
        return now.check([_index_of(one, now) for one in meant] if many else meant)
    except DecisionError:
        raise Misfit(f"{_called(now)} was {meant!r} and is {now.describe()} now") from None


def _index_of(meant: Any, point: Point) -> int | None:
    """Returns the candidate of a label, or None.

    Raises:
        Misfit: several have it, so that nobody knows which one it was.
    """
    found = [i for i, other in enumerate(point.candidates) if type(other) is type(meant) and other == meant]
    if len(found) > 1:
        raise Misfit(f"{_called(point)} was {meant!r}, which several candidates are called now")
    return found[0] if found else None


def _need_fixed(point: Point, value: Any, space: SearchSpace) -> None:
    """Passes where a decision that is none any more had its default, or what the program now has in its place."""
    if point.default is not None and value == point.default:
        return
    meant = None if point.kind == CUSTOM else point.literal(value)
    if meant is None or not _stands(meant, point.path, space.program):
        was = "" if meant is None else f", and was {meant!r}"
        raise Misfit(f"{_called(point)} is no decision any more{was}")


def _stands(meant: Any, path: str, program: Any) -> bool:
    try:
        held = label(get(program, path))
    except (MutandisError, LookupError, AttributeError, TypeError):
        return False
    return type(held) is type(meant) and bool(held == meant)


__all__ = ["Misfit", "regrown"]
