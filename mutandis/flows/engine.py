"""What a search does between two children: proposals and promotions in, answers out, and all of it again on resume.

The order before each trial: a resting trial that the scheduler promotes, or else what the algorithm proposes. What
the algorithm is told: every trial that ends with a reward, or fails, once, with its fidelity. A trial that was paused
or stopped is told with the id of its proposal at its end; where it goes on later, that is a trial of its own, which
nobody proposed (its id is None), of the same DNA at a larger fidelity.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mutandis.algorithms import Search
from mutandis.algorithms.schedulers import Pacing
from mutandis.errors import SearchError, SpaceError, SpaceExhausted
from mutandis.flows.studies import Study, Trial
from mutandis.flows.studies.study import is_finished
from mutandis.flows.studies.trial import ABANDONED, PAUSED, RUNNING, SKIPPED
from mutandis.flows.turns import Turn
from mutandis.flows.window import Window
from mutandis.hyper import Feedback, Proposal, SearchSpace

_REFUSALS = 1000

Start = Callable[[], tuple[Search, Pacing | None]]
"""Begins the algorithm and the scheduler, if there is one."""


@dataclass(frozen=True)
class Frozen:
    """Where an engine stands: see `Engine.freeze`."""

    search: str
    pacing: str | None
    turns: dict[int, Turn]
    trial_of: dict[int, int]
    resting: dict[int, tuple[int, Turn]]


class Engine:
    """A search, its scheduler and its study. It knows no iterator, so that a loop's iterator dies with the loop.

    Args:
        space: The space.
        study: Where the trials are recorded.
        search: The run of the algorithm.
        pacing: The run of the scheduler, or None.
        is_windowed: Whether results are taken in by number, as `Window` says.
    """

    def __init__(
        self, space: SearchSpace, study: Study, search: Search, pacing: Pacing | None, *, is_windowed: bool = False
    ) -> None:
        self.study = study
        self.pacing = pacing
        self._space = space
        self._search = search
        self._turns: dict[int, Turn] = {}
        self._trial_of: dict[int, int] = {}
        self._resting: dict[int, tuple[int, Turn]] = {}
        self._window = Window(self.settle) if is_windowed else None

    def start(self, total: int | None = None) -> tuple[Trial, Turn] | None:
        """Begins the next trial, or returns None where the results of others that run must come first.

        Args:
            total: How many trials the study shall have.

        Raises:
            SpaceExhausted: there are enough, or neither the algorithm nor the scheduler has anything left.
            SpaceError: the predicates of the space refuse everything.
        """
        number = len(self.study)
        if total is not None and number >= total:
            raise enough(total)
        turn = self.plan(number)
        if turn is None:
            return None
        trial = self.study.add(turn.dna, parent=turn.parent)
        turn.checkpoint = self.study.checkpoint(trial.id)
        if turn.parent is not None:
            kept = self.study.checkpoints
            # A trial goes on once after a pause; to be inherited from, it may be named again and again.
            turn.inherited = kept.get(turn.parent) if turn.root is None else kept.pop(turn.parent, None)
        self.begin(trial.id, turn)
        return trial, turn

    def wait(self) -> None:
        """Refuses to wait for others: a study in memory has none.

        Raises:
            SearchError: always.
        """
        raise SearchError(
            "cannot go on: trials of another loop come first",
            at=self.study.name,
            expected="a deterministic loop to be the only one that runs on a study in memory",
            fix="end the other loop, give each its own study, or leave deterministic out",
        )

    def plan(self, number: int) -> Turn | None:
        """Returns what trial `number` shall be; None where the results of others that run must come first.

        Raises:
            SpaceExhausted: neither the algorithm nor the scheduler has anything left.
            SpaceError: the predicates of the space refuse everything.
        """
        return self.next_turn() if self._window is None else self._window.next_turn(number, self.next_turn)

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
        root = None if self.pacing is None else self.pacing.promote(last=last)
        if root is None:
            return None
        parent, before = self._resting.pop(root)
        return Turn(before.dna, planned=before.planned, parent=parent, root=root)

    def begin(self, trial: int, turn: Turn) -> None:
        """Begins a turn as the trial of that id."""
        self._turns[trial] = turn
        if turn.number is not None:
            self._trial_of[turn.number] = trial
        turn.begin(trial, self.study.objectives, self.pacing)

    def finish(self, trial: Trial) -> None:
        """Records a trial that has ended and tells algorithm and scheduler, unless there is nothing to learn."""
        self.study.finish(trial)
        turn = self._turns[trial.id]
        checkpoint = turn.checkpoint
        if checkpoint is not None and checkpoint.made and (trial.state == PAUSED or turn.planned is not None):
            self.study.checkpoints[trial.id] = checkpoint
        self.end(trial)

    def end(self, trial: Trial) -> None:
        """Lets the search learn from a trial that has ended, now or when its turn comes."""
        if self._window is None:
            self.settle(trial)
        else:
            self._window.end(trial)

    def turn(self, trial: int) -> Turn | None:
        """Returns the turn of a trial that runs, or None where it is none of this search."""
        return self._turns.get(trial)

    def settle(self, trial: Trial) -> None:
        """Tells algorithm and scheduler of a trial that has ended, whoever made it."""
        turn = self._turns.pop(trial.id, None)
        if turn is None:
            self.adopt(trial)
            return
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
                turn = self.plan(trial.id)
            except (SpaceExhausted, SpaceError):
                return count
            if turn is None or turn.dna != trial.dna or turn.parent != trial.parent:
                return count
            self.begin(trial.id, turn)
            turn.replay(trial, self._rewards(trial))
            self.end(trial)
        return len(trials)

    def adopt(self, trial: Trial) -> None:
        """Learns from a trial that others have made, if it has a result in this space."""
        if not is_finished(trial) or trial.id in self.study.set_aside:
            return
        turn = Turn(trial.dna)
        turn.begin(trial.id, self.study.objectives, self.pacing)
        turn.replay(trial, None)
        if self.pacing is not None:
            self.pacing.finish(trial.id, self._rewards(trial))
        self._tell(trial, None)

    def freeze(self) -> Frozen:
        """Returns where the engine stands, for an engine to begin there; its cost is that of the states."""
        return Frozen(
            json.dumps(self._search.state_dict()),  # As text: a state may share lists with the run it is of.
            None if self.pacing is None else json.dumps(self.pacing.state_dict()),
            {trial: turn.twin(None) for trial, turn in self._turns.items()},
            dict(self._trial_of),
            {root: (trial, turn.twin(None)) for root, (trial, turn) in self._resting.items()},
        )

    def thaw(self, frozen: Frozen) -> None:
        """Comes to stand where another engine of the same settings stood; this one has not begun."""
        self._search.load_state_dict(json.loads(frozen.search))
        if self.pacing is not None and frozen.pacing is not None:
            self.pacing.load_state_dict(json.loads(frozen.pacing))
        self._turns = {trial: turn.twin(self.pacing) for trial, turn in frozen.turns.items()}
        self._trial_of = dict(frozen.trial_of)
        self._resting = {root: (trial, turn.twin(self.pacing)) for root, (trial, turn) in frozen.resting.items()}


def resumed(start: Start, space: SearchSpace, study: Study, *, is_windowed: bool = False) -> Engine:
    """Returns an engine that has been through the trials of a study: replayed while it makes the same, else told."""
    engine = Engine(space, study, *start(), is_windowed=is_windowed)
    own = engine.replay(study.trials)
    if own < len(study):
        engine = Engine(space, study, *start(), is_windowed=is_windowed)
        engine.replay(study.trials[:own])
        for trial in study.trials[own:]:
            engine.end(trial)
    return engine


def enough(total: int) -> SpaceExhausted:
    """Returns the error for a study that is complete."""
    return SpaceExhausted("cannot begin a trial", expected=f"fewer than {total} trials", fix="raise trials=")


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
