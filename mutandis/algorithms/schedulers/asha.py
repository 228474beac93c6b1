"""ASHA: asynchronous successive halving.

Li, Jamieson, Rostamizadeh, Gonina, Ben-tzur, Hardt, Recht, Talwalkar: A System for Massively Parallel Hyperparameter
Tuning, MLSys 2020, arXiv 1810.05934, Algorithm 2 (`variant="promote"`). The stopping variant is the one that their
released system and others use: nothing is ever paused.

*Notation*: r = `min_fidelity`; R = `max_fidelity`; eta; rung k is at r eta^k, the last one at R.

*Departures*: R is the top rung also where it is no power of eta times r. A trial that ends before its next rung
takes its place there without a rank, so that failures do not hold up the others. Several objectives: see `rungs`.
"""

from __future__ import annotations

from mutandis.algorithms.base import JSON, need_one_of, settings
from mutandis.algorithms.multifidelity.rungs import need_fidelities
from mutandis.algorithms.schedulers.base import Directive, Ledger, Pacing, Rewards, Scheduler, ranked
from mutandis.algorithms.schedulers.rungs import Rung, levels


@settings
class ASHA(Scheduler):
    """Trains many trials for a short time, and the best `1 / eta` of each rung `eta` times as long.

    Needs reports that carry every objective, or a loop that trains for `feedback.fidelity` and answers. A rung is
    reached by the first report at its step or beyond; count steps from 1, as what is done.

    Args:
        min_fidelity: r, in steps: every trial is trained so long.
        max_fidelity: R, in steps: no trial is trained longer.
        eta: One in so many of a rung goes on.
        variant: `promote` pauses every trial at every rung, and lets one of the best `floor(n / eta)` of the n trials
            of a rung go on, from the highest rung down, before anything new begins. `stop` lets a trial go on right
            away if it is one of the best `max(1, floor(n / eta))` at that moment, and stops it otherwise: no trial
            needs a checkpoint, but early ones go on that later would not.

    Raises:
        SettingError: a length is not above 0, r is above R, eta is not above 1, or there is no such variant.
    """

    min_fidelity: float
    max_fidelity: float
    eta: float = 3
    variant: str = "promote"

    def __post_init__(self) -> None:
        need_fidelities("ASHA", self.min_fidelity, self.max_fidelity, self.eta)
        need_one_of(
            "ASHA.variant", self.variant, ("promote", "stop"), fix="use 'promote' where trials have checkpoints"
        )

    @property
    def pauses(self) -> bool:
        """Whether it promotes."""
        return self.variant == "promote"

    def start(self, *, seed: int, num_objectives: int = 1) -> Pacing:
        """Begins a run with empty rungs; nothing is drawn."""
        steps = levels(self.min_fidelity, self.max_fidelity, self.eta)
        kind = _PromotingPacing if self.pauses else _StoppingPacing
        return kind(steps, self.eta, num_objectives)


class _Ladder:
    """The rungs of a run, and which one each trial climbs to next."""

    def __init__(self, steps: tuple[float, ...], num_objectives: int) -> None:
        self.steps = steps
        self.rungs = [Rung(num_objectives) for _ in steps]
        self.ledger = Ledger()
        self.next: dict[int, int] = {}

    def reach(self, trial: int, step: float, rewards: tuple[float, ...] | None) -> int | None:
        """Returns the highest rung that a report reaches for the first time, where it is entered; or None."""
        above = first = self.next.get(trial, 0)
        while above < len(self.steps) and step >= self.steps[above]:
            above += 1
        if above == first:
            return None
        self.next[trial] = above  # Rungs that were passed without a report there have no result of this trial.
        self.rungs[above - 1].add(trial, rewards)
        return above - 1

    def finish(self, trial: int) -> None:
        """Ends a trial; where a rung still waits for it, it gets a result without a rank there."""
        if self.ledger.has_ended(trial):
            return
        above = self.next.pop(trial, 0)
        if above > 0:
            self.rungs[above - 1].wake(trial)
        if above < len(self.steps) and self.ledger.verdict(trial) is Directive.CONTINUE:
            self.rungs[above].add(trial, None)
        self.ledger.end(trial)

    def state_dict(self) -> JSON:
        return {
            "rungs": [rung.state_dict() for rung in self.rungs],
            "ledger": self.ledger.state_dict(),
            "next": [list(item) for item in self.next.items()],
        }

    def load_state_dict(self, state: JSON) -> None:
        for rung, found in zip(self.rungs, state["rungs"], strict=True):
            rung.load_state_dict(found)
        self.ledger.load_state_dict(state["ledger"])
        self.next = dict(state["next"])


