"""Random search: the baseline that every method has to beat.

Each decision has a stream of its own, named by its path: decision `d` of proposal `t` is a function of the seed,
`d` and `t` alone, so that a new decision leaves the values of the others as they were.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Any

from mutandis.algorithms.base import JSON, Algorithm, Search, settings
from mutandis.hyper import DNA, Feedback, Point, Proposal, SearchSpace
from mutandis.hyper.rng import Rng

_UNIT = 2.0**-53
_ONE_DRAW = frozenset({"choice", "float", "int"})


@settings
class Random(Algorithm):
    """Draws every active decision from its prior: uniform, or uniform in the logarithm for a log scale.

    Works on every space and for any number of objectives.
    """

    objectives = "many"

    def start(self, space: SearchSpace, *, seed: int, num_objectives: int = 1) -> Search:
        """Begins a run; nothing is learnt from feedback."""
        return _RandomSearch(space.bare(), seed)


class _RandomSearch(Search):
    def __init__(self, space: SearchSpace, seed: int) -> None:
        self._space = space
        self._seed = seed
        self._count = 0
        self._empty = [None] * len(space.points)
        self._keys = [blake2b(f"{seed}\x1f{point.key}".encode(), digest_size=32).digest() for point in space.points]

    def propose(self) -> Proposal:
        count = self._count
        self._count += 1
        return Proposal(count, draw_with(self._space, lambda point: self._draw(point, count)))

    def _draw(self, point: Point, count: int) -> Any:
        if point.kind not in _ONE_DRAW:
            return point.draw(Rng(self._seed, point.key, count))
        digest = blake2b(count.to_bytes(8, "little"), key=self._keys[point.index], digest_size=8).digest()
        return point.from_unit((int.from_bytes(digest, "little") >> 11) * _UNIT)

    def feedback(self, feedback: Feedback) -> None:
        """Learns nothing."""

    def state_dict(self) -> JSON:
        return {"count": self._count}

    def load_state_dict(self, state: JSON) -> None:
        self._count = state["count"]


def draw_with(space: SearchSpace, draw: Callable[[Point], Any]) -> DNA:
    """Returns a DNA whose active decisions come from a function of the point."""
    return space.repair([None] * len(space.points), draw)
