"""TPE: draws where good trials are dense and bad ones are not, branch by branch in a conditional space.

Bergstra, Bardenet, Bengio, Kegl: Algorithms for Hyper-Parameter Optimization, NeurIPS 2011, Sec. 4; Watanabe 2023,
arXiv 2304.11127; joint densities: Falkner, Klein, Hutter: BOHB, ICML 2018, arXiv 1807.01774, Sec. 3.2.

*Notation*: n = finished trials, gamma(n) = min(ceil(n / 10), 25) of them are good; l, g = densities of the good and the
others (`parzen.Mixture`). `num_candidates` rows are drawn from l; the one of the largest l / g is proposed. Constants
are Optuna's: 10 random trials first, 24 candidates, weights that fall with age among more than 25.

*Conditional spaces.* A component of the joint density covers what was active in its trial. A drawn row that enters a
branch in which its component was not is filled there from one of the components that were, weighted by its own weight,
and by 1 / (n + 1) of it where the branch was entered from elsewhere, or from the prior. With `branches`, the walk of
`branch_arms.Branches` chooses where to go first:

- below choices that stand alone, n, l and g are of the trials of that branch only, which is TPE inside the branch;
- of choices side by side, the forced arm is grafted: the decisions below it come from TPE among the trials that took
  it, all others from the best trial, as in an evolution;
- a branch of fewer than 5 trials is searched with the densities of the space around it, the arm imposed.

*Departures*: a candidate that was proposed or tried already is passed over if any of the others is new. Pending trials
count as bad (a constant liar), the newest 100 of them. Infinite rewards count as failures.
"""

from __future__ import annotations

import math

import numpy as np

from mutandis.algorithms.base import JSON, Algorithm, Search, from_state, need_int, settings, to_state
from mutandis.algorithms.bayesian.branch_arms import Branches
from mutandis.algorithms.bayesian.parzen import Kernels, Mixture, age_weights
from mutandis.algorithms.bayesian.parzen_axes import Arm, Axes, Floats, Ints, Rows
from mutandis.algorithms.bayesian.parzen_draws import joint_rows, separate_row
from mutandis.errors import SettingError
from mutandis.hyper import DNA, Feedback, Proposal, SearchSpace
from mutandis.hyper.rng import Rng

_FEW = 5
_MOST_PENDING = 100
_FRACTION = 8


def num_good(count: int) -> int:
    """Returns how many of the finished trials count as good: gamma(n)."""
    return min(math.ceil(0.1 * count), 25)


@settings
class TPE(Algorithm):
    """Tree-structured Parzen estimator, with a bandit between the branches of a conditional space.

        mu.sample(program, mu.algorithms.TPE(), trials=200)

    Every kind of decision but open-ended programs. A proposal after n trials of D decisions costs O(n D log n).

    Args:
        num_startup: How many finished trials there must be before densities are used; until then draws are random.
        num_candidates: How many draws compete for a proposal.
        multivariate: Whether one density covers all decisions, so that it can tell which values go together; if not,
            each decision is drawn on its own.
        branches: Whether candidates that open sub-spaces are arms of a bandit; plain TPE if not. It has no effect on a
            space without such choices.
        constant_liar: Whether pending trials count as bad, so that parallel proposals keep apart.
        failed_are_bad: Whether failed trials count as bad; otherwise densities know nothing of them.

    Raises:
        SettingError: a number is not whole or below 1, or a switch no bool.
    """

    num_startup: int = 10
    num_candidates: int = 24
    multivariate: bool = True
    branches: bool = True
    constant_liar: bool = True
    failed_are_bad: bool = False

    def __post_init__(self) -> None:
        need_int("TPE.num_startup", self.num_startup, 1)
        need_int("TPE.num_candidates", self.num_candidates, 1)
        for name in ("multivariate", "branches", "constant_liar", "failed_are_bad"):
            value = getattr(self, name)
            if not isinstance(value, bool):
                raise SettingError("cannot use a setting", at=f"TPE.{name}", got=value, expected="True or False",
                                   fix=f"write TPE({name}=True)")  # fmt: skip

    def start(self, space: SearchSpace, *, seed: int, num_objectives: int = 1) -> Search:
        """Begins a run with random trials.

        Raises:
            SettingError: a decision is open-ended, or there are several objectives.
        """
        self.check_objectives(num_objectives)
        return _ParzenSearch(self, space.bare(), seed)


