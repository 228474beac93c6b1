"""Hill climbing: mutants of the best so far."""

from __future__ import annotations

from dataclasses import field

from mutandis.algorithms.base import JSON, Algorithm, Search, from_state, need_instance, need_int, settings, to_state
from mutandis.algorithms.evolution.mutators import Mutator, Uniform
from mutandis.hyper import DNA, Feedback, Proposal, SearchSpace
from mutandis.hyper.rng import Rng


@settings
class HillClimb(Algorithm):
    """Mutates the best individual so far; an equal one takes its place, so that plateaus are crossed.

    PyGlove keeps the first of equals (`drift=False`).

    Args:
        num_initial: So many random individuals come first.
        mutation: How a child differs from the best.
        drift: Whether an equal child replaces the best.
        batch_size: So many mutants are made of one individual before the best is looked up again.

    Raises:
        SettingError: `num_initial` or `batch_size` is not a whole number of at least 1.
    """

    num_initial: int = 1
    mutation: Mutator = field(default_factory=Uniform)
    drift: bool = True
    batch_size: int = 1

    def __post_init__(self) -> None:
        need_int("HillClimb.num_initial", self.num_initial, 1)
        need_int("HillClimb.batch_size", self.batch_size, 1)
        need_instance("HillClimb.mutation", self.mutation, Mutator, "mutation=Uniform()")

    def start(self, space: SearchSpace, *, seed: int, num_objectives: int = 1) -> Search:
        """Begins a run with random individuals."""
        self.check_objectives(num_objectives)
        return _ClimbingSearch(self, space.bare(), seed)


class _ClimbingSearch(Search):
    def __init__(self, settings: HillClimb, space: SearchSpace, seed: int) -> None:
        self._settings = settings
        self._space = space
        self._rng = Rng(seed, "hill climb")
        self._best: tuple[float, DNA] | None = None
        self._parent: DNA | None = None
        self._children = 0  # How many the parent has in this round.
        self._proposed = 0
        self._results = 0

    def propose(self) -> Proposal:
        number = self._proposed
        self._proposed += 1
        if self._best is None or self._results < self._settings.num_initial:
            return Proposal(number, self._space.random(self._rng))
        if self._parent is None or self._children >= self._settings.batch_size:
            self._parent, self._children = self._best[1], 0
        self._children += 1
        return Proposal(number, self._settings.mutation.mutate(self._parent, self._rng, self._results))

    def feedback(self, feedback: Feedback) -> None:
        if feedback.rewards is None:
            return
        self._results += 1
        reward = feedback.rewards[0]
        if self._best is None or reward > self._best[0] or (self._settings.drift and reward == self._best[0]):
            self._best = (reward, feedback.dna)

    def state_dict(self) -> JSON:
        best = None if self._best is None else [self._best[0], to_state(self._best[1])]
        return {
            "rng": self._rng.state(),
            "best": best,
            "parent": None if self._parent is None else to_state(self._parent),
            "children": self._children,
            "proposed": self._proposed,
            "results": self._results,
        }

    def load_state_dict(self, state: JSON) -> None:
        self._rng.set_state(state["rng"])
        best = state["best"]
        self._best = None if best is None else (best[0], from_state(self._space, best[1]))
        self._parent = None if state["parent"] is None else from_state(self._space, state["parent"])
        self._children = state["children"]
        self._proposed, self._results = state["proposed"], state["results"]
