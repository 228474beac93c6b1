"""Hyperband: successive halving from several starting lengths.

Li, Jamieson, DeSalvo, Rostamizadeh, Talwalkar: Hyperband: A Novel Bandit-Based Approach to Hyperparameter
Optimization, JMLR 18, 2018, arXiv 1603.06560, Algorithm 1.

*Notation*: R = `max_fidelity`, r = `min_fidelity`, s_max = floor(log_eta(R / r)). Bracket s = s_max, ..., 0 trains
n = ceil((s_max + 1) / (s + 1) eta^s) configurations to R eta^-s, the best 1 / eta of these to eta times as much, and so
on up to R. Within a rung all have trained equally long; nothing else is ever compared.

*Departures*: the brackets are repeated for ever. The paper trains whole rungs at once; here, as in the code of Falkner
et al. 2018, the next bracket starts while a rung waits for late results, so that no worker is idle, and the oldest
bracket that can go on has priority. A failed configuration never goes on: a rung then has fewer than planned. A
configuration whose result does not come is given up after a while (`patience`). A trial that ended before the asked
fidelity, as those that a scheduler stops, counts as failed in its rung; the sampler is told what it reached.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mutandis.algorithms.base import (
    JSON,
    Algorithm,
    Search,
    from_state,
    need_instance,
    need_int,
    need_number,
    need_one_of,
    settings,
    to_state,
)
from mutandis.algorithms.multifidelity.rungs import HPBANDSTER, PAPER, Rung, bracket_counts, fidelities, need_fidelities
from mutandis.algorithms.multifidelity.source import EVERY, INHERIT, LARGEST, RETRAIN, Source, Tag, reached
from mutandis.algorithms.random_search import Random
from mutandis.errors import SettingError, SpaceExhausted
from mutandis.hyper import DNA, Feedback, Proposal, SearchSpace


@settings
class Hyperband(Algorithm):
    """Trains many configurations a little and ever fewer ever longer, in brackets that start ever longer.

        algorithm = mu.algorithms.Hyperband(min_fidelity=1, max_fidelity=27, sampler=mu.algorithms.TPE())

    Each proposal says how long to train: `fidelity`, the total in the unit of the settings, a float that need not be
    whole (12 epochs and eta = 3 give 4 and 1.33). A configuration that goes on comes as a new proposal.

    Args:
        min_fidelity: The shortest training that tells anything, in a unit of your choice, such as epochs.
        max_fidelity: The length of a full training.
        eta: One in so many goes on to the next rung, which trains so many times as long.
        sampler: Where new configurations come from. `Deduped(...)` and the like belong here, not around Hyperband,
            which must propose the same DNA again.
        bracket_sizes: `paper`, or `hpbandster` for the smaller brackets of the code of BOHB.
        brackets: Which brackets to go through, over and over; from s_max to 0 by default. `(s_max,)` is plain
            successive halving.
        resume: Whether a configuration that goes on shall inherit its trained state (`inherit`) or train anew
            (`retrain`).
        told: Of which results the sampler learns: those of the largest fidelity that has enough (`largest`), or
            `every` one as it comes, fidelities mixed. In the former case the sampler starts anew, with the results
            there, when a larger fidelity takes over; `Deduped` then forgets what was tried at smaller ones only.
        enough: How many results are enough; 2 (d + 1) for a space of d decisions by default.
        patience: A proposal without an answer counts as failed when others have been trained so many times as long
            as it shall be. Must be larger than the number of workers.

    Raises:
        SettingError: a setting is out of its range; the message says which.
    """

    min_fidelity: float
    max_fidelity: float
    eta: float = 3
    sampler: Algorithm = field(default_factory=Random)
    bracket_sizes: str = PAPER
    brackets: tuple[int, ...] | None = None
    resume: str = INHERIT
    told: str = LARGEST
    enough: int | None = None
    patience: float = 50

    def __post_init__(self) -> None:
        need_fidelities("Hyperband", self.min_fidelity, self.max_fidelity, self.eta)
        need_instance("Hyperband.sampler", self.sampler, Algorithm, "sampler=Random()")
        need_one_of("Hyperband.bracket_sizes", self.bracket_sizes, (PAPER, HPBANDSTER))
        need_one_of("Hyperband.resume", self.resume, (INHERIT, RETRAIN))
        need_one_of("Hyperband.told", self.told, (LARGEST, EVERY))
        if self.enough is not None:
            need_int("Hyperband.enough", self.enough, 1)
        need_number("Hyperband.patience", self.patience, low=1, fix="use 50, or more than there are workers")
        s_max = len(self.ladder) - 1
        is_known = self.brackets is None or (
            len(self.brackets) > 0 and all(type(s) is int and 0 <= s <= s_max for s in self.brackets)
        )
        if not is_known:
            raise SettingError("cannot use a setting", at="Hyperband.brackets", got=self.brackets,
                               expected=f"one or more whole numbers in [0, {s_max}]",
                               fix=f"use ({s_max},) for successive halving, or leave it out for all")  # fmt: skip

    @property
    def ladder(self) -> tuple[float, ...]:
        """The fidelities of all rungs, ascending; bracket s uses the last s + 1."""
        return fidelities(self.min_fidelity, self.max_fidelity, self.eta)

    def counts(self, s: int) -> tuple[int, ...]:
        """Returns how many configurations bracket s trains at each of its rungs."""
        return bracket_counts(s, len(self.ladder) - 1, self.eta, self.bracket_sizes)

    def start(self, space: SearchSpace, *, seed: int, num_objectives: int = 1) -> Search:
        """Begins a run with the first bracket."""
        self.check_objectives(num_objectives)
        return _BracketSearch(self, space.bare(), seed)


@dataclass(slots=True)
class _Configuration:
    """One configuration of an open bracket; `last` is the id of its latest proposal."""

    dna: DNA
    tag: Tag
    last: int


@dataclass(slots=True)
class _Pending:
    """A proposal without an answer; `start` is how long all others had been trained when it was made."""

    bracket: int
    configuration: int
    fidelity: float
    length: float
    start: float


class _Bracket:
    """One run of successive halving: only its present rung is kept."""

    def __init__(self, s: int, counts: tuple[int, ...]) -> None:
        self.s = s
        self.counts = list(counts)
        self.level = 0
        self.asked = 0  # How many were proposed in this rung.
        self.queue: list[int] = []  # Who may be proposed for it.
        self.rung = Rung()
        self.members: dict[int, _Configuration] = {}

    @property
    def needs_new(self) -> bool:
        """Whether the first rung is not full yet."""
        return self.level == 0 and self.asked < self.counts[0]

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to propose and to wait for."""
        return self.level == len(self.counts)

    def cut(self) -> None:
        """Makes do with the configurations there are, since there are no more."""
        planned = self.counts[0]
        self.counts = [max(count * self.asked // planned, 1) for count in self.counts]
        self.close()

    def add(self, configuration: int, reward: float | None) -> None:
        """Adds a result to the present rung."""
        self.rung.add(configuration, reward)
        self.close()

    def close(self) -> None:
        """Goes to the next rung with the best if all results are there."""
        if self.rung.size < self.counts[self.level]:
            return
        self.level += 1
        rung, self.rung, self.asked, self.queue = self.rung, Rung(), 0, []
        if self.level == len(self.counts):
            return
        limit = self.counts[self.level]
        while (configuration := rung.take(limit)) is not None:
            self.queue.append(configuration)
        self.members = {c: self.members[c] for c in self.queue}
        self.counts[self.level] = len(self.queue)
        if not self.queue:
            self.level = len(self.counts)  # All have failed.

    def to_state(self) -> JSON:
        """Returns the bracket as JSON."""
        members = [[c, to_state(m.dna), list(m.tag), m.last] for c, m in self.members.items()]
        return {"s": self.s, "counts": self.counts, "level": self.level, "asked": self.asked, "queue": self.queue,
                "rung": self.rung.to_state(), "members": members}  # fmt: skip

    @classmethod
    def from_state(cls, space: SearchSpace, state: JSON) -> _Bracket:
        """Returns the bracket that `to_state` wrote."""
        made = cls(state["s"], tuple(state["counts"]))
        made.level, made.asked, made.queue = state["level"], state["asked"], list(state["queue"])
        made.rung = Rung.from_state(state["rung"])
        made.members = {c: _Configuration(from_state(space, values), (tag[0], tag[1]), last)
                        for c, values, tag, last in state["members"]}  # fmt: skip
        return made


class _BracketSearch(Search):
    """A run; it keeps the brackets that are not done, and what is pending."""

    def __init__(self, settings: Hyperband, space: SearchSpace, seed: int) -> None:
        self._settings = settings
        self._space = space
        self._ladder = settings.ladder
        self._cycle = settings.brackets or tuple(range(len(self._ladder) - 1, -1, -1))
        self._source = Source(settings.sampler, space, seed, self._ladder, settings.told, settings.enough)
        self._brackets: dict[int, _Bracket] = {}  # By number, oldest first.
        self._started = 0
        self._configurations = 0
        self._proposed = 0
        self._pending: dict[int, _Pending] = {}
        self._trained = 0.0  # How long all answered trials have trained.
        self._checked = 0.0  # What `_trained` was when overdue proposals were last looked for.

    def propose(self) -> Proposal:
        self._give_up()
        for number, bracket in self._brackets.items():
            if bracket.queue:
                return self._ask(number, bracket, bracket.queue.pop(0))
        return self._ask_new()

    def _ask_new(self) -> Proposal:
        newest = self._brackets.get(self._started - 1)
        number = self._started if newest is None or not newest.needs_new else self._started - 1
        try:
            dna, tag = self._source.new()
        except SpaceExhausted:
            if newest is None or not newest.needs_new:
                raise
            newest.cut()
            self._drop_done()
            return self.propose()
        if number == self._started:
            s = self._cycle[number % len(self._cycle)]
            self._brackets[number] = _Bracket(s, self._settings.counts(s))
            self._started += 1
        bracket = self._brackets[number]
        configuration = self._configurations
        self._configurations += 1
        bracket.members[configuration] = _Configuration(dna, tag, -1)
        return self._ask(number, bracket, configuration)

    def _ask(self, number: int, bracket: _Bracket, configuration: int) -> Proposal:
        member = bracket.members[configuration]
        fidelity = self._ladder[len(self._ladder) - 1 - bracket.s + bracket.level]
        inherit, length = None, fidelity
        if bracket.level > 0 and self._settings.resume == INHERIT:
            inherit = member.last
            length -= self._ladder[len(self._ladder) - 2 - bracket.s + bracket.level]
        bracket.asked += 1
        member.last = self._proposed
        self._proposed += 1
        self._pending[member.last] = _Pending(number, configuration, fidelity, length, self._trained)
        return Proposal(member.last, member.dna, fidelity, inherit)

    def _give_up(self) -> None:
        """Counts proposals as failed that were not answered for too long, so that no rung waits for ever."""
        if self._checked == self._trained:
            return
        self._checked = self._trained
        patience = self._settings.patience
        for number, pending in list(self._pending.items()):
            if self._trained - pending.start > patience * pending.length:
                del self._pending[number]
                self._add(pending, None)

    def feedback(self, feedback: Feedback) -> None:
        pending = None if feedback.id is None else self._pending.pop(feedback.id, None)
        if pending is None:
            self._source.tell(reached(feedback), None, is_first=False)
            return
        result = reached(feedback, pending.fidelity)
        bracket = self._brackets[pending.bracket]
        self._source.tell(result, bracket.members[pending.configuration].tag, is_first=bracket.level == 0)
        self._trained += pending.length
        self._add(pending, result.reward if result.fidelity == pending.fidelity else None)

    def _add(self, pending: _Pending, reward: float | None) -> None:
        self._brackets[pending.bracket].add(pending.configuration, reward)
        self._drop_done()

    def _drop_done(self) -> None:
        self._brackets = {number: bracket for number, bracket in self._brackets.items() if not bracket.is_done}

    def state_dict(self) -> JSON:
        return {
            "source": self._source.state_dict(),
            "brackets": [[number, bracket.to_state()] for number, bracket in self._brackets.items()],
            "started": self._started,
            "configurations": self._configurations,
            "proposed": self._proposed,
            "pending": [[number, p.bracket, p.configuration, p.fidelity, p.length, p.start]
                        for number, p in self._pending.items()],
            "trained": self._trained,
            "checked": self._checked,
        }  # fmt: skip

    def load_state_dict(self, state: JSON) -> None:
        self._source.load_state_dict(state["source"])
        self._brackets = {number: _Bracket.from_state(self._space, item) for number, item in state["brackets"]}
        self._started, self._configurations = state["started"], state["configurations"]
        self._proposed = state["proposed"]
        self._pending = {item[0]: _Pending(*item[1:]) for item in state["pending"]}
        self._trained, self._checked = state["trained"], state["checked"]