class _Trials:
    """Trials as rows of arrays that grow by doubling; `reward` is nan for a failed one."""

    def __init__(self, axes: Axes) -> None:
        self._axes = axes
        self.dnas: list[DNA] = []
        self._floats = np.empty((16, len(axes.cells)))
        self._ints = np.empty((16, len(axes.sizes)), dtype=np.int64)
        self._rewards = np.empty(16)
        self._kernels = Kernels(axes)

    def add(self, dna: DNA, reward: float | None) -> None:
        count = len(self.dnas)
        if count == len(self._rewards):
            self._floats = np.concatenate([self._floats, np.empty_like(self._floats)])
            self._ints = np.concatenate([self._ints, np.empty_like(self._ints)])
            self._rewards = np.concatenate([self._rewards, np.empty_like(self._rewards)])
        self._floats[count], self._ints[count] = self._axes.encode(dna)
        self._rewards[count] = math.nan if reward is None else reward
        self._kernels.add(self._floats[count])
        self.dnas.append(dna)

    @property
    def rewards(self) -> Floats:
        return self._rewards[: len(self.dnas)]

    @property
    def ints(self) -> Ints:
        return self._ints[: len(self.dnas)]

    def rows(self, which: Ints) -> Rows:
        return self._floats[which], self._ints[which]

    def mixture(self, which: Ints) -> Mixture:
        """Returns the mixture of some trials, in ascending order of their numbers."""
        rows = self.rows(which)
        kernels = None
        if len(which) > len(self.dnas) / _FRACTION:  # Else a sort of few costs less than a look at all.
            kernels = self._kernels.of(which, np.where(rows[0] == rows[0], rows[0], 0.5))
        return Mixture(self._axes, rows, age_weights(len(which)), kernels)


