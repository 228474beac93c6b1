"""Successive halving, synchronous: a bracket of trials, of which the best share goes on when all are there.

Jamieson, Talwalkar: Non-stochastic Best Arm Identification and Hyperparameter Optimization, AISTATS 2016, arXiv
1502.07943, Figure 3, in the form of Li, Jamieson, DeSalvo, Rostamizadeh, Talwalkar: Hyperband, JMLR 18, 2018, arXiv
1603.06560, Algorithm 1: n trials at r, the best `floor(n / eta)` at eta r, and so on.

*Departures*: a rung that waits for late results holds up nobody, since new trials begin the next bracket. At least
one trial goes on from every rung where one has a rank, so that a bracket ends at the largest fidelity also where n is
small. A trial that ends before its next rung takes its place there without a rank.
"""

from __future__ import annotations

from mutandis.algorithms.base import JSON, need_int, settings
from mutandis.algorithms.multifidelity.rungs import need_fidelities
from mutandis.algorithms.schedulers.base import Directive, Ledger, Pacing, Rewards, Scheduler, ranked
from mutandis.algorithms.schedulers.rungs import Rung, levels

Shape = tuple[int, tuple[float, ...]]
"""A bracket: how many trials begin it, and the fidelities of its rungs."""


@settings
class SuccessiveHalving(Scheduler):
    """Pauses `num_trials` trials at the shortest length, lets the best `1 / eta` go on, and so up to the longest.

    Needs reports that carry every objective, or a loop that trains for `feedback.fidelity` and answers. A rung is
    reached by the first report at its step or beyond; count steps from 1, as what is done.

    Args:
        num_trials: How many trials begin a bracket; after them the next bracket begins.
        min_fidelity: In steps; every trial is trained so long.
        max_fidelity: In steps; no trial is trained longer.
        eta: One in so many of a rung goes on.

    Raises:
        SettingError: a number is below 1, a length is not above 0, or eta is not above 1.
    """

    num_trials: int
    min_fidelity: float
    max_fidelity: float
    eta: float = 3

    def __post_init__(self) -> None:
        need_int("SuccessiveHalving.num_trials", self.num_trials, 1)
        need_fidelities("SuccessiveHalving", self.min_fidelity, self.max_fidelity, self.eta)

    @property
    def pauses(self) -> bool:
        """Always."""
        return True

    def start(self, *, seed: int, num_objectives: int = 1) -> Pacing:
        """Begins a run with an empty bracket; nothing is drawn."""
        steps = levels(self.min_fidelity, self.max_fidelity, self.eta)
        return in_brackets([(self.num_trials, steps)], self.eta, num_objectives)


def in_brackets(shapes: list[Shape], eta: float, num_objectives: int) -> Pacing:
    """Returns a run that deals new trials to one bracket after the other, and forgets a bracket that has ended.

    Args:
        shapes: The brackets, in order; after the last comes the first again.
        eta: One in so many of a rung goes on.
        num_objectives: How many rewards a result has.
    """
    return _BracketPacing(shapes, eta, num_objectives)


class _BracketPacing(Pacing):
    def __init__(self, shapes: list[Shape], eta: float, num_objectives: int) -> None:
        self._shapes = shapes
        self._eta = eta
        self._num_objectives = num_objectives
        self._ledger = Ledger()
        self._dealt = 0
        self._brackets: dict[int, _Bracket] = {}
        self._bracket_of: dict[int, int] = {}

    def _of(self, trial: int) -> _Bracket:
        """Returns the bracket of a trial that has not ended; a new trial joins the one that is being filled."""
        if trial not in self._bracket_of:
            number = self._dealt - 1
            if number not in self._brackets or self._brackets[number].is_full:
                number = self._dealt
                self._dealt += 1
                self._brackets[number] = self._bracket(number)
            self._brackets[number].add(trial)
            self._bracket_of[trial] = number
        return self._brackets[self._bracket_of[trial]]

    def _bracket(self, number: int) -> _Bracket:
        size, steps = self._shapes[number % len(self._shapes)]
        return _Bracket(size, steps, self._eta, self._num_objectives)

    def begin(self, trial: int) -> float | None:
        if self._ledger.has_ended(trial):
            return None
        self._ledger.resume(trial)
        return self._of(trial).target(trial)

    def report(self, trial: int, step: float, rewards: Rewards) -> Directive:
        if not self._ledger.counts(trial, step):
            return self._ledger.verdict(trial)
        return self._ledger.note(trial, step, self._of(trial).report(trial, step, ranked(rewards)))

    def pause(self, trial: int) -> None:
        if trial in self._bracket_of and self._ledger.verdict(trial) is not Directive.STOP:
            self._of(trial).pause(trial)

    def finish(self, trial: int, rewards: Rewards | None) -> None:
        if self._ledger.has_ended(trial):
            return
        if trial in self._bracket_of:
            self._of(trial).finish(trial, was_heading_on=self._ledger.verdict(trial) is Directive.CONTINUE)
        self._ledger.end(trial)

    def promote(self, *, last: bool = False) -> int | None:
        for number, bracket in list(self._brackets.items()):
            trial = bracket.promote(last)
            if trial is not None:
                return trial
            if bracket.is_over:
                self._forget(number)
        return None

    def _forget(self, number: int) -> None:
        for trial in self._brackets.pop(number).trials:
            self._ledger.end(trial)
            del self._bracket_of[trial]

    def state_dict(self) -> JSON:
        brackets = [[number, bracket.state_dict()] for number, bracket in self._brackets.items()]
        return {"ledger": self._ledger.state_dict(), "dealt": self._dealt, "brackets": brackets}

    def load_state_dict(self, state: JSON) -> None:
        self._ledger.load_state_dict(state["ledger"])
        self._dealt = state["dealt"]
        self._brackets, self._bracket_of = {}, {}
        for number, found in state["brackets"]:
            bracket = self._brackets[number] = self._bracket(number)
            bracket.load_state_dict(found)
            self._bracket_of.update(dict.fromkeys(bracket.trials, number))


