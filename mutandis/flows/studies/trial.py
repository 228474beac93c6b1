"""The record of one trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mutandis.flows.studies.origin import Origin
from mutandis.hyper import DNA, SearchSpace

RUNNING, COMPLETED, FAILED, SKIPPED, ABANDONED, STOPPED, PAUSED = (
    "running", "completed", "failed", "skipped", "abandoned", "stopped", "paused",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Trial:
    """What is known of one trial.

    Attributes:
        id: Number in the study, contiguous from 0.
        dna: The decisions.
        state: `running`, `completed`, `failed`, `skipped`, `abandoned`, `stopped` (cut short for good) or `paused` (cut
            short; where it went on, a later trial has it as its parent).
        rewards: One number per objective, as they were measured (not negated), or None.
        metrics: Everything that was measured.
        curve: Reports on the way: (step, metrics).
        seconds: How long it took, by the wall clock.
        reason: Why it was skipped or failed.
        attempt: How often it was started.
        worker: Who ran it.
        fidelity: How long it was trained in all, in steps, where somebody else decided that: what the algorithm or the
            scheduler asked for, or the last step where it was cut short. None for a trial that was trained as long
            as its loop liked.
        parent: The id of the trial that it went on from, or None.
        started: When it began, in seconds since the epoch, or None where nobody knows.
    """

    id: int
    dna: DNA
    state: str = RUNNING
    rewards: tuple[float, ...] | None = None
    metrics: Mapping[str, float] | None = None
    curve: tuple[tuple[float, Mapping[str, float]], ...] = ()
    seconds: float = 0.0
    reason: str | None = None
    attempt: int = 1
    worker: str = "0"
    fidelity: float | None = None
    parent: int | None = None
    started: float | None = field(default=None, compare=False)
    space: SearchSpace | Origin | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        """Returns what people want to know of it on one line."""
        rewards = "" if self.rewards is None else ", reward " + ", ".join(f"{reward:.6g}" for reward in self.rewards)
        reason = f" ({self.reason})" if self.reason else ""
        length = "" if self.fidelity is None else f" at {self.fidelity:g}"
        return f"trial {self.id}: {self.state}{length}{reason}{rewards}, {self.dna}"

    @property
    def reward(self) -> float | None:
        """The first reward, or None where there is none."""
        return None if self.rewards is None else self.rewards[0]

    def child(self) -> Any:
        """Returns the program of this trial, built anew.

        Raises:
            SpaceError: the study searched a space without a program.
            StorageError: the store does not hold the program, since it cannot be written.
            SchemaError: the program names a class or function that is not imported here; the message names it.
        """
        space = self.dna.space if self.space is None else self.space
        return space.materialize(self.dna)