class _PromotingPacing(Pacing):
    def __init__(self, steps: tuple[float, ...], eta: float, num_objectives: int) -> None:
        self._ladder = _Ladder(steps, num_objectives)
        self._eta = eta

    def begin(self, trial: int) -> float | None:
        self._ladder.ledger.resume(trial)
        above = self._ladder.next.setdefault(trial, 0)
        return self._ladder.steps[min(above, len(self._ladder.steps) - 1)]

    def report(self, trial: int, step: float, rewards: Rewards) -> Directive:
        ladder = self._ladder
        if not ladder.ledger.counts(trial, step):
            return ladder.ledger.verdict(trial)
        rung = ladder.reach(trial, step, ranked(rewards))
        if rung is None:
            return ladder.ledger.note(trial, step, Directive.CONTINUE)
        if rung == len(ladder.steps) - 1:
            return ladder.ledger.note(trial, step, Directive.COMPLETE)
        # What has no rank is never promoted, so that there is nothing to wait for.
        return ladder.ledger.note(trial, step, Directive.STOP if ranked(rewards) is None else Directive.PAUSE)

    def pause(self, trial: int) -> None:
        ladder = self._ladder
        above = ladder.next.get(trial, 0)
        if 0 < above < len(ladder.steps) and ladder.ledger.verdict(trial) is not Directive.STOP:
            ladder.rungs[above - 1].rest(trial)

    def finish(self, trial: int, rewards: Rewards | None) -> None:
        self._ladder.finish(trial)

    def promote(self, *, last: bool = False) -> int | None:
        for rung in reversed(self._ladder.rungs[:-1]):
            trial = rung.best_resting(int(len(rung) / self._eta))
            if trial is not None:
                rung.wake(trial)
                return trial
        return None

    def state_dict(self) -> JSON:
        return self._ladder.state_dict()

    def load_state_dict(self, state: JSON) -> None:
        self._ladder.load_state_dict(state)


class _StoppingPacing(Pacing):
    def __init__(self, steps: tuple[float, ...], eta: float, num_objectives: int) -> None:
        self._ladder = _Ladder(steps, num_objectives)
        self._eta = eta

    def begin(self, trial: int) -> float | None:
        self._ladder.next.setdefault(trial, 0)
        return self._ladder.steps[-1]

    def report(self, trial: int, step: float, rewards: Rewards) -> Directive:
        ladder = self._ladder
        if not ladder.ledger.counts(trial, step):
            return ladder.ledger.verdict(trial)
        rung = ladder.reach(trial, step, ranked(rewards))
        return ladder.ledger.note(trial, step, Directive.CONTINUE if rung is None else self._judged(trial, rung))

    def _judged(self, trial: int, number: int) -> Directive:
        if number == len(self._ladder.steps) - 1:
            return Directive.COMPLETE
        rung = self._ladder.rungs[number]
        kept = max(1, int(len(rung) / self._eta))
        return Directive.CONTINUE if rung.is_among(trial, kept) else Directive.STOP

    def finish(self, trial: int, rewards: Rewards | None) -> None:
        self._ladder.finish(trial)

    def state_dict(self) -> JSON:
        return self._ladder.state_dict()

    def load_state_dict(self, state: JSON) -> None:
        self._ladder.load_state_dict(state)
