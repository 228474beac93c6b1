"""Branches as arms: which part of a conditional space a trial should go to.

Densities alone decide badly between branches: where the first trials of the best branch are poor, the others fill the
good side, and TPE seldom comes back. Here each candidate of a choice that opens sub-spaces is an arm of a bandit whose
reward is the best that it has reached, as in Li, Jiang, Gao, Shao, Zhang, Cui: Efficient Automatic CASH via Rising
Bandits, AAAI 2020, arXiv 2012.04371, Sec. 4: what an arm may still reach is extrapolated from how it rose.

*Notation*: a = an arm, n_a = its trials, pending ones included, y_a(n) = the best of its first n rewards, N = the
trials of the choice.

    score(a) = y_a(n_a) + (y_a(n_a) - y_a(n_a / 2))

that is, another doubling of its trials may bring what the last one brought. An arm is *due* if n_a < 2 sqrt(N), for an
arm that had bad luck must come back, or if it scores above the arm of the best trial. In half of the steps the due arm
of the highest score is forced, those of too few trials first; in the others the arm of the best trial stays.

The walk starts at the choices that are always active. One choice alone splits its space into separate ones: the walk
goes on among the choices below its arm. Several side by side, such as the layers of a network, share their trials: at
most one of them is forced, and the walk ends.

*Departures*: Rising Bandits eliminates arms for good and needs to know the number of trials; here neither.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import NamedTuple

from mutandis.algorithms.bayesian.parzen_axes import Arm
from mutandis.hyper import DNA, Point, SearchSpace
from mutandis.hyper.points import CHOICE
from mutandis.hyper.rng import Rng

_SHARE = 0.5  # Of the steps in which an arm may be forced.
_FEWEST = 3  # Trials before an arm has a score.
_FLOOR = 2.0


class Step(NamedTuple):
    """One step down the tree.

    Attributes:
        arm: The choice and its candidate.
        is_alone: Whether no other choice stands beside it.
        is_forced: Whether it is another candidate than the best trial's.
    """

    arm: Arm
    is_alone: bool
    is_forced: bool


class Branches:
    """What is known of the arms of a space.

    Args:
        space: A bare space.

    Attributes:
        choices: The choices that other decisions hang on.
        below: The indices of the points that hang on an arm, through others too.
    """

    def __init__(self, space: SearchSpace) -> None:
        parents = {parent for point in space.points for parent, _ in point.conditions}
        self.choices = [p for p in space.points if p.index in parents and p.kind == CHOICE and p.num_candidates > 1]
        arms = [(point.index, candidate) for point in self.choices for candidate in range(point.num_candidates)]
        self.below = {arm: _points_below(space, arm) for arm in arms}
        self._bests: dict[Arm, list[float | None]] = {arm: [] for arm in arms}  # The best after each trial.
        self._incumbents: dict[Arm | None, tuple[float, DNA]] = {}
        self._pending: Counter[Arm] = Counter()

    def _arms_of(self, dna: DNA) -> list[Arm]:
        values = dna.values
        return [(point.index, values[point.index]) for point in self.choices if values[point.index] is not None]

    def expect(self, dna: DNA, change: int = 1) -> None:
        """Counts a pending trial, or takes it back with `change` -1."""
        for arm in self._arms_of(dna):
            self._pending[arm] += change

    def add(self, dna: DNA, reward: float | None) -> None:
        """Learns from a trial; a failed one counts as a trial that brought nothing."""
        arms = self._arms_of(dna)
        for arm in arms:
            bests = self._bests[arm]
            before = bests[-1] if bests else None
            bests.append(reward if before is None else before if reward is None else max(before, reward))
        if reward is not None:
            for key in (None, *arms):
                if key not in self._incumbents or reward > self._incumbents[key][0]:
                    self._incumbents[key] = (reward, dna)

    def num_trials(self, arm: Arm) -> int:
        """Returns n_a."""
        return len(self._bests[arm]) + self._pending[arm]

    def score(self, arm: Arm) -> float:
        """Returns what an arm may reach after another doubling of its trials; inf while that is not known."""
        bests = self._bests[arm]
        if len(bests) < _FEWEST:
            return math.inf
        now, before = bests[-1], bests[(len(bests) - 1) // 2]
        if now is None or before is None:
            return math.inf
        return 2 * now - before

    def walk(self, rng: Rng) -> list[Step]:
        """Returns the arms of the next trial from the top down, as far as they matter."""
        steps: list[Step] = []
        above: Arm | None = None
        while above in self._incumbents:
            values = self._incumbents[above][1].values
            beside = [p for p in self.choices if values[p.index] is not None and _hangs_on(p, above)]
            if not beside:
                break
            is_alone = len(beside) == 1
            arm = self._due(beside, values, rng) if rng.random() < _SHARE else None
            if arm is not None:
                steps.append(Step(arm, is_alone, True))
            elif is_alone:
                steps.append(Step((beside[0].index, values[beside[0].index]), True, False))
            if not is_alone:
                break
            above = steps[-1].arm
        return steps

    def _due(self, beside: list[Point], values: tuple[int, ...], rng: Rng) -> Arm | None:
        found: list[tuple[float, int, float, Arm]] = []
        for point in beside:
            own = (point.index, values[point.index])
            arms = [(point.index, candidate) for candidate in range(point.num_candidates)]
            floor = _FLOOR * math.sqrt(sum(map(self.num_trials, arms)))
            bar = self.score(own)
            for arm in arms:
                trials = self.num_trials(arm)
                score = math.inf if trials < floor else self.score(arm)
                if arm != own and (score > bar or score == math.inf):
                    found.append((score, -trials, rng.random(), arm))
        return max(found)[-1] if found else None


def _hangs_on(point: Point, arm: Arm | None) -> bool:
    return not point.conditions if arm is None else arm in point.conditions


def _points_below(space: SearchSpace, arm: Arm) -> frozenset[int]:
    found: set[int] = set()
    for point in space.points:
        if any(condition == arm or condition[0] in found for condition in point.conditions):
            found.add(point.index)
    return frozenset(found)
