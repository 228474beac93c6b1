"""Screening: another algorithm proposes many, a predictor picks which of them is tried.

White, Neiswanger, Savani: BANANAS: Bayesian Optimization with Neural Architectures for Neural Architecture Search,
AAAI 2021, arXiv 1910.11858 (Algorithm 1: a predictor, an acquisition, candidates by mutation); Wen, Liu, Chen, Li,
Bender, Kindermans: Neural Predictor for Neural Architecture Search, ECCV 2020, arXiv 1912.00848 (random candidates).
Expected improvement: Jones, Schonlau, Welch 1998, eq. (15). Pending trials: the constant liar of Ginsbourger, Le
Riche, Carraro 2010, Sec. 4.2.

*Notation*: m, s = predicted mean and standard deviation of the score of a candidate; b = the best score so far.

| acquisition | a candidate is worth                                            |
|-------------|-----------------------------------------------------------------|
| `ei`        | expected improvement, s (g Phi(g) + phi(g)) with g = (m - b) / s |
| `ucb`       | m + s                                                           |
| `thompson`  | a draw from the normal distribution of m and s (independent Thompson sampling of BANANAS) |
| `mean`      | m                                                               |

*Departures*: candidates that were not picked stay in a pool and compete again after the predictor has learnt more;
part of them is drawn at random, so that a population that has settled down cannot hide the rest of the space. The
wrapped algorithm sees all results. It is told of a candidate that fell out of the pool as of a failed trial, as
`Constrained` does, so that nothing waits for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import field
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
from mutandis.algorithms.evolution.regularized import RegularizedEvolution
from mutandis.algorithms.predictors.gaussian import GPPredictor
from mutandis.algorithms.predictors.predictor import Predictor
from mutandis.algorithms.predictors.ranks import order
from mutandis.algorithms.wrappers import unseen
from mutandis.errors import SpaceExhausted
from mutandis.hyper import DNA, Feedback, Proposal, SearchSpace
from mutandis.hyper.rng import Rng

Array = NDArray[np.float64]
ACQUISITIONS = ("ei", "ucb", "thompson", "mean")
_MOST_PENDING = 32
_DRAWS = 4
"""How many draws a place in the pool is worth before it stays empty."""


@settings
class Screened(Algorithm):
    """Tries the candidate that a predictor finds most promising; no DNA is proposed twice.

    Works with any algorithm for one objective, and on every space without open-ended programs. The time per trial
    is that of a fit and of `num_new` proposals of the wrapped algorithm; all results are kept.

    Args:
        algorithm: Proposes candidates.
        predictor: Learns the reward.
        num_initial: How many results the predictor needs; until then, the wrapped algorithm is followed.
        num_candidates: The size of the pool.
        num_new: How many new candidates enter the pool before each proposal; the oldest make room.
        random_share: Which share of the new ones is drawn from the prior of the space.
        acquisition: `ei`, `ucb`, `thompson` or `mean`. `ei` looks further around, which suits choices; where all
            decisions are ranges, `ucb` gets closer to the top, with `mutation=Local()` in the wrapped evolution.
        refit_every: After how many results the predictor is fitted anew.

    Raises:
        SettingError: a number is not whole or too small, the share not in [0, 1], or the acquisition unknown.
    """

    algorithm: Algorithm = field(default_factory=lambda: RegularizedEvolution(10, 3))
    predictor: Predictor = field(default_factory=GPPredictor)
    num_initial: int = 10
    num_candidates: int = 100
    num_new: int = 50
    random_share: float = 0.5
    acquisition: str = "ei"
    refit_every: int = 1

    def __post_init__(self) -> None:
        need_instance("Screened.algorithm", self.algorithm, Algorithm, "Screened(RegularizedEvolution(10, 3))")
        need_instance("Screened.predictor", self.predictor, Predictor, "predictor=GPPredictor()")
        need_int("Screened.num_initial", self.num_initial, 1)
        need_int("Screened.num_new", self.num_new, 1)
        need_int("Screened.num_candidates", self.num_candidates, self.num_new)
        need_int("Screened.refit_every", self.refit_every, 1)
        need_number("Screened.random_share", self.random_share, low=0, high=1, fix="use 0.5")
        need_one_of("Screened.acquisition", self.acquisition, ACQUISITIONS, fix="use 'ei'")

    def start(self, space: SearchSpace, *, seed: int, num_objectives: int = 1) -> Search:
        """Begins a run of the wrapped algorithm and of the predictor."""
        self.check_objectives(num_objectives)
        return _ScreenedSearch(self, space.bare(), seed)


class _ScreenedSearch(Search):
    def __init__(self, settings: Screened, space: SearchSpace, seed: int) -> None:
        self._settings = settings
        self._space = space
        self._inner = settings.algorithm.start(space, seed=seed)
        self._regressor = settings.predictor.start(space, seed=seed)
        self._rng = Rng(seed, "screened")
        self._seen: set[DNA] = set()
        self._results: list[tuple[DNA, float]] = []
        self._pool: dict[DNA, int | None] = {}  # The wrapped algorithm's number of each candidate, the oldest first.
        self._pending: dict[int, tuple[int | None, DNA]] = {}
        self._proposed = 0
        self._num_fitted = 0  # How many results the predictor has learnt from.
        self._liars: list[DNA] = []  # Which pending trials it was told of.
        self._is_fitted = False  # False after a resume, until it is fitted to the same again.
        self._is_dry = False  # Whether the wrapped algorithm has nothing left.

    def propose(self) -> Proposal:
        if len(self._seen) >= self._space.size:
            raise SpaceExhausted("cannot propose: every DNA of the space was proposed", got=len(self._seen),
                                 expected=f"at most {self._space.size} proposals")  # fmt: skip
        dna, inner = self._follow() if len(self._results) < self._settings.num_initial else self._screen()
        self._seen.add(dna)
        number = self._proposed
        self._proposed += 1
        self._pending[number] = (inner, dna)
        return Proposal(number, dna)

    def _follow(self) -> tuple[DNA, int | None]:
        """Returns the next new DNA of the wrapped algorithm, or a random one where it only repeats itself."""
        for _ in range(_DRAWS):
            proposal = self._ask()
            if proposal is None:
                break
            if proposal.dna not in self._seen:
                return proposal.dna, proposal.id
            self._drop(proposal.dna, proposal.id)
        return unseen(self._space, self._seen, self._rng), None

    def _ask(self) -> Proposal | None:
        if not self._is_dry:
            try:
                return self._inner.propose()
            except SpaceExhausted:
                self._is_dry = True
        return None

    def _drop(self, dna: DNA, inner: int | None) -> None:
        if inner is not None:
            self._inner.feedback(Feedback(inner, dna))

    def _screen(self) -> tuple[DNA, int | None]:
        """Returns the best candidate of the pool, and takes it out."""
        self._fill()
        if not self._pool:
            return unseen(self._space, self._seen, self._rng), None
        self._fit()
        candidates = list(self._pool)
        chosen = candidates[int(order(self._worth(candidates))[0])]
        return chosen, self._pool.pop(chosen)

    def _fill(self) -> None:
        """Lets new candidates into the pool; each place has a few draws, for most may be known already."""
        room = self._settings.num_candidates - self._settings.num_new
        for dna in list(self._pool)[: max(0, len(self._pool) - room)]:
            self._drop(dna, self._pool.pop(dna))
        wanted = min(len(self._pool) + self._settings.num_new, self._space.size - len(self._seen))
        for _ in range(_DRAWS * self._settings.num_new):
            if len(self._pool) >= wanted:
                break
            self._draw()

    def _draw(self) -> None:
        proposal = None if self._rng.random() < self._settings.random_share else self._ask()
        if proposal is None:
            dna = self._space.random(self._rng)
            if dna not in self._seen:
                self._pool.setdefault(dna, None)
        elif proposal.dna in self._seen or proposal.dna in self._pool:
            self._drop(proposal.dna, proposal.id)
        else:
            self._pool[proposal.dna] = proposal.id

    def _fit(self) -> None:
        """Fits the predictor where enough results have come; pending trials count as median ones."""
        due = not self._num_fitted or len(self._results) - self._num_fitted >= self._settings.refit_every
        pending = [dna for _, dna in list(self._pending.values())[-_MOST_PENDING:]] if due else self._liars
        if due:
            self._num_fitted, self._liars = len(self._results), pending
        if due or not self._is_fitted:
            known = self._results[: self._num_fitted]
            rewards = [reward for _, reward in known]
            lie = median(rewards)
            self._regressor.fit([dna for dna, _ in known] + pending, rewards + [lie] * len(pending))
            self._is_fitted = True

    def _worth(self, candidates: Sequence[DNA]) -> Array:
        mean, deviation = self._regressor.predict(candidates)
        kind = self._settings.acquisition
        if kind == "ei":
            return expected_improvement(mean, deviation, float(self._regressor.scores().max()))
        if kind == "ucb":
            return mean + deviation
        if kind == "thompson":
            noise = np.array([self._rng.gauss(0.0, 1.0) for _ in candidates])
            return np.asarray(mean + deviation * noise)
        return mean

    def feedback(self, feedback: Feedback) -> None:
        known = None if feedback.id is None else self._pending.pop(feedback.id, None)
        inner = None if known is None else known[0]
        self._seen.add(feedback.dna)
        if feedback.dna in self._pool:
            self._drop(feedback.dna, self._pool.pop(feedback.dna))
        if feedback.rewards is not None and math.isfinite(feedback.rewards[0]):
            self._results.append((feedback.dna, feedback.rewards[0]))
        self._inner.feedback(Feedback(inner, feedback.dna, feedback.metrics, feedback.fidelity, feedback.rewards))

    def state_dict(self) -> JSON:
        return {
            "inner": self._inner.state_dict(),
            "rng": self._rng.state(),
            "seen": sorted((to_state(dna) for dna in self._seen), key=repr),
            "results": [[to_state(dna), reward] for dna, reward in self._results],
            "pool": [[to_state(dna), inner] for dna, inner in self._pool.items()],
            "pending": [[number, inner, to_state(dna)] for number, (inner, dna) in self._pending.items()],
            "proposed": self._proposed,
            "num_fitted": self._num_fitted,
            "liars": [to_state(dna) for dna in self._liars],
            "is_dry": self._is_dry,
        }

    def load_state_dict(self, state: JSON) -> None:
        self._inner.load_state_dict(state["inner"])
        self._rng.set_state(state["rng"])
        self._seen = {self._dna(values) for values in state["seen"]}
        self._results = [(self._dna(values), reward) for values, reward in state["results"]]
        self._pool = {self._dna(values): inner for values, inner in state["pool"]}
        self._pending = {number: (inner, self._dna(values)) for number, inner, values in state["pending"]}
        self._proposed, self._num_fitted = state["proposed"], state["num_fitted"]
        self._liars = [self._dna(values) for values in state["liars"]]
        self._is_dry, self._is_fitted = state["is_dry"], False

    def _dna(self, values: Sequence[Any]) -> DNA:
        return from_state(self._space, values)


def expected_improvement(mean: Array, deviation: Array, best: float) -> Array:
    """Returns by how much candidates are expected to exceed the best score (Jones et al. 1998, eq. (15)).

    Args:
        mean: `[M]`.
        deviation: `[M]`, above 0.
        best: The score to exceed.
    """
    gap = (mean - best) / deviation
    density = np.exp(-0.5 * gap * gap) / math.sqrt(2.0 * math.pi)
    below = np.array([0.5 * math.erfc(-value / math.sqrt(2.0)) for value in gap])
    made: Array = deviation * (gap * below + density)
    return made


__all__ = ["ACQUISITIONS", "Screened", "expected_improvement"]
