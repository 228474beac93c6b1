"""NSGA-III: evolution for three and more objectives, spread along reference directions.

Deb, Jain: An Evolutionary Many-Objective Optimization Algorithm Using Reference-Point-Based Nondominated Sorting
Approach, Part I, IEEE Transactions on Evolutionary Computation 18(4), 2014, doi 10.1109/TEVC.2013.2281535,
Algorithms 1 to 4. Reference points are those of Das, Dennis: Normal-Boundary Intersection, SIAM Journal on
Optimization 8(3), 1998, doi 10.1137/S1052623496307510.

*Notation*: N = `population_size`; M objectives; p = `divisions`; H = the number of reference points, C(M + p - 1, p);
S = the fronts up to the one that overflows N, F_l = that front; z* = the best value of each objective ever seen; a_m =
the intercept of axis m with the plane through the M extreme points of S; rho_j = how many survivors belong to point j.

Rewards are negated, so that z* is the least: f = z_i - z*. Intercepts fall back to the largest f_m of front 0 where the
extreme points span no plane, or an intercept is not positive.

*Departures*: the best values z* are those of all results, as in the paper, and remembered when a run is resumed. The
directions are those with the largest p that gives at most N of them, unless `divisions` says so. Generations are those
of `mutandis.algorithms.evolution.generations`; equal DNAs are merged. Parents are drawn without a tournament
(Sec. IV-F).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import field
from itertools import combinations, pairwise
from typing import Any

import numpy as np

from mutandis.algorithms.base import JSON, Algorithm, Search, need_instance, need_int, need_number, settings
from mutandis.algorithms.dominance import non_dominated_fronts
from mutandis.algorithms.evolution.crossovers import Crossover, UniformCrossover
from mutandis.algorithms.evolution.generations import GenerationalSearch, Survival
from mutandis.algorithms.evolution.mutators import Mutator, Uniform
from mutandis.algorithms.evolution.population import Individual
from mutandis.hyper import SearchSpace
from mutandis.hyper.rng import Rng

Array = Any
_EPSILON = 1e-6  # The weight of the other axes in the scalarisation that finds extreme points.


@settings
class NSGA3(Algorithm):
    """Keeps the best fronts and, of the last that fits, what is nearest to the emptiest reference directions.

    Args:
        population_size: N; so many random individuals come first, and so many survive each generation.
        divisions: p, into how many parts each axis of the reference plane is cut; chosen by N by default.
        crossover: How two parents become a child.
        mutation: How the child is changed then.
        crossover_probability: Otherwise the child is that of the first parent alone.

    Raises:
        SettingError: a number is not whole or below 1, or the probability not in [0, 1].
    """

    population_size: int = 100
    divisions: int | None = None
    crossover: Crossover = field(default_factory=UniformCrossover)
    mutation: Mutator = field(default_factory=Uniform)
    crossover_probability: float = 0.9
    objectives = "many"

    def __post_init__(self) -> None:
        need_int("NSGA3.population_size", self.population_size, 1)
        if self.divisions is not None:
            need_int("NSGA3.divisions", self.divisions, 1)
        need_instance("NSGA3.crossover", self.crossover, Crossover, "crossover=UniformCrossover()")
        need_instance("NSGA3.mutation", self.mutation, Mutator, "mutation=Uniform()")
        need_number("NSGA3.crossover_probability", self.crossover_probability, low=0, high=1, fix="use 0.9")

    def start(self, space: SearchSpace, *, seed: int, num_objectives: int = 1) -> Search:
        """Begins a run with random individuals."""
        divisions = self.divisions or fitting_divisions(num_objectives, self.population_size)
        directions = reference_points(num_objectives, divisions)
        survival = _Niching(self.population_size, directions, Rng(seed, "nsga3", "niches"))
        return GenerationalSearch(self, space.bare(), Rng(seed, "nsga3"), survival)


class _Niching(Survival):
    def __init__(self, size: int, directions: Array, rng: Rng) -> None:
        self._size = size
        self._directions = directions
        self._rng = rng
        self._best = np.full(directions.shape[1], np.inf)

    def select(self, population: Sequence[Individual]) -> list[Individual]:
        costs_NM = -np.array([individual.rewards for individual in population], dtype=np.float64)
        self._best = np.minimum(self._best, costs_NM.min(0))
        fronts = non_dominated_fronts([individual.rewards or () for individual in population])
        kept: list[int] = []
        considered: list[int] = []
        for front in fronts:
            considered += front
            if len(considered) >= self._size:
                break
            kept = list(considered)
        last = considered[len(kept) :]
        if len(considered) > self._size:
            scaled = normalised(costs_NM - self._best, fronts[0], considered)
            last = self._fill(kept, last, *nearest_directions(scaled, self._directions))
        return [population[i] for i in sorted([*kept, *last])]  # Oldest first.

    def _fill(self, kept: list[int], last: list[int], nearest: Array, distance: Array) -> list[int]:
        """Returns as many of the last front as there is room for (Algorithm 4)."""
        counts = np.bincount(nearest[kept], minlength=len(self._directions))
        waiting: dict[int, list[int]] = {}
        for i in last:
            waiting.setdefault(int(nearest[i]), []).append(i)
        chosen: list[int] = []
        while len(kept) + len(chosen) < self._size:
            least = min(counts[j] for j in waiting)
            niches = sorted(j for j in waiting if counts[j] == least)
            niche = niches[int(self._rng.random() * len(niches))]
            members = waiting[niche]
            if least == 0:
                member = min(members, key=lambda i: (distance[i], i))
            else:
                member = members[int(self._rng.random() * len(members))]
            members.remove(member)
            if not members:
                del waiting[niche]
            chosen.append(member)
            counts[niche] += 1
        return chosen

    def state_dict(self) -> JSON:
        best = None if np.isinf(self._best).any() else self._best.tolist()
        return {"rng": self._rng.state(), "best": best}

    def load_state_dict(self, state: JSON) -> None:
        self._rng.set_state(state["rng"])
        count = self._directions.shape[1]
        self._best = np.full(count, np.inf) if state["best"] is None else np.array(state["best"])


def fitting_divisions(num_objectives: int, size: int) -> int:
    """Returns the largest p whose reference points are at most `size`; 1 where even that is more."""
    divisions = 1
    while num_objectives > 1 and math.comb(num_objectives + divisions, divisions + 1) <= size:
        divisions += 1
    return divisions


def reference_points(num_objectives: int, divisions: int) -> Array:
    """Returns the points of the unit simplex whose coordinates are multiples of 1/p (Das & Dennis 1998).

    Args:
        num_objectives: M.
        divisions: p.

    Returns:
        `[H, M]` float, H = C(M + p - 1, p); each row adds up to 1.
    """
    rows = []
    for bars in combinations(range(divisions + num_objectives - 1), num_objectives - 1):
        edges = (-1, *bars, divisions + num_objectives - 1)
        rows.append([b - a - 1 for a, b in pairwise(edges)])
    return np.array(rows, dtype=np.float64) / divisions


def normalised(gaps_NM: Array, front: Sequence[int], considered: Sequence[int]) -> Array:
    """Returns the distances from the best values in units of the intercepts (Algorithm 2).

    Args:
        gaps_NM: `[N, M]` float >= 0, f of every point.
        front: Indices of front 0.
        considered: Indices of S, where the extreme points are looked for.
    """
    count = gaps_NM.shape[1]
    weights = np.full((count, count), _EPSILON)
    np.fill_diagonal(weights, 1.0)
    subset = gaps_NM[list(considered)]
    extremes = [int(np.argmin((subset / weights[m]).max(1))) for m in range(count)]
    corners_MM = subset[extremes]
    largest = gaps_NM[list(front)].max(0)
    intercepts = largest
    if len(set(extremes)) == count and np.linalg.matrix_rank(corners_MM) == count:
        inverse = np.linalg.solve(corners_MM, np.ones(count))
        if (inverse > 0).all():
            intercepts = 1 / inverse
    return gaps_NM / np.where(intercepts > 0, intercepts, 1.0)


def nearest_directions(scaled_NM: Array, directions_HM: Array) -> tuple[Array, Array]:
    """Returns the nearest reference direction of each point, and how far from its line the point is (Algorithm 3).

    Args:
        scaled_NM: `[N, M]` float, normalised points.
        directions_HM: `[H, M]` float, the reference points.

    Returns:
        `[N]` int, the index of the direction, the first of equals; `[N]` float >= 0.
    """
    units_HM = directions_HM / np.linalg.norm(directions_HM, axis=1, keepdims=True)
    along_NH = scaled_NM @ units_HM.T
    squares_NH = np.maximum((scaled_NM**2).sum(1, keepdims=True) - along_NH**2, 0.0)
    nearest_N = squares_NH.argmin(1)
    return nearest_N, np.sqrt(squares_NH[np.arange(len(scaled_NM)), nearest_N])
