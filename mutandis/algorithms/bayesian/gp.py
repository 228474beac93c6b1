"""A Gaussian-process bandit over mixed and conditional spaces.

Song, Zhang, Lee, Fertig, Huang, et al.: The Vizier Gaussian Process Bandit Algorithm, 2024, arXiv 2408.11527: first the
centre of the space, then where mean + 1.8 deviations of a Matern-5/2 process with a length scale for each decision is
largest, the rewards being warped and the hyper-parameters at their maximum a posteriori.

*Departures*: conditional spaces, orders and subsets are modelled too (see `features`); ranges with steps are rounded
inside the kernel, not after the maximisation. Some random points follow the first, so that different seeds make
different runs. A failed trial gets no label: like a pending one it lowers the deviation around it, which is the
batch rule of Desautels, Krause, Burdick, JMLR 2014, whose hallucinated labels leave the mean as it is. Vizier gives
it a bad label. Hyper-parameters are fitted on a geometric schedule, each time a tenth more results have come. Where
the deviation of the chosen point is below a tenth of the prior's, every second proposal asks again with the weights
4, 8 and 16 instead of 1.8, so that a mode that is known by heart is left; that is our own rule. The process has the
level of the labels (see `model`) where Vizier's has the level 0: labels are at most 0.5 below that and, on a rugged
reward, mostly near -0.5, so that all that is far from every result would look better than nearly all that was tried,
and in ten dimensions only corners be proposed. Vizier's trust region, which holds that back for a while, is left out.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mutandis.algorithms.base import (
    JSON,
    Algorithm,
    Search,
    from_state,
    need_int,
    need_number,
    need_one_of,
    settings,
    to_state,
)
from mutandis.algorithms.bayesian.acquisition import Acquisition
from mutandis.algorithms.bayesian.features import Features
from mutandis.algorithms.bayesian.kernel import Hyper
from mutandis.algorithms.bayesian.maximise import Maximiser, with_hidden_genes
from mutandis.algorithms.bayesian.model import Posterior, fit
from mutandis.algorithms.bayesian.warping import warped
from mutandis.errors import MissingDependency
from mutandis.hyper import DNA, Feedback, Proposal, SearchSpace
from mutandis.hyper.rng import Rng

Array = NDArray[np.float64]
_REDRAWS = 50
_NUM_SEEDS = 8  # So many of the best points start the maximisation.
_SETTLED = 0.1  # A point whose deviation is below that share of the amplitude's root has little to tell.
_ESCAPES = (4.0, 8.0, 16.0)  # Weights of the deviation that are tried then, one after another.
_KINDS = ("ucb", "ei")


@settings
class GaussianProcess(Algorithm):
    """Models the reward over the whole space and tries the point that promises most.

    The choice for few, expensive trials of up to some ten ranges. Needs scipy and threadpoolctl:
    `pip install 'mutandis[bayesian]'`.

    A proposal costs O(n^3 + n^2 c) for n modelled points and c = 1,700 candidates: about 10 ms at n = 100. More than
    `max_points` results are thinned: the newest half stays, and the best of the others. The state grows with the
    number of trials, since no point is proposed twice as long as there are new ones. Runs repeat bit for bit on one
    machine; another kind of processor rounds otherwise.

    Args:
        acquisition: `ucb`, or `ei` for the expected improvement.
        exploration: The weight of the deviation for `ucb`.
        num_initial: So many points come before the model is asked: the default of the space, then random ones.
        max_points: The largest number of points in the model.

    Raises:
        SettingError: a setting is out of its range.

    Example:
        >>> import mutandis as mu
        >>> space = mu.space({"lr": mu.floatv(1e-4, 1.0, scale="log"), "layers": mu.intv(1, 4)})
        >>> loop = mu.sample(space, mu.algorithms.GaussianProcess(), trials=12)
        >>> for child, feedback in loop:
        ...     feedback(-abs(child["lr"] - 0.01) - abs(child["layers"] - 3))
        >>> loop.study.best.child()["layers"]
        3
    """

    acquisition: str = "ucb"
    exploration: float = 1.8
    num_initial: int = 10
    max_points: int = 300

    def __post_init__(self) -> None:
        need_one_of("GaussianProcess.acquisition", self.acquisition, _KINDS)
        need_number("GaussianProcess.exploration", self.exploration, low=0, fix="use 1.8")
        need_int("GaussianProcess.num_initial", self.num_initial, 1)
        need_int("GaussianProcess.max_points", self.max_points, 2)

    def start(self, space: SearchSpace, *, seed: int, num_objectives: int = 1) -> Search:
        """Begins a run at the default of the space, which is its centre where nothing else is said.

        Raises:
            SettingError: a decision is open-ended.
            MissingDependency: scipy or threadpoolctl cannot be imported.
        """
        self.check_objectives(num_objectives)
        _need_scipy()
        return _BanditSearch(self, space.bare(), seed)


def _need_scipy() -> None:
    try:
        import scipy  # noqa: F401
        import threadpoolctl  # noqa: F401
    except ImportError as error:
        raise MissingDependency("cannot fit a Gaussian process", at="GaussianProcess",
                                expected="scipy and threadpoolctl",
                                fix="pip install 'mutandis[bayesian]'") from error  # fmt: skip


@functools.cache
def _pools() -> Any:
    import scipy.optimize  # noqa: F401  # Its linear algebra must be loaded before the pools are looked for.
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _one_thread() -> Any:
    """Returns a scope in which linear algebra runs in one thread: its rounding depends on their number."""
    return _pools().limit(limits=1, user_api="blas")


class _BanditSearch(Search):
    def __init__(self, settings: GaussianProcess, space: SearchSpace, seed: int) -> None:
        self._settings = settings
        self._space = space
        self._seed = seed
        self._features = Features(space)
        self._maximiser = Maximiser(self._features)
        self._results: list[tuple[float, DNA]] = []
        self._failed: list[DNA] = []
        self._pending: dict[int, DNA] = {}
        self._known: set[DNA] = set()
        self._hyper: Hyper | None = None
        self._fitted = 0  # How many results there were at the last fit.
        self._proposed = 0

    def propose(self) -> Proposal:
        number = self._proposed
        self._proposed += 1
        dna = self._next(number)
        self._pending[number] = dna
        self._known.add(dna)
        return Proposal(number, dna)

    def _next(self, number: int) -> DNA:
        if number == 0:
            return self._space.default()
        rng = Rng(self._seed, "gaussian process", number)
        if number < self._settings.num_initial or not self._results or not self._features.num_units:
            return self._fresh(rng)
        generator = np.random.Generator(np.random.PCG64(rng.getrandbits(128)))
        with _one_thread():
            ranked = self._ranked(number, generator)
        for place in ranked:
            dna = self._space.from_unit(place)
            if dna not in self._known:
                return dna
        return self._fresh(rng)

    def _fresh(self, rng: Rng) -> DNA:
        """Returns a random DNA, one that was not proposed if there is such a one among a few."""
        for _ in range(_REDRAWS):
            dna = self._space.random(rng)
            if dna not in self._known:
                break
        return dna

    def _ranked(self, number: int, generator: np.random.Generator) -> Array:
        """Returns places of the unit cube, the most promising first."""
        chosen = self._chosen()
        labels = warped(np.array([reward for reward, _ in chosen]))
        units = self._features.place([dna for _, dna in chosen])
        features = self._features.encode(units)
        hyper = self._refit(features, labels)
        silent = [*self._failed[-self._settings.max_points :], *self._pending.values()][-self._settings.max_points :]
        features = np.concatenate([features, self._features.encode(self._features.place(silent))])
        posterior = Posterior(hyper, self._features.owner, features, labels, has_level=True)
        best = np.argsort(-labels, kind="stable")[:_NUM_SEEDS]
        seeds = with_hidden_genes(self._features, units[best], generator)
        acquire = Acquisition(self._settings.acquisition, self._settings.exploration, float(labels.max()))
        found = self._maximised(posterior, acquire, seeds, generator)
        for exploration in _ESCAPES if number % 2 else ():
            if not self._is_settled(posterior, found[:1]):
                break
            found = self._maximised(posterior, Acquisition("ucb", exploration, 0.0), seeds, generator)
        return found

    def _maximised(self, posterior: Posterior, acquire: Acquisition, seeds: Array, generator: np.random.Generator
                   ) -> Array:  # fmt: skip
        def slope(point: Array) -> tuple[float, Array]:
            mean, deviation, by_mean, by_deviation = posterior.gradient(point)
            value, along_mean, along_deviation = acquire.slopes(mean, deviation)
            return value, along_mean * by_mean + along_deviation * by_deviation

        return self._maximiser.best(lambda x: acquire(*posterior.predict(x)), slope, seeds, generator)

    def _is_settled(self, posterior: Posterior, place: Array) -> bool:
        """Returns whether the process already knows what a place would tell."""
        deviation = float(posterior.predict(self._features.encode(place))[1][0])
        return deviation < _SETTLED * math.sqrt(posterior.hyper.amplitude)

    def _chosen(self) -> list[tuple[float, DNA]]:
        """Returns the results of the model: all, or the newest half and the best of the others."""
        most = self._settings.max_points
        if len(self._results) <= most:
            return self._results
        newest = len(self._results) - most // 2
        ranked = sorted(range(newest), key=lambda i: -self._results[i][0])
        return [self._results[i] for i in sorted(ranked[: most - most // 2])] + self._results[newest:]

    def _refit(self, features: Array, labels: Array) -> Hyper:
        """Returns the hyper-parameters, fitted anew where enough results have come."""
        count, owner = len(self._results), self._features.owner
        if self._hyper is None or count >= self._fitted + max(1, self._fitted // 10):
            if self._hyper is None:
                level = float(labels.mean())
            else:
                level = Posterior(self._hyper, owner, features, labels, has_level=True).level
            self._hyper = fit(features, owner, len(self._features.decisions), labels - level, self._hyper)
            self._fitted = count
        return self._hyper

    def feedback(self, feedback: Feedback) -> None:
        if feedback.id is not None:
            self._pending.pop(feedback.id, None)
        self._known.add(feedback.dna)
        if feedback.rewards is None or not math.isfinite(feedback.rewards[0]):
            self._failed.append(feedback.dna)
        else:
            self._results.append((feedback.rewards[0], feedback.dna))

    def state_dict(self) -> JSON:
        return {
            "results": [[reward, to_state(dna)] for reward, dna in self._results],
            "failed": [to_state(dna) for dna in self._failed],
            "pending": [[number, to_state(dna)] for number, dna in self._pending.items()],
            "hyper": None if self._hyper is None else dataclasses.asdict(self._hyper),
            "fitted": self._fitted,
            "proposed": self._proposed,
        }

    def load_state_dict(self, state: JSON) -> None:
        self._results = [(reward, from_state(self._space, values)) for reward, values in state["results"]]
        self._failed = [from_state(self._space, values) for values in state["failed"]]
        self._pending = {number: from_state(self._space, values) for number, values in state["pending"]}
        self._known = {*(dna for _, dna in self._results), *self._failed, *self._pending.values()}
        hyper = state["hyper"]
        self._hyper = None if hyper is None else Hyper(hyper["amplitude"], hyper["noise"], tuple(hyper["scales"]))
        self._fitted, self._proposed = state["fitted"], state["proposed"]