class _Bracket:
    """One bracket. `expected[k]` is how many results rung k will have; None where that is still open."""

    def __init__(self, size: int, steps: tuple[float, ...], eta: float, num_objectives: int) -> None:
        self._size = size
        self._steps = steps
        self._eta = eta
        self._rungs = [Rung(num_objectives) for _ in steps]
        self._expected: list[int | None] = [size, *(None for _ in steps[1:])]
        self._next: dict[int, int] = {}
        self._chosen: list[int] = []
        self._ended: set[int] = set()

    @property
    def trials(self) -> list[int]:
        return list(self._next)

    @property
    def is_full(self) -> bool:
        return len(self._next) >= self._size

    @property
    def is_over(self) -> bool:
        """Whether no trial runs, or will go on, here."""
        if self._chosen:
            return False
        last = next((k for k, count in enumerate(self._expected) if count == 0), len(self._steps))
        return all(len(self._rungs[k]) >= (self._expected[k] or 1) for k in range(last))

    def add(self, trial: int) -> None:
        self._next[trial] = 0

    def target(self, trial: int) -> float:
        return self._steps[min(self._next[trial], len(self._steps) - 1)]

    def report(self, trial: int, step: float, rewards: tuple[float, ...] | None) -> Directive:
        first, above = self._next[trial], sum(step >= level for level in self._steps)
        if above <= first:
            return Directive.CONTINUE
        for rung in self._rungs[first : above - 1]:
            rung.add(trial, None)  # A rung that is passed without a report there has only the place.
        self._rungs[above - 1].add(trial, rewards)
        self._next[trial] = above
        if above == len(self._steps):
            return Directive.COMPLETE
        return Directive.STOP if rewards is None else Directive.PAUSE

    def pause(self, trial: int) -> None:
        above = self._next[trial]
        if 0 < above < len(self._steps):
            self._rungs[above - 1].rest(trial)

    def finish(self, trial: int, *, was_heading_on: bool) -> None:
        above = self._next[trial]
        self._ended.add(trial)
        if above > 0:
            self._rungs[above - 1].wake(trial)
        if trial in self._chosen:
            self._chosen.remove(trial)
            was_heading_on = True
        if was_heading_on and above < len(self._steps):
            self._rungs[above].add(trial, None)

    def promote(self, last: bool) -> int | None:
        if last and not self.is_full:
            self._size = self._expected[0] = len(self._next)
        for k in range(len(self._steps) - 1):
            if self._expected[k] is None:
                break
            if self._expected[k + 1] is None and len(self._rungs[k]) >= (self._expected[k] or 0):
                self._choose(k)
        ready = next((t for t in self._chosen if self._rungs[self._next[t] - 1].rests(t)), None)
        if ready is not None:
            self._chosen.remove(ready)
            self._rungs[self._next[ready] - 1].wake(ready)
        return ready

    def _choose(self, k: int) -> None:
        rung = self._rungs[k]
        best = rung.best(max(1, int(len(rung) / self._eta)))
        chosen = [trial for trial in best if self._next[trial] == k + 1 and trial not in self._ended]
        self._chosen += chosen
        self._expected[k + 1] = len(chosen)

    def state_dict(self) -> JSON:
        return {
            "size": self._size,
            "rungs": [rung.state_dict() for rung in self._rungs],
            "expected": self._expected,
            "next": [list(item) for item in self._next.items()],
            "chosen": list(self._chosen),
            "ended": sorted(self._ended),
        }

    def load_state_dict(self, state: JSON) -> None:
        for rung, found in zip(self._rungs, state["rungs"], strict=True):
            rung.load_state_dict(found)
        self._size, self._expected, self._chosen = state["size"], list(state["expected"]), list(state["chosen"])
        self._next = dict(state["next"])
        self._ended = set(state["ended"])
