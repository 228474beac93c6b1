"""Stopping by what other trials had at the same step: the median rule, and any other percentile.

Golovin, Solnik, Moitra, Kochanski, Karro, Sculley: Google Vizier: A Service for Black-Box Optimization, KDD 2017, doi
10.1145/3097983.3098043, Sec. 3.2.2: "stops a pending trial x_t at step s if the trial's best objective value by step
s is strictly worse than the median value of the running averages of all completed trials' objectives reported up to
step s". Used by `Median`; `Percentile` puts another percentile in place of the median.

*Departures*: a peer is compared at steps that it reported itself; where trials report at different steps, they are no
peers. Trials that were stopped are peers too, as far as they came: without them the bar would rise with every stop.

*Several objectives*: a peer dominates a trial if it is nowhere worse and somewhere better. The rank of a point is the
number of peers that dominate it (Fonseca, Fleming: Genetic Algorithms for Multiobjective Optimization, ICGA 1993), so
with one objective it counts those that are better; a trial is stopped where its rank is above the median of the ranks
of its peers. What nobody dominates is never stopped. The best so far is taken per objective, in favour of the trial.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Sequence

from mutandis.algorithms.base import JSON, need_int, need_number, settings
from mutandis.algorithms.dominance import dominates
from mutandis.algorithms.schedulers.base import Directive, Ledger, Pacing, Rewards, Scheduler, ranked

Vector = tuple[float, ...]


@settings
class Median(Scheduler):
    """Stops a trial whose best so far is worse than the median of what its peers had on average up to that step.

    Args:
        min_trials: How many peers there must be at a step before anyone is stopped there.
        warmup: No trial is stopped before this step.
        interval: A trial is judged once in so many steps.

    Raises:
        SettingError: `min_trials` is not a whole number of at least 1, `warmup` is below 0, or `interval` not above 0.
    """

    min_trials: int = 5
    warmup: float = 0
    interval: float = 1

    def __post_init__(self) -> None:
        _need_timing("Median", self.min_trials, self.warmup, self.interval)

    def start(self, *, seed: int, num_objectives: int = 1) -> Pacing:
        """Begins a run without peers; nothing is drawn."""
        return _PercentilePacing(50.0, self.min_trials, self.warmup, self.interval, num_objectives)


@settings
class Percentile(Scheduler):
    """Stops a trial whose best so far is not among the best `percentile` % of its peers' averages up to that step.

    Args:
        percentile: From 0 to 100: 25 lets the best quarter go on, 50 is `Median`.
        min_trials: How many peers there must be at a step before anyone is stopped there.
        warmup: No trial is stopped before this step.
        interval: A trial is judged once in so many steps.

    Raises:
        SettingError: `percentile` is not in [0, 100], `min_trials` is not a whole number of at least 1, `warmup` is
            below 0, or `interval` not above 0.
    """

    percentile: float
    min_trials: int = 5
    warmup: float = 0
    interval: float = 1

    def __post_init__(self) -> None:
        need_number("Percentile.percentile", self.percentile, low=0, high=100, fix="give a percentage")
        _need_timing("Percentile", self.min_trials, self.warmup, self.interval)

    def start(self, *, seed: int, num_objectives: int = 1) -> Pacing:
        """Begins a run without peers; nothing is drawn."""
        return _PercentilePacing(self.percentile, self.min_trials, self.warmup, self.interval, num_objectives)


def _need_timing(name: str, min_trials: object, warmup: object, interval: object) -> None:
    need_int(f"{name}.min_trials", min_trials, 1)
    need_number(f"{name}.warmup", warmup, low=0)
    need_number(f"{name}.interval", interval, above=0)


class _Course:
    """What one running trial has reported: sums for its average, its best, its averages by step."""

    def __init__(self, num_objectives: int) -> None:
        self.count = 0
        self.sums = [0.0] * num_objectives
        self.best = [-math.inf] * num_objectives
        self.averages: list[tuple[float, Vector]] = []
        self.judged = -1

    def add(self, step: float, rewards: Vector) -> None:
        self.count += 1
        self.sums = [total + reward for total, reward in zip(self.sums, rewards, strict=True)]
        self.best = [max(pair) for pair in zip(self.best, rewards, strict=True)]
        self.averages.append((step, tuple(total / self.count for total in self.sums)))


class _PercentilePacing(Pacing):
    """Costs per judged report: with one objective a search among the N peers of a step, with several O(N)."""

    def __init__(self, percentile: float, min_trials: int, warmup: float, interval: float, num_objectives: int) -> None:
        self._percentile = percentile
        self._min_trials = min_trials
        self._warmup = warmup
        self._interval = interval
        self._num_objectives = num_objectives
        self._ledger = Ledger()
        self._running: dict[int, _Course] = {}
        self._peers: dict[float, _Peers] = {}

    def report(self, trial: int, step: float, rewards: Rewards) -> Directive:
        if not self._ledger.counts(trial, step):
            return self._ledger.verdict(trial)
        course = self._running.get(trial)
        if course is None:
            course = self._running[trial] = _Course(self._num_objectives)
        found = ranked(rewards)
        if found is not None:
            course.add(step, found)
        is_bad = self._is_due(course, step) and self._is_worse(course, step)
        return self._ledger.note(trial, step, Directive.STOP if is_bad else Directive.CONTINUE)

    def _is_due(self, course: _Course, step: float) -> bool:
        turn = int((step - self._warmup) // self._interval)
        if turn <= course.judged:
            return False
        course.judged = turn
        return True

    def _is_worse(self, course: _Course, step: float) -> bool:
        peers = self._peers.get(step)
        if peers is None or len(peers) < self._min_trials:
            return False
        return course.count == 0 or peers.is_beyond(tuple(course.best), self._percentile)

    def finish(self, trial: int, rewards: Rewards | None) -> None:
        course = self._running.pop(trial, None)
        self._ledger.end(trial)
        if course is None or rewards is None:
            return
        for step, average in course.averages:
            if step not in self._peers:
                self._peers[step] = _Peers()
            self._peers[step].add(average)

    def state_dict(self) -> JSON:
        running = [
            [trial, course.count, course.sums, [None if best == -math.inf else best for best in course.best],
             [[step, list(average)] for step, average in course.averages], course.judged]
            for trial, course in self._running.items()
        ]  # fmt: skip
        peers = [[step, [list(point) for point in found.points]] for step, found in self._peers.items()]
        return {"ledger": self._ledger.state_dict(), "running": running, "peers": peers}

    def load_state_dict(self, state: JSON) -> None:
        self._ledger.load_state_dict(state["ledger"])
        self._running, self._peers = {}, {}
        for trial, count, sums, best, averages, judged in state["running"]:
            course = self._running[trial] = _Course(self._num_objectives)
            course.count, course.sums, course.judged = count, list(sums), judged
            course.best = [-math.inf if value is None else value for value in best]
            course.averages = [(step, tuple(average)) for step, average in averages]
        for step, points in state["peers"]:
            found = self._peers[step] = _Peers()
            for point in points:
                found.add(tuple(point))


class _Peers:
    """The averages of ended trials at one step; with one objective in ascending order, else with their ranks."""

    def __init__(self) -> None:
        self.points: list[Vector] = []
        self._ranks: list[int] = []

    def __len__(self) -> int:
        return len(self.points)

    def add(self, point: Vector) -> None:
        if len(point) == 1:
            insort(self.points, point)
            return
        self._ranks = [rank + below for rank, below in zip(self._ranks, _worse(self.points, point), strict=True)]
        self._ranks.append(self._rank(point))
        self.points.append(point)

    def _rank(self, point: Vector) -> int:
        return sum(_better(self.points, point))

    def is_beyond(self, point: Vector, percentile: float) -> bool:
        """Returns whether a point is worse than what the best `percentile` % of the peers reach."""
        if len(point) == 1:
            return point[0] < _quantile(self.points, 1 - percentile / 100)
        return self._rank(point) > _quantile([(rank,) for rank in sorted(self._ranks)], percentile / 100)


def _worse(points: Sequence[Vector], point: Vector) -> list[bool]:
    """Returns which points a point dominates."""
    if len(point) == 2:  # The usual case, ten times faster.
        a, b = point
        return [x <= a and y <= b and (x < a or y < b) for x, y in points]
    return [dominates(point, other) for other in points]


def _better(points: Sequence[Vector], point: Vector) -> list[bool]:
    """Returns which points dominate a point."""
    if len(point) == 2:
        a, b = point
        return [x >= a and y >= b and (x > a or y > b) for x, y in points]
    return [dominates(other, point) for other in points]


def _quantile(ordered: Sequence[tuple[float, ...]], share: float) -> float:
    """Returns a quantile of ascending numbers, each in a tuple, between neighbours by linear interpolation."""
    place = share * (len(ordered) - 1)
    low = int(place)
    below, above = ordered[low][0], ordered[min(low + 1, len(ordered) - 1)][0]
    return below + (place - low) * (above - below)
