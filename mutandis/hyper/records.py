"""What algorithms and flows say to each other: proposals and feedback."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mutandis.hyper.dna import DNA


@dataclass(frozen=True, slots=True)
class Proposal:
    """A DNA that an algorithm wants tried.

    Attributes:
        id: Number of the proposal in its search, from 0.
        dna: The decisions.
        fidelity: How long to train, in the unit of the algorithm, or None.
        inherit: Where the trial shall take its weights from, or None.
    """

    id: int
    dna: DNA
    fidelity: float | None = None
    inherit: Any = None


@dataclass(frozen=True, slots=True)
class Feedback:
    """The result of a trial.

    Attributes:
        id: The id of the proposal, or None when nobody proposed it.
        dna: The decisions that were tried.
        metrics: Everything that was measured, or None.
        fidelity: How long it was trained, or None.
        rewards: One number per objective, larger is better; None for a failed trial, which one with a nan is too.
    """

    id: int | None
    dna: DNA
    metrics: Mapping[str, float] | None = None
    fidelity: float | None = None
    rewards: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.rewards is not None and any(reward != reward for reward in self.rewards):
            object.__setattr__(self, "rewards", None)

    @property
    def reward(self) -> float | None:
        """The first reward, or None for a failed trial."""
        return None if self.rewards is None else self.rewards[0]


__all__ = ["Feedback", "Proposal"]
