"""Results by number: what makes the decisions of a search the same for any number of workers.

Trial n is proposed after exactly the results of trials 0 to n - WINDOW were taken in, in the order of their numbers,
whatever else has ended; where the algorithm has nothing to propose at that point, one result more is taken in at a
time. So the n-th proposal is a function of the seed and of the results before it.
"""

from __future__ import annotations

from collections.abc import Callable

from mutandis.errors import SpaceExhausted
from mutandis.flows.studies import Trial
from mutandis.flows.turns import Turn

WINDOW = 8
"""How far proposals run ahead of results: as many trials can run at the same time."""


class Window:
    """Holds results back until their turn comes.

    Args:
        settle: Takes a result in.
    """

    def __init__(self, settle: Callable[[Trial], None]) -> None:
        self._settle = settle
        self._ended: dict[int, Trial] = {}
        self._num_settled = 0
        self._least = 0
        self._over: SpaceExhausted | None = None

    def end(self, trial: Trial) -> None:
        """Hears that a trial has ended."""
        self._ended[trial.id] = trial

    def next_turn(self, number: int, propose: Callable[[], Turn]) -> Turn | None:
        """Returns what trial `number` shall be, or None where a result before it is missing.

        Args:
            number: Of the trial; those before it have begun.
            propose: Asks algorithm and scheduler.

        Raises:
            SpaceExhausted: nothing is left, though all results before are known.
        """
        self._least = max(self._least, number - WINDOW + 1)
        while self._is_settled(self._least):
            try:
                turn = propose()
                self._over = None
                return turn
            except SpaceExhausted as error:
                # The algorithm is asked once per result: to ask again might change what it proposes later.
                self._over = error
                self._least = self._num_settled + 1
        if self._over is not None and self._num_settled >= number:
            raise self._over
        return None

    def _is_settled(self, count: int) -> bool:
        while self._num_settled < count and self._num_settled in self._ended:
            trial = self._ended.pop(self._num_settled)
            self._num_settled += 1
            self._settle(trial)
        return self._num_settled >= count


__all__ = ["WINDOW", "Window"]
