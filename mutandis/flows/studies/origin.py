"""Where the children of recorded trials come from: the header of their study, read when it is needed."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from mutandis.errors import DecisionError, MutandisError
from mutandis.flows.studies.stores.headers import space_of
from mutandis.flows.studies.stores.records import StudyHeader
from mutandis.hyper import DNA, SearchSpace
from mutandis.hyper.points import CUSTOM, MANY, Point, Rewriter


class Origin:
    """The space that a header tells of. Its program is rebuilt when the first child is asked for.

    Attributes:
        header: The header.
        bare: The decisions without the program.
    """

    def __init__(self, header: StudyHeader) -> None:
        self.header = header
        self.bare = SearchSpace([_point(index, data) for index, data in enumerate(header.points)])
        self._whole: SearchSpace | None = None

    @property
    def space(self) -> SearchSpace:
        """The space with its program, or without one where that cannot be rebuilt here."""
        try:
            return self.whole()
        except MutandisError:
            return self.bare

    def whole(self) -> SearchSpace:
        """Returns the space with its program.

        Raises:
            StorageError: the program was not written.
            SchemaError: the program names a class or function that is not imported here; the message names it.
        """
        if self._whole is None:
            self._whole = space_of(self.header)
        return self._whole

    def materialize(self, dna: DNA) -> Any:
        """Returns the child of a DNA, as `SearchSpace.materialize` does.

        Raises:
            StorageError: the program was not written.
            SchemaError: the program names a class or function that is not imported here; the message names it.
        """
        return self.whole().materialize(dna)


def _point(index: int, data: Mapping[str, Any]) -> Point:
    """Returns the point that `Point.as_json` wrote."""
    k_min, k_max, distinct, ordered = data["picks"]
    low, high, step = data["range"]
    kind, default, labels = data["kind"], data["default"], tuple(data["candidates"])
    return Point(
        index=index, path=data["path"], name=data["name"], kind=kind, num_candidates=len(labels), candidates=labels,
        k_min=k_min, k_max=k_max, distinct=distinct, ordered=ordered, low=low, high=high, step=step,
        scale=data["scale"], default=tuple(default) if kind == MANY and default is not None else default,
        when=data["when"], conditions=tuple((parent, candidate) for parent, candidate in data["conditions"]),
        paths=(data["path"],), is_bool=labels == (False, True) and all(type(x) is bool for x in labels),
        rewriter=Rewriter(data["seed"], _no_draw, _no_mutate) if kind == CUSTOM else None,
    )  # fmt: skip


def _no_draw(rng: random.Random) -> str:
    raise _without_rules()


def _no_mutate(value: str, rng: random.Random) -> str:
    raise _without_rules()


def _without_rules() -> DecisionError:
    return DecisionError(
        "cannot rewrite an open-ended decision",
        expected="a point that knows the rules of its mu.evolve",
        fix="search with the program; a record of a study holds decisions only",
    )


__all__ = ["Origin"]
