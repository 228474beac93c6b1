"""Any algorithm of trials on shared weights: each proposal trains the weights and is rewarded on a valid batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mutandis.algorithms.base import JSON, Algorithm
from mutandis.algorithms.oneshot.derive import best_of
from mutandis.algorithms.oneshot.protocol import (
    Cost,
    Evaluate,
    Needs,
    OneShot,
    SharedSearch,
    Virtual,
    check_outcome,
    finite,
)
from mutandis.algorithms.oneshot.selections import Selections, selections_of
from mutandis.errors import SettingError, SpaceExhausted
from mutandis.hyper import DNA, Feedback, Proposal, Rng, SearchSpace

if TYPE_CHECKING:
    from torch import Tensor


class SampledSearch(SharedSearch):
    """A run whose weight and policy steps take the proposals of another search; the policy step comes second.

    When the other search has nothing left to propose, weights are trained on random paths, and nothing is learnt.

    Args:
        algorithm: The algorithm.
        space: The space.
        seed: Seed of the run.
        num_candidates: How many further proposals are measured at the end.
    """

    def __init__(self, algorithm: Algorithm, space: SearchSpace, seed: int, num_candidates: int) -> None:
        self.needs = Needs(outcome="reward", selection="index")
        self._space = space.bare()
        self._search = algorithm.start(self._space, seed=seed)
        self._rng = Rng(seed, "one shot", "sampled")
        self._num_candidates = num_candidates
        self._name = type(algorithm).__name__
        self._pending: Proposal | None = None
        self._count = 0

    def progress(self, fraction: float) -> None:
        """Hears how much of the run is done, and does not care."""

    def _next(self) -> Proposal | None:
        try:
            return self._search.propose()
        except SpaceExhausted:
            return None

    def weights(self) -> Selections:
        """Returns the path of the next proposal; `policy` returns the same."""
        self._pending = self._next()
        return selections_of(self._space.random(self._rng) if self._pending is None else self._pending.dna)

    def policy(self) -> Selections:
        """Returns the path of the last weight step, or of the next proposal."""
        if self._pending is None:
            self._pending = self._next()
        if self._pending is None:
            return selections_of(self._space.random(self._rng))
        self._count += 1
        return selections_of(self._pending.dna, self._count)

    def feedback(
        self,
        selections: Selections,
        *,
        loss: Tensor | None = None,
        reward: float | None = None,
        virtual: Virtual | None = None,
    ) -> None:
        """Hands the reward to the other search."""
        check_outcome(self._name, self.needs, {"loss": loss, "reward": reward, "virtual": virtual})
        if self._pending is not None and selections.number == self._count:
            self._tell(self._pending, finite(reward))
            self._pending = None

    def _tell(self, proposal: Proposal, reward: float | None) -> None:
        rewards = None if reward is None else (reward,)
        self._search.feedback(Feedback(proposal.id, proposal.dna, None, proposal.fidelity, rewards))

    def derive(self, evaluate: Evaluate | None = None) -> DNA:
        """Measures further proposals, which the other search learns from, and returns the best.

        Raises:
            SettingError: there is no `evaluate`, or all that it measured failed.
        """
        measured: dict[DNA, float | None] = {}
        for _ in range(0 if evaluate is None else self._num_candidates):
            proposal = self._next()
            if proposal is None or evaluate is None:
                break
            if proposal.dna not in measured:
                measured[proposal.dna] = finite(evaluate(proposal.dna))
            self._tell(proposal, measured[proposal.dna])
        if evaluate is not None and not measured:  # Nothing was left to propose.
            return best_of(self._name, (self._space.random(self._rng) for _ in range(self._num_candidates)), evaluate)
        return best_of(self._name, measured, None if evaluate is None else measured.__getitem__)

    def entropy(self) -> dict[str, float]:
        """Returns nothing, for the policy is not known."""
        return {}

    def probabilities(self) -> dict[str, list[float]]:
        """Returns nothing, for the policy is not known."""
        return {}

    def state_dict(self) -> JSON:
        """Returns the state as JSON."""
        return {"search": self._search.state_dict(), "rng": self._rng.state(), "count": self._count}

    def load_state_dict(self, state: JSON) -> None:
        """Goes on from a state."""
        self._search.load_state_dict(state["search"])
        self._rng.set_state(state["rng"])
        self._count = state["count"]
        self._pending = None


def need_weighed(algorithm: Algorithm, cost: Cost | None, at: str) -> None:
    """Refuses a cost that would change nothing."""
    if cost is None or (isinstance(algorithm, OneShot) and algorithm.weighs_cost):
        return
    name = type(algorithm).__name__
    is_shared = isinstance(algorithm, OneShot)
    raise SettingError(
        "cannot weigh a cost",
        at=at,
        got=cost,
        expected=f"None for {name} as it is set" if is_shared else f"None for {name}, which only sees rewards",
        fix=f"set what {name} weighs costs by, if it can, or give it to ResourceConstrained(algorithm, cost)"
        if is_shared
        else "put the cost into metric=, or wrap the algorithm in Constrained(...)",
    )


__all__ = ["SampledSearch", "need_weighed"]
