"""CMA-ES: a normal distribution over the space that learns its shape.

Hansen: The CMA Evolution Strategy: A Tutorial, 2016, arXiv 1604.00772, Fig. 6, as the `cmaes` package does it (see
`cma_engine`). Restarts with a growing population: Auger and Hansen, A Restart CMA Evolution Strategy With Increasing
Population Size, CEC 2005; with two regimes in turn: Hansen, Benchmarking a BI-Population CMA-ES on the BBOB-2009
Function Testbed, GECCO 2009, Sec. 2.

*Notation*: lambda = population size; m = mean; sigma = step size, as a share of each range.

*Departures*: a generation ends with lambda results of the present distribution or older ones of the same start,
whoever waited for them, so that it is defined for parallel workers. A failed trial does not count. A result that
nobody asked for, or that comes after a restart, is kept if it is the best of its kind; when it beats a whole
generation, it takes the place of its worst member, no farther from m than Hansen's injection allows (arXiv 1110.4181).
"""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mutandis.algorithms.base import JSON, Algorithm, Search, need_int, need_number, need_one_of, settings
from mutandis.algorithms.bayesian.cma_axes import Axes
from mutandis.algorithms.bayesian.cma_engine import Engine, Sample
from mutandis.hyper import Feedback, Proposal, SearchSpace
from mutandis.hyper.rng import Rng

Array = NDArray[np.float64]
Rated = tuple[float, Sample]
_STARTS = ("default", "random")
_RESTARTS = ("none", "ipop", "bipop")
_LARGEST = 512  # Times the first population, i.e. nine doublings as in BIPOP.


@settings
class CMAES(Algorithm):
    """Moves a normal distribution towards better points and learns which decisions must move together.

    The choice for ranges and for hundreds to thousands of cheap trials. Choices, steps, orders and subsets may stand
    beside the ranges; conditional decisions may not. Needs cmaes: `pip install 'mutandis[bayesian]'`.

    A proposal costs O(D^2), a generation O(D^3); the state is O(D^2 + lambda D).

    Args:
        population_size: lambda; None for 4 + 3 ln D.
        sigma: Standard deviation at the start, as a share of each range.
        start_at: Where the mean starts: the `default` of the space, which is its centre where nothing else is said, or
            `random`.
        restarts: What follows convergence: `ipop` starts at random with twice the population, `bipop` takes turns
            between that and small populations, `none` goes on.

    Raises:
        SettingError: a setting is out of its range.

    Example:
        >>> import mutandis as mu
        >>> space = mu.space({"x": mu.floatv(-2.0, 2.0), "y": mu.floatv(-2.0, 2.0)})
        >>> loop = mu.sample(space, mu.algorithms.CMAES(), trials=150)
        >>> for child, feedback in loop:
        ...     feedback(-((child["x"] - 1) ** 2) - 10 * (child["y"] - child["x"] ** 2) ** 2)
        >>> loop.study.best.reward > -0.01
        True
    """

    population_size: int | None = None
    sigma: float = 1 / 6
    start_at: str = "default"
    restarts: str = "ipop"

    def __post_init__(self) -> None:
        if self.population_size is not None:
            need_int("CMAES.population_size", self.population_size, 4)
        need_number("CMAES.sigma", self.sigma, above=0, high=1, fix="use 1 / 6: a share of the range")
        need_one_of("CMAES.start_at", self.start_at, _STARTS)
        need_one_of("CMAES.restarts", self.restarts, _RESTARTS)

    def start(self, space: SearchSpace, *, seed: int, num_objectives: int = 1) -> Search:
        """Begins a run.

        Raises:
            SettingError: the space is conditional or open-ended.
            MissingDependency: cmaes cannot be imported.
        """
        self.check_objectives(num_objectives)
        return _CovarianceSearch(self, space.bare(), seed)


