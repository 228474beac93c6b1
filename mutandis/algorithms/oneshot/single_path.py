"""Uniform training of single paths, and a search on the trained weights.

RSPS: Li, Talwalkar: Random Search and Reproducibility for Neural Architecture Search, UAI 2019, arXiv 1902.07638,
Sec. 3.2. SPOS: Guo, Zhang, Mu, Heng, Liu, Wei, Sun: Single Path One-Shot Neural Architecture Search with Uniform
Sampling, ECCV 2020, arXiv 1904.00420, Sec. 3. Progressive shrinking: Cai, Gan, Wang, Zhang, Han: Once-for-All, ICLR
2020, arXiv 1908.09791, Sec. 3.3.

*Departures*: the search of SPOS may be any algorithm; that of the paper is `TopKEvolution`. Once-for-all opens one size
after the other at equal distances; which sizes open when is a table in the paper's code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mutandis.algorithms.base import JSON, Algorithm, Search, need_instance, need_int, settings
from mutandis.algorithms.oneshot.derive import best_of
from mutandis.algorithms.oneshot.protocol import (
    Cost,
    Evaluate,
    Needs,
    OneShot,
    SharedSearch,
    Virtual,
    finite,
    need_fraction,
    refuse_outcome,
)
from mutandis.algorithms.oneshot.selections import Selections, selections_of, sizes
from mutandis.algorithms.oneshot.top_k import TopKEvolution
from mutandis.algorithms.policies.reinforce import need_number
from mutandis.algorithms.random_search import Random
from mutandis.errors import SettingError, SpaceExhausted
from mutandis.hyper import DNA, Feedback, Point, SearchSpace
from mutandis.hyper.rng import Rng

if TYPE_CHECKING:
    from torch import Tensor

Draw = Callable[[Rng, float], DNA]
Derive = Callable[[Rng, Evaluate | None], DNA]


@settings
class RSPS(OneShot):
    """Trains weights on uniform random paths, and measures random DNAs on them. The baseline of weight sharing.

    Args:
        num_candidates: How many random DNAs are measured at the end.

    Raises:
        SettingError: the number is below 1.
    """

    num_candidates: int = 100
    objectives = "many"

    def __post_init__(self) -> None:
        need_int("RSPS.num_candidates", self.num_candidates, 1)

    def start(self, space: SearchSpace, *, seed: int, num_objectives: int = 1) -> Search:
        """Begins random search by trials."""
        return Random().start(space, seed=seed, num_objectives=num_objectives)

    def start_shared(self, space: SearchSpace, *, seed: int, cost: Cost | None = None) -> SharedSearch:
        """Begins a run; nothing is learnt but the weights."""
        bare = space.bare()

        def derive(rng: Rng, evaluate: Evaluate | None) -> DNA:
            return best_of("RSPS", (bare.random(rng) for _ in range(self.num_candidates)), evaluate)

        return UniformSearch("RSPS", seed, lambda rng, fraction: bare.random(rng), derive, "any")


@settings
class SPOS(OneShot):
    """Trains weights on uniform random paths, and then searches on them, frozen, by another algorithm.

    Constraints belong into that algorithm: `SPOS(Constrained(RegularizedEvolution(), is_cheap))`.

    Args:
        search: The algorithm of the second phase.
        num_trials: How many DNAs it may measure; the paper measures 1000.

    Raises:
        SettingError: a setting is of the wrong kind.
    """

    search: Algorithm = TopKEvolution()
    num_trials: int = 1000

    def __post_init__(self) -> None:
        need_instance("SPOS.search", self.search, Algorithm, "SPOS(RegularizedEvolution())")
        need_int("SPOS.num_trials", self.num_trials, 1)

    @property
    def objectives(self) -> str:  # type: ignore[override]
        """Those of the search."""
        return self.search.objectives

    def start(self, space: SearchSpace, *, seed: int, num_objectives: int = 1) -> Search:
        """Begins the search of the second phase, by trials."""
        return self.search.start(space, seed=seed, num_objectives=num_objectives)

    def start_shared(self, space: SearchSpace, *, seed: int, cost: Cost | None = None) -> SharedSearch:
        """Begins a run with the first phase; `derive` is the second.

        Raises:
            SettingError: the algorithm of the second phase refuses the space.
        """
        bare = space.bare()
        self.search.start(bare, seed=seed)
        return UniformSearch("SPOS", seed, lambda rng, fraction: bare.random(rng),
                             _searched("SPOS", bare, self.search, self.num_trials), "recalibrate")  # fmt: skip


@settings
class OnceForAll(OneShot):
    """Trains the largest child first and smaller ones step by step, and then searches on the weights like SPOS.

        OnceForAll((("kernel",), ("depth",), ("width",)))

    A stage belongs to some decisions among sizes. Before its stage, a decision takes its largest size; at the start
    of the stage the second largest joins, and then one size after the other at equal distances, until all are open;
    open sizes are drawn uniformly. Decisions of no stage are uniform throughout.

    Args:
        stages: Paths or names of the decisions of each stage, in order; each stage takes an equal share of the run.
        warmup: Fraction of the run before the first stage.
        search: The algorithm that searches at the end.
        num_trials: How many DNAs it may measure.

    Raises:
        SettingError: a setting is of the wrong kind or out of its range.
    """

    stages: tuple[tuple[str, ...], ...]
    warmup: float = 0.25
    search: Algorithm = TopKEvolution()
    num_trials: int = 1000

    def __post_init__(self) -> None:
        need_number("OnceForAll.warmup", self.warmup, low=0.0, below=1.0)
        need_instance("OnceForAll.search", self.search, Algorithm, "OnceForAll(stages, search=RegularizedEvolution())")
        need_int("OnceForAll.num_trials", self.num_trials, 1)

    @property
    def objectives(self) -> str:  # type: ignore[override]
        """Those of the search."""
        return self.search.objectives

    def start(self, space: SearchSpace, *, seed: int, num_objectives: int = 1) -> Search:
        """Begins the search at the end, by trials."""
        return self.search.start(space, seed=seed, num_objectives=num_objectives)

    def start_shared(self, space: SearchSpace, *, seed: int, cost: Cost | None = None) -> SharedSearch:
        """Begins a run with the largest child.

        Raises:
            DecisionError: a stage names no decision.
            SettingError: a decision of a stage is not among sizes; the algorithm of the search refuses the space.
        """
        bare = space.bare()
        self.search.start(bare, seed=seed)
        stage_of = {bare.point(path).index: i for i, stage in enumerate(self.stages) for path in stage}
        ladder = {index: descending(bare.points[index]) for index in stage_of}

        def draw(rng: Rng, fraction: float) -> DNA:
            def value(point: Point) -> Any:
                if point.index not in stage_of:
                    return point.draw(rng)
                values = ladder[point.index]
                count = num_open(len(values), self._done(fraction) - stage_of[point.index])
                return values[int(rng.random() * count)]

            return bare.repair([None] * len(bare.points), value)

        derive = _searched("OnceForAll", bare, self.search, self.num_trials)
        return UniformSearch("OnceForAll", seed, draw, derive, "recalibrate")

    def _done(self, fraction: float) -> float:
        """Returns how many stages are done, negative before the first."""
        return (fraction - self.warmup) / (1.0 - self.warmup) * len(self.stages)


def num_open(num_sizes: int, done: float) -> int:
    """Returns how many sizes are open, the largest first.

    Args:
        num_sizes: How many there are.
        done: The fraction of the stage that is done; negative before it.
    """
    if done < 0.0:
        return 1
    return min(num_sizes, 2 + int(done * (num_sizes - 1)))


def descending(point: Point) -> list[Any]:
    """Returns the raw values of a decision among sizes, largest first.

    Raises:
        SettingError: it is none.
    """
    numbers = sizes(point)
    if numbers is not None:
        return sorted(range(len(numbers)), key=lambda i: -numbers[i])
    if point.kind in ("int", "float") and point.is_finite:
        return [point.at(position) for position in reversed(range(point.num_steps))]
    raise SettingError("cannot shrink a decision", at=point.path, got=point.describe(),
                       expected="a choice among numbers, or a range of whole or stepped numbers",
                       fix="name only decisions about sizes in OnceForAll.stages")  # fmt: skip


def _searched(name: str, space: SearchSpace, algorithm: Algorithm, num_trials: int) -> Derive:
    """Returns a way to derive that runs a search on measured DNAs."""

    def derive(rng: Rng, evaluate: Evaluate | None) -> DNA:
        search = algorithm.start(space, seed=rng.getrandbits(63))
        measured: dict[DNA, float | None] = {}
        for _ in range(num_trials if evaluate is not None else 0):
            try:
                proposal = search.propose()
            except SpaceExhausted:
                break
            dna = proposal.dna
            if dna not in measured and evaluate is not None:
                measured[dna] = finite(evaluate(dna))
            value = measured[dna]
            rewards = None if value is None else (value,)
            search.feedback(Feedback(proposal.id, dna, None, proposal.fidelity, rewards))
        return best_of(name, measured, None if evaluate is None else measured.__getitem__)

    return derive


class UniformSearch(SharedSearch):
    """A run whose draws learn nothing.

    Args:
        name: Of the algorithm.
        seed: Seed of the run.
        draw: Draws a DNA, given the fraction of the run that is done.
        derive: Searches on the trained weights.
        norm: What layers need.
    """

    def __init__(self, name: str, seed: int, draw: Draw, derive: Derive, norm: str) -> None:
        self.needs = Needs(data="none", outcome="none", norm=norm, draws=0, selection="index")
        self._name = name
        self._draw = draw
        self._derive = derive
        self._rng = Rng(seed, "one shot", name)
        self._fraction = 0.0

    def progress(self, fraction: float) -> None:
        """Says how much of the run is done, in [0, 1]."""
        self._fraction = need_fraction(fraction)

    def weights(self) -> Selections:
        """Returns a random path."""
        return selections_of(self._draw(self._rng, self._fraction))

    def policy(self) -> Selections:
        """Refuses, for there is no policy."""
        raise SettingError("cannot take a policy step", at=f"{self._name}.policy", got="no policy",
                           expected="weight steps only, then derive(evaluate)",
                           fix="look at search.needs.draws, which is 0")  # fmt: skip

    def feedback(
        self,
        selections: Selections,
        *,
        loss: Tensor | None = None,
        reward: float | None = None,
        virtual: Virtual | None = None,
    ) -> None:
        """Refuses outcomes, for nothing is learnt."""
        if loss is not None or reward is not None or virtual is not None:
            raise refuse_outcome(self._name, self.needs, "an outcome")

    def derive(self, evaluate: Evaluate | None = None) -> DNA:
        """Returns the best of what the search measures."""
        return self._derive(self._rng, evaluate)

    def entropy(self) -> dict[str, float]:
        """Returns nothing, for there is no policy."""
        return {}

    def probabilities(self) -> dict[str, list[float]]:
        """Returns nothing, for there is no policy."""
        return {}

    def state_dict(self) -> JSON:
        """Returns the state as JSON."""
        return {"rng": self._rng.state(), "fraction": self._fraction}

    def load_state_dict(self, state: JSON) -> None:
        """Goes on from a state."""
        self._rng.set_state(state["rng"])
        self._fraction = state["fraction"]


__all__ = ["OnceForAll", "RSPS", "SPOS", "UniformSearch", "descending", "num_open"]
