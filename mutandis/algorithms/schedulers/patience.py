"""Patience: a trial that no longer gets better is complete (Prechelt 1998, Early Stopping - But When?, class UP)."""

from __future__ import annotations

import math

from mutandis.algorithms.base import JSON, need_number, settings
from mutandis.algorithms.schedulers.base import Directive, Ledger, Pacing, Rewards, Scheduler


@settings
class Patience(Scheduler):
    """Ends a trial that has not improved for some steps; it counts as completed, for more would not help.

    Other trials play no part. With several objectives an improvement of any of them counts. A number that is not
    finite is no improvement.

    Args:
        steps: After how many steps without an improvement a trial ends.
        min_delta: An improvement is a reward that is larger by more than this than the best so far.
        warmup: No trial ends before this step.

    Raises:
        SettingError: `steps` is not above 0, or another number is below 0.
    """

    steps: float
    min_delta: float = 0.0
    warmup: float = 0

    def __post_init__(self) -> None:
        need_number("Patience.steps", self.steps, above=0)
        need_number("Patience.min_delta", self.min_delta, low=0)
        need_number("Patience.warmup", self.warmup, low=0)

    def start(self, *, seed: int, num_objectives: int = 1) -> Pacing:
        """Begins a run; nothing is drawn."""
        return _PatientPacing(self)


class _PatientPacing(Pacing):
    def __init__(self, settings: Patience) -> None:
        self._settings = settings
        self._ledger = Ledger()
        self._best: dict[int, tuple[float, list[float | None]]] = {}
        """By trial: the step of the last improvement, or of the first report, and the best of each objective."""

    def report(self, trial: int, step: float, rewards: Rewards) -> Directive:
        if not self._ledger.counts(trial, step):
            return self._ledger.verdict(trial)
        since, best = self._best.get(trial, (step, [None] * len(rewards)))
        kept = [r if self._is_better(r, known) else known for r, known in zip(rewards, best, strict=True)]
        if kept != best:
            since = step
        self._best[trial] = (since, kept)
        is_over = step >= self._settings.warmup and step - since >= self._settings.steps
        return self._ledger.note(trial, step, Directive.COMPLETE if is_over else Directive.CONTINUE)

    def _is_better(self, reward: float, known: float | None) -> bool:
        return math.isfinite(reward) and (known is None or reward > known + self._settings.min_delta)

    def finish(self, trial: int, rewards: Rewards | None) -> None:
        self._best.pop(trial, None)
        self._ledger.end(trial)

    def state_dict(self) -> JSON:
        best = [[trial, since, list(values)] for trial, (since, values) in self._best.items()]
        return {"ledger": self._ledger.state_dict(), "best": best}

    def load_state_dict(self, state: JSON) -> None:
        self._ledger.load_state_dict(state["ledger"])
        self._best = {trial: (since, list(values)) for trial, since, values in state["best"]}
