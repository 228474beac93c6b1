"""Uniform training of single paths, and a search on the trained weights.

RSPS: Li, Talwalkar: Random Search and Reproducibility for Neural Architecture Search, UAI 2019, arXiv 1902.07638,
Sec. 3.2. SPOS: Guo, Zhang, Mu, Heng, Liu, Wei, Sun: Single Path One-Shot Neural Architecture Search with Uniform
Sampling, ECCV 2020, arXiv 1904.00420, Sec. 3.

*Departures*: the search of SPOS may be any algorithm; that of the paper is `TopKEvolution`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING

from mutandis.algorithms.base import JSON, Algorithm, Search, need_instance, need_int, need_number, settings
from mutandis.algorithms.oneshot.derive import best_of
from mutandis.algorithms.oneshot.protocol import (
    Cost,
    Evaluate,
    Needs,
    OneShot,
    SharedSearch,
    Virtual,
    finite,
    need_fraction,
    refuse_outcome,
)
from mutandis.algorithms.oneshot.selections import Selections, selections_of
from mutandis.algorithms.oneshot.top_k import TopKEvolution
from mutandis.algorithms.random_search import Random
from mutandis.errors import SettingError, SpaceExhausted
from mutandis.hyper import DNA, Feedback, SearchSpace
from mutandis.hyper.rng import Rng

if TYPE_CHECKING:
    from torch import Tensor

Draw = Callable[[Rng, float, int], DNA]
"""Draws a DNA, given the fraction of the run that is done and which path of its weight step it is, from 0."""
Derive = Callable[[Rng, Evaluate | None], DNA]


@settings
class RSPS(OneShot):
    """Trains weights on uniform random paths, and measures random DNAs on them. The baseline of weight sharing.

    Args:
        num_candidates: How many random DNAs are measured at the end.

    Raises:
        SettingError: the number is below 1.
    """

    num_candidates: int = 100
    objectives = "many"

    def __post_init__(self) -> None:
        need_int("RSPS.num_candidates", self.num_candidates, 1)

    def start(self, space: SearchSpace, *, seed: int, num_objectives: int = 1) -> Search:
        """Begins random search by trials."""
        return Random().start(space, seed=seed, num_objectives=num_objectives)

    def start_shared(self, space: SearchSpace, *, seed: int, cost: Cost | None = None) -> SharedSearch:
        """Begins a run; nothing is learnt but the weights."""
        bare = space.bare()

        def derive(rng: Rng, evaluate: Evaluate | None) -> DNA:
            return best_of("RSPS", (bare.random(rng) for _ in range(self.num_candidates)), evaluate)

        return UniformSearch("RSPS", seed, lambda rng, fraction, place: bare.random(rng), derive, "any")


class SearchedAfter(OneShot):
    """Settings of an algorithm that trains weights first, and searches on them, frozen, by another one.

    Attributes:
        search: The other one.
    """

    search: Algorithm

    @property
    def objectives(self) -> str:  # type: ignore[override]
        """Those of the search."""
        return self.search.objectives

    def start(self, space: SearchSpace, *, seed: int, num_objectives: int = 1) -> Search:
        """Begins the search on the weights, by trials."""
        return self.search.start(space, seed=seed, num_objectives=num_objectives)


@settings
class SPOS(SearchedAfter):
    """Trains weights on uniform random paths, and then searches on them, frozen, by another algorithm.

    Constraints belong into that algorithm: `SPOS(Constrained(RegularizedEvolution(), is_cheap))`.

    Args:
        search: The algorithm of the second phase.
        num_trials: How many DNAs it may measure; the paper measures 1000.
        cost_bins: Ascending edges in units of the cost, for paths that are uniform over the cost instead: a bin is
            drawn, and then random paths until one lies in it; (290, 300, ..., 360) million operations in the reference
            code. Empty for uniform paths.
        bin_tries: After so many, any random path will do.

    Raises:
        SettingError: a setting is of the wrong kind, or the edges do not ascend.
    """

    search: Algorithm = TopKEvolution()
    num_trials: int = 1000
    cost_bins: tuple[float, ...] = ()
    bin_tries: int = 500

    def __post_init__(self) -> None:
        need_instance("SPOS.search", self.search, Algorithm, "SPOS(RegularizedEvolution())")
        need_int("SPOS.num_trials", self.num_trials, 1)
        need_int("SPOS.bin_tries", self.bin_tries, 1)
        for edge in self.cost_bins:
            need_number("SPOS.cost_bins", edge)
        if self.cost_bins and (len(self.cost_bins) < 2 or any(a >= b for a, b in pairwise(self.cost_bins))):
            raise SettingError("cannot use a setting", at="SPOS.cost_bins", got=self.cost_bins,
                               expected="two or more edges, each above the one before",
                               fix="write cost_bins=(290, 300, 310)")  # fmt: skip

    @property
    def weighs_cost(self) -> bool:
        """Whether the `cost` of `start_shared` changes anything."""
        return bool(self.cost_bins)

    def start_shared(self, space: SearchSpace, *, seed: int, cost: Cost | None = None) -> SharedSearch:
        """Begins a run with the first phase; `derive` is the second.

        Raises:
            SettingError: the algorithm of the second phase refuses the space, or there are bins without a cost.
        """
        bare = space.bare()
        self.search.start(bare, seed=seed)
        if self.cost_bins and cost is None:
            raise SettingError("cannot draw by cost", at="SPOS.cost_bins", got=self.cost_bins,
                               expected="a cost to weigh paths with", fix="pass cost= too")  # fmt: skip

        def draw(rng: Rng, fraction: float, place: int) -> DNA:
            return self._within(bare, cost, rng) if self.cost_bins and cost is not None else bare.random(rng)

        derive = searched("SPOS", bare, self.search, self.num_trials)
        return UniformSearch("SPOS", seed, draw, derive, "recalibrate")

    def _within(self, space: SearchSpace, cost: Cost, rng: Rng) -> DNA:
        """Returns a random DNA whose cost lies in a random bin; any, where none is found."""
        index = int(rng.random() * (len(self.cost_bins) - 1))
        low, high = self.cost_bins[index : index + 2]
        for _ in range(self.bin_tries):
            dna = space.random(rng)
            if low <= cost(dna) <= high:
                return dna
        return space.random(rng)


def searched(name: str, space: SearchSpace, algorithm: Algorithm, num_trials: int) -> Derive:
    """Returns a way to derive that runs a search on measured DNAs."""

    def derive(rng: Rng, evaluate: Evaluate | None) -> DNA:
        search = algorithm.start(space, seed=rng.getrandbits(63))
        measured: dict[DNA, float | None] = {}
        for _ in range(num_trials if evaluate is not None else 0):
            try:
                proposal = search.propose()
            except SpaceExhausted:
                break
            dna = proposal.dna
            if dna not in measured and evaluate is not None:
                measured[dna] = finite(evaluate(dna))
            value = measured[dna]
            rewards = None if value is None else (value,)
            search.feedback(Feedback(proposal.id, dna, None, proposal.fidelity, rewards))
        return best_of(name, measured, None if evaluate is None else measured.__getitem__)

    return derive


class UniformSearch(SharedSearch):
    """A run whose draws learn nothing.

    Args:
        name: Of the algorithm.
        seed: Seed of the run.
        draw: Draws a DNA.
        derive: Searches on the trained weights.
        norm: What layers need.
        num_paths: How many paths a weight step takes, by the fraction of the run that is done.
        kernels: How kernels of several sizes must share their weights.
    """

    def __init__(self, name: str, seed: int, draw: Draw, derive: Derive, norm: str,
                 num_paths: Callable[[float], int] = lambda fraction: 1, kernels: str = "any") -> None:  # fmt: skip
        self.needs = Needs(data="none", outcome="none", norm=norm, kernels=kernels, draws=0, selection="index",
                           paths=num_paths(0.0))  # fmt: skip
        self._name = name
        self._num_paths = num_paths
        self._place = 0
        self._draw = draw
        self._derive = derive
        self._rng = Rng(seed, "one shot", name)
        self._fraction = 0.0

    def progress(self, fraction: float) -> None:
        """Says how much of the run is done, in [0, 1]; a new weight step begins."""
        self._fraction = need_fraction(fraction)
        self._place = 0
        self.needs = dataclasses.replace(self.needs, paths=self._num_paths(self._fraction))

    def weights(self) -> Selections:
        """Returns a random path."""
        place = self._place
        self._place = (place + 1) % self.needs.paths
        return selections_of(self._draw(self._rng, self._fraction, place))

    def policy(self) -> Selections:
        """Refuses, for there is no policy."""
        raise SettingError("cannot take a policy step", at=f"{self._name}.policy", got="no policy",
                           expected="weight steps only, then derive(evaluate)",
                           fix="look at search.needs.draws, which is 0")  # fmt: skip

    def feedback(
        self,
        selections: Selections,
        *,
        loss: Tensor | None = None,
        reward: float | None = None,
        virtual: Virtual | None = None,
    ) -> None:
        """Refuses outcomes, for nothing is learnt."""
        if loss is not None or reward is not None or virtual is not None:
            raise refuse_outcome(self._name, self.needs, "an outcome")

    def derive(self, evaluate: Evaluate | None = None) -> DNA:
        """Returns the best of what the search measures."""
        return self._derive(self._rng, evaluate)

    def entropy(self) -> dict[str, float]:
        """Returns nothing, for there is no policy."""
        return {}

    def probabilities(self) -> dict[str, list[float]]:
        """Returns nothing, for there is no policy."""
        return {}

    def state_dict(self) -> JSON:
        """Returns the state as JSON."""
        return {"rng": self._rng.state(), "fraction": self._fraction, "place": self._place}

    def load_state_dict(self, state: JSON) -> None:
        """Goes on from a state."""
        self._rng.set_state(state["rng"])
        self.progress(state["fraction"])
        self._place = state["place"]


__all__ = ["RSPS", "SPOS", "Draw", "SearchedAfter", "UniformSearch", "searched"]
