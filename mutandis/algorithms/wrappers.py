"""Wrappers: another algorithm, with something taken out or put in."""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import Any

from mutandis.algorithms.base import JSON, Algorithm, Search, from_state, need_instance, need_int, settings, to_state
from mutandis.errors import SpaceExhausted
from mutandis.hyper import DNA, Feedback, Proposal, SearchSpace
from mutandis.hyper.rng import Rng

_WHOLE = float("inf")


@settings
class Deduped(Algorithm):
    """Never proposes a DNA twice.

    A repeated proposal of the wrapped algorithm is dropped; after `retries` of them in a row a random DNA that was
    not proposed yet takes its place. A finite space that is used up ends the search. The same DNA for longer than
    before is no repetition: so a trial goes on under algorithms that say how long to train.

    Args:
        algorithm: The algorithm to wrap.
        retries: How many repeated proposals in a row are dropped.

    Raises:
        SettingError: `retries` is not a whole number of at least 1.
    """

    algorithm: Algorithm
    retries: int = 20

    def __post_init__(self) -> None:
        need_instance("Deduped.algorithm", self.algorithm, Algorithm, "Deduped(Random())")
        need_int("Deduped.retries", self.retries, 1)

    @property
    def objectives(self) -> str:  # type: ignore[override]
        """Those of the wrapped algorithm."""
        return self.algorithm.objectives

    def start(self, space: SearchSpace, *, seed: int, num_objectives: int = 1) -> Search:
        """Begins a run of the wrapped algorithm."""
        inner = self.algorithm.start(space, seed=seed, num_objectives=num_objectives)
        return _DedupedSearch(inner, space.bare(), self.retries, seed)


@settings
class Constrained(Algorithm):
    """Proposes only what a predicate of the DNA allows.

    The wrapped algorithm is told of a refused proposal as of a failed trial, so that it can learn from it.

    Args:
        algorithm: The algorithm to wrap.
        predicate: A function of the DNA.
        retries: How many refusals in a row end the search.

    Raises:
        SettingError: `retries` is not a whole number of at least 1.
    """

    algorithm: Algorithm
    predicate: Callable[[DNA], bool]
    retries: int = 1000

    def __post_init__(self) -> None:
        need_instance("Constrained.algorithm", self.algorithm, Algorithm, "Constrained(Random(), predicate)")
        need_int("Constrained.retries", self.retries, 1)

    @property
    def objectives(self) -> str:  # type: ignore[override]
        """Those of the wrapped algorithm."""
        return self.algorithm.objectives

    def start(self, space: SearchSpace, *, seed: int, num_objectives: int = 1) -> Search:
        """Begins a run of the wrapped algorithm."""
        inner = self.algorithm.start(space, seed=seed, num_objectives=num_objectives)
        return _ConstrainedSearch(inner, self.predicate, self.retries)


class _Renumbered(Search):
    """A search whose proposals are some of those of another; ids are translated."""

    def __init__(self, inner: Search) -> None:
        self._inner = inner
        self._proposed = 0
        self._ids: dict[int, int] = {}
        self._outer_ids: dict[int, int] = {}  # Of what later proposals may inherit from.

    def _pass_on(self, proposal: Proposal) -> Proposal:
        number = self._proposed
        self._proposed += 1
        self._ids[number] = proposal.id
        if proposal.fidelity is not None:
            self._outer_ids[proposal.id] = number
        inherit = None if proposal.inherit is None else self._outer_ids.get(proposal.inherit)
        return Proposal(number, proposal.dna, proposal.fidelity, inherit)

    def feedback(self, feedback: Feedback) -> None:
        number = None if feedback.id is None else self._ids.pop(feedback.id, None)
        self._inner.feedback(Feedback(number, feedback.dna, feedback.metrics, feedback.fidelity, feedback.rewards))

    def state_dict(self) -> JSON:
        return {
            "inner": self._inner.state_dict(),
            "proposed": self._proposed,
            "ids": list(self._ids.items()),
            "outer_ids": list(self._outer_ids.items()),
        }

    def load_state_dict(self, state: JSON) -> None:
        self._inner.load_state_dict(state["inner"])
        self._proposed = state["proposed"]
        self._ids = {int(outer): inner for outer, inner in state["ids"]}
        self._outer_ids = {int(inner): outer for inner, outer in state["outer_ids"]}


