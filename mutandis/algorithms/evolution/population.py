"""What evolution passes around: individuals, and the context of an operation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mutandis.algorithms.base import from_state, to_state
from mutandis.hyper import DNA, SearchSpace
from mutandis.hyper.rng import Rng


@dataclass(frozen=True, slots=True)
class Individual:
    """A DNA and what is known of it.

    Attributes:
        dna: The decisions.
        rewards: One number per objective, larger is better; None before it was tried.
        born: When its result came: the number of results before it.
    """

    dna: DNA
    rewards: tuple[float, ...] | None = None
    born: int = -1

    @property
    def reward(self) -> float:
        """The first reward; minus infinity before it was tried."""
        return float("-inf") if self.rewards is None else self.rewards[0]

    def to_state(self) -> list[Any]:
        """Returns the individual as JSON."""
        return [to_state(self.dna), None if self.rewards is None else list(self.rewards), self.born]

    @staticmethod
    def from_state(space: SearchSpace, state: list[Any]) -> Individual:
        """Returns the individual that `to_state` wrote."""
        values, rewards, born = state
        return Individual(from_state(space, values), None if rewards is None else tuple(rewards), born)


@dataclass(frozen=True, slots=True)
class Context:
    """What an operation may use beside the population.

    Attributes:
        space: The points.
        rng: The generator of the search.
        step: The number of results so far, which schedules are functions of.
    """

    space: SearchSpace
    rng: Rng
    step: int = 0
