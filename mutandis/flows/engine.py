"""What a search does between two children: proposals and promotions in, answers out, and all of it again on resume.

The order before each trial: a resting trial that the scheduler promotes, or else what the algorithm proposes. What
the algorithm is told: every trial that ends with a reward, or fails, once, with its fidelity. A trial that was paused
or stopped is told with the id of its proposal at its end; where it goes on later, that is a trial of its own, which
nobody proposed (its id is None), of the same DNA at a larger fidelity.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mutandis.algorithms import Search
from mutandis.algorithms.schedulers import Pacing
from mutandis.errors import SpaceError, SpaceExhausted
from mutandis.flows.studies import Study, Trial
from mutandis.flows.studies.study import is_finished
from mutandis.flows.studies.trial import ABANDONED, PAUSED, RUNNING, SKIPPED
from mutandis.flows.turns import Turn
from mutandis.hyper import Feedback, Proposal, SearchSpace

_REFUSALS = 1000

Start = Callable[[], tuple[Search, Pacing | None]]
"""Begins the algorithm and the scheduler, if there is one."""


class Engine:
    """A search, its scheduler and its study. It knows no iterator, so that a loop's iterator dies with the loop."""

    def __init__(self, space: SearchSpace, study: Study, search: Search, pacing: Pacing | None) -> None:
        self.study = study
        self._space = space
        self._search = search
        self._pacing = pacing
        self._turns: dict[int, Turn] = {}
        self._trial_of: dict[int, int] = {}
        self._resting: dict[int, tuple[int, Turn]] = {}

    def next_turn(self) -> Turn:
        """Returns what shall be tried next.

        Raises:
            SpaceExhausted: neither the algorithm nor the scheduler has anything left.
            SpaceError: the predicates of the space refuse everything.
        """
        turn = self._promoted(last=False)
        if turn is not None:
            return turn
        try:
            proposal = _propose(self._search, self._space)
        except SpaceExhausted:
            turn = self._promoted(last=True)
            if turn is None:
                raise
            return turn
        parent = None if proposal.inherit is None else self._trial_of.get(proposal.inherit)
        return Turn(proposal.dna, number=proposal.id, planned=proposal.fidelity, parent=parent)

    def _promoted(self, *, last: bool) -> Turn | None:
        root = None if self._pacing is None else self._pacing.promote(last=last)
        if root is None:
            return None
        parent, before = self._resting.pop(root)
        return Turn(before.dna, planned=before.planned, parent=parent, root=root)

    def begin(self, trial: int, turn: Turn) -> None:
        """Begins a turn as the trial of that id."""
        self._turns[trial] = turn
        if turn.number is not None:
            self._trial_of[turn.number] = trial
        if turn.parent is not None:
            kept = self.study.checkpoints
            # A trial goes on once after a pause; to be inherited from, it may be named again and again.
            turn.inherited = kept.get(turn.parent) if turn.root is None else kept.pop(turn.parent, None)
        turn.begin(trial, self.study.objectives, self._pacing)

    def finish(self, trial: Trial) -> None:
        """Records a trial that has ended and tells algorithm and scheduler, unless there is nothing to learn."""
        self.study.finish(trial)
        turn = self._turns[trial.id]
        checkpoint = turn.checkpoint
        if checkpoint is not None and checkpoint.made and (trial.state == PAUSED or turn.planned is not None):
            self.study.checkpoints[trial.id] = checkpoint
        self._settle(trial)

    def _settle(self, trial: Trial) -> None:
        turn = self._turns.pop(trial.id)
        turn.end(trial, self._rewards(trial))
        if trial.state == PAUSED and turn.root is not None:
            self._resting[turn.root] = (trial.id, turn)
        self._tell(trial, turn.number)

    def _rewards(self, trial: Trial) -> tuple[float, ...] | None:
        return self.study.signed(trial) if is_finished(trial) else None

    def _tell(self, trial: Trial, number: int | None) -> None:
        if trial.state in (RUNNING, SKIPPED, ABANDONED):
            return
        fidelity = trial.fidelity
        if fidelity is None and trial.curve:
            fidelity = max(step for step, _ in trial.curve)
        self._search.feedback(Feedback(number, trial.dna, trial.metrics, fidelity, self._rewards(trial)))

    def replay(self, trials: Sequence[Trial]) -> int:
        """Goes through recorded trials while it would make the same ones; returns how many those are."""
        for count, trial in enumerate(trials):
            try:
                turn = self.next_turn()
            except (SpaceExhausted, SpaceError):
                return count
            if turn.dna != trial.dna or turn.parent != trial.parent:
                return count
            self.begin(trial.id, turn)
            turn.replay(trial, self._rewards(trial))
            self._settle(trial)
        return len(trials)

    def adopt(self, trial: Trial) -> None:
        """Learns from a finished trial that others have made."""
        turn = Turn(trial.dna)
        turn.begin(trial.id, self.study.objectives, self._pacing)
        turn.replay(trial, None)
        if self._pacing is not None:
            self._pacing.finish(trial.id, self._rewards(trial))
        self._tell(trial, None)


def resumed(start: Start, space: SearchSpace, study: Study) -> Engine:
    """Returns an engine that has been through the trials of a study: replayed while it makes the same, else told."""
    engine = Engine(space, study, *start())
    own = engine.replay(study.trials)
    if own < len(study):
        engine = Engine(space, study, *start())
        engine.replay(study.trials[:own])
        for trial in study.trials[own:]:
            if is_finished(trial):
                engine.adopt(trial)
    return engine


def _propose(search: Search, space: SearchSpace) -> Proposal:
    for _ in range(_REFUSALS):
        proposal = search.propose()
        if space.allows(proposal.dna):
            return proposal
        search.feedback(Feedback(proposal.id, proposal.dna))
    raise SpaceError(
        "cannot sample: the predicates of the space refuse everything",
        at="require",
        got=f"{_REFUSALS} refusals in a row",
        expected="a DNA that they allow",
        fix="loosen the predicate, or build the constraint into the space with conditional candidates",
    )
