"""Fronts of points that come one by one, and the order of all points at any time.

A new point goes to the first front that does not dominate it; what it dominates there goes on to the next front, and
what those dominate there to the one after. Li, Deb, Zhang, Zhang: Efficient Nondomination Level Update Method for
Steady-State Evolutionary Multiobjective Optimization, IEEE Transactions on Cybernetics 47(9), 2017, doi
10.1109/TCYB.2016.2621008, Sec. III. The fronts, the crowding distances and the order are those of `dominance`.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Sequence

from mutandis.algorithms.dominance import Rewards, crowding_distance, dominates

Entry = tuple[tuple[float, ...], float]
"""A point with its signs turned, so that what can dominate it sorts before it, and its number."""


class Fronts:
    """The fronts of all points so far.

    A point costs O(log K) searches for its front among K, in O(log F) of its F points for two objectives and in O(F)
    for more, and a pass over each front that it changes. Crowding distances are computed when they are asked for, and
    again only for fronts that have changed.
    """

    def __init__(self) -> None:
        self._fronts: list[_Front] = []

    def add(self, number: int, rewards: Rewards) -> None:
        """Adds a point.

        Args:
            number: Of the point; a new one.
            rewards: Finite, larger is better, as many as those of the others.
        """
        moved: list[Entry] = [(tuple(-reward for reward in rewards), number)]
        level = self._level(moved[0])
        while moved:
            if level == len(self._fronts):
                self._fronts.append(_Front(moved))
                return
            front = self._fronts[level]
            gone = {entry for mover in moved for entry in front.dominated(mover)}
            if len(gone) == len(front.entries):  # All of it goes on, and so does all behind it.
                self._fronts.insert(level, _Front(sorted(moved)))
                return
            moved = front.replace(gone, moved)
            level += 1

    def _level(self, entry: Entry) -> int:
        low, high = 0, len(self._fronts)
        while low < high:  # A point that front k dominates is dominated by all fronts before k.
            middle = (low + high) // 2
            if self._fronts[middle].dominates(entry):
                low = middle + 1
            else:
                high = middle
        return low

    def __iter__(self) -> Iterator[list[int]]:
        """Yields the numbers of each front, the best front first and the loneliest point of a front first."""
        return (front.ranked() for front in self._fronts)


class _Front:
    """Points of which none dominates another.

    Args:
        entries: Sorted: the first reward falls, so that with two objectives the second rises.
    """

    def __init__(self, entries: list[Entry]) -> None:
        self.entries = entries
        self._ranked: list[int] | None = None

    def dominates(self, entry: Entry) -> bool:
        """Returns whether a point here dominates another one."""
        key, _ = entry
        before = bisect_left(self.entries, (key, -math.inf))
        if len(key) <= 2:  # Of those with as large a first reward, the last has the largest second one.
            return before > 0 and self.entries[before - 1][0][-1] <= key[-1]
        return any(dominates(key, other) for other, _ in self.entries[:before])  # Signs are turned, and so are roles.

    def dominated(self, entry: Entry) -> Sequence[Entry]:
        """Returns the points here that another one dominates."""
        key, _ = entry
        after = bisect_right(self.entries, (key, math.inf))
        if len(key) > 2:
            return [other for other in self.entries[after:] if dominates(other[0], key)]
        end = after
        while end < len(self.entries) and self.entries[end][0][-1] >= key[-1]:
            end += 1
        return self.entries[after:end]

    def replace(self, gone: set[Entry], come: list[Entry]) -> list[Entry]:
        """Takes points away and adds others; returns the former."""
        left = [entry for entry in self.entries if entry in gone]
        if gone:
            self.entries = [entry for entry in self.entries if entry not in gone]
        for entry in come:
            insort(self.entries, entry)
        self._ranked = None
        return left

    def ranked(self) -> list[int]:
        """Returns the numbers of the points, the loneliest first, and the first to come of equals."""
        if self._ranked is None:
            members = sorted((int(number), key) for key, number in self.entries)
            distances = crowding_distance([[-x for x in key] for _, key in members])
            pairs = zip(distances, members, strict=True)
            self._ranked = [number for _, number in sorted((-distance, number) for distance, (number, _) in pairs)]
        return self._ranked
