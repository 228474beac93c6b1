"""Local search: the neighbours of the best, one by one.

White, Nolen, Savani: Exploring the Loss Landscape in Neural Architecture Search, UAI 2021, arXiv 2005.02960
(first version: "Local Search is State of the Art for NAS Benchmarks", 2020), Algorithm 1: evaluate all neighbours
of a point, move to the best of them, and stop where none is better.

*Notation*: v = the centre, N(v) = its neighbours, i.e. what differs in one active decision.

*Departures*: instead of stopping in a local optimum, the search begins anew from random points. A neighbour whose
result is known is not tried again; its result counts. Where a decision has too many values, N(v) holds

- for picks: one replaced, two exchanged where the order matters, one more or one fewer where their number varies;
- for a range: `num_samples` normal steps in its unit interval, and the legal values next to v's;
- for an open-ended program: `num_samples` mutants.

Decisions that become active below the changed one are drawn, so that such a neighbour is one of many. With results
that come late, a round ends when all of N(v) is proposed; a late result counts where it beats both the centre that
it was made from and the present one, and one that nobody asked for where it beats everything seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

from mutandis.algorithms.base import JSON, Algorithm, Search, from_state, need_int, need_number, settings, to_state
from mutandis.algorithms.evolution.mutators import local_move
from mutandis.hyper import DNA, Feedback, Point, Proposal, SearchSpace
from mutandis.hyper.dna import replaced
from mutandis.hyper.rng import Rng

Rated = tuple[float, DNA]
_REDRAWS = 20
_WORST = float("-inf")


@settings
class LocalSearch(Algorithm):
    """Tries all neighbours in random order, moves to the best, and restarts at random where none is better.

    Args:
        num_initial: Each climb starts from the best of so many random points.
        first_improving: Whether it moves to the first neighbour that is better, without trying the others.
        num_samples: How many neighbours a decision has that has more other values than that, picks left aside.
        scale: Standard deviation of the steps along a range, as a share of it.

    Raises:
        SettingError: a number is not whole or below 1, or the scale not a share in (0, 1].
    """

    num_initial: int = 1
    first_improving: bool = False
    num_samples: int = 8
    scale: float = 0.1

    def __post_init__(self) -> None:
        need_int("LocalSearch.num_initial", self.num_initial, 1)
        need_int("LocalSearch.num_samples", self.num_samples, 1)
        need_number("LocalSearch.scale", self.scale, above=0, high=1, fix="use 0.1: a share of the range")

    def start(self, space: SearchSpace, *, seed: int, num_objectives: int = 1) -> Search:
        """Begins a run at a random point."""
        self.check_objectives(num_objectives)
        return _NeighbourSearch(self, space.bare(), seed)


class _NeighbourSearch(Search):
    def __init__(self, settings: LocalSearch, space: SearchSpace, seed: int) -> None:
        self._settings = settings
        self._space = space
        self._rng = Rng(seed, "local search")
        self._centre: Rated | None = None
        self._better: Rated | None = None  # The best candidate for the next centre.
        self._starts = 0  # How many random points of this climb have a result.
        self._queue: list[DNA] = []
        self._known: dict[DNA, float] = {}
        self._pending: dict[int, float] = {}  # What a result must beat to count, by proposal.
        self._best = _WORST
        self._proposed = 0

    def propose(self) -> Proposal:
        while self._centre is not None and not self._queue:
            if self._better is None:
                self._centre, self._starts = None, 0  # A local optimum.
            else:
                self._move()
        number = self._proposed
        self._proposed += 1
        self._pending[number] = _WORST if self._centre is None else self._centre[0]
        return Proposal(number, self._fresh() if self._centre is None else self._queue.pop())

    def _fresh(self) -> DNA:
        """Returns a random DNA, one without a result if there is such a one among a few."""
        for _ in range(_REDRAWS):
            dna = self._space.random(self._rng)
            if dna not in self._known:
                break
        return dna

    def _move(self) -> None:
        """Goes to the best candidate; neighbours with a known result are candidates for the next move at once."""
        assert self._better is not None
        self._centre, self._better = self._better, None
        around = list(neighbours(self._centre[1], self._rng, self._settings.num_samples, self._settings.scale))
        self._queue = [dna for dna in around if dna not in self._known]
        self._rng.shuffle(self._queue)
        for dna in around:
            if dna in self._known:
                self._offer(self._known[dna], dna)

    def _offer(self, reward: float, dna: DNA) -> None:
        threshold = _WORST if self._centre is None else self._centre[0]
        if self._better is not None:
            threshold = max(threshold, self._better[0])
        if reward > threshold or (self._centre is None and self._better is None):
            self._better = (reward, dna)
            if self._centre is not None and self._settings.first_improving:
                self._queue = []

    def feedback(self, feedback: Feedback) -> None:
        threshold = self._best if feedback.id is None else self._pending.pop(feedback.id, self._best)
        if feedback.rewards is None:
            return
        reward = feedback.rewards[0]
        self._known[feedback.dna] = reward
        self._best = max(self._best, reward)
        if reward <= threshold and threshold > _WORST:
            return
        self._offer(reward, feedback.dna)
        if self._centre is None:
            self._starts += 1
            if self._starts >= self._settings.num_initial:
                self._move()

    def state_dict(self) -> JSON:
        return {
            "rng": self._rng.state(),
            "centre": _rated_state(self._centre),
            "better": _rated_state(self._better),
            "starts": self._starts,
            "queue": [to_state(dna) for dna in self._queue],
            "known": [[reward, to_state(dna)] for dna, reward in self._known.items()],
            "pending": [[number, None if low == _WORST else low] for number, low in self._pending.items()],
            "best": None if self._best == _WORST else self._best,
            "proposed": self._proposed,
        }

    def load_state_dict(self, state: JSON) -> None:
        self._rng.set_state(state["rng"])
        self._centre, self._better = self._rated(state["centre"]), self._rated(state["better"])
        self._starts, self._proposed = state["starts"], state["proposed"]
        self._queue = [from_state(self._space, values) for values in state["queue"]]
        self._known = {from_state(self._space, values): reward for reward, values in state["known"]}
        self._pending = {number: _WORST if low is None else low for number, low in state["pending"]}
        self._best = _WORST if state["best"] is None else state["best"]

    def _rated(self, state: list[Any] | None) -> Rated | None:
        return None if state is None else (state[0], from_state(self._space, state[1]))


def _rated_state(rated: Rated | None) -> list[Any] | None:
    return None if rated is None else [rated[0], to_state(rated[1])]


def neighbours(dna: DNA, rng: Rng, num_samples: int = 8, scale: float = 0.1) -> list[DNA]:
    """Returns the different DNAs that differ from one in an active decision, and in what hangs on it.

    Args:
        dna: The centre.
        rng: Draws the samples, and the decisions that become active.
        num_samples: How many neighbours a decision has that has more other values than that, picks left aside.
        scale: Standard deviation of the steps along a range, as a share of it.
    """
    found: dict[DNA, None] = {}
    for point in dna.active:
        for value in other_values(point, dna.values[point.index], rng, num_samples, scale):
            found[replaced(dna, point.index, value, lambda added: added.draw(rng))] = None
    return list(found)


def other_values(point: Point, value: Any, rng: Rng, num_samples: int, scale: float) -> list[Any]:
    """Returns the values of a point that are next to one: all others, or those the module docstring names."""
    if point.kind == "choice" or (point.is_finite and point.size <= num_samples + 1):
        return [other for other in point.values() if other != value]
    if point.kind == "many":
        return sorted({picks for picks in _picks_around(point, value) if picks != value})
    if point.kind == "custom":
        return list(dict.fromkeys(point.mutate(value, rng) for _ in range(num_samples)))
    found = [local_move(point, value, scale, rng) for _ in range(num_samples)]
    if point.is_finite:
        place = round((value - point.low) / (point.step or 1))
        found += [point.at(p) for p in (place - 1, place + 1) if 0 <= p < point.num_steps]
    return list(dict.fromkeys(found))


def _picks_around(point: Point, value: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    options = [c for c in range(point.num_candidates) if not (point.distinct and c in value)]
    made: list[tuple[int, ...]] = []
    for place in range(len(value)):
        made.extend((*value[:place], c, *value[place + 1 :]) for c in options)
        if len(value) > point.k_min:
            made.append((*value[:place], *value[place + 1 :]))
    if len(value) < point.k_max:
        made.extend((*value[:place], c, *value[place:]) for place in range(len(value) + 1) for c in options)
    if point.ordered:
        for first, second in combinations(range(len(value)), 2):
            swapped = list(value)
            swapped[first], swapped[second] = swapped[second], swapped[first]
            made.append(tuple(swapped))
    yield from (picks if point.ordered else tuple(sorted(picks)) for picks in made)
