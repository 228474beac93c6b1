"""Maximisers of an acquisition function: evolution over the whole space, then gradients along its continuous ranges
and single steps of all other decisions.

Individuals are places of the unit cube, in which every decision has genes whether it is active or not; only genes of
active decisions are changed, and what is hidden comes back when its decision becomes active. The Vizier algorithm
(arXiv 2408.11527, Sec. 4.3) also maximises by evolution, with 75,000 evaluations; the gradient steps make far fewer
enough. A finite space of at most `_LISTED` points is tried whole.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mutandis.algorithms.bayesian.features import Decision, Features

Array = NDArray[np.float64]
Score = Callable[[Array], Array]
ScoreAndSlope = Callable[[Array], tuple[float, Array]]
_LISTED = 1024
_NUM_RANDOM = 384  # Of the first population, besides the best points so far.
_NUM_NEAR = 192  # Mutants of these.
_NUM_ELITE = 48
_NUM_CHILDREN = 96
_NUM_GENERATIONS = 12
_NUM_REFINED = 3
_NUM_ROUNDS = 8
_NUM_MOVES = 256  # Of all single steps from the best place, in each round.
_MOVED = 1.5  # How many decisions a mutation changes on average.
_STEPS = (0.003, 0.3)  # Smallest and largest standard deviation of a step along a range.


class Maximiser:
    """Finds the places of a space where a score is large.

    Args:
        features: The features of the space.
    """

    def __init__(self, features: Features) -> None:
        self._features = features
        decisions = features.decisions
        self._owner = np.repeat(np.arange(len(decisions)), [d.units.stop - d.units.start for d in decisions])
        self._slides = np.array([decisions[i].point.kind in ("float", "int") for i in self._owner], dtype=bool)
        # A decision of many genes has only some of them changed at a time.
        self._share = np.array([min(1.0, 2 / (d.units.stop - d.units.start)) for d in decisions])[self._owner]
        size = features.space.size
        self._listed: Array | None = None
        if size <= _LISTED:
            self._listed = features.place(list(features.space.enumerate()))

    def best(self, score: Score, slope: ScoreAndSlope, seeds: Array, generator: np.random.Generator) -> Array:
        """Returns places in descending order of their score, the best of them refined.

        Args:
            score: Maps `[N, num_columns]` features to `[N]` scores.
            slope: Maps `[num_columns]` features to the score and its gradient.
            seeds: `[S, num_units]`, places to start from, such as the best points so far.
            generator: Draws the candidates.

        Returns:
            `[M, num_units]`.
        """
        if self._listed is not None:
            order = np.argsort(-score(self._features.encode(self._listed)), kind="stable")
            return self._listed[order]
        units, scores = self._evolve(score, seeds, generator)
        refined = np.array([self._climb(slope, place) for place in units[:_NUM_REFINED]])
        units = np.concatenate([refined, units])
        scores = np.concatenate([score(self._features.encode(refined)), scores])
        polished = self._polish(score, units[np.argmax(scores)], generator)
        if polished is not None:
            polished = self._climb(slope, polished)[None]
            units = np.concatenate([polished, units])
            scores = np.concatenate([score(self._features.encode(polished)), scores])
        return units[np.argsort(-scores, kind="stable")]

    def _evolve(self, score: Score, seeds: Array, generator: np.random.Generator) -> tuple[Array, Array]:
        units = generator.random((_NUM_RANDOM, self._features.num_units))
        if len(seeds):
            parents = np.repeat(seeds, -(-_NUM_NEAR // len(seeds)), axis=0)
            units = np.concatenate([seeds, self._mutants(parents, generator), units])
        scores = score(self._features.encode(units))
        for _ in range(_NUM_GENERATIONS):
            units, scores = _top(units, scores, _NUM_ELITE)
            children = self._children(units, generator)
            units = np.concatenate([units, children])
            scores = np.concatenate([scores, score(self._features.encode(children))])
        return _top(units, scores, _NUM_ELITE)

    def _children(self, elite: Array, generator: np.random.Generator) -> Array:
        """Returns mutants of elites; before, every second takes some decisions from another elite."""
        first = elite[generator.integers(len(elite), size=_NUM_CHILDREN)]
        second = elite[generator.integers(len(elite), size=_NUM_CHILDREN)]
        swaps = generator.random((_NUM_CHILDREN, len(self._features.decisions))) < 0.3
        swaps[::2] = False
        return self._mutants(np.where(swaps[:, self._owner], second, first), generator)

    def _mutants(self, parents: Array, generator: np.random.Generator) -> Array:
        active = self._features.encode_with_activity(parents)[1]
        chance = _MOVED / np.maximum(active.sum(axis=1), 1)
        touched = (generator.random(active.shape) < chance[:, None]) & active
        genes = touched[:, self._owner] & (generator.random(parents.shape) < self._share)
        low, high = np.log(_STEPS)
        steps = np.exp(generator.uniform(low, high, size=(len(parents), 1)))
        moved = parents + steps * generator.standard_normal(parents.shape)
        moved = np.abs(moved)
        moved = np.where(moved > 1, np.maximum(2 - moved, 0.0), moved)  # Reflected at the ends.
        drawn = generator.random(parents.shape)
        return np.where(genes, np.where(self._slides, moved, drawn), parents)

    def _polish(self, score: Score, place: Array, generator: np.random.Generator) -> Array | None:
        """Returns a place from which no single step of a decision without gradients leads higher, if it is new."""
        best, found = float(score(self._features.encode(place[None]))[0]), None
        for _ in range(_NUM_ROUNDS):
            active = self._features.encode_with_activity(place[None])[1][0]
            moves = [move for decision, is_active in zip(self._features.decisions, active, strict=True)
                     if is_active and not decision.is_smooth for move in steps(decision, place)]  # fmt: skip
            if not moves:
                return found
            chosen = generator.permutation(len(moves))[:_NUM_MOVES]
            around = np.array([moves[i] for i in chosen])
            scores = score(self._features.encode(around))
            if scores.max() <= best:
                return found
            best = float(scores.max())
            place = found = around[int(np.argmax(scores))]
        return found

    def _climb(self, slope: ScoreAndSlope, place: Array) -> Array:
        """Returns a place moved to a local maximum along its active continuous ranges."""
        from scipy.optimize import minimize

        encoded, active = self._features.encode_with_activity(place[None])
        smooth = [d for d, is_active in zip(self._features.decisions, active[0], strict=True)
                  if d.is_smooth and is_active]  # fmt: skip
        if not smooth:
            return place
        columns = np.array([decision.columns.start for decision in smooth])
        genes = np.array([decision.units.start for decision in smooth])
        point = encoded[0]

        def negated(x: Array) -> tuple[float, Array]:
            point[columns] = x
            value, gradient = slope(point)
            return -value, -gradient[columns]

        found: Any = minimize(negated, place[genes], jac=True, method="L-BFGS-B", bounds=[(0.0, 1.0)] * len(genes),
                              options={"maxiter": 30})  # fmt: skip
        moved = place.copy()
        moved[genes] = np.clip(found.x, 0.0, 1.0)
        return moved


def _top(units: Array, scores: Array, count: int) -> tuple[Array, Array]:
    order = np.argsort(-scores, kind="stable")[:count]
    return units[order], scores[order]


def steps(decision: Decision, place: Array) -> list[Array]:
    """Returns the places that are one step of a decision away.

    A step is another candidate of a choice or a slot, the next value of a range, another number of picks, or the
    exchange of two candidates in an order.
    """
    point, start, stop = decision.point, decision.units.start, decision.units.stop
    made: list[Array] = []
    if point.kind == "choice":
        return [_set(place, start, (i + 0.5) / point.num_candidates) for i in range(point.num_candidates)]
    if point.kind != "many":
        position = round((point.from_unit(float(place[start])) - point.low) / (point.step or 1))
        around = [p for p in (position - 1, position + 1) if 0 <= p < point.num_steps]
        return [_set(place, start, point.to_unit(point.at(p))[0]) for p in around]
    if point.k_min != point.k_max:
        span = point.k_max - point.k_min + 1
        made = [_set(place, start, (i + 0.5) / span) for i in range(span)]
        start += 1
    if not point.distinct:
        centres = [(i + 0.5) / point.num_candidates for i in range(point.num_candidates)]
        return made + [_set(place, slot, centre) for slot in range(start, stop) for centre in centres]
    for first, second in itertools.combinations(range(start, stop), 2):
        swapped = place.copy()
        swapped[[first, second]] = place[[second, first]]
        made.append(swapped)
    return made


def _set(place: Array, unit: int, value: float) -> Array:
    made = place.copy()
    made[unit] = value
    return made


def with_hidden_genes(features: Features, units: Array, generator: np.random.Generator) -> Array:
    """Returns places whose inactive decisions have random genes instead of the middle."""
    active = features.encode_with_activity(units)[1]
    owner = np.repeat(np.arange(len(features.decisions)), [d.units.stop - d.units.start for d in features.decisions])
    return np.where(active[:, owner], units, generator.random(units.shape))


__all__ = ["Maximiser", "with_hidden_genes"]
