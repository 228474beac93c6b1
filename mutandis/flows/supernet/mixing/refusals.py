"""Why the sizes of a decision cannot be mixed."""

from __future__ import annotations

from mutandis.errors import LoweringError
from mutandis.hyper import Point

_FIX = "use an algorithm that runs one size at a time, such as TuNAS() or ENAS()"


def refusal(point: Point, where: str, expected: str, fix: str = _FIX) -> LoweringError:
    """Returns the error for a decision whose sizes cannot be mixed.

    Args:
        point: The decision.
        where: The module at which it fails, and what of it; may be empty.
        expected: What could be mixed.
        fix: What to do instead.
    """
    return LoweringError(
        "cannot mix the sizes of a decision",
        at=f"{point.key or '(the root)'}, {where}" if where else point.key or "(the root)",
        got=point.describe(),
        expected=expected,
        fix=fix,
    )


__all__ = ["refusal"]
