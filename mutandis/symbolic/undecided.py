"""What is not decided yet: the base class of hyper values, and `REQUIRED`.

The symbolic tree knows undecided values only by this protocol; which kinds exist is the business of the
rooms above.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Undecided:
    """A place in a program whose value is not known yet.

    Undecided values are immutable and compare by identity: one object is one decision wherever it stands.
    """

    __slots__ = ()

    def _mu_items_(self) -> tuple[tuple[str, Any], ...]:
        """Returns the named children that belong to the tree."""
        return ()

    def _mu_replace_(self, items: Mapping[str, Any]) -> Undecided:
        """Returns a node of the same settings with other children."""
        return self

    def _mu_settings_(self) -> dict[str, Any]:
        """Returns every constructor argument by name, the children included."""
        return {}


class Required(Undecided):
    """The type of `REQUIRED`, the mark for an argument that somebody else must give."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "mu.REQUIRED"

    def __reduce__(self) -> str:
        return "REQUIRED"

    def __copy__(self) -> Required:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Required:
        return self


REQUIRED = Required()
