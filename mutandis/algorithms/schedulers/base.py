"""The protocol of schedulers: how long a trial goes on, whoever proposed it.

An algorithm says what is tried, a scheduler how long, a flow how. A scheduler is frozen settings that start a
`Pacing`, which hears of trials by number and answers with data: it sees no program, no study and no flow. So any
scheduler goes with any algorithm, and every one here with any number of objectives.

The order of calls for one trial is

    begin, report*, then pause or finish;   after a pause, once promote() has named it: begin, report*, ... again,

where a trial keeps its number through pauses. Nothing of this is relied on: a report may come late, twice, out of
order, for a trial that was never announced or has ended, or not at all.
"""

from __future__ import annotations

import abc
import enum
import math
from collections.abc import Sequence
from typing import TypeAlias

from mutandis.algorithms.base import JSON
from mutandis.symbolic.classes.decorate import symbolize_class

Rewards: TypeAlias = Sequence[float]


class Directive(enum.Enum):
    """What shall become of a trial that has just reported.

    Attributes:
        CONTINUE: It goes on.
        PAUSE: It shall end its turn now, and may go on later, from its checkpoint.
        STOP: It shall end for good: others are better.
        COMPLETE: It shall end for good: it has been trained as long as any, or as long as it helps. It counts as
            completed.
    """

    CONTINUE = "continue"
    PAUSE = "pause"
    STOP = "stop"
    COMPLETE = "complete"


class Pacing(abc.ABC):
    """One run of a scheduler: everything that changes while it runs.

    Rewards are larger-is-better, one per objective. A step says how much was trained in all when it was measured,
    such as the number of epochs that are done; a trial that goes on after a pause counts on from where it was.

    What never breaks a run: a step that is not beyond all earlier ones of its trial, or comes after its end, is not
    counted, and is answered with the directive in force; so a trial that starts afresh after a pause repeats its
    first steps without effect. Rewards with a nan or an infinity are a result without a rank, worse than any number.
    A trial that was not announced by `begin` begins with its first report.
    """

    def begin(self, trial: int) -> float | None:
        """Hears that a turn of a trial begins, the first or one after a pause.

        Args:
            trial: Its number.

        Returns:
            How long it shall have been trained in all when this turn ends, or None where nothing is planned.
        """
        return None

    @abc.abstractmethod
    def report(self, trial: int, step: float, rewards: Rewards) -> Directive:
        """Says what shall become of a trial.

        Args:
            trial: Its number.
            step: How much it was trained in all.
            rewards: All its objectives, measured at that step.
        """

    def pause(self, trial: int) -> None:  # noqa: B027 - there is nothing to do where nothing is paused
        """Hears that a trial has ended its turn because it was told to pause: it rests, and may be promoted."""

    @abc.abstractmethod
    def finish(self, trial: int, rewards: Rewards | None) -> None:
        """Hears that a trial has ended for good.

        Args:
            trial: Its number.
            rewards: Its result, or None where it has none: it failed, was skipped or left unanswered.
        """

    def promote(self, *, last: bool = False) -> int | None:
        """Returns a resting trial that shall go on now, or None; whoever is named no longer rests.

        Args:
            last: No new trial will ever begin, so that nothing is worth waiting for but trials that run.
        """
        return None

    @abc.abstractmethod
    def state_dict(self) -> JSON:
        """Returns the state as JSON; a fresh run that loads it answers as this one does."""

    @abc.abstractmethod
    def load_state_dict(self, state: JSON) -> None:
        """Goes on from a state of a run of the same scheduler, seed and number of objectives."""


class Scheduler(abc.ABC):
    """Settings of a scheduler: immutable, comparable, cloneable, itself searchable.

    Write your own as a `@mu.algorithms.settings` class, and test it with `mutandis.testing.SchedulerContract`.
    """

    @abc.abstractmethod
    def start(self, *, seed: int, num_objectives: int = 1) -> Pacing:
        """Begins one run; all randomness of the run derives from `seed`.

        Args:
            seed: Seed of the run.
            num_objectives: How many rewards each report carries.

        Raises:
            SettingError: the scheduler cannot weigh so many objectives.
        """

    @property
    def pauses(self) -> bool:
        """Whether a run may answer with `PAUSE`."""
        return False


symbolize_class(Scheduler)


class Ledger:
    """What every run has to know of its trials: the last step that counted, the directive in force, who has ended.

    The ended ones are kept as a number below which all have ended, and a set of the others: in a loop that ends
    trials in order, the size does not grow.
    """

    def __init__(self) -> None:
        self._open: dict[int, tuple[float, Directive]] = {}
        self._all_below = 0
        self._ended: set[int] = set()

    def has_ended(self, trial: int) -> bool:
        """Returns whether a trial has ended for good."""
        return trial < self._all_below or trial in self._ended

    def counts(self, trial: int, step: float) -> bool:
        """Returns whether a report counts: beyond earlier steps, of a trial that was not told to end for good."""
        if self.has_ended(trial):
            return False
        last, directive = self._open.get(trial, (-math.inf, Directive.CONTINUE))
        return step > last and directive in (Directive.CONTINUE, Directive.PAUSE)

    def note(self, trial: int, step: float, directive: Directive) -> Directive:
        """Keeps the answer to a report that counts, and returns it."""
        self._open[trial] = (step, directive)
        return directive

    def resume(self, trial: int) -> None:
        """Notes that a trial that was told to pause goes on."""
        last, directive = self._open.get(trial, (-math.inf, Directive.CONTINUE))
        if directive is Directive.PAUSE:
            self._open[trial] = (last, Directive.CONTINUE)

    def verdict(self, trial: int) -> Directive:
        """Returns the directive in force; a trial that has ended shall stop."""
        if self.has_ended(trial):
            return Directive.STOP
        return self._open[trial][1] if trial in self._open else Directive.CONTINUE

    def end(self, trial: int) -> None:
        """Closes the account of a trial."""
        self._open.pop(trial, None)
        if trial >= self._all_below:
            self._ended.add(trial)
        while self._all_below in self._ended:
            self._ended.remove(self._all_below)
            self._all_below += 1

    def state_dict(self) -> JSON:
        """Returns the state as JSON."""
        opened = [[trial, step, directive.value] for trial, (step, directive) in self._open.items()]
        return {"open": opened, "all_below": self._all_below, "ended": sorted(self._ended)}

    def load_state_dict(self, state: JSON) -> None:
        """Goes on from a state."""
        self._open = {trial: (step, Directive(value)) for trial, step, value in state["open"]}
        self._all_below, self._ended = state["all_below"], set(state["ended"])


def ranked(rewards: Rewards | None) -> tuple[float, ...] | None:
    """Returns rewards that can be compared, or None where one of them is no finite number."""
    if rewards is None or not all(math.isfinite(reward) for reward in rewards):
        return None
    return tuple(float(reward) for reward in rewards)
