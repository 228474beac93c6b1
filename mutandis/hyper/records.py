"""What algorithms and flows say to each other: proposals and feedback."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mutandis.hyper.dna import DNA


@dataclass(frozen=True, slots=True)
class Proposal:
    """A DNA that an algorithm wants tried.

    Attributes:
        id: Number of the proposal in its search, from 0.
        dna: The decisions.
        fidelity: How long the trial shall have been trained when it ends, in the unit of the algorithm's settings
            (such as epochs), or None for as long as the loop likes. It is the total: what was trained before, by the
            trial that it inherits from, is part of it.
        inherit: The id of an earlier proposal of the same search whose trained state this trial goes on from, or
            None to start afresh. The DNA may be another one (a loop then copies what fits). The loop hands over that
            proposal's checkpoint. It keeps those of all proposals that have a fidelity, as long as the study lives,
            whatever their results were, so that an algorithm may name any of them, several times; where one is still
            running, was never answered or has left no checkpoint, the trial starts afresh.
    """

    id: int
    dna: DNA
    fidelity: float | None = None
    inherit: int | None = None


@dataclass(frozen=True, slots=True)
class Feedback:
    """The result of a trial.

    Attributes:
        id: The id of the proposal, or None when nobody proposed it.
        dna: The decisions that were tried.
        metrics: Everything that was measured, or None.
        fidelity: How long it was trained in all, what it inherited included, or None where nobody knows: the fidelity
            that its proposal asked for, or, if it ended early or none was asked for, the last step it reported.
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
