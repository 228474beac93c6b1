"""What a run on shared weights leaves behind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from mutandis.algorithms.oneshot.protocol import SharedSearch
from mutandis.flows.supernet import Shared
from mutandis.hyper import DNA


@dataclass(frozen=True, slots=True)
class Epoch:
    """One epoch of a run.

    Attributes:
        number: From 1.
        loss: Mean loss of the weight steps; nan where none was finite.
        outcome: Mean loss or reward of the policy steps; None where there was none.
        learning_rate: Of the weights, at the last step.
        num_skipped: Weight steps left out since their loss was not finite.
        entropy: In nats, by path of the decision.
        likeliest: By path, the label of the likeliest candidate; empty where the policy is not known.
        free_share: The share of choices whose likeliest candidate has no weights; None where nothing is known.
        seconds: How long it took.
    """

    number: int
    loss: float
    outcome: float | None
    learning_rate: float
    num_skipped: int
    entropy: Mapping[str, float]
    likeliest: Mapping[str, Any]
    free_share: float | None
    seconds: float = field(compare=False)

    def to_json(self) -> dict[str, Any]:
        """Returns the record as JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory of a step of the weights or of the policy, whichever takes more.

    Attributes:
        expected_bytes: All shared weights, gradients of the trained ones, and what a pass saves for its backward
            pass; the state of the optimizer comes on top. Found by a pass before training.
        measured_bytes: The most that the accelerator had allocated; None on a CPU.
    """

    expected_bytes: int
    measured_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class OneShotResult:
    """The end of a run.

    Attributes:
        dna: What was found.
        policy: By path, the chance of each candidate, as if the decision were active; empty without a policy.
        history: The epochs.
        memory: Expected and measured.
        shared: The shared program, trained, switched to `dna`; its norms are calibrated for it.
        search: The search of the algorithm.
    """

    dna: DNA
    policy: Mapping[str, list[float]]
    history: tuple[Epoch, ...]
    memory: Memory
    shared: Shared
    search: SharedSearch

    def child(self) -> Any:
        """Returns the found child as an ordinary program with its part of the shared weights.

        To train it from scratch, build it from the program: `mu.space(program).materialize(result.dna)`.
        """
        return self.shared.export(self.dna)


__all__ = ["Epoch", "Memory", "OneShotResult"]