class _CovarianceSearch(Search):
    def __init__(self, settings: CMAES, space: SearchSpace, seed: int) -> None:
        self._settings = settings
        self._space = space
        self._seed = seed
        self._axes = Axes(space)
        self._epoch = 0  # How many restarts there were.
        self._population = settings.population_size
        self._sigma = settings.sigma
        self._doublings = 0
        self._spent = {"large": 0, "small": 0}  # Results by regime.
        self._is_large = True
        self._generation: list[Rated] = []
        self._foreign: Rated | None = None
        self._pending: dict[int, tuple[int, Sample]] = {}  # Epoch and draw, by proposal.
        self._proposed = 0
        self._engine = self._new_engine(settings.start_at == "random") if self._has_variables else None
        if self._engine is not None and self._population is None:
            self._population = self._engine.population_size
        self._first_population = self._population or 0

    @property
    def _has_variables(self) -> bool:
        return bool(self._axes.num_numbers or self._axes.cells)

    def _new_engine(self, is_random: bool) -> Engine:
        if is_random:
            rng = Rng(self._seed, "cma start", self._epoch)
            place = np.array([rng.random() for _ in range(self._axes.num_units)])
        else:
            place = np.array(self._space.default().to_unit())
        return Engine(self._axes, self._axes.split(place)[0], self._sigma, self._population)

    def propose(self) -> Proposal:
        number = self._proposed
        self._proposed += 1
        if self._engine is None:
            return Proposal(number, self._space.default())
        sample = self._engine.ask(Rng(self._seed, "cma", number).getrandbits(32))
        self._pending[number] = (self._epoch, sample)
        place = self._axes.join(np.array(sample.numbers), list(sample.picks))
        return Proposal(number, self._space.from_unit(place.tolist()))

    def feedback(self, feedback: Feedback) -> None:
        epoch, sample = (-1, None) if feedback.id is None else self._pending.pop(feedback.id, (-1, None))
        if feedback.rewards is None or self._engine is None:
            return
        loss = min(max(-feedback.rewards[0], -sys.float_info.max), sys.float_info.max)
        if sample is None or epoch != self._epoch:
            self._offer(loss, feedback)
            return
        self._generation.append((loss, sample))
        self._spent["large" if self._is_large else "small"] += 1
        if len(self._generation) >= self._engine.population_size:
            self._advance(self._engine)

    def _offer(self, loss: float, feedback: Feedback) -> None:
        """Keeps a foreign result if it is the best one that was not injected yet."""
        if self._foreign is None or loss < self._foreign[0]:
            numbers, picks = self._axes.split(np.array(feedback.dna.to_unit()))
            self._foreign = (loss, Sample(tuple(numbers.tolist()), tuple(picks)))

    def _advance(self, engine: Engine) -> None:
        generation = sorted(self._generation, key=lambda rated: rated[0])
        if self._foreign is not None and self._foreign[0] < generation[0][0]:
            generation[-1] = (self._foreign[0], engine.shortened(self._foreign[1]))
            self._foreign = None
        self._generation = []
        if not engine.tell(generation):
            self._restart()

    def _restart(self) -> None:
        if self._settings.restarts == "none":
            if self._engine is not None and self._engine.is_sound():
                return
        elif self._settings.restarts == "ipop" or self._spent["large"] <= self._spent["small"]:
            self._grow()
        else:
            self._shrink()
        self._epoch += 1
        self._engine = self._new_engine(is_random=True)

    def _grow(self) -> None:
        self._is_large = True
        self._doublings += 1
        self._population = self._first_population * min(2**self._doublings, _LARGEST)
        self._sigma = self._settings.sigma

    def _shrink(self) -> None:
        """Sets the small regime: a population between the first and half the largest, and a smaller step."""
        rng = Rng(self._seed, "cma regime", self._epoch)
        ratio = 0.5 * min(2**self._doublings, _LARGEST)
        self._is_large = False
        self._population = max(math.floor(self._first_population * ratio ** (rng.random() ** 2)), 4)
        self._sigma = self._settings.sigma * 10 ** (-2 * rng.random())

    def state_dict(self) -> JSON:
        return {
            "epoch": self._epoch,
            "population": self._population,
            "sigma": self._sigma,
            "doublings": self._doublings,
            "spent": dict(self._spent),
            "is_large": self._is_large,
            "generation": [_rated_state(rated) for rated in self._generation],
            "foreign": None if self._foreign is None else _rated_state(self._foreign),
            "pending": [[number, epoch, _rated_state((0.0, draw))] for number, (epoch, draw) in self._pending.items()],
            "proposed": self._proposed,
            "engine": None if self._engine is None else self._engine.state_dict(),
        }

    def load_state_dict(self, state: JSON) -> None:
        self._epoch, self._population, self._sigma = state["epoch"], state["population"], state["sigma"]
        self._doublings, self._spent, self._is_large = state["doublings"], dict(state["spent"]), state["is_large"]
        self._generation = [_rated(item) for item in state["generation"]]
        self._foreign = None if state["foreign"] is None else _rated(state["foreign"])
        self._pending = {number: (epoch, _rated(item)[1]) for number, epoch, item in state["pending"]}
        self._proposed = state["proposed"]
        if state["engine"] is not None:
            self._engine = self._new_engine(is_random=True)
            self._engine.load_state_dict(state["engine"])


def _rated_state(rated: Rated) -> list[Any]:
    return [rated[0], list(rated[1].numbers), list(rated[1].picks)]


def _rated(state: list[Any]) -> Rated:
    return (state[0], Sample(tuple(state[1]), tuple(state[2])))
