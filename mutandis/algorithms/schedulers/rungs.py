"""Rungs: the results of many trials at one length of training, and who is among the best there.

With one objective the order is that of the rewards. With several it is that of non-dominated fronts and, within a
front, of the crowding distance, the loneliest first, as in multi-objective ASHA (Schmucker, Donini, Zafar, Salinas,
Archambeau 2021, arXiv 2106.12639, Sec. 3, with the crowding distance of Deb et al. 2002 where they offer an epsilon
net too). Ties go to the one that arrived first. Results without a rank are part of a rung and last in it.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from itertools import chain, islice

from mutandis.algorithms.base import JSON
from mutandis.algorithms.fronts import Fronts
from mutandis.algorithms.schedulers.base import ranked


class Rung:
    """The results at one fidelity.

    Costs per result: with one objective, a search among N numbers; with several, an update of the fronts that the
    result changes (see `fronts`).

    Args:
        num_objectives: How many rewards a result has.
    """

    def __init__(self, num_objectives: int) -> None:
        self._single = num_objectives == 1
        self._trials: list[int] = []
        self._rewards: list[tuple[float, ...] | None] = []
        self._arrival: dict[int, int] = {}
        self._resting: set[int] = set()
        self._order: list[tuple[float, int]] = []  # Of one objective.
        self._fronts = Fronts()  # Of several.

    def __len__(self) -> int:
        return len(self._trials)

    def __contains__(self, trial: int) -> bool:
        return trial in self._arrival

    def add(self, trial: int, rewards: tuple[float, ...] | None) -> None:
        """Adds the result of a trial, None for one without a rank; only the first of a trial counts."""
        if trial in self._arrival:
            return
        arrival = self._arrival[trial] = len(self._trials)
        self._trials.append(trial)
        self._rewards.append(rewards)
        if rewards is None:
            return
        if self._single:
            insort(self._order, (-rewards[0], arrival))
        else:
            self._fronts.add(arrival, rewards)

    def rest(self, trial: int) -> None:
        """Notes that a trial waits here and can be promoted."""
        self._resting.add(trial)

    def wake(self, trial: int) -> None:
        """Notes that a trial no longer waits here."""
        self._resting.discard(trial)

    def rests(self, trial: int) -> bool:
        """Returns whether a trial waits here."""
        return trial in self._resting

    def best(self, count: int) -> list[int]:
        """Returns the best trials, best first: at most `count`, and fewer where fewer have a rank."""
        return [self._trials[arrival] for arrival in islice(self._ordered(), count)]

    def best_resting(self, count: int) -> int | None:
        """Returns the best trial that waits here among the `count` best, or None."""
        if not self._resting or count < 1:
            return None
        chosen = (self._trials[arrival] for arrival in islice(self._ordered(), count))
        return next((trial for trial in chosen if trial in self._resting), None)

    def is_among(self, trial: int, count: int) -> bool:
        """Returns whether a trial is one of the `count` best here."""
        arrival = self._arrival[trial]
        rewards = self._rewards[arrival]
        if rewards is None:
            return False
        if self._single:
            return bisect_left(self._order, (-rewards[0], arrival)) < count
        return any(arrival == other for other in islice(self._ordered(), count))

    def _ordered(self) -> Iterable[int]:
        """Returns the arrivals of all results with a rank, best first."""
        if self._single:
            return (arrival for _, arrival in self._order)
        return chain.from_iterable(self._fronts)

    def state_dict(self) -> JSON:
        """Returns the state as JSON."""
        rewards = [None if found is None else list(found) for found in self._rewards]
        return {"trials": list(self._trials), "rewards": rewards, "resting": sorted(self._resting)}

    def load_state_dict(self, state: JSON) -> None:
        """Goes on from a state."""
        self._trials, self._rewards, self._arrival, self._order, self._fronts = [], [], {}, [], Fronts()
        for trial, rewards in zip(state["trials"], state["rewards"], strict=True):
            self.add(trial, ranked(rewards))
        self._resting = set(state["resting"])


def levels(min_fidelity: float, max_fidelity: float, eta: float) -> tuple[float, ...]:
    """Returns the fidelities of the rungs: `min_fidelity * eta ** k` below the largest, and the largest itself."""
    made = []
    level: float = min_fidelity
    while level < max_fidelity * (1 - 1e-9):
        made.append(level)
        level *= eta
    return (*made, max_fidelity)
