"""Greedy search of a layered tree: which blocks of one layer feed which blocks of the next, down to many heads.

Huang, Li, He, Sun, Li: GNAS: A Greedy Neural Architecture Search Method for Multi-Attribute Learning, ACM Multimedia
2018, arXiv 1804.06964. Every block of layer l + 1 has one parent among the B_l blocks of layer l; each head is an
attribute with a reward of its own. Instead of Prod_l B_l^(B_{l+1}) trees, a sweep tries Sum_l B_l: layer after layer
from the heads down, all blocks of the layer above are given the same parent i at once, which shows every attribute's
reward under it,

    parent(b) = argmax_i mean { r[i][n] : n a descendant of b },

other layers being as they are. Sweeps go on until one changes nothing.

*Notation*: `layers[0]` are the decisions of the heads, `layers[k]` those of the blocks that are the candidates of
`layers[k - 1]`; n = an attribute, the n-th objective; r = rewards; G = the tree so far.

*Departures*: the paper trains candidates with shared weights; here a trial is whatever the loop does with the child,
trained or shared. A parent is kept on ties, else a sweep may run in circles. Blocks without descendants keep their
parent, as they have no reward; so greedy ends in a local optimum now and then. With `judge="all"` a block is judged
with all heads led through it, the layer farthest from the heads first: B_l trials for every block instead of for a
whole layer, and exact where the rewards of the layers add up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mutandis.algorithms.base import JSON, Algorithm, Search, need_one_of, settings
from mutandis.errors import SettingError, SpaceExhausted, closest
from mutandis.hyper import DNA, Feedback, Proposal, SearchSpace

Rewards = tuple[float, ...]


@settings
class GNAS(Algorithm):
    """Chooses the parents of all blocks layer by layer, each by the attributes that hang on it.

        heads = [mu.oneof([0, 1], name=f"head {n}") for n in range(3)]
        blocks = [mu.oneof([0, 1], name=f"block {b}") for b in range(2)]
        algorithm = GNAS((("head 0", "head 1", "head 2"), ("block 0", "block 1")))
        mu.sample([heads, blocks], algorithm, objectives=("smile", "glasses", "beard"))

    With one objective all heads share it; a single head has the mean of several. Decisions beside the layers stay at
    their defaults. The seed plays no part.

    Args:
        layers: The decisions by layer, as paths or names, those of the heads first. A layer has as many decisions as
            the one before it has candidates.
        judge: `own`: a block by the attributes that descend from it; `all`: by all of them, led through it.
    """

    layers: tuple[tuple[str, ...], ...]
    judge: str = "own"
    objectives = "many"

    def __post_init__(self) -> None:
        need_one_of("GNAS.judge", self.judge, ("own", "all"))
        if not self.layers or not all(isinstance(layer, tuple) and layer for layer in self.layers):
            raise SettingError("cannot use a setting", at="GNAS.layers", got=self.layers,
                               expected="a tuple with a tuple of decisions for each layer",
                               fix='write GNAS((("head 0", "head 1"), ("block 0", "block 1")))')  # fmt: skip

    def start(self, space: SearchSpace, *, seed: int, num_objectives: int = 1) -> Search:
        """Begins a run at the default of the space.

        Raises:
            SettingError: a layer does not fit the space or the one before it, or there are several objectives but not
                one for each head.
        """
        bare = space.bare()
        known = [point.key for point in bare.points]
        for names in self.layers:
            for key in names:
                if not any(key in (point.key, point.path) for point in bare.points):
                    raise _misfit(names, f"decisions of this space, not {key!r}{closest(key, known)}")
        places = [[bare.point(key).index for key in layer] for layer in self.layers]
        counts: list[int] = []
        for number, layer in enumerate(places):
            kinds = {
                (bare.points[i].kind, bare.points[i].num_candidates, bool(bare.points[i].conditions)) for i in layer
            }
            kind, count, is_conditional = next(iter(kinds))
            if len(kinds) > 1 or kind != "choice" or is_conditional:
                raise _misfit(self.layers[number], "choices of equally many candidates that are always active")
            if counts and len(layer) != counts[-1]:
                raise _misfit(self.layers[number], f"{counts[-1]} decisions, one per candidate of the layer before")
            counts.append(count)
        if num_objectives not in (1, len(places[0])) and len(places[0]) > 1:
            raise SettingError("cannot search for these objectives", at="GNAS.layers", got=num_objectives,
                               expected=f"one objective, or {len(places[0])}, one for each head",
                               fix="give an objective for each decision of layers[0]")  # fmt: skip
        return _GreedySearch(bare, places, counts, self.judge)


def _misfit(layer: tuple[str, ...], expected: str) -> SettingError:
    return SettingError("cannot search a layer greedily", at="GNAS.layers", got=layer, expected=expected,
                        fix="list the decisions of each layer of a layered tree, or use another algorithm")  # fmt: skip


@dataclass(frozen=True)
class _Round:
    """Which parents are tried: those of a whole layer at once, or of one block."""

    layer: int
    block: int | None = None


class _GreedySearch(Search):
    def __init__(self, space: SearchSpace, places: list[list[int]], counts: list[int], judge: str) -> None:
        self._space = space
        self._places = places
        self._counts = counts
        self._rounds = _sweep(places, judge)
        default = space.default()
        self._parents: list[list[int]] = [[default.values[i] for i in layer] for layer in places]
        self._rest = list(default.values)
        self._proposed = 0
        self._begin(0, has_changed=False)

    def _begin(self, number: int, *, has_changed: bool) -> None:
        self._number = number
        self._has_changed = has_changed
        self._is_over = False
        self._next = 0
        self._first = self._proposed
        self._results: dict[int, Rewards | None] = {}

    def propose(self) -> Proposal:
        if self._is_over:
            raise SpaceExhausted("cannot propose: a whole sweep changed nothing", got=self._proposed,
                                 expected="a tree that can be improved by one layer")  # fmt: skip
        waiting = [i for i in range(self._count) if i not in self._results]
        candidate = waiting[self._next % len(waiting)] if self._next >= self._count else self._next
        self._next += 1
        number = self._proposed
        self._proposed += 1
        return Proposal(number, self._candidate(candidate))

    @property
    def _round(self) -> _Round:
        return self._rounds[self._number]

    @property
    def _count(self) -> int:
        return self._counts[self._round.layer]

    def _candidate(self, parent: int) -> DNA:
        """Returns the tree so far with one parent for the whole layer, or for one block that all heads lead to."""
        layer, block = self._round.layer, self._round.block
        parents = [list(row) for row in self._parents]
        if block is None:
            parents[layer] = [parent] * len(parents[layer])
        else:
            parents[layer][block] = parent
            parents[layer - 1] = [block] * len(parents[layer - 1])
        values = list(self._rest)
        for places, row in zip(self._places, parents, strict=True):
            for index, value in zip(places, row, strict=True):
                values[index] = value
        return self._space.repair(values, lambda point: point.first())

    def feedback(self, feedback: Feedback) -> None:
        if feedback.id is None or feedback.id < self._first or self._is_over:
            return  # Nobody asked, or it is of an earlier round.
        known = next((i for i in range(self._count) if self._candidate(i) == feedback.dna), None)
        if known is None or known in self._results:
            return
        self._results[known] = feedback.rewards
        if len(self._results) == self._count:
            self._decide()

    def _decide(self) -> None:
        """Gives every block of the round its best parent, and begins the next round."""
        layer, block = self._round.layer, self._round.block
        row = list(self._parents[layer])
        for b in range(len(row)) if block is None else (block,):
            heads = range(len(self._places[0])) if block is not None else self._descendants(layer, b)
            row[b] = self._best(row[b], list(heads))
        has_changed = self._has_changed or row != self._parents[layer]
        self._parents[layer] = row
        if self._number + 1 < len(self._rounds):
            self._begin(self._number + 1, has_changed=has_changed)
        elif has_changed:
            self._begin(0, has_changed=False)
        else:
            self._is_over = True

    def _best(self, present: int, heads: list[int]) -> int:
        """Returns the parent with the best mean reward of some heads; the present one on ties and without heads."""
        if not heads:
            return present
        means: dict[int, float] = {}
        for candidate, rewards in self._results.items():
            if rewards is not None:
                means[candidate] = _mean_reward(rewards, heads, len(self._places[0]))
        if not means:
            return present
        best = max(means.values())
        return present if means.get(present) == best else min(i for i, mean in means.items() if mean == best)

    def _descendants(self, layer: int, block: int) -> list[int]:
        """Returns the heads whose path goes through a block of a layer; a head is its own descendant."""
        found = []
        for head in range(len(self._places[0])):
            at = head
            for row in self._parents[:layer]:
                at = row[at]
            if at == block:
                found.append(head)
        return found

    def state_dict(self) -> JSON:
        return {
            "parents": self._parents,
            "proposed": self._proposed,
            "number": self._number,
            "has_changed": self._has_changed,
            "is_over": self._is_over,
            "next": self._next,
            "first": self._first,
            "results": [[i, None if r is None else list(r)] for i, r in self._results.items()],
        }

    def load_state_dict(self, state: JSON) -> None:
        self._parents = [list(row) for row in state["parents"]]
        self._proposed, self._number = state["proposed"], state["number"]
        self._has_changed, self._is_over = state["has_changed"], state["is_over"]
        self._next, self._first = state["next"], state["first"]
        results: list[tuple[int, Any]] = state["results"]
        self._results = {i: None if rewards is None else tuple(rewards) for i, rewards in results}


def _mean_reward(rewards: Rewards, heads: list[int], num_heads: int) -> float:
    """Returns the mean reward of some heads: one each, or else the mean of all rewards for every head."""
    shown = [rewards[n] for n in heads] if len(rewards) == num_heads else rewards
    return sum(shown) / len(shown)


def _sweep(places: list[list[int]], judge: str) -> list[_Round]:
    """Returns the rounds of a sweep: from the heads down; or block by block from the farthest layer up."""
    if judge == "own":
        return [_Round(layer) for layer in range(len(places))]
    blocks = [_Round(layer, block) for layer in range(len(places) - 1, 0, -1) for block in range(len(places[layer]))]
    return [*blocks, _Round(0)]


__all__ = ["GNAS"]
