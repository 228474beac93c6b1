"""The protocol of algorithms that share weights: how they talk to the loop that owns model, data and weights.

An algorithm sees points and numbers, never a model. The loop, for steps t = 0, 1, ... of T:

    search.progress(t / T)
    loss(model, search.weights(), train batch) -> a step of the weights       # the weight step; see `needs.paths`
    chosen = search.policy(); search.feedback(chosen, loss=... or reward=...)                  # the policy step

`search.needs` says on which data the policy step runs, what it wants back, how often it is due, and whether before or
after the weight step. Where
`needs.is_one_pass`, there is one pass for both: `chosen = search.policy()`, its loss on a train batch moves the
weights and is the feedback.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from mutandis.algorithms.base import JSON, Algorithm, Search
from mutandis.algorithms.oneshot.selections import Selections
from mutandis.errors import SettingError
from mutandis.hyper import DNA, SearchSpace
from mutandis.symbolic.classes.decorate import symbolize_class

if TYPE_CHECKING:
    from torch import Tensor

Evaluate = Callable[[DNA], float | None]
"""Measures a DNA on the shared weights, larger is better; None or nan is a failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a search needs of the loop.

    Attributes:
        data: Batches of policy steps: `valid`, `train`, or `none` where there are no policy steps.
        outcome: What `feedback` wants: `loss` (a scalar tensor whose graph leads to the selections), `reward` (a
            number, larger is better), or `none`.
        norm: How layers of searched candidates shall normalise: `any`; `batch_no_affine` (statistics of the batch,
            also in evaluation, no learnable scale); `batch_affine`; `recalibrate` (running statistics that are
            measured anew for each child that is evaluated).
        kernels: How convolutions whose kernel size is searched shall share weights: `any`, or `transform`, through
            matrices between one size and the next.
        draws: How many draws a policy step takes, each with its feedback.
        every: A policy step is due after so many weight steps; 0 means after every epoch.
        policy_first: Whether a policy step comes before its weight step, and not after it; where both are one pass, or
            a policy step is due after every epoch, this is of no account.
        is_one_pass: Whether weights and policy learn from one pass on a train batch.
        is_virtual: Whether `feedback` wants a `Virtual` instead of a loss.
        probes: Whether gates may probe candidates.
        paths: How many draws of `weights` share a weight step, their gradients added up; it may change with the
            progress of the run.
        selection: The richest selection that weight or policy steps use: `index`, `gate`, `subset` or `mixture`.
    """

    data: str = "valid"
    outcome: str = "loss"
    norm: str = "any"
    kernels: str = "any"
    draws: int = 1
    every: int = 1
    policy_first: bool = False
    is_one_pass: bool = False
    is_virtual: bool = False
    probes: bool = False
    paths: int = 1
    selection: str = "mixture"


class Virtual(Protocol):
    """Losses at weights that are not there: what second-order updates ask of the loop.

    All calls of one policy step use one train and one valid batch and the same random numbers (dropout), and leave
    the real weights, statistics and optimizer as they are (`torch.func.functional_call` on copies does).
    """

    learning_rate: float
    """xi, the present step size of the weights."""

    def weights(self) -> Sequence[Tensor]:
        """Returns the present weights, detached."""
        ...

    def stepped(self, gradients: Sequence[Tensor | None]) -> Sequence[Tensor]:
        """Returns the weights after one step of their optimizer, detached; momentum and decay included.

        Args:
            gradients: Of the train loss, one per weight; None for a weight that took no part.
        """
        ...

    def loss(self, selections: Selections, data: str, weights: Sequence[Tensor]) -> Tensor:
        """Returns the loss on the `train` or `valid` batch at given weights, with its graph to both arguments."""
        ...


class Cost(Protocol):
    """What a child costs, such as latency in ms; see `TableCost`."""

    def __call__(self, dna: DNA) -> float:
        """Returns the cost of one child."""
        ...


class SharedSearch(abc.ABC):
    """One run on shared weights.

    Draws that are never answered, late and repeated answers are all fine. Failures teach nothing: a feedback without
    outcome, or with one that is not finite. A state is taken between steps: draws without an answer are forgotten.
    """

    needs: Needs

    @abc.abstractmethod
    def progress(self, fraction: float) -> None:
        """Says how much of the run is done, in [0, 1]; temperatures and warm-ups follow it.

        Raises:
            SettingError: the fraction is out of its range.
        """

    @abc.abstractmethod
    def weights(self) -> Selections:
        """Returns the selections of the next weight step; nothing in them wants a gradient."""

    @abc.abstractmethod
    def policy(self) -> Selections:
        """Returns the selections of the next policy step.

        Raises:
            SettingError: the search has no policy (`needs.data == "none"`).
        """

    @abc.abstractmethod
    def feedback(
        self,
        selections: Selections,
        *,
        loss: Tensor | None = None,
        reward: float | None = None,
        virtual: Virtual | None = None,
    ) -> None:
        """Learns from the outcome of a policy step; only the policy moves.

        A loss may have been propagated before by `loss.backward()` (unscaled), whose gradient is then used instead of
        a second pass; otherwise the gradient is taken here, and no weight gets a `.grad`.

        Args:
            selections: What `policy` returned.
            loss: The loss under these selections, where `needs.outcome` is `loss`.
            reward: The reward under these selections, where it is `reward`.
            virtual: Losses at other weights, where `needs.is_virtual`.

        Raises:
            SettingError: the outcome is of another kind than `needs` says.
        """

    @abc.abstractmethod
    def derive(self, evaluate: Evaluate | None = None) -> DNA:
        """Returns the result of the search.

        Args:
            evaluate: Measures candidates, for the rules that compare several.

        Raises:
            SettingError: the rule needs an `evaluate`, or all that it measured failed.
        """

    @abc.abstractmethod
    def entropy(self) -> dict[str, float]:
        """Returns the entropy of each decision in nats, by path; empty without a policy, 0 for a decided number."""

    @abc.abstractmethod
    def probabilities(self) -> dict[str, list[float]]:
        """Returns the chance of each candidate by path, as if the decision were active; empty without a policy."""

    @abc.abstractmethod
    def state_dict(self) -> JSON:
        """Returns the state as JSON; a fresh search that loads it goes on bit for bit."""

    @abc.abstractmethod
    def load_state_dict(self, state: JSON) -> None:
        """Goes on from a state of a search of the same algorithm, space and seed."""


class OneShot(Algorithm):
    """Settings of an algorithm that shares weights."""

    @property
    def weighs_cost(self) -> bool:
        """Whether the `cost` of `start_shared` changes anything."""
        return False

    @abc.abstractmethod
    def start_shared(self, space: SearchSpace, *, seed: int, cost: Cost | None = None) -> SharedSearch:
        """Begins one run on shared weights; all randomness derives from `seed`.

        Args:
            space: The space; only its points are used.
            seed: Seed of the run.
            cost: What a child costs, for algorithms that weigh it.

        Raises:
            SettingError: the algorithm cannot search this space.
        """

    def start(self, space: SearchSpace, *, seed: int, num_objectives: int = 1) -> Search:
        """Refuses to run without shared weights, where the algorithm learns from gradients.

        Raises:
            SettingError: always, unless the algorithm can learn from rewards.
        """
        raise SettingError(
            "cannot search by trials",
            at=type(self).__name__,
            got="a space without shared weights",
            expected="a loss whose gradient reaches the decisions",
            fix="run it by mu.one_shot on mu.share_weights(program), or search with Reinforce() or evolution",
        )


symbolize_class(OneShot)


def need_fraction(fraction: object) -> float:
    """Returns a fraction.

    Raises:
        SettingError: it is not a number in [0, 1].
    """
    if isinstance(fraction, (int, float)) and not isinstance(fraction, bool) and 0.0 <= fraction <= 1.0:
        return float(fraction)
    raise SettingError("cannot set the progress", at="fraction", got=fraction, expected="a number in [0, 1]",
                       fix="pass the number of steps done over the number of steps")  # fmt: skip


def finite(reward: float | None) -> float | None:
    """Returns a reward as a float, or None where it is missing or not finite."""
    return float(reward) if reward is not None and math.isfinite(reward) else None


def refuse_outcome(algorithm: str, needs: Needs, got: str) -> SettingError:
    """Returns the error for an outcome of another kind than a search learns from."""
    wanted = "virtual" if needs.is_virtual else needs.outcome
    what = {"loss": "loss=, a scalar tensor", "reward": "reward=, a number", "virtual": "virtual=, a Virtual",
            "none": "no feedback at all"}  # fmt: skip
    return SettingError("cannot learn from an outcome", at=f"{algorithm}.feedback", got=got, expected=what[wanted],
                        fix="look at search.needs for what to pass")  # fmt: skip


def check_outcome(algorithm: str, needs: Needs, given: dict[str, Any]) -> None:
    """Refuses outcomes of a kind that a search does not learn from.

    Raises:
        SettingError: one is not what `needs` says.
    """
    wanted = "virtual" if needs.is_virtual else needs.outcome
    for kind, value in given.items():
        if value is not None and kind != wanted:
            raise refuse_outcome(algorithm, needs, kind + "=")


__all__ = ["Cost", "Evaluate", "Needs", "OneShot", "SharedSearch", "Virtual", "check_outcome", "finite",
           "need_fraction", "refuse_outcome"]  # fmt: skip
