"""ASHA: successive halving that never waits.

Li, Jamieson, Rostamizadeh, Gonina, Ben-tzur, Hardt, Recht, Talwalkar: A System for Massively Parallel Hyperparameter
Tuning, MLSys 2020, arXiv 1810.05934, Algorithm 2.

*Notation*: R = `max_fidelity`; rung k = 0, 1, ... at R eta^-(K - k), K = floor(log_eta(R / r)). On request, for k from
K - 1 down to 0: if one of the best floor(|rung k| / eta) of rung k did not go on yet, the best such one goes on to rung
k + 1. If there is none, a new configuration starts at rung 0.

*Departures*: the rungs are counted down from R, so that the last one is a full training whatever R / r is. The paper's
`early-stopping rate` s is `min_fidelity` eta^s. A failed configuration never goes on. A trial that ended before the
asked fidelity counts as failed in its rung.
"""

from __future__ import annotations

from dataclasses import field

from mutandis.algorithms.base import (
    JSON,
    Algorithm,
    Search,
    from_state,
    need_instance,
    need_int,
    need_one_of,
    settings,
    to_state,
)
from mutandis.algorithms.multifidelity.rungs import Rung, fidelities, need_fidelities
from mutandis.algorithms.multifidelity.source import EVERY, INHERIT, LARGEST, RETRAIN, Source, Tag, reached
from mutandis.algorithms.random_search import Random
from mutandis.hyper import DNA, Feedback, Proposal, SearchSpace


@settings
class ASHA(Algorithm):
    """Lets a configuration train longer as soon as it is among the best `1 / eta` of those that trained as long.

        algorithm = mu.algorithms.ASHA(min_fidelity=1, max_fidelity=64, eta=4)

    Each proposal says how long to train: `fidelity`, the total in the unit of the settings. Any number of workers is
    kept busy; a configuration whose result never comes is in no one's way. The state grows with the number of
    configurations, since any of them may go on later; one proposal costs O(log n) comparisons.

    Args:
        min_fidelity: The shortest training that tells anything, in a unit of your choice, such as epochs.
        max_fidelity: The length of a full training.
        eta: One in so many goes on to the next rung, which trains so many times as long.
        sampler: Where new configurations come from. `Deduped(...)` and the like belong here, not around ASHA, which
            must propose the same DNA again.
        resume: Whether a configuration that goes on shall inherit its trained state (`inherit`) or train anew
            (`retrain`).
        told: Of which results the sampler learns: those of the largest fidelity that has enough (`largest`), or
            `every` one as it comes, fidelities mixed. In the former case the sampler starts anew, with the results
            there, when a larger fidelity takes over; `Deduped` then forgets what was tried at smaller ones only.
        enough: How many results are enough; 2 (d + 1) for a space of d decisions by default.

    Raises:
        SettingError: a setting is out of its range; the message says which.
    """

    min_fidelity: float
    max_fidelity: float
    eta: float = 4
    sampler: Algorithm = field(default_factory=Random)
    resume: str = INHERIT
    told: str = LARGEST
    enough: int | None = None

    def __post_init__(self) -> None:
        need_fidelities("ASHA", self.min_fidelity, self.max_fidelity, self.eta)
        need_instance("ASHA.sampler", self.sampler, Algorithm, "sampler=Random()")
        need_one_of("ASHA.resume", self.resume, (INHERIT, RETRAIN))
        need_one_of("ASHA.told", self.told, (LARGEST, EVERY))
        if self.enough is not None:
            need_int("ASHA.enough", self.enough, 1)

    @property
    def ladder(self) -> tuple[float, ...]:
        """The fidelities of all rungs, ascending."""
        return fidelities(self.min_fidelity, self.max_fidelity, self.eta)

    def start(self, space: SearchSpace, *, seed: int, num_objectives: int = 1) -> Search:
        """Begins a run with a new configuration."""
        self.check_objectives(num_objectives)
        return _PromotingSearch(self, space.bare(), seed)


class _PromotingSearch(Search):
    def __init__(self, settings: ASHA, space: SearchSpace, seed: int) -> None:
        self._eta = settings.eta
        self._inherits = settings.resume == INHERIT
        self._space = space
        self._ladder = settings.ladder
        self._source = Source(settings.sampler, space, seed, self._ladder, settings.told, settings.enough)
        self._rungs = [Rung() for _ in self._ladder[:-1]]  # Nobody goes on from the last one.
        self._members: dict[int, tuple[DNA, Tag, int]] = {}  # The last is the id of the latest proposal.
        self._pending: dict[int, tuple[int, int]] = {}  # Configuration and rung.
        self._started = 0
        self._proposed = 0

    def propose(self) -> Proposal:
        for level in range(len(self._rungs) - 1, -1, -1):
            rung = self._rungs[level]
            configuration = rung.take(int(rung.size / self._eta + 1e-9))
            if configuration is not None:
                return self._ask(configuration, level + 1)
        dna, tag = self._source.new()
        configuration = self._started
        self._started += 1
        self._members[configuration] = (dna, tag, -1)
        return self._ask(configuration, 0)

    def _ask(self, configuration: int, level: int) -> Proposal:
        dna, tag, last = self._members[configuration]
        number = self._proposed
        self._proposed += 1
        self._members[configuration] = (dna, tag, number)
        self._pending[number] = (configuration, level)
        return Proposal(number, dna, self._ladder[level], last if level > 0 and self._inherits else None)

    def feedback(self, feedback: Feedback) -> None:
        pending = None if feedback.id is None else self._pending.pop(feedback.id, None)
        if pending is None:
            self._source.tell(reached(feedback), None, is_first=False)
            return
        configuration, level = pending
        result = reached(feedback, self._ladder[level])
        self._source.tell(result, self._members[configuration][1], is_first=level == 0)
        reward = result.reward if result.fidelity == self._ladder[level] else None
        if level < len(self._rungs):
            self._rungs[level].add(configuration, reward)
        if reward is None or level == len(self._rungs):
            del self._members[configuration]  # It never goes on.

    def state_dict(self) -> JSON:
        return {
            "source": self._source.state_dict(),
            "rungs": [rung.to_state() for rung in self._rungs],
            "members": [[c, to_state(dna), list(tag), last] for c, (dna, tag, last) in self._members.items()],
            "pending": [[number, *place] for number, place in self._pending.items()],
            "started": self._started,
            "proposed": self._proposed,
        }

    def load_state_dict(self, state: JSON) -> None:
        self._source.load_state_dict(state["source"])
        self._rungs = [Rung.from_state(item) for item in state["rungs"]]
        self._members = {c: (from_state(self._space, values), (tag[0], tag[1]), last)
                         for c, values, tag, last in state["members"]}  # fmt: skip
        self._pending = {number: (configuration, level) for number, configuration, level in state["pending"]}
        self._started, self._proposed = state["started"], state["proposed"]
