"""What every run of a `Policy` keeps: its tables, their noise and optimizer, and the draws without an answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

import torch

from mutandis.algorithms.base import JSON
from mutandis.algorithms.oneshot.protocol import Needs, SharedSearch, need_fraction
from mutandis.algorithms.oneshot.selections import Selections
from mutandis.algorithms.oneshot.tables.gradients import Gradients, gradients_by, with_gradients
from mutandis.algorithms.oneshot.tables.optimise import TableAdam
from mutandis.algorithms.oneshot.tables.policy import Policy
from mutandis.algorithms.oneshot.tables.relaxations import Noise
from mutandis.hyper import DNA


class Draw(Protocol):
    """What is kept of a draw until its answer comes."""

    @property
    def selections(self) -> Selections:
        """What was drawn."""
        ...


Kept = TypeVar("Kept", bound=Draw)


class TableSearch(SharedSearch, Generic[Kept]):
    """A run of a policy of tables; how it draws and what it learns is left to others.

    Args:
        needs: What the run needs of the loop.
        policy: The policy.
        noise: Random numbers.
        adam: Moves the tables.
        most_waiting: How many draws may wait for an answer; the oldest are forgotten.

    Attributes:
        policy_tables: The policy; tests and plots read it.
        noise: Random numbers; tests put their own in its place.
    """

    def __init__(self, needs: Needs, policy: Policy, noise: Noise, adam: TableAdam, most_waiting: int) -> None:
        self.needs = needs
        self.policy_tables = policy
        self.noise = noise
        self._adam = adam
        self._most_waiting = most_waiting
        self._fraction = 0.0
        self._drawn = 0
        self._waiting: dict[int, Kept] = {}

    def progress(self, fraction: float) -> None:
        """Says how much of the run is done, in [0, 1]."""
        self._fraction = need_fraction(fraction)

    def _expect(self, draw: Kept) -> Selections:
        """Keeps a draw, whose number is that of the next one, until its answer comes; returns its selections."""
        self._waiting[self._drawn] = draw
        self._drawn += 1
        if len(self._waiting) > self._most_waiting:
            del self._waiting[next(iter(self._waiting))]
        return draw.selections

    def _answered(self, selections: Selections) -> Kept | None:
        """Returns the draw that is answered, once; None where nobody waits for it."""
        found = self._waiting.get(selections.number)
        if found is None or found.selections is not selections:
            return None
        del self._waiting[selections.number]
        return found

    def entropy(self) -> dict[str, float]:
        """Returns the entropy of each decision in nats, by path."""
        return self.policy_tables.entropy_by_path()

    def probabilities(self) -> dict[str, list[float]]:
        """Returns the chance of each option or picked candidate, by path."""
        return self.policy_tables.chances_by_path()

    def state_dict(self) -> JSON:
        """Returns the state as JSON."""
        return {
            "rng": self.noise.rng.state(),
            "tables": self.policy_tables.state(),
            "adam": self._adam.state(),
            "fraction": self._fraction,
            "drawn": self._drawn,
        }

    def load_state_dict(self, state: JSON) -> None:
        """Goes on from a state."""
        self.noise.rng.set_state(state["rng"])
        self.policy_tables.set_state(state["tables"])
        self._adam.set_state(state["adam"])
        self._fraction, self._drawn = state["fraction"], state["drawn"]
        self._waiting = {}


def score_gradients(policy: Policy, scored: Sequence[tuple[DNA, float]]) -> Gradients:
    """Returns the gradients of -(1/n) sum of advantage times log-probability (REINFORCE: Williams 1992).

    Args:
        policy: The policy.
        scored: n DNAs with their advantages.

    Returns:
        One per table; None for a table that none of the DNAs hangs on.
    """
    with with_gradients():
        leaves = policy.leaves()
        terms = [-advantage * policy.log_prob(dna, leaves) for dna, advantage in scored]
        return gradients_by(torch.stack(terms).mean(), leaves, keep_graph=False)


__all__ = ["TableSearch", "score_gradients"]
