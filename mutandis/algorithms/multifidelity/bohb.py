"""BOHB: Hyperband whose new configurations come from a model of the good and the bad ones.

Falkner, Klein, Hutter: BOHB: Robust and Efficient Hyperparameter Optimization at Scale, ICML 2018, arXiv 1807.01774,
Algorithm 2; settings as in its code, HpBandSter.

*Notation*: rho = `random_fraction`; D_f = the results at fidelity f, N of them; l, g = the densities of the best and of
the others. With probability rho, and as long as there is no model, a configuration is drawn from the prior. Else, with
f the largest fidelity that has a model, l is of the best n_good = max(n_min, 15 % N), g of the next
n_bad = max(n_min, 85 % N), n_min = A + 1 for A axes; both must have n_min data. `num_samples` DNAs are drawn near data
of l, with bandwidths `bandwidth_factor` times as wide; the one with the smallest g / l is proposed.

*Departures*: see `kernels` for conditional spaces and for the bandwidth of categories, which HpBandSter takes from the
index of the candidate and does not bound. A failed configuration is worse than any other, so it counts as a bad one; it
is never among the good ones, for whose number the others must be enough. A result at a fidelity below that of the model
is left aside, as there.
"""

from __future__ import annotations

from typing import Any

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
from mutandis.algorithms.multifidelity.hyperband import Hyperband
from mutandis.algorithms.multifidelity.kernels import Density, axes_of
from mutandis.algorithms.multifidelity.rungs import HPBANDSTER, PAPER, need_fidelities
from mutandis.algorithms.multifidelity.source import INHERIT, RETRAIN, reached
from mutandis.errors import SettingError
from mutandis.hyper import DNA, Feedback, Proposal, SearchSpace
from mutandis.hyper.rng import Rng


@settings
class KernelDensity(Algorithm):
    """Proposes what is likelier among the good results than among the bad ones: the model of BOHB.

    Reads the fidelity of results, so that it models the largest one with enough of them. As the `sampler` of `ASHA` it
    makes an asynchronous BOHB; alone it is a Bayesian optimisation without fidelities. One proposal takes
    `num_samples` N A kernels for N results at the fidelity of the model and A axes.

    Args:
        num_samples: How many DNAs are drawn for one proposal.
        random_fraction: rho, the share of proposals that come from the prior.
        bandwidth_factor: How much wider than the kernels the draws are.
        min_bandwidth: The smallest bandwidth, as a share of the range.
        top_percent: Which share of the results is good, in whole percent.
        min_points: n_min; A + 1 by default.

    Raises:
        SettingError: a setting is out of its range; the message says which.
    """

    num_samples: int = 64
    random_fraction: float = 1 / 3
    bandwidth_factor: float = 3
    min_bandwidth: float = 1e-3
    top_percent: int = 15
    min_points: int | None = None
    reads_fidelity = True

    def __post_init__(self) -> None:
        _check_model("KernelDensity", self)

    def start(self, space: SearchSpace, *, seed: int, num_objectives: int = 1) -> Search:
        """Begins a run with random DNAs.

        Raises:
            SettingError: the space has open-ended decisions.
        """
        self.check_objectives(num_objectives)
        return _DensitySearch(self, space.bare(), seed)


@settings
class BOHB(Algorithm):
    """Hyperband with a kernel density model; see `Hyperband` for fidelities and brackets.

        algorithm = mu.algorithms.BOHB(min_fidelity=1, max_fidelity=27)

    The settings for NATS-Bench (Dong et al. 2021) are
    `BOHB(1, 12, num_samples=4, random_fraction=0, min_bandwidth=0.3)`.

    Args:
        min_fidelity: The shortest training that tells anything, in a unit of your choice, such as epochs.
        max_fidelity: The length of a full training.
        eta: One in so many goes on to the next rung, which trains so many times as long.
        num_samples: How many DNAs are drawn for one new configuration.
        random_fraction: The share of new configurations that come from the prior.
        bandwidth_factor: How much wider than the kernels the draws are.
        min_bandwidth: The smallest bandwidth, as a share of the range.
        top_percent: Which share of the results is good, in whole percent.
        min_points: How many good, and how many bad, results a model needs; one more than there are axes by default.
        bracket_sizes: `hpbandster`, or `paper` for the larger brackets of Hyperband.
        resume: Whether a configuration that goes on shall inherit its trained state (`inherit`) or train anew
            (`retrain`).
        patience: As in `Hyperband`.

    Raises:
        SettingError: a setting is out of its range; the message says which.
    """

    min_fidelity: float
    max_fidelity: float
    eta: float = 3
    num_samples: int = 64
    random_fraction: float = 1 / 3
    bandwidth_factor: float = 3
    min_bandwidth: float = 1e-3
    top_percent: int = 15
    min_points: int | None = None
    bracket_sizes: str = HPBANDSTER
    resume: str = INHERIT
    patience: float = 50

    def __post_init__(self) -> None:
        need_fidelities("BOHB", self.min_fidelity, self.max_fidelity, self.eta)
        _check_model("BOHB", self)
        need_one_of("BOHB.bracket_sizes", self.bracket_sizes, (HPBANDSTER, PAPER))
        need_one_of("BOHB.resume", self.resume, (INHERIT, RETRAIN))
        need_number("BOHB.patience", self.patience, low=1, fix="use 50, or more than there are workers")

    def start(self, space: SearchSpace, *, seed: int, num_objectives: int = 1) -> Search:
        """Begins a run with the first bracket.

        Raises:
            SettingError: the space has open-ended decisions.
        """
        self.check_objectives(num_objectives)
        model = KernelDensity(
            num_samples=self.num_samples,
            random_fraction=self.random_fraction,
            bandwidth_factor=self.bandwidth_factor,
            min_bandwidth=self.min_bandwidth,
            top_percent=self.top_percent,
            min_points=self.min_points,
        )
        brackets = Hyperband(self.min_fidelity, self.max_fidelity, self.eta, sampler=model,
                             bracket_sizes=self.bracket_sizes, resume=self.resume, patience=self.patience)  # fmt: skip
        return brackets.start(space, seed=seed)


