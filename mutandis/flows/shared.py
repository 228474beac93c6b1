"""The search of a study in a store: every worker runs its own copy, and all copies come to the same decisions.

The store keeps one order of events. A copy goes through them in that order: a claim makes it propose, a report and a
result let it learn. Since results may be recorded between the moment a worker proposes and the moment it claims, each
claim says how many events its worker had seen: later ones count as after it. So a copy that has learned of them
already goes back to where it stood after the claim before; it keeps that state while other workers are about, and
goes through all events anew where it has not.

A worker that is killed and started again goes through the events, takes over what it left, and proposes what it would
have proposed. Claims of another algorithm, seed, scheduler or space belong to another run; of those, a copy learns the
results. Where a copy proposes otherwise than its own run did (the program is another release, say), it begins a run
of its own there.

With a window (`deterministic=True`), results are taken in by number and nothing hangs on the order of events.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from mutandis.errors import SpaceError, SpaceExhausted
from mutandis.flows.engine import Engine, Frozen, Start, enough
from mutandis.flows.studies import Study, Trial
from mutandis.flows.studies.archive import REACHED, Archive
from mutandis.flows.studies.regrow import Misfit, regrown
from mutandis.flows.studies.stores.leases import is_gone, this_worker
from mutandis.flows.studies.stores.records import Claimed, Event, Finished, Lease, Reported
from mutandis.flows.studies.trial import ABANDONED, PAUSED
from mutandis.flows.turns import Turn
from mutandis.hyper import SearchSpace

_SHORTEST, _LONGEST = 0.01, 0.5
"""Seconds between two looks at the store while a worker waits for others."""


class _Apart(Exception):
    """The copy and the record come apart at a trial."""


class SharedEngine:
    """A search, its scheduler and its study in a store; used as `Engine` is.

    Args:
        space: The space.
        study: The study, open.
        start: Begins the algorithm and the scheduler.
        run: Names algorithm, scheduler, seed and space; workers that name the same share one search.
        is_windowed: Whether results are taken in by number.
    """

    def __init__(self, space: SearchSpace, study: Study, start: Start, run: str, *, is_windowed: bool = False) -> None:
        assert study.archive is not None  # Others have an Engine.
        self.study = study
        self._archive: Archive = study.archive
        self._space, self._begin_search, self._is_windowed = space, start, is_windowed
        self._ends = {run: float("inf")}  # Up to which number the claims of which run are ours.
        self._run = run
        self._held: dict[int, Turn] = {}
        self._pause, self._since = _SHORTEST, 0.0
        self._is_careful = False
        self._reset()
        self._catch_up()

    def _reset(self) -> None:
        """Begins anew, before the first event."""
        self._machine = self._new()
        self._is_new = True  # Workers of the past are no reason for care.
        self._cursor = self._num_seen = self._num_trials = 0
        self._tail: list[tuple[int, Event]] = []
        self._num_ahead = 0  # How many events of the tail the machine has taken in.
        self._frozen: Frozen | None = None
        self._planned: Turn | None = None
        self._exhausted: tuple[int, SpaceExhausted] | None = None

    def _new(self) -> Engine:
        return Engine(self._space, self.study, *self._begin_search(), is_windowed=self._is_windowed)

    def start(self, total: int | None = None) -> tuple[Trial, Turn] | None:
        """Begins the next trial: what another worker left, or else what the search proposes.

        Args:
            total: How many trials the study shall have.

        Returns:
            The trial; None where it is to be asked again later, since others run.

        Raises:
            SpaceExhausted: there are enough, or nothing is left, and no trial needs this worker.
            SpaceError: the predicates of the space refuse everything.
        """
        while True:
            lease = self._archive.take_over()
            if lease is not None:
                begun = self._again(lease)
                if begun is not None:
                    return begun
                continue
            self._catch_up()
            if total is not None and self._num_trials >= total:
                self._leave(enough(total))
                return None
            try:
                turn = self._plan()
            except SpaceExhausted as error:
                if not self._archive.elsewhere:
                    raise
                self._exhausted = self._num_seen, error
                return None
            if turn is None:
                return None
            lease = self._archive.claim(self._proposal(turn), number=self._num_trials)
            if lease is not None:
                self._machine.begin(lease.number, turn)
                self._confirm(self._num_seen)
                self._planned, self._num_trials = None, lease.number + 1
                return self._hold(lease.number, turn)
            if not self._is_windowed:
                self._go_back()  # Another worker was first.

    def _proposal(self, turn: Turn) -> dict[str, Any]:
        proposal = {
            "dna": turn.dna.to_json(), "space": turn.dna.space.fingerprint, "run": self._run, "seen": self._num_seen,
            "id": turn.number, "fidelity": turn.planned, "parent": turn.parent, "root": turn.root,
        }  # fmt: skip
        return {key: value for key, value in proposal.items() if value is not None}

    def _plan(self) -> Turn | None:
        """Returns what the next trial shall be; None where results must come first."""
        if self._planned is not None:
            return self._planned
        if self._exhausted is not None and self._exhausted[0] == self._num_seen:
            raise self._exhausted[1]
        self._keep()
        try:
            turn = self._machine.plan(self._num_trials)
        except SpaceExhausted:
            if not self._is_windowed:
                # Other copies have not asked in vain.
                self._is_careful = True
                self._go_back()
            raise
        self._planned = turn if self._is_windowed else None
        return turn

    def _hold(self, number: int, turn: Turn) -> tuple[Trial, Turn]:
        """Returns the trial and the turn that the loop gets; the turn follows that of the machine."""
        held = turn.twin(None)
        held.wire = self
        held.checkpoint = self.study.checkpoint(number)
        held.inherited = None if turn.parent is None else self.study.checkpoint(turn.parent)
        self._held[number] = held
        self._pause, self._since = _SHORTEST, 0.0
        len(self.study)  # The record of this attempt is read.
        return self._archive.trials[number], held

    def _again(self, lease: Lease) -> tuple[Trial, Turn] | None:
        """Begins another attempt at a trial; one that this program cannot build ends here."""
        self._catch_up()
        trial = self._archive.trials[lease.number]
        turn = self._machine.turn(lease.number)
        if turn is None:
            try:
                dna = regrown(trial.dna, self._space)
            except Misfit as misfit:
                reason = f"its worker was lost, and the program has changed: {misfit}"
                self._archive.finish(Trial(trial.id, trial.dna, ABANDONED, reason=reason))
                return None
            planned = lease.proposal.get("fidelity")
            turn = Turn(dna, planned=planned, parent=trial.parent, root=lease.proposal.get("root"))
            turn.begin(trial.id, self.study.objectives, None)
        return self._hold(lease.number, turn)

    def finish(self, trial: Trial) -> None:
        """Records a trial that has ended, exactly once; a warning tells where another worker has taken it over."""
        turn = self._held.get(trial.id)
        is_recorded = turn is not None and self._archive.finish(trial)
        self._held.pop(trial.id, None)  # Not where the store cannot be used: then it may be finished later.
        if turn is None or not is_recorded:
            return
        if turn.checkpoint is not None and trial.state != PAUSED and turn.planned is None:
            turn.checkpoint.remove()
        if turn.inherited is not None and turn.root != trial.id:  # It went on after a pause, which happens once.
            turn.inherited.remove()

    def release(self, trial: int) -> None:
        """Gives a trial back unfinished: whoever looks next goes on with it."""
        if self._held.pop(trial, None) is not None:
            self._archive.release(trial)

    def report(self, turn: Turn, step: float, metrics: Mapping[str, float]) -> None:
        """Records a report of a trial that runs here."""
        number = self._record(turn, step, metrics)
        if self._machine.pacing is None or number is None or self._machine.turn(number) is None:
            turn.hear(step, metrics)

    def reach(self, turn: Turn, step: float, rewards: tuple[float, ...]) -> None:
        """Records that the answer of a trial counts as a report; see `Wire`."""
        named = zip(self.study.objectives, rewards, strict=True)
        self._record(turn, step, {**{o.name: o.sign * reward for o, reward in named}, REACHED: 1.0})

    def _record(self, turn: Turn, step: float, metrics: Mapping[str, float]) -> int | None:
        number = self._number_of(turn)
        if number is not None and self._archive.report(number, metrics, step) and self._machine.pacing is not None:
            self._catch_up()
        return number

    def _number_of(self, turn: Turn) -> int | None:
        return next((number for number, held in self._held.items() if held is turn), None)

    def is_lost(self, turn: Turn) -> bool:
        """Returns whether another worker has taken over a trial that was begun here."""
        number = self._number_of(turn)
        return number is None or self._archive.is_lost(number)

    def wait(self, longest: float = _LONGEST) -> None:
        """Sleeps until it is worth looking again."""
        time.sleep(min(self._pause, longest, self._archive.log.lease / 8))
        self._pause = min(2 * self._pause, _LONGEST)

    def _leave(self, reason: SpaceExhausted) -> None:
        """Returns while a trial of another worker may yet need this one.

        Raises:
            SpaceExhausted: all others that run are alive, or were not seen to be lost for as long as it takes.
        """
        others = [lease for lease in self._archive.elsewhere if not _is_alive_here(lease.worker)]
        now = time.monotonic()
        self._since = self._since or now
        if not others or now - self._since > 1.25 * max(lease.seconds for lease in others):
            raise reason

    # Going through the events.

    def _catch_up(self) -> None:
        """Takes in what happened since, in the order that all copies agree on."""
        while True:
            try:
                events, self._cursor = self._archive.log.read(self._cursor)
                len(self.study)  # The records are read at least as far as the events.
                for event in events:
                    self._take(event)
                    self._num_seen += 1
                self._go_ahead()
                break
            except _Apart:
                pass
        self._is_new = False
        for number, held in self._held.items():
            turn = self._machine.turn(number)
            if turn is not None and self._machine.pacing is not None:
                held.follow(turn)

    def _take(self, event: Event) -> None:
        if not isinstance(event, Claimed) or event.attempt > 1:
            self._tail.append((self._num_seen, event))
            return
        if event.number < self._num_trials:
            return  # It is our own, and the machine has begun it.
        if not self._is_new:
            self._is_careful = True
        if self._is_ours(event):
            self._follow(event)
        self._num_trials = event.number + 1

    def _is_ours(self, event: Claimed) -> bool:
        return event.number < self._ends.get(event.proposal.get("run", ""), -1)

    def _follow(self, event: Claimed) -> None:
        """Begins what another worker, or an earlier life of this one, has claimed."""
        seen = event.proposal["seen"]
        if self._is_windowed:
            self._go_ahead()
        else:
            ahead = sum(index < seen for index, _ in self._tail)
            if self._num_ahead > ahead and not self._go_back():
                raise _Apart
            self._go_ahead(ahead)
        try:
            turn = self._planned or self._machine.plan(event.number)
        except (SpaceExhausted, SpaceError):
            turn = None
        self._planned = None
        proposal = event.proposal
        if turn is None or turn.dna.to_json() != proposal["dna"] or turn.parent != proposal.get("parent"):
            self._part(event.number)
            raise _Apart
        self._machine.begin(event.number, turn)
        self._confirm(seen)

    def _part(self, number: int) -> None:
        """Begins a run of its own at a trial that the copy proposes otherwise."""
        self._ends[self._run] = number
        self._run = f"{self._run}/{number}"
        self._ends[self._run] = float("inf")
        self._reset()

    def _confirm(self, seen: int) -> None:
        """Notes that nothing can come before what the machine has taken in, and what it has just begun."""
        del self._tail[: self._num_ahead]
        self._num_ahead, self._frozen = 0, None

    def _keep(self) -> None:
        """Keeps the state that the machine may have to go back to, where others are about."""
        if self._is_careful and not self._is_windowed and self._frozen is None and self._num_ahead == 0:
            self._frozen = self._machine.freeze()

    def _go_ahead(self, until: int | None = None) -> None:
        """Lets the machine take in the events of the tail, up to a place in it."""
        end = len(self._tail) if until is None else until
        if self._num_ahead < end:
            if until is None:
                self._keep()
            for _, event in self._tail[self._num_ahead : end]:
                self._apply(event)
            self._num_ahead = end

    def _apply(self, event: Event) -> None:
        if isinstance(event, Finished):
            self._machine.end(self._archive.trials[event.number])
        elif isinstance(event, Reported):
            turn = self._machine.turn(event.number)
            if turn is not None:
                self._hear(turn, event)
        elif isinstance(event, Claimed):
            turn = self._machine.turn(event.number)
            if turn is not None:
                turn.again()

    def _hear(self, turn: Turn, event: Reported) -> None:
        if REACHED not in event.metrics:
            turn.hear(event.step, event.metrics)
        elif self._machine.pacing is not None:
            turn.reach(event.step, tuple(o.sign * event.metrics[o.name] for o in self.study.objectives))

    def _go_back(self) -> bool:
        """Brings the machine back to where it stood after the last claim, or before the first event: then False."""
        if self._frozen is None:
            self._is_careful = True
            self._reset()
            return False
        self._machine = self._new()
        self._machine.thaw(self._frozen)
        self._num_ahead = 0
        return True


def _is_alive_here(worker: str) -> bool:
    """Returns whether a worker is a process of this machine that lives."""
    here, there = this_worker().split(":"), worker.split(":")
    return here[0] == there[0] and here[-1] == there[-1] != "" and not is_gone(worker)


__all__ = ["SharedEngine"]
