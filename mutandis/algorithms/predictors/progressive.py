"""Progressive search: short programs first, then only the promising long ones.

Liu, Zoph, Neumann, Shlens, Hua, Li, Fei-Fei, Yuille, Huang, Murphy: Progressive Neural Architecture Search, ECCV 2018,
arXiv 1712.00559, Algorithm 1: try all programs of level 1 and fit a predictor; then for each level expand the
survivors by everything that may be added, keep the K that the predictor ranks first, try them, and fit again.

*Notation*: b = the level, K = `width`.

A space has levels where one decision makes its programs grow, and each level holds the one below:

- a choice whose candidates are in order of size: what hangs on one candidate also hangs on the next, as in
  `oneof([[first], [first, second], [first, second, third]])`, the blocks being the same objects or of one name;
- picks whose number may vary, as in `subset(operations, min=1, max=5)`: level b has the b-th number of picks.

*Departures*: where a level, or the expansions of one survivor, are more than may be listed, a random part of them
takes their place (the paper lists all). The model is an ensemble of linear models of means over blocks
(`RidgeEnsemble(pooled=True)`); the paper's averages embeddings likewise (its MLP), or is a recurrent network. A level
ends when it is proposed, not when it is answered: with answers outstanding, what is known is what is expanded. After
the last level, the search goes on with the next best expansions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import field, replace
from itertools import islice, pairwise
from typing import Any

import numpy as np

from mutandis.algorithms.base import JSON, Algorithm, Search, from_state, need_instance, need_int, settings, to_state
from mutandis.algorithms.predictors.predictor import Predictor
from mutandis.algorithms.predictors.ranks import order
from mutandis.algorithms.predictors.ridge import RidgeEnsemble
from mutandis.algorithms.wrappers import unseen
from mutandis.errors import SettingError
from mutandis.hyper import DNA, Feedback, Point, Proposal, SearchSpace
from mutandis.hyper.rng import Rng

_DRAWS = 4
_AT_ONCE = 4096


@settings
class PNAS(Algorithm):
    """Climbs the levels of a space; tries the `width` expansions of the best that a predictor ranks first.

    Args:
        grow: Path or name of the decision that makes programs grow; None finds it where there is only one.
        width: K, how many programs survive a level, and how many of the next are tried.
        first: How many programs of level 1 are tried at most; all of them if there are no more.
        expansions: How many expansions of each survivor are ranked at most.
        predictor: Learns the reward from programs of all levels.

    Raises:
        SettingError: a number is not whole or below 1; at the start, the space has no levels.
    """

    grow: str | None = None
    width: int = 256
    first: int = 256
    expansions: int = 512
    predictor: Predictor = field(default_factory=lambda: RidgeEnsemble(interactions=False, pooled=True))

    def __post_init__(self) -> None:
        need_int("PNAS.width", self.width, 1)
        need_int("PNAS.first", self.first, 1)
        need_int("PNAS.expansions", self.expansions, 1)
        need_instance("PNAS.predictor", self.predictor, Predictor, "predictor=RidgeEnsemble()")

    def start(self, space: SearchSpace, *, seed: int, num_objectives: int = 1) -> Search:
        """Begins with the programs of level 1."""
        self.check_objectives(num_objectives)
        return _ProgressiveSearch(self, space.bare(), growing_point(space, self.grow), seed)


class _ProgressiveSearch(Search):
    def __init__(self, settings: PNAS, space: SearchSpace, point: Point, seed: int) -> None:
        self._settings = settings
        self._space = space
        self._point = point
        self._top = num_levels(point)
        self._rng = Rng(seed, "progressive")
        self._regressor = settings.predictor.start(space, seed=seed)
        self._level = 0
        self._results: list[tuple[DNA, float]] = []
        self._seen: set[DNA] = set()
        self._tried: dict[DNA, None] = {}  # What is not answered, of this level and of the one below.
        self._queue = self._shortest()
        self._proposed = 0

    def _shortest(self) -> list[DNA]:
        """Returns the programs of level 1 in random order, a random part of them if they are too many."""
        limit = self._settings.first
        shortest = shrunk(self._space, self._point)
        if shortest.is_finite and shortest.size <= limit:
            found = [DNA(self._space, dna.values) for dna in shortest.enumerate()]
        else:
            draws = (DNA(self._space, shortest.random(self._rng).values) for _ in range(_DRAWS * limit))
            found = distinct(draws, limit)
        self._rng.shuffle(found)
        return found

    def propose(self) -> Proposal:
        while self._queue and self._queue[-1] in self._seen:
            self._queue.pop()
        if not self._queue:
            self._climb()
        dna = self._queue.pop() if self._queue else unseen(self._space, self._seen, self._rng)
        self._seen.add(dna)
        self._tried[dna] = None
        number = self._proposed
        self._proposed += 1
        return Proposal(number, dna)

    def _climb(self) -> None:
        """Fills the queue with the best expansions; levels without any that is new are passed over."""
        while not self._queue:
            is_last = self._level == self._top - 1
            self._level = min(self._level + 1, self._top - 1)
            below = self._level - 1
            self._tried = dict.fromkeys(dna for dna in self._tried if self._level_of(dna) >= below)
            found = dict.fromkeys(dna for parent in self._survivors(below) for dna in self._expanded(parent))
            self._queue = self._ranked([dna for dna in found if dna not in self._seen])[: self._settings.width][::-1]
            if is_last:
                return

    def _expanded(self, dna: DNA) -> list[DNA]:
        return expansions(dna, self._point, self._rng, self._settings.expansions)

    def _survivors(self, level: int) -> list[DNA]:
        """Returns the K best of a level, and what was tried there and is not answered if these are fewer."""
        known = [(dna, reward) for dna, reward in self._results if self._level_of(dna) == level]
        known.sort(key=lambda result: -result[1])
        waiting = (dna for dna in self._tried if self._level_of(dna) == level)
        return list(dict.fromkeys([*(dna for dna, _ in known), *waiting]))[: self._settings.width]

    def _ranked(self, dnas: list[DNA]) -> list[DNA]:
        """Returns DNAs, the most promising first; in random order while nothing is known."""
        self._rng.shuffle(dnas)
        if not self._results or not dnas:
            return dnas
        self._regressor.fit([dna for dna, _ in self._results], [reward for _, reward in self._results])
        parts = [self._regressor.predict(dnas[i : i + _AT_ONCE])[0] for i in range(0, len(dnas), _AT_ONCE)]
        return [dnas[place] for place in order(np.concatenate(parts))]

    def _level_of(self, dna: DNA) -> int:
        value = dna.values[self._point.index]
        return len(value) - self._point.k_min if self._point.kind == "many" else int(value)

    def feedback(self, feedback: Feedback) -> None:
        self._seen.add(feedback.dna)
        self._tried.pop(feedback.dna, None)
        if feedback.rewards is not None and np.isfinite(feedback.rewards[0]):
            self._results.append((feedback.dna, feedback.rewards[0]))

    def state_dict(self) -> JSON:
        return {
            "rng": self._rng.state(),
            "level": self._level,
            "results": [[to_state(dna), reward] for dna, reward in self._results],
            "seen": sorted((to_state(dna) for dna in self._seen), key=repr),
            "tried": [to_state(dna) for dna in self._tried],
            "queue": [to_state(dna) for dna in self._queue],
            "proposed": self._proposed,
        }

    def load_state_dict(self, state: JSON) -> None:
        self._rng.set_state(state["rng"])
        self._level, self._proposed = state["level"], state["proposed"]
        self._results = [(self._dna(values), reward) for values, reward in state["results"]]
        self._seen = {self._dna(values) for values in state["seen"]}
        self._tried = {self._dna(values): None for values in state["tried"]}
        self._queue = [self._dna(values) for values in state["queue"]]

    def _dna(self, values: Sequence[Any]) -> DNA:
        return from_state(self._space, values)


def growing_point(space: SearchSpace, grow: str | None) -> Point:
    """Returns the decision that makes programs grow.

    Args:
        space: The space.
        grow: Its path or name; None where there is only one.

    Raises:
        SettingError: there is none, or there are several, or the named one does not make programs grow.
        DecisionError: there is no decision of that name.
    """
    found = [point for point in space.points if is_growing(space, point)]
    if grow is not None:
        point = space.point(grow)
        if point not in found:
            raise SettingError(
                "cannot climb the levels of a space",
                at="PNAS.grow",
                got=f"{point.path}: {point.describe()}",
                expected="picks whose number varies, or a choice in which what hangs on a candidate also hangs on "
                "the next; always active",
                fix="write oneof([[a], [a, b], [a, b, c]]) with blocks of one name, or use Screened()",
            )
        return point
    if len(found) != 1:
        raise SettingError(
            "cannot climb the levels of a space",
            at="PNAS.grow",
            got=", ".join(point.path or "(the root)" for point in found) or "no decision that makes programs grow",
            expected="one decision that does",
            fix="name it: PNAS(grow=path)" if found else "use Screened(), which needs no levels",
        )
    return found[0]


def is_growing(space: SearchSpace, point: Point) -> bool:
    """Returns whether each further level of a decision holds the levels before it."""
    if point.conditions:
        return False
    if point.kind == "many":
        return point.k_min < point.k_max
    if point.kind != "choice" or point.num_candidates < 2:
        return False
    below = [{p.index for p in space.points if (point.index, c) in p.conditions} for c in range(point.num_candidates)]
    return all(less < more for less, more in pairwise(below))


def num_levels(point: Point) -> int:
    """Returns how many levels a decision has."""
    return point.num_candidates if point.kind == "choice" else point.k_max - point.k_min + 1


def shrunk(space: SearchSpace, point: Point) -> SearchSpace:
    """Returns the space in which a decision is left at its first level; raw values mean the same in both."""
    if point.kind == "choice":
        smaller = replace(point, num_candidates=1, candidates=point.candidates[:1], default=None)
    else:
        smaller = replace(point, k_max=point.k_min, default=None)
    return SearchSpace([smaller if other.index == point.index else other for other in space.points])


def expansions(dna: DNA, point: Point, rng: Rng, limit: int) -> list[DNA]:
    """Returns the DNAs of the next level that hold a DNA.

    Args:
        dna: A DNA below the last level.
        point: The decision that makes programs grow.
        rng: Draws a part of them where they are too many.
        limit: How many are returned at most.
    """
    space, grown = dna.space, _grown(point, dna.values[point.index])

    def values_with(value: Any) -> list[Any]:
        return [*dna.values[: point.index], value, *dna.values[point.index + 1 :]]

    if all(other.is_finite for other in space.points if dna.values[other.index] is None):
        listed = (made for value in grown for made in _completions(space, values_with(value)))
        found = list(islice(listed, limit + 1))
        if len(found) <= limit:
            return found
    draws = (
        space.repair(values_with(grown[int(rng.random() * len(grown))]), lambda added: added.draw(rng))
        for _ in range(_DRAWS * limit)
    )
    return distinct(draws, limit)


def distinct(dnas: Iterable[DNA], limit: int) -> list[DNA]:
    """Returns the first `limit` different DNAs; takes no more than are needed."""
    made: dict[DNA, None] = {}
    for dna in dnas:
        made[dna] = None
        if len(made) == limit:
            break
    return list(made)


def _grown(point: Point, value: Any) -> list[Any]:
    """Returns the values of the next level that hold a value."""
    if point.kind == "choice":
        return [value + 1]
    options = [c for c in range(point.num_candidates) if not (point.distinct and c in value)]
    return [(*value, c) if point.ordered else tuple(sorted((*value, c))) for c in options]


def _completions(space: SearchSpace, values: list[Any]) -> Iterator[DNA]:
    """Yields all DNAs with some raw values given, and all others that are active free."""
    for point in space.points:
        if values[point.index] is None and space.is_active(point, values):
            for value in point.values():
                yield from _completions(space, [*values[: point.index], value, *values[point.index + 1 :]])
            return
    yield DNA(space, tuple(values))


__all__ = ["PNAS", "distinct", "expansions", "growing_point", "is_growing", "num_levels", "shrunk"]
