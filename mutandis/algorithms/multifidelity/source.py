"""Where new configurations come from: any other algorithm, told of results of one fidelity at a time.

Rewards after different lengths of training must not be compared, and most algorithms do not know of fidelities.
So the wrapped one learns at one fidelity only: the smallest at first, and then always the largest that has enough
results, as Falkner et al. 2018 (arXiv 1807.01774, Sec. 3.2) do for their model. Whenever a larger fidelity takes over,
a new run of the wrapped algorithm begins and is told of all results there as of results that nobody asked for. What
learns nothing, `Random` and `Grid`, goes on as it was.
"""

from __future__ import annotations

import math

from mutandis.algorithms.base import JSON, Algorithm, Search, from_state, to_state
from mutandis.algorithms.grid import Grid
from mutandis.algorithms.random_search import Random
from mutandis.algorithms.wrappers import Constrained, Deduped
from mutandis.errors import SettingError
from mutandis.hyper import DNA, Feedback, SearchSpace
from mutandis.hyper.rng import Rng

LARGEST, EVERY = "largest", "every"
INHERIT, RETRAIN = "inherit", "retrain"
Tag = tuple[int, int]
"""The run of the wrapped algorithm that proposed a configuration, and its id there."""


class Source:
    """Draws configurations from a wrapped algorithm and tells it of results.

    Args:
        sampler: The wrapped algorithm.
        space: The space.
        seed: Seed of the run; the first run of the wrapped algorithm has it too.
        ladder: The fidelities of all rungs, ascending.
        told: `largest`: results of one fidelity at a time. `every`: all results as they come, with their fidelity; the
            first of a configuration under the id of its proposal, those at further rungs as unasked ones. An
            algorithm that learns nothing, or has a true attribute `reads_fidelity`, is always told of every result.
        enough: How many results that did not fail a fidelity needs to take over; 2 (d + 1) for d decisions if None.
    """

    def __init__(
        self,
        sampler: Algorithm,
        space: SearchSpace,
        seed: int,
        ladder: tuple[float, ...],
        told: str,
        enough: int | None,
    ) -> None:
        self._sampler = sampler
        self._space = space
        self._seed = seed
        self._ladder = ladder
        inner = innermost(sampler)
        takes_all = isinstance(inner, (Random, Grid)) or getattr(inner, "reads_fidelity", False)
        self._told = EVERY if takes_all else told
        self._enough = 2 * (len(space.points) + 1) if enough is None else enough
        self._level = 0
        self._run = 0
        self._waiting: dict[int, list[tuple[DNA, float]]] = {}  # Results of larger fidelities, by level.
        self._inner = self._started()

    def _started(self) -> Search:
        seed = self._seed if self._run == 0 else Rng(self._seed, "sampler", self._run).getrandbits(63)
        return self._sampler.start(self._space, seed=seed)

    def new(self) -> tuple[DNA, Tag]:
        """Returns a new configuration and what tells it apart.

        Raises:
            SpaceExhausted: the wrapped algorithm has nothing left.
            SettingError: it decides on fidelities itself.
        """
        proposal = self._inner.propose()
        if proposal.fidelity is not None:
            raise SettingError(
                "cannot draw configurations from an algorithm that decides how long they train",
                at="sampler",
                got=self._sampler,
                expected="an algorithm that leaves the fidelity open, such as Random()",
                fix="use one of the two algorithms, not one inside the other",
            )
        return proposal.dna, (self._run, proposal.id)

    def tell(self, feedback: Feedback, tag: Tag | None, *, is_first: bool) -> None:
        """Passes a result on.

        Args:
            feedback: The result; its id does not count.
            tag: What `new` gave, or None for a result that nobody asked for.
            is_first: Whether it is the first result of the configuration.
        """
        if self._told == EVERY:
            self._pass_on(feedback, tag if is_first else None)
            return
        level = self._level_of(feedback.fidelity)
        if level is None or level < self._level:
            return
        if level == self._level:
            self._pass_on(feedback, tag)
        elif feedback.reward is not None:
            waiting = self._waiting.setdefault(level, [])
            waiting.append((feedback.dna, feedback.reward))
            if len(waiting) >= self._enough:
                self._rise(level)

    def _pass_on(self, feedback: Feedback, tag: Tag | None) -> None:
        number = tag[1] if tag is not None and tag[0] == self._run else None
        self._inner.feedback(
            Feedback(number, feedback.dna, feedback.metrics, feedback.fidelity, rewards=feedback.rewards)
        )

    def _level_of(self, fidelity: float | None) -> int | None:
        """Returns the rung of a fidelity; None where it is unknown or between two rungs."""
        if fidelity is None:
            return None
        return next((i for i, f in enumerate(self._ladder) if math.isclose(f, fidelity, rel_tol=1e-6)), None)

    def _rise(self, level: int) -> None:
        self._level = level
        self._run += 1
        self._inner = self._started()
        for dna, reward in self._waiting[level]:
            self._inner.feedback(Feedback(None, dna, None, self._ladder[level], rewards=(reward,)))
        self._waiting = {above: results for above, results in self._waiting.items() if above > level}

    def state_dict(self) -> JSON:
        """Returns the state as JSON."""
        waiting = [[level, [[to_state(dna), reward] for dna, reward in results]]
                   for level, results in self._waiting.items()]  # fmt: skip
        return {"inner": self._inner.state_dict(), "level": self._level, "run": self._run, "waiting": waiting}

    def load_state_dict(self, state: JSON) -> None:
        """Goes on from a state."""
        self._level, self._run = state["level"], state["run"]
        self._inner = self._started()
        self._inner.load_state_dict(state["inner"])
        self._waiting = {level: [(from_state(self._space, values), reward) for values, reward in results]
                         for level, results in state["waiting"]}  # fmt: skip


def innermost(algorithm: Algorithm) -> Algorithm:
    """Returns what is left of an algorithm without its wrappers."""
    while isinstance(algorithm, (Deduped, Constrained)):
        algorithm = algorithm.algorithm
    return algorithm


def reached(feedback: Feedback, fidelity: float | None = None) -> Feedback:
    """Returns a result with the fidelity that it counts for; a reward that is not finite is a failure.

    Args:
        feedback: The result.
        fidelity: What the trial was asked for, which it counts for unless it ended before.
    """
    told, rewards = feedback.fidelity, feedback.rewards
    if fidelity is not None and (told is None or told > fidelity or math.isclose(told, fidelity, rel_tol=1e-6)):
        told = fidelity
    if rewards is not None and not math.isfinite(rewards[0]):
        rewards = None
    return Feedback(feedback.id, feedback.dna, feedback.metrics, told, rewards)
