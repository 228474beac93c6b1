"""Population-based training: a schedule of decisions, found during one training of a population.

Jaderberg, Dalibard, Osindero, Czarnecki, et al.: Population Based Training of Neural Networks, 2017, arXiv 1711.09846,
Algorithm 1, with truncation selection and the perturbations of Ray Tune.

*Notation*: N = `population_size`, f = `quantile`, n_q = min(ceil(N f), N // 2). Every member trains for `interval`. If
it is then among the n_q worst, it *exploits*: it goes on from the trained state of one of the n_q best, drawn
uniformly, and *explores*: it changes the decisions of that one. Members are compared by their latest results.

*Departures*: when a worker is free and no member is waiting for its turn, all idle members are judged at once, losers
first in the queue. With one worker this is the synchronous form, all members having trained equally long; with as many
workers as members it is the asynchronous one. A product that leaves the range of its decision is clipped. A loser that
is no worse than its donor keeps its own trained state and only takes the decisions over, as there is nothing better to
copy. A member whose interval failed counts as the worst and has no trained state: it takes that of one of the best, or
starts afresh where nobody has any.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mutandis.algorithms.base import (
    JSON,
    Algorithm,
    Search,
    from_state,
    need_instance,
    need_int,
    need_number,
    settings,
    to_state,
)
from mutandis.algorithms.evolution.mutators import local_move
from mutandis.algorithms.multifidelity.source import reached
from mutandis.algorithms.random_search import Random
from mutandis.errors import SettingError, SpaceExhausted
from mutandis.hyper import DNA, Feedback, Point, Proposal, SearchSpace
from mutandis.hyper.rng import Rng

_WORST = float("-inf")
_LOST = 10
"""A member without an answer is trained again when every member could have answered so many times since."""


@settings
class PBT(Algorithm):
    """Trains a population in intervals; the worst copy the best and change the decisions that may change meanwhile.

        rate = mu.floatv(1e-4, 1.0, scale="log", when="step")
        loop = mu.sample(Trainer(net, rate), mu.algorithms.PBT(population_size=8, interval=1, max_fidelity=20))
        for child, feedback in loop:
            ...  # Load feedback.inherited, train up to feedback.fidelity, save to feedback.checkpoint.
        mu.algorithms.multifidelity.schedule(loop.study.trials, loop.study.best.id)

    A proposal says up to where to train (`fidelity`, the total) and whose trained state to go on from (`inherit`). Only
    decisions with `when="step"` are changed; all others are fixed when a member is born, and a loser takes them over
    with the trained state, which must fit. The result is a schedule: see `schedule`.

    Args:
        interval: For how long a member trains before it is judged, in a unit of your choice, such as epochs.
        population_size: N.
        max_fidelity: The length of a full training; a member that has it is done. None for no end.
        quantile: f, in (0, 1/2]; 0 for no exploiting. More than half counts as half.
        resample: The probability that a decision is drawn anew instead of being perturbed.
        factors: What a number is multiplied with, up or down with equal chance. Ordered candidates, such as those of
            `oneof`, move to a neighbour.
        sampler: Where the decisions of new members come from.

    Raises:
        SettingError: a setting is out of its range; the message says which.
    """

    interval: float
    population_size: int = 10
    max_fidelity: float | None = None
    quantile: float = 0.25
    resample: float = 0.25
    factors: tuple[float, float] = (1.2, 0.8)
    sampler: Algorithm = field(default_factory=Random)

    def __post_init__(self) -> None:
        need_number("PBT.interval", self.interval, above=0, fix="use 1: one epoch")
        need_int("PBT.population_size", self.population_size, 2)
        if self.max_fidelity is not None:
            need_number("PBT.max_fidelity", self.max_fidelity, low=self.interval, fix="give at least one interval")
        for name in ("quantile", "resample"):
            need_number(f"PBT.{name}", getattr(self, name), low=0, high=1, fix="use 0.25")
        if not isinstance(self.factors, (tuple, list)) or len(self.factors) != 2:
            raise SettingError("cannot use a setting", at="PBT.factors", got=self.factors,
                               expected="two numbers, up and down", fix="use (1.2, 0.8)")  # fmt: skip
        for factor in self.factors:
            need_number("PBT.factors", factor, above=0, fix="use (1.2, 0.8)")
        need_instance("PBT.sampler", self.sampler, Algorithm, "sampler=Random()")

    def start(self, space: SearchSpace, *, seed: int, num_objectives: int = 1) -> Search:
        """Begins a run with a population of new members.

        Raises:
            SettingError: no decision of the space may change during a training.
        """
        self.check_objectives(num_objectives)
        if not changeable(space):
            raise SettingError(
                "cannot search a space where nothing may change during a training",
                at="PBT",
                got=space,
                expected='a decision with when="step" that decides on no other with when="build"',
                fix='write mu.floatv(..., when="step") for a learning rate and the like, or use ASHA() or BOHB()',
            )
        return _PopulationSearch(self, space.bare(), seed)


@dataclass(slots=True)
class _Member:
    """One member: what it last answered, and what it trains next or now.

    Attributes:
        dna: Its decisions.
        state: The id of the proposal whose trained state it goes on from, or None.
        clock: How long that has been trained.
        reward: Its latest result, or that of the one it copied since; None where there is none or it failed.
        asked: The ids of the proposals of the present interval that were not answered.
        results: How many results the population had when it was last asked.
    """

    dna: DNA
    state: int | None = None
    clock: float = 0.0
    reward: float | None = None
    asked: list[int] = field(default_factory=list)
    results: int = 0


class _PopulationSearch(Search):
    def __init__(self, settings: PBT, space: SearchSpace, seed: int) -> None:
        self._settings = settings
        self._space = space
        self._changeable = changeable(space)
        self._rng = Rng(seed, "population based training")
        self._sampler = settings.sampler.start(space, seed=seed)
        self._size = settings.population_size
        self._members: list[_Member] = []
        self._queue: list[int] = []  # Judged members that wait for a worker.
        self._proposed = 0
        self._results = 0

    def propose(self) -> Proposal:
        if self._is_growing():
            return self._ask(len(self._members) - 1)
        if not self._queue:
            self._judge()
        if self._queue:
            return self._ask(self._queue.pop(0))
        waiting = [i for i, member in enumerate(self._members) if member.asked]
        if not waiting:
            raise SpaceExhausted("cannot propose: every member has been trained in full", got=self._proposed,
                                 expected=f"{self._settings.max_fidelity} for {len(self._members)} members",
                                 fix="raise PBT.max_fidelity or PBT.population_size for more")  # fmt: skip
        return self._ask(min(waiting, key=lambda i: self._members[i].asked[-1]))

    def _is_growing(self) -> bool:
        """Adds a member, unless there are enough or the sampler has no more of them."""
        if len(self._members) >= self._size:
            return False
        try:
            self._members.append(_Member(self._sampler.propose().dna))
        except SpaceExhausted:
            if not self._members:
                raise
            self._size = len(self._members)
            return False
        return True

    def _ask(self, index: int) -> Proposal:
        member = self._members[index]
        number = self._proposed
        self._proposed += 1
        member.asked.append(number)
        member.results = self._results
        return Proposal(number, member.dna, self._target(member), member.state)

    def _target(self, member: _Member) -> float:
        target = member.clock + self._settings.interval
        limit = self._settings.max_fidelity
        return target if limit is None else min(target, limit)

    def _judge(self) -> None:
        """Decides on the next interval of all members that have ended one, and asks anew for those that are lost."""
        patience = _LOST * len(self._members)
        lost = [i for i, m in enumerate(self._members) if m.asked and self._results - m.results >= patience]
        known = [i for i, member in enumerate(self._members) if member.state is not None]
        scores = [_WORST if (r := self._members[i].reward) is None else r for i in known]
        bottom, top = ([known[i] for i in part] for part in quantiles(scores, self._settings.quantile))
        donors = [replace(self._members[i]) for i in top if self._members[i].reward is not None]
        idle = [i for i in known if not self._members[i].asked and not self._is_done(self._members[i])]
        losers = [i for i in idle if i in bottom or self._members[i].reward is None]
        for i in losers:
            self._replace(self._members[i], donors)
        ready = [*losers, *(i for i in idle if i not in losers), *lost]
        self._queue = [i for i in ready if self._target(self._members[i]) > self._members[i].clock]

    def _is_done(self, member: _Member) -> bool:
        return member.reward is not None and self._target(member) <= member.clock

    def _replace(self, member: _Member, donors: list[_Member]) -> None:
        """Makes a loser go on from a donor (exploit) with other decisions (explore)."""
        rated = donors or [replace(m) for m in self._members if m.reward is not None]
        if not rated:
            member.dna, member.state, member.clock = self._space.random(self._rng), None, 0.0
            return
        donor = rated[int(self._rng.random() * len(rated))]
        assert donor.reward is not None
        fixed = member.dna
        if member.reward is None or member.reward < donor.reward:
            member.state, member.clock, member.reward, fixed = donor.state, donor.clock, donor.reward, donor.dna
        taken = taken_over(fixed, donor.dna, self._changeable, self._rng)
        member.dna = explored(taken, self._changeable, self._rng, self._settings.resample, self._settings.factors)

    def feedback(self, feedback: Feedback) -> None:
        """Learns from a result; one that nobody asked for is left aside, for it has no trained state to copy."""
        index = None if feedback.id is None else self._asked(feedback.id)
        if index is None or feedback.id is None:
            return
        member = self._members[index]
        target = self._target(member)
        result = reached(feedback, target)
        self._results += 1
        member.asked = []
        member.reward = result.reward if result.fidelity == target else None
        member.state, member.clock = feedback.id, target

    def _asked(self, number: int) -> int | None:
        return next((i for i, member in enumerate(self._members) if number in member.asked), None)

    def state_dict(self) -> JSON:
        members = [[to_state(m.dna), m.state, m.clock, m.reward, m.asked, m.results]
                   for m in self._members]  # fmt: skip
        return {
            "rng": self._rng.state(),
            "sampler": self._sampler.state_dict(),
            "members": members,
            "queue": self._queue,
            "size": self._size,
            "proposed": self._proposed,
            "results": self._results,
        }

    def load_state_dict(self, state: JSON) -> None:
        self._rng.set_state(state["rng"])
        self._sampler.load_state_dict(state["sampler"])
        self._members = [_Member(from_state(self._space, values), *rest) for values, *rest in state["members"]]
        self._queue, self._size = list(state["queue"]), state["size"]
        self._proposed, self._results = state["proposed"], state["results"]


def quantiles(scores: Sequence[float], fraction: float) -> tuple[list[int], list[int]]:
    """Returns the indices of the worst and of the best scores, each ascending by score; equals by index.

    Args:
        scores: Larger is better.
        fraction: Which share each has, rounded up; at most half of all.
    """
    ranked = sorted(range(len(scores)), key=lambda i: scores[i])
    size = min(math.ceil(len(ranked) * fraction), len(ranked) // 2)
    return (ranked[:size], ranked[-size:]) if size else ([], [])


def changeable(space: SearchSpace) -> frozenset[int]:
    """Returns the indices of the decisions that may change during a training.

    These have `when="step"`, and so has all that hangs on them.
    """
    fixed = {point.index for point in space.points if point.when != "step"}
    for point in reversed(space.points):  # Children come after their parents.
        if point.index in fixed:
            fixed.update(parent for parent, _ in point.conditions)
    return frozenset(range(len(space.points))) - fixed


def taken_over(dna: DNA, donor: DNA, among: frozenset[int], rng: Rng) -> DNA:
    """Returns a DNA with those decisions of another one that are `among` some, where the other has them."""
    values = [
        theirs if theirs is not None and index in among else own
        for index, (own, theirs) in enumerate(zip(dna.values, donor.values, strict=True))
    ]
    return dna.space.repair(values, lambda point: point.draw(rng))  # type: ignore[no-any-return]


def explored(dna: DNA, among: frozenset[int], rng: Rng, resample: float, factors: tuple[float, float]) -> DNA:
    """Returns a DNA with some decisions perturbed or drawn anew; decisions that become active are drawn.

    Args:
        dna: The DNA.
        among: The indices of the points that are changed where they are active.
        rng: The generator: one number for whether a decision is drawn anew, and one for which way it is perturbed.
        resample: The probability that a decision is drawn anew.
        factors: What a number is multiplied with, up and down.
    """
    values: list[Any] = list(dna.values)
    for point in dna.active:
        if point.index in among:
            value = values[point.index]
            is_new = rng.random() < resample
            values[point.index] = point.draw(rng) if is_new else perturbed(point, value, rng, factors)
    return dna.space.repair(values, lambda point: point.draw(rng))  # type: ignore[no-any-return]


def perturbed(point: Point, value: Any, rng: Rng, factors: tuple[float, float]) -> Any:
    """Returns a value next to one of a point.

    With u the next number of the generator: a number is multiplied with the first factor if u > 1/2, else with the
    second; a whole or stepped one moves at least one step. A choice takes the candidate before it if u > 1/2, else the
    one after it, and stays at the ends. Picks change one place.
    """
    if point.kind not in ("choice", "float", "int"):
        return local_move(point, value, 0.1, rng)
    is_high = rng.random() > 0.5
    if point.kind == "choice":
        return min(max(value + (-1 if is_high else 1), 0), point.num_candidates - 1)
    factor = factors[0] if is_high else factors[1]
    moved = min(max(value * factor, point.low), point.high)
    if not point.is_finite:
        return float(moved)
    place, step = round((value - point.low) / (point.step or 1)), point.step or 1
    shift = round((moved - point.low) / step) - place
    if shift == 0 and value * factor != value:
        shift = 1 if value * factor > value else -1
    return point.at(min(max(place + shift, 0), point.num_steps - 1))