class _DedupedSearch(_Renumbered):
    def __init__(self, inner: Search, space: SearchSpace, retries: int, seed: int) -> None:
        super().__init__(inner)
        self._space = space
        self._retries = retries
        self._rng = Rng(seed, "deduped")
        self._seen: dict[DNA, float] = {}  # The largest fidelity that each was proposed with; inf where nobody said.

    def propose(self) -> Proposal:
        if len(self._seen) >= self._space.size and all(length == _WHOLE for length in self._seen.values()):
            raise SpaceExhausted("cannot propose: every DNA of the space was proposed", got=len(self._seen),
                                 expected=f"at most {self._space.size} proposals")  # fmt: skip
        proposal = None
        for _ in range(self._retries):
            proposal = self._inner.propose()
            if _length(proposal.fidelity) > self._seen.get(proposal.dna, 0.0):
                break
        else:
            assert proposal is not None  # At least one retry is required by the settings.
            proposal = Proposal(proposal.id, unseen(self._space, self._seen.keys(), self._rng), proposal.fidelity)
        self._note(proposal.dna, proposal.fidelity)
        return self._pass_on(proposal)

    def _note(self, dna: DNA, fidelity: float | None) -> None:
        self._seen[dna] = max(self._seen.get(dna, 0.0), _length(fidelity))

    def feedback(self, feedback: Feedback) -> None:
        if feedback.id is None:
            self._note(feedback.dna, feedback.fidelity)
        super().feedback(feedback)

    def state_dict(self) -> JSON:
        seen = [[to_state(dna), None if length == _WHOLE else length] for dna, length in self._seen.items()]
        return {**super().state_dict(), "seen": sorted(seen, key=repr), "rng": self._rng.state()}

    def load_state_dict(self, state: JSON) -> None:
        super().load_state_dict(state)
        self._seen = {from_state(self._space, values): _length(length) for values, length in state["seen"]}
        self._rng.set_state(state["rng"])


def _length(fidelity: float | None) -> float:
    return _WHOLE if fidelity is None else fidelity


def unseen(space: SearchSpace, seen: Set[DNA], rng: Rng) -> DNA:
    """Returns a random DNA that was not seen; where that is rare, the first one of the space.

    Raises:
        SpaceExhausted: there is none, or none was found in 100 random draws from a space that cannot be listed.
    """
    for _ in range(100):
        dna = space.random(rng)
        if dna not in seen:
            return dna
    if space.is_finite and len(seen) < space.size:
        return next(dna for dna in space.enumerate() if dna not in seen)
    raise SpaceExhausted("cannot propose: no new DNA was found in 100 random draws", got=len(seen),
                         expected="a space with more than a few values")  # fmt: skip


class _ConstrainedSearch(_Renumbered):
    def __init__(self, inner: Search, predicate: Callable[[DNA], Any], retries: int) -> None:
        super().__init__(inner)
        self._predicate = predicate
        self._retries = retries

    def propose(self) -> Proposal:
        for _ in range(self._retries):
            proposal = self._inner.propose()
            if self._predicate(proposal.dna):
                return self._pass_on(proposal)
            self._inner.feedback(Feedback(proposal.id, proposal.dna))
        raise SpaceExhausted("cannot propose: the predicate refuses everything", got=self._retries,
                             expected="one allowed DNA among so many proposals",
                             fix="loosen the predicate, or raise Constrained.retries")  # fmt: skip
