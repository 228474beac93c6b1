"""What a policy keeps for the answers to its proposals: how they were drawn, and what reward is usual."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mutandis.algorithms.base import from_state, to_state
from mutandis.algorithms.sequences import Codec, Step
from mutandis.hyper import DNA, Feedback, SearchSpace

MOST_PENDING = 1000


@dataclass(frozen=True, slots=True)
class Drawn:
    """A proposal that was answered.

    Attributes:
        steps: How it was drawn.
        log_prob: The logarithm of its probability when it was drawn, in nats; 0 where the policy does not keep it.
        reward: Its reward.
    """

    steps: tuple[Step, ...]
    log_prob: float
    reward: float


def drawn_state(batch: Iterable[Drawn]) -> list[Any]:
    """Returns answered proposals as JSON."""
    return [[[step.option for step in drawn.steps], drawn.log_prob, drawn.reward] for drawn in batch]


def drawn_from(codec: Codec, state: Iterable[Any]) -> list[Drawn]:
    """Returns the answered proposals of a state."""
    return [Drawn(codec.trace(options), log_prob, reward) for options, log_prob, reward in state]


class Pending:
    """The proposals without an answer, as they were drawn; the newest 1000, so that silence fills no memory.

    Args:
        space: The space.
        codec: The codec that drew them.
    """

    def __init__(self, space: SearchSpace, codec: Codec) -> None:
        self._space = space
        self._codec = codec
        self._drawn: dict[int, tuple[DNA, tuple[Step, ...], float]] = {}

    def __len__(self) -> int:
        return len(self._drawn)

    def add(self, number: int, dna: DNA, steps: tuple[Step, ...], log_prob: float = 0.0) -> None:
        """Takes in a proposal, and forgets the oldest where there are too many."""
        self._drawn[number] = (dna, steps, log_prob)
        if len(self._drawn) > MOST_PENDING:
            del self._drawn[next(iter(self._drawn))]

    def pop(self, feedback: Feedback) -> Drawn | None:
        """Returns how an answered proposal was drawn, and forgets it.

        Returns:
            None where the policy has nothing to learn: the trial failed, its reward is infinite, nobody drew it, it
            was answered before, or its DNA is another one than was drawn, as behind a wrapper.
        """
        found = None if feedback.id is None else self._drawn.pop(feedback.id, None)
        if found is None or feedback.rewards is None:
            return None
        dna, steps, log_prob = found
        reward = float(feedback.rewards[0])
        return Drawn(steps, log_prob, reward) if feedback.dna == dna and math.isfinite(reward) else None

    def state(self) -> list[Any]:
        """Returns the state as JSON."""
        return [
            [number, to_state(dna), [step.option for step in steps], log_prob]
            for number, (dna, steps, log_prob) in self._drawn.items()
        ]

    def set_state(self, state: list[Any]) -> None:
        """Goes on from a state."""
        self._drawn = {
            number: (from_state(self._space, values), self._codec.trace(options), log_prob)
            for number, values, options, log_prob in state
        }


class Baseline:
    """An exponential moving average of rewards, without the pull towards 0 of its start.

    Args:
        decay: The weight of the past, in [0, 1).
    """

    def __init__(self, decay: float) -> None:
        self._decay = decay
        self._sum = 0.0
        self._weight = 0.0

    @property
    def value(self) -> float | None:
        """The average; None before the first reward."""
        return self._sum / self._weight if self._weight else None

    def add(self, reward: float) -> float:
        """Takes a reward in, and returns the average with it."""
        self._sum = self._decay * self._sum + (1 - self._decay) * reward
        self._weight = self._decay * self._weight + (1 - self._decay)
        return self._sum / self._weight

    def state(self) -> list[float]:
        """Returns the state as JSON."""
        return [self._sum, self._weight]

    def set_state(self, state: list[float]) -> None:
        """Goes on from a state."""
        self._sum, self._weight = state


__all__ = ["Baseline", "Drawn", "Pending", "drawn_from", "drawn_state"]