class _ParzenSearch(Search):
    def __init__(self, settings: TPE, space: SearchSpace, seed: int) -> None:
        self._settings = settings
        self._space = space
        self._seed = seed
        self._axes = Axes(space)
        self._forget()

    def _forget(self) -> None:
        self._proposed = 0
        self._branches = Branches(self._space)
        self._trials = _Trials(self._axes)
        self._num_finished = 0
        self._pending: dict[int, DNA] = {}
        self._known: set[DNA] = set()

    def propose(self) -> Proposal:
        number = self._proposed
        self._proposed += 1
        rng = Rng(self._seed, "tpe", number)
        dna = self._space.random(rng) if self._num_finished < self._settings.num_startup else self._walked(rng)
        self._expect(number, dna)
        return Proposal(number, dna)

    def _expect(self, number: int, dna: DNA) -> None:
        self._pending[number] = dna
        self._branches.expect(dna)
        if len(self._pending) > _MOST_PENDING:
            self._branches.expect(self._pending.pop(next(iter(self._pending))), -1)

    def _walked(self, rng: Rng) -> DNA:
        """Returns a DNA of the branch that the walk leads to."""
        draw = np.random.Generator(np.random.PCG64(rng.getrandbits(64)))
        finished = np.flatnonzero(~np.isnan(self._trials.rewards))
        path: list[Arm] = []
        imposed: list[Arm] = []
        for arm, is_alone, is_forced in self._branches.walk(rng) if self._settings.branches else ():
            inside = finished[self._axes.is_taken(self._trials.ints[finished], arm)]
            if not is_alone:
                local = self._drawn(inside if len(inside) >= _FEW else finished, [*path, arm], rng, draw)
                return self._grafted(finished, arm, local, rng)
            path.append(arm)
            if is_forced:
                imposed = list(path)
            if len(inside) < _FEW:
                break
            finished = inside
        return self._drawn(finished, imposed, rng, draw)

    def _grafted(self, finished: Ints, arm: Arm, graft: DNA, rng: Rng) -> DNA:
        """Returns the best of some trials with an arm, and what hangs on it, taken from another DNA."""
        values = list(self._trials.dnas[self._best_first(finished)[0]].values)
        values[arm[0]] = arm[1]
        for index in self._branches.below[arm]:
            values[index] = graft.values[index]
        return self._space.repair(values, lambda point: point.draw(rng))

    def _best_first(self, finished: Ints) -> Ints:
        return finished[np.argsort(-self._trials.rewards[finished], kind="stable")]

    def _drawn(self, finished: Ints, imposed: list[Arm], rng: Rng, draw: np.random.Generator) -> DNA:
        """Returns a DNA from the densities of some finished trials, some arms imposed on it."""
        good, bad = self._densities(finished, imposed)
        if not self._settings.multivariate:
            rows = separate_row(good, bad, self._settings.num_candidates, draw)
            self._axes.impose(rows, imposed)
            return self._axes.decode(rows[0][0].tolist(), rows[1][0].tolist(), rng)
        rows = joint_rows(good, self._settings.num_candidates, imposed, draw)
        ratio = good.log_density(rows) - bad.log_density(rows)
        made: DNA | None = None
        for row in np.argsort(-ratio, kind="stable"):
            dna = self._axes.decode(rows[0][row].tolist(), rows[1][row].tolist(), rng)
            if dna not in self._known and dna not in self._pending.values():
                return dna
            made = made or dna
        assert made is not None  # There is at least one candidate.
        return made

    def _densities(self, finished: Ints, imposed: list[Arm]) -> tuple[Mixture, Mixture]:
        """Returns l and g; what joins the bad trials must have the arms that are imposed."""
        order = self._best_first(finished)
        count = num_good(len(finished))
        good, bad = np.sort(order[:count]), order[count:]
        trials = self._trials
        if self._settings.failed_are_bad:
            failed = np.flatnonzero(np.isnan(trials.rewards))
            for arm in imposed:
                failed = failed[self._axes.is_taken(trials.ints[failed], arm)]
            bad = np.concatenate([bad, failed])
        bad = np.sort(bad)
        if not (self._settings.constant_liar and self._pending):
            return trials.mixture(good), trials.mixture(bad)
        floats, ints = trials.rows(bad)
        liars = [self._axes.encode(dna) for dna in self._pending.values()]
        floats = np.concatenate([floats, [row for row, _ in liars]])
        ints = np.concatenate([ints, np.array([row for _, row in liars], dtype=np.int64)])
        return trials.mixture(good), Mixture(self._axes, (floats, ints), age_weights(len(floats)))

    def feedback(self, feedback: Feedback) -> None:
        pending = None if feedback.id is None else self._pending.pop(feedback.id, None)
        if pending is not None:
            self._branches.expect(pending, -1)
        reward = feedback.reward
        self._learn(feedback.dna, None if reward is None or math.isinf(reward) else reward)

    def _learn(self, dna: DNA, reward: float | None) -> None:
        self._known.add(dna)
        self._branches.add(dna, reward)
        self._trials.add(dna, reward)
        self._num_finished += reward is not None

    def state_dict(self) -> JSON:
        pairs = zip(self._trials.rewards.tolist(), self._trials.dnas, strict=True)
        return {
            "proposed": self._proposed,
            "trials": [[None if reward != reward else reward, to_state(dna)] for reward, dna in pairs],
            "pending": [[number, to_state(dna)] for number, dna in self._pending.items()],
        }

    def load_state_dict(self, state: JSON) -> None:
        self._forget()
        for reward, values in state["trials"]:
            self._learn(from_state(self._space, values), reward)
        for number, values in state["pending"]:
            self._expect(number, from_state(self._space, values))
        self._proposed = state["proposed"]
