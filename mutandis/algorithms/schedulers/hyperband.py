"""Hyperband: successive halving at several trade-offs between many trials and long ones.

Li, Jamieson, DeSalvo, Rostamizadeh, Talwalkar: Hyperband: A Novel Bandit-Based Approach to Hyperparameter
Optimization, JMLR 18, 2018, arXiv 1603.06560, Algorithm 1; with ASHA in the brackets, Li et al. 2020, arXiv 1810.05934,
Sec. 3.3.

*Notation*: R = `max_fidelity`; eta; s_max = the largest s with R eta^-s >= `min_fidelity`; bracket s, from s_max down
to 0, begins n_s = ceil((s_max + 1) / (s + 1) eta^s) trials at R eta^-s.

*Departures*: with ASHA in the brackets a trial draws its bracket with a probability in proportion to n_s, so that
each has its share of the trials whenever the loop ends; the paper goes round. One loop of synchronous brackets after
the other; a bracket that waits holds up nobody.
"""

from __future__ import annotations

from mutandis.algorithms.base import JSON, need_one_of, settings
from mutandis.algorithms.multifidelity.rungs import need_fidelities
from mutandis.algorithms.schedulers.asha import ASHA
from mutandis.algorithms.schedulers.base import Directive, Pacing, Rewards, Scheduler
from mutandis.algorithms.schedulers.halving import Shape, in_brackets
from mutandis.hyper.rng import uniform_at


@settings
class Hyperband(Scheduler):
    """Brackets of successive halving that begin at different lengths, in case short trainings mislead.

    Needs reports that carry every objective, or a loop that trains for `feedback.fidelity` and answers.

    Args:
        min_fidelity: In steps; no bracket begins below it.
        max_fidelity: R, in steps; no trial is trained longer.
        eta: One in so many of a rung goes on.
        variant: `halving` fills the brackets one after the other with n_s trials each, and halves each when it is
            full. `promote` and `stop` run an `ASHA` of that variant per bracket.

    Raises:
        SettingError: a length is not above 0, they are in the wrong order, eta is not above 1, or there is no such
            variant.
    """

    min_fidelity: float
    max_fidelity: float
    eta: float = 3
    variant: str = "promote"

    def __post_init__(self) -> None:
        need_fidelities("Hyperband", self.min_fidelity, self.max_fidelity, self.eta)
        need_one_of(
            "Hyperband.variant",
            self.variant,
            ("halving", "promote", "stop"),
            fix="use 'promote' where trials have checkpoints",
        )

    @property
    def pauses(self) -> bool:
        """Whether trials are promoted."""
        return self.variant != "stop"

    def start(self, *, seed: int, num_objectives: int = 1) -> Pacing:
        """Begins a run; the seed names the draws of brackets."""
        shapes = brackets(self.min_fidelity, self.max_fidelity, self.eta)
        if self.variant == "halving":
            return in_brackets(shapes, self.eta, num_objectives)
        parts = [ASHA(steps[0], self.max_fidelity, self.eta, self.variant) for _, steps in shapes]
        members = [part.start(seed=seed, num_objectives=num_objectives) for part in parts]
        return _DrawnPacing(members, [size for size, _ in shapes], seed)


def brackets(min_fidelity: float, max_fidelity: float, eta: float) -> list[Shape]:
    """Returns n_s and the fidelities of the rungs for every bracket s, from s_max down to 0 (Algorithm 1)."""
    s_max = 0
    while max_fidelity / eta ** (s_max + 1) >= min_fidelity * (1 - 1e-9):
        s_max += 1
    made = []
    for s in range(s_max, -1, -1):
        size = -int(-((s_max + 1) * eta**s / (s + 1)) // 1)
        made.append((size, tuple(max_fidelity / eta**k for k in range(s, -1, -1))))
    return made


class _DrawnPacing(Pacing):
    """Every trial belongs to one member, drawn by its number with given weights."""

    def __init__(self, members: list[Pacing], weights: list[int], seed: int) -> None:
        self._members = members
        self._weights = weights
        self._seed = seed

    def _of(self, trial: int) -> Pacing:
        left = uniform_at(self._seed, "hyperband", trial) * sum(self._weights)
        for member, weight in zip(self._members, self._weights, strict=True):
            left -= weight
            if left < 0:
                return member
        return self._members[-1]

    def begin(self, trial: int) -> float | None:
        return self._of(trial).begin(trial)

    def report(self, trial: int, step: float, rewards: Rewards) -> Directive:
        return self._of(trial).report(trial, step, rewards)

    def pause(self, trial: int) -> None:
        self._of(trial).pause(trial)

    def finish(self, trial: int, rewards: Rewards | None) -> None:
        self._of(trial).finish(trial, rewards)

    def promote(self, *, last: bool = False) -> int | None:
        for member in self._members:
            trial = member.promote(last=last)
            if trial is not None:
                return trial
        return None

    def state_dict(self) -> JSON:
        return {"members": [member.state_dict() for member in self._members]}

    def load_state_dict(self, state: JSON) -> None:
        for member, found in zip(self._members, state["members"], strict=True):
            member.load_state_dict(found)
