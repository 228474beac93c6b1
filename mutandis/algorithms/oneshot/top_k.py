"""Evolution of the best so far, for searches on trained shared weights.

Guo, Zhang, Mu, Heng, Liu, Wei, Sun: Single Path One-Shot Neural Architecture Search with Uniform Sampling, ECCV 2020,
arXiv 1904.00420, Algorithm 1 and reference code: the best k of all that was measured have mutants and crossovers, and
nothing is measured twice.

*Departures*: the next generation is made when the last child of this one was proposed, from the answers that came by
then; the reference code waits for all. A generation that cannot be filled with new children is filled at random.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from mutandis.algorithms.base import JSON, Algorithm, Search, from_state, need_int, need_number, settings, to_state
from mutandis.errors import SpaceExhausted
from mutandis.hyper import DNA, Feedback, Proposal, SearchSpace
from mutandis.hyper.rng import Rng

_LISTABLE = 10_000


@settings
class TopKEvolution(Algorithm):
    """Mutates and crosses the best few of all measured children, generation by generation.

    Works on every space; a finite one that is used up ends the search. The state holds all proposed children, of
    which each is proposed once.

    Args:
        population_size: Children of a generation; what mutants and crossovers do not fill is random.
        num_top: How many of the best have children.
        num_mutants: Mutants of a generation.
        num_crossovers: Crossovers of a generation.
        mutation_chance: Of each active decision, to be drawn anew (possibly the same).
        tries: Mutants and crossovers are tried so many times their number, where they are not new.

    Raises:
        SettingError: a number is out of its range.
    """

    population_size: int = 50
    num_top: int = 10
    num_mutants: int = 25
    num_crossovers: int = 25
    mutation_chance: float = 0.1
    tries: int = 10

    def __post_init__(self) -> None:
        for name, low in (("population_size", 1), ("num_top", 1), ("num_mutants", 0), ("num_crossovers", 0),
                          ("tries", 1)):  # fmt: skip
            need_int(f"TopKEvolution.{name}", getattr(self, name), low)
        need_number("TopKEvolution.mutation_chance", self.mutation_chance, above=0.0, high=1.0)

    def start(self, space: SearchSpace, *, seed: int, num_objectives: int = 1) -> Search:
        """Begins a run with a random generation.

        Raises:
            SettingError: there are several objectives.
        """
        self.check_objectives(num_objectives)
        return _TopKSearch(self, space.bare(), seed)


def mutant(parent: DNA, chance: float, rng: Random) -> DNA:
    """Returns a DNA of which each decision was drawn anew with a chance, and those that become active too."""
    values = [value if value is None or rng.random() >= chance else None for value in parent.values]
    return parent.space.repair(values, lambda point: point.draw(rng))  # type: ignore[no-any-return]


def crossed(first: DNA, second: DNA, rng: Random) -> DNA:
    """Returns a DNA whose decisions are those of either parent; of the other where one does not have it."""
    values: list[Any] = []
    for a, b in zip(first.values, second.values, strict=True):
        one, other = (a, b) if rng.random() < 0.5 else (b, a)
        values.append(other if one is None else one)
    return first.space.repair(values, lambda point: point.draw(rng))  # type: ignore[no-any-return]


class _TopKSearch(Search):
    def __init__(self, settings: TopKEvolution, space: SearchSpace, seed: int) -> None:
        self._settings = settings
        self._space = space
        self._rng = Rng(seed, "top k evolution")
        self._seen: dict[DNA, None] = {}
        self._queue: list[DNA] = []
        self._top: list[tuple[float, DNA]] = []
        self._proposed = 0

    def propose(self) -> Proposal:
        if not self._queue:
            self._queue = self._generation()
        number = self._proposed
        self._proposed += 1
        return Proposal(number, self._queue.pop(0))

    def feedback(self, feedback: Feedback) -> None:
        if feedback.reward is not None:
            others = [pair for pair in self._top if pair[1] != feedback.dna]
            ranked = sorted([*others, (feedback.reward, feedback.dna)], key=lambda pair: -pair[0])
            self._top = ranked[: self._settings.num_top]

    def _generation(self) -> list[DNA]:
        own, rng, parents = self._settings, self._rng, [dna for _, dna in self._top]
        made: list[DNA] = []
        if parents:
            self._fill(made, own.num_mutants, lambda: mutant(rng.choice(parents), own.mutation_chance, rng))
            self._fill(made, own.num_crossovers, lambda: crossed(rng.choice(parents), rng.choice(parents), rng))
        self._fill(made, max(own.population_size - len(made), 0), lambda: self._space.random(rng))
        if not made and self._space.size <= _LISTABLE:
            made = [dna for dna in self._space.enumerate() if dna not in self._seen][:1]
            self._seen.update(dict.fromkeys(made))
        if not made:
            raise SpaceExhausted("cannot propose: no new DNA was found", got=len(self._seen),
                                 expected=f"more than that many DNAs; the space has {self._space.size}")  # fmt: skip
        return made

    def _fill(self, made: list[DNA], count: int, draw: Callable[[], DNA]) -> None:
        """Appends up to so many new children."""
        wanted = len(made) + count
        for _ in range(self._settings.tries * count):
            if len(made) >= wanted:
                break
            dna = draw()
            if dna not in self._seen:
                self._seen[dna] = None
                made.append(dna)

    def state_dict(self) -> JSON:
        return {
            "rng": self._rng.state(),
            "seen": [to_state(dna) for dna in self._seen],
            "queue": [to_state(dna) for dna in self._queue],
            "top": [[reward, to_state(dna)] for reward, dna in self._top],
            "proposed": self._proposed,
        }

    def load_state_dict(self, state: JSON) -> None:
        self._rng.set_state(state["rng"])
        self._seen = dict.fromkeys(from_state(self._space, values) for values in state["seen"])
        self._queue = [from_state(self._space, values) for values in state["queue"]]
        self._top = [(reward, from_state(self._space, values)) for reward, values in state["top"]]
        self._proposed = state["proposed"]


__all__ = ["TopKEvolution", "crossed", "mutant"]
