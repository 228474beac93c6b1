"""Rewards that weigh a cost, and a run that learns from batches of them.

`mnas` and `hard`: Tan et al., MnasNet, CVPR 2019, arXiv 1807.11626, eq. (2) and (3); `absolute`: Bender et al., TuNAS,
CVPR 2020, arXiv 2008.06120, Sec. 4. The run is the REINFORCE of Cai, Zhu, Han: ProxylessNAS, ICLR 2019, arXiv
1812.00332, Sec. 3.3.2; see `gates` for its notation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mutandis.algorithms.base import JSON, from_state, to_state
from mutandis.algorithms.oneshot.derive import most_likely
from mutandis.algorithms.oneshot.engine import PolicySettings
from mutandis.algorithms.oneshot.protocol import Cost, Evaluate, Needs, Virtual, check_outcome, finite
from mutandis.algorithms.oneshot.selections import Index, Selection, Selections, Subset, Value
from mutandis.algorithms.oneshot.tables.parts import Part, check_orders
from mutandis.algorithms.oneshot.tables.policy import Policy
from mutandis.algorithms.oneshot.tables.relaxations import Noise
from mutandis.algorithms.oneshot.tables.run import TableSearch, score_gradients
from mutandis.errors import SettingError
from mutandis.hyper import DNA, SearchSpace
from mutandis.hyper.rng import Rng

_MOST_WAITING = 1000


def shaped_reward(kind: str, quality: float, ratio: float, exponent: float) -> float:
    """Returns the reward of a quality at a cost.

    Args:
        kind: `absolute`, `mnas` or `hard`.
        quality: Q.
        ratio: c / c0 > 0, the cost over the target.
        exponent: beta.
    """
    if kind == "absolute":
        return quality + exponent * abs(ratio - 1.0)
    factor = math.pow(ratio, exponent)
    return quality * (factor if kind == "mnas" else min(factor, 1.0))


def need_target(algorithm: str, target: float | None, cost: Cost | None) -> None:
    """Refuses a target without a cost, and the reverse.

    Raises:
        SettingError: only one of them is given.
    """
    if (cost is None) != (target is None):
        raise SettingError("cannot weigh a cost", at=f"{algorithm}.target", got=target,
                           expected="a target together with a cost, or neither",
                           fix="pass cost= too" if cost is None else f"set {algorithm}(target=...)")  # fmt: skip


def need_scores(space: SearchSpace) -> None:
    """Refuses decisions whose chance is a sum over too many orders of picks.

    Raises:
        SettingError: a set has more than 7 picks.
    """
    for point in space.points:
        if point.kind == "many" and not point.ordered:
            check_orders(point, math.factorial(point.k_max))


def path_of(number: int, drawn: Selections) -> Selections:
    """Returns selections with the picks of several as plain values: what a score needs no gradient of."""
    return Selections(number, {i: Value(s.indices) if isinstance(s, Subset) else s for i, s in drawn.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardRule:
    """How rewards become steps.

    Attributes:
        name: Of the algorithm.
        target: c0, or None where costs do not count.
        tradeoff: w.
        batch_size: M.
        baseline_rate: u.
        every: A policy step is due after so many weight steps.
        delay: Fraction of the run in which the policy rests.
        bins: Into how many values a range with more is cut.
    """

    name: str
    target: float | None
    tradeoff: float
    batch_size: int
    baseline_rate: float
    every: int
    delay: float
    bins: int


@dataclass(frozen=True, slots=True)
class _Drawn:
    selections: Selections


class RewardSearch(TableSearch[_Drawn]):
    """A run of REINFORCE that moves once every few rewards.

    Args:
        rule: How.
        space: The space.
        seed: Seed of the run.
        tables: How the tables start and move.
        cost: What a child costs, or None.

    Raises:
        SettingError: the space is open-ended, a set has more than 7 picks, or there is a cost without a target or the
            reverse.
    """

    def __init__(self, rule: RewardRule, space: SearchSpace, seed: int, tables: PolicySettings, cost: Cost | None
                 ) -> None:  # fmt: skip
        need_target(rule.name, rule.target, cost)
        need_scores(space)
        rng = Rng(seed, "one shot", rule.name)
        policy = Policy(space, rng.derive("tables"), init_std=tables.init_std, continuous="options", most=rule.bins)
        needs = Needs(outcome="reward", draws=rule.batch_size, every=rule.every, selection="index")
        super().__init__(needs, policy, Noise(rng), tables.adam(policy.tables), _MOST_WAITING)
        self._rule = rule
        self._cost = cost
        self._batch: list[tuple[DNA, float]] = []
        self._baseline: float | None = None

    def weights(self) -> Selections:
        """Returns a path of the policy."""
        return self._path(-1)

    def policy(self) -> Selections:
        """Returns a path of the policy that its reward will be asked for."""
        return self._expect(_Drawn(self._path(self._drawn)))

    def _path(self, number: int) -> Selections:
        def choose(part: Part, logits: Tensor) -> Selection:
            return Index(self.noise.option(torch.softmax(logits, 0).tolist()))

        return path_of(number, self.policy_tables.select(number, self.policy_tables.tables, choose, self.noise, 1.0))

    def feedback(
        self,
        selections: Selections,
        *,
        loss: Tensor | None = None,
        reward: float | None = None,
        virtual: Virtual | None = None,
    ) -> None:
        """Takes a reward in, and moves the policy after `batch_size` of them."""
        check_outcome(self._rule.name, self.needs, {"loss": loss, "reward": reward, "virtual": virtual})
        quality = finite(reward)
        if self._answered(selections) is None or quality is None or self._fraction < self._rule.delay:
            return
        dna = selections.dna(self.policy_tables.space)
        if self._cost is not None and self._rule.target is not None:
            quality = shaped_reward("mnas", quality, self._cost(dna) / self._rule.target, -self._rule.tradeoff)
        self._batch.append((dna, quality))
        if len(self._batch) >= self._rule.batch_size:
            self._learn(self._batch)
            self._batch = []

    def _learn(self, batch: list[tuple[DNA, float]]) -> None:
        mean = math.fsum(reward for _, reward in batch) / len(batch)
        before = mean if self._baseline is None else self._baseline
        self._baseline = baseline = before + self._rule.baseline_rate * (mean - before)
        scored = [(dna, reward - baseline) for dna, reward in batch]
        self._adam.step(score_gradients(self.policy_tables, scored))

    def derive(self, evaluate: Evaluate | None = None) -> DNA:
        """Returns the most likely DNA."""
        return most_likely(self.policy_tables)

    def state_dict(self) -> JSON:
        """Returns the state as JSON."""
        batch = [[to_state(dna), reward] for dna, reward in self._batch]
        return {**super().state_dict(), "batch": batch, "baseline": self._baseline}

    def load_state_dict(self, state: JSON) -> None:
        """Goes on from a state."""
        super().load_state_dict(state)
        space = self.policy_tables.space
        self._batch = [(from_state(space, values), reward) for values, reward in state["batch"]]
        self._baseline = state["baseline"]


__all__ = ["RewardRule", "RewardSearch", "need_scores", "need_target", "path_of", "shaped_reward"]