def _check_model(name: str, model: KernelDensity | BOHB) -> None:
    need_int(f"{name}.num_samples", model.num_samples, 1)
    need_number(f"{name}.random_fraction", model.random_fraction, low=0, high=1, fix="use 1 / 3")
    need_number(f"{name}.bandwidth_factor", model.bandwidth_factor, above=0, fix="use 3")
    need_number(f"{name}.min_bandwidth", model.min_bandwidth, above=0, fix="use 1e-3")
    need_int(f"{name}.top_percent", model.top_percent, 1)
    if model.top_percent > 99:
        raise SettingError("cannot use a setting", at=f"{name}.top_percent", got=model.top_percent,
                           expected="whole percent in [1, 99]", fix="use 15")  # fmt: skip
    if model.min_points is not None:
        need_int(f"{name}.min_points", model.min_points, 1)


def split_sizes(count: int, min_points: int, top_percent: int) -> tuple[int, int]:
    """Returns how many of `count` results shall be good, and how many bad; together they may be more than `count`."""
    good = top_percent * count // 100
    bad = (100 - top_percent) * count // 100
    return max(min_points, good), max(min_points, bad)


class _DensitySearch(Search):
    def __init__(self, settings: KernelDensity, space: SearchSpace, seed: int) -> None:
        self._settings = settings
        self._space = space
        self._rng = Rng(seed, "kernel density")
        num_axes = sum(len(axes_of(point)) for point in space.points)
        self._min_points = num_axes + 1 if settings.min_points is None else settings.min_points
        self._results: dict[float, list[tuple[float | None, DNA]]] = {}  # By fidelity, from that of the model on.
        self._model: tuple[Density, Density] | None = None
        self._is_stale = False  # Whether results came since the model was made.
        self._proposed = 0

    def propose(self) -> Proposal:
        number = self._proposed
        self._proposed += 1
        if not self._has_model() or self._rng.random() < self._settings.random_fraction:
            return Proposal(number, self._space.random(self._rng))
        good, bad = self._densities()
        factor = self._settings.bandwidth_factor
        samples = [good.sample_near(self._rng, factor) for _ in range(self._settings.num_samples)]
        ratios = bad.log_pdf(samples) - good.log_pdf(samples)
        return Proposal(number, samples[int(ratios.argmin())])

    def _is_ready(self, fidelity: float) -> bool:
        """Returns whether a fidelity has enough good and enough bad results."""
        results = self._results[fidelity]
        num_good, _ = split_sizes(len(results), self._min_points, self._settings.top_percent)
        good = min(num_good, sum(reward is not None for reward, _ in results))
        return min(good, len(results) - good) >= self._min_points and len(self._space.points) > 0

    def _has_model(self) -> bool:
        return bool(self._results) and self._is_ready(min(self._results))

    def _split(self, fidelity: float) -> tuple[list[DNA], list[DNA]]:
        """Returns the good and the bad results at a fidelity, best first; equals by arrival, failed ones last."""
        results = self._results[fidelity]
        num_good, num_bad = split_sizes(len(results), self._min_points, self._settings.top_percent)
        rated = [(reward, dna) for reward, dna in results if reward is not None]
        ranked = [dna for _, dna in sorted(rated, key=lambda pair: -pair[0])]
        failed = [dna for reward, dna in results if reward is None]
        return ranked[:num_good], [*ranked[num_good:], *failed][:num_bad]

    def _densities(self) -> tuple[Density, Density]:
        if self._model is None or self._is_stale:
            good, bad = self._split(min(self._results))
            low = self._settings.min_bandwidth
            self._model = Density(self._space, good, low), Density(self._space, bad, low)
            self._is_stale = False
        return self._model

    def feedback(self, feedback: Feedback) -> None:
        """Learns from a result; one without a fidelity counts as of the smallest."""
        fidelity = 0.0 if feedback.fidelity is None else feedback.fidelity
        if self._has_model() and fidelity < min(self._results):
            return
        self._results.setdefault(fidelity, []).append((reached(feedback).reward, feedback.dna))
        if self._is_ready(fidelity):
            self._results = {f: results for f, results in self._results.items() if f >= fidelity}
            self._is_stale = True

    def state_dict(self) -> JSON:
        results: list[Any] = [[fidelity, [[reward, to_state(dna)] for reward, dna in pairs]]
                              for fidelity, pairs in self._results.items()]  # fmt: skip
        return {"rng": self._rng.state(), "results": results, "proposed": self._proposed}

    def load_state_dict(self, state: JSON) -> None:
        self._rng.set_state(state["rng"])
        self._results = {fidelity: [(reward, from_state(self._space, values)) for reward, values in pairs]
                         for fidelity, pairs in state["results"]}  # fmt: skip
        self._model = None
        self._proposed = state["proposed"]
