"""REINFORCE on shared weights with a cost in the reward.

TuNAS: Bender, Liu, Chen, Chu, Cheng, Kindermans, Le: Can Weight Sharing Outperform Random Architecture Search? An
Investigation With TuNAS, CVPR 2020, arXiv 2008.06120, Sec. 4 and 5; `mnas`: Tan et al., MnasNet, CVPR 2019, arXiv
1807.11626, eq. (2) and (3).

*Notation*: Q = quality, c / c0 = cost over target, beta = `exponent` < 0, b = baseline, f = fraction of the run done,

    absolute  r = Q + beta |c / c0 - 1|
    mnas      r = Q (c / c0)^beta
    hard      r = Q min((c / c0)^beta, 1)
    b = EMA_0.95(r) without bias, theta <- Adam(theta, -(r - b) d log pi(a) / d theta), step size times
    0 for f < delay, else growth^((f - delay) / (1 - delay)).

While f < warmup, each decision is replaced with probability rho = 1 - f / warmup: sizes by the largest, other choices
by the mean of all candidates (all run).

*Departures*: a reward under a replaced decision is that of no DNA, and is left aside; the policy rests in that time
anyway, since `delay` must not be shorter than the warm-ups. Ranges are cut into at most `bins` values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mutandis.algorithms.base import JSON, Search, need_int, need_number, need_one_of, settings
from mutandis.algorithms.oneshot.derive import most_likely
from mutandis.algorithms.oneshot.protocol import (
    Cost,
    Evaluate,
    Needs,
    OneShot,
    SharedSearch,
    Virtual,
    check_outcome,
    finite,
)
from mutandis.algorithms.oneshot.rewards import need_scores, need_target, path_of, shaped_reward
from mutandis.algorithms.oneshot.selections import Index, Mixture, Selection, Selections
from mutandis.algorithms.oneshot.sizes import largest
from mutandis.algorithms.oneshot.tables.optimise import TableAdam
from mutandis.algorithms.oneshot.tables.parts import Part
from mutandis.algorithms.oneshot.tables.policy import Policy
from mutandis.algorithms.oneshot.tables.relaxations import Noise
from mutandis.algorithms.oneshot.tables.run import TableSearch, score_gradients
from mutandis.algorithms.policies.answers import Baseline
from mutandis.algorithms.policies.reinforce import Reinforce
from mutandis.errors import SettingError
from mutandis.hyper import DNA, SearchSpace
from mutandis.hyper.rng import Rng

REWARDS = ("absolute", "mnas", "hard")
_MOST_WAITING = 1000
_CONTINUOUS = {"bins": "options", "normal": "normal"}


@settings
class TuNAS(OneShot):
    """Draws a path per step for weights and policy alike; its reward, less what it costs, moves the policy.

    With `target` and a cost, children near the target are preferred: `absolute` also punishes cheaper ones. Both or
    neither must be given. By trials, without shared weights, it is `Reinforce` with this step size and baseline.

    Args:
        target: c0 > 0, in units of the cost.
        reward: `absolute`, `mnas` or `hard`.
        exponent: beta < 0.
        learning_rate: Of Adam (beta1 = 0); published as 3e-4 per 256 of a batch of 4096.
        growth: By how much the step size grows from `delay` to the end.
        baseline_decay: Of the average reward, in (0, 1).
        delay: Fraction of the run before the policy moves.
        op_warmup: Fraction of the run in which choices are replaced by the mean of all.
        size_warmup: Fraction of the run in which sizes are replaced by the largest.
        bins: Into how many values a range with more is cut.
        ranges: What continuous ranges are drawn from: `bins`, or a `normal` distribution cut off at their ends, whose
            mean and width are learnt.

    Raises:
        SettingError: a number is out of its range, a word unknown, or a warm-up longer than the delay.
    """

    target: float | None = None
    reward: str = "absolute"
    exponent: float = -0.1
    learning_rate: float = 4.8e-3
    growth: float = 10.0
    baseline_decay: float = 0.95
    delay: float = 0.25
    op_warmup: float = 0.25
    size_warmup: float = 0.25
    bins: int = 16
    ranges: str = "bins"

    def __post_init__(self) -> None:
        if self.target is not None:
            need_number("TuNAS.target", self.target, above=0.0)
        need_one_of("TuNAS.reward", self.reward, REWARDS)
        need_number("TuNAS.exponent", self.exponent, below=0.0)
        need_number("TuNAS.learning_rate", self.learning_rate, above=0.0)
        need_number("TuNAS.growth", self.growth, above=0.0)
        need_number("TuNAS.baseline_decay", self.baseline_decay, above=0.0, below=1.0)
        need_number("TuNAS.delay", self.delay, low=0.0, below=1.0)
        for name in ("op_warmup", "size_warmup"):
            need_number(f"TuNAS.{name}", getattr(self, name), low=0.0, high=self.delay)
        need_int("TuNAS.bins", self.bins, 1)
        need_one_of("TuNAS.ranges", self.ranges, tuple(_CONTINUOUS))

    def start(self, space: SearchSpace, *, seed: int, num_objectives: int = 1) -> Search:
        """Begins REINFORCE by trials.

        Raises:
            SettingError: the space is open-ended, there are several objectives, or there is a target.
        """
        if self.target is not None:
            raise SettingError("cannot weigh a cost", at="TuNAS.target", got=self.target,
                               expected="None for a search by trials, whose loop knows the costs",
                               fix="put the cost into the reward that the loop gives")  # fmt: skip
        plain = Reinforce(learning_rate=self.learning_rate, baseline_decay=self.baseline_decay, bins=self.bins)
        return plain.start(space, seed=seed, num_objectives=num_objectives)

    @property
    def weighs_cost(self) -> bool:
        """Whether the `cost` of `start_shared` changes anything."""
        return True

    def start_shared(self, space: SearchSpace, *, seed: int, cost: Cost | None = None) -> SharedSearch:
        """Begins a run with a uniform policy.

        Raises:
            SettingError: the space is open-ended, sets have more than 7 picks, or there is a cost without a target or
                the reverse.
        """
        need_target("TuNAS", self.target, cost)
        need_scores(space)
        return TunasSearch(self, space, seed, cost)


def step_scale(fraction: float, delay: float, growth: float) -> float:
    """Returns by how much the step size is multiplied."""
    return 0.0 if fraction < delay else math.pow(growth, (fraction - delay) / (1.0 - delay))


def replace_chance(fraction: float, warmup: float) -> float:
    """Returns rho: 1 at the start, 0 from the end of the warm-up."""
    return max(0.0, 1.0 - fraction / warmup) if warmup > 0.0 else 0.0


@dataclass(frozen=True, slots=True)
class _Drawn:
    selections: Selections
    is_whole: bool


class TunasSearch(TableSearch[_Drawn]):
    """A run of TuNAS.

    Args:
        settings: The algorithm.
        space: The space.
        seed: Seed of the run.
        cost: What a child costs, or None.
    """

    def __init__(self, settings: TuNAS, space: SearchSpace, seed: int, cost: Cost | None) -> None:
        warms = settings.op_warmup > 0.0 or settings.size_warmup > 0.0
        needs = Needs(outcome="reward", norm="batch_no_affine", selection="mixture" if warms else "index")
        rng = Rng(seed, "one shot", "TuNAS")
        policy = Policy(space, rng, init_std=0.0, continuous=_CONTINUOUS[settings.ranges],
                        most=settings.bins)  # fmt: skip
        adam = TableAdam(policy.tables, settings.learning_rate, beta1=0.0)
        super().__init__(needs, policy, Noise(rng), adam, _MOST_WAITING)
        self._settings = settings
        self._cost = cost
        self._baseline = Baseline(settings.baseline_decay)
        self._last: Selections | None = None

    def weights(self) -> Selections:
        """Returns a path, some decisions replaced during the warm-up; `policy` returns the same."""
        is_whole = True

        def choose(part: Part, logits: Tensor) -> Selection:
            nonlocal is_whole
            chosen = self._replaced(part, len(logits))
            if chosen is not None:
                is_whole = False
                return chosen
            return Index(self.noise.option(torch.softmax(logits, 0).tolist()))

        drawn = self.policy_tables.select(self._drawn, self.policy_tables.tables, choose, self.noise, 1.0)
        selections = path_of(self._drawn, drawn)
        self._last = self._expect(_Drawn(selections, is_whole))
        return selections

    def _replaced(self, part: Part, num_options: int) -> Selection | None:
        """Returns what replaces a decision by chance during the warm-up, or None."""
        point = part.point
        if point.kind == "float":
            return None
        top = num_options - 1 if point.kind == "int" else largest(point)
        warmup = self._settings.op_warmup if top is None else self._settings.size_warmup
        chance = replace_chance(self._fraction, warmup)
        if not chance or self.noise.uniform() >= chance:
            return None
        if top is not None:
            return Index(top)
        return Mixture(torch.full((num_options,), 1.0 / num_options, dtype=torch.float64))

    def policy(self) -> Selections:
        """Returns the selections of the last weight step; new ones where these are used up."""
        selections = self.weights() if self._last is None else self._last
        self._last = None
        return selections

    def feedback(
        self,
        selections: Selections,
        *,
        loss: Tensor | None = None,
        reward: float | None = None,
        virtual: Virtual | None = None,
    ) -> None:
        """Moves the policy."""
        check_outcome("TuNAS", self.needs, {"loss": loss, "reward": reward, "virtual": virtual})
        drawn, quality = self._answered(selections), finite(reward)
        if drawn is None or quality is None or not drawn.is_whole:
            return
        dna = selections.dna(self.policy_tables.space)
        advantage = self._advantage(quality, dna)
        scale = step_scale(self._fraction, self._settings.delay, self._settings.growth)
        if scale > 0.0:
            self._adam.step(score_gradients(self.policy_tables, [(dna, advantage)]), scale)

    def _advantage(self, quality: float, dna: DNA) -> float:
        if self._cost is not None and self._settings.target is not None:
            ratio = self._cost(dna) / self._settings.target
            quality = shaped_reward(self._settings.reward, quality, ratio, self._settings.exponent)
        return quality - self._baseline.add(quality)

    def derive(self, evaluate: Evaluate | None = None) -> DNA:
        """Returns the most likely DNA."""
        return most_likely(self.policy_tables)

    def state_dict(self) -> JSON:
        """Returns the state as JSON."""
        return {**super().state_dict(), "baseline": self._baseline.state()}

    def load_state_dict(self, state: JSON) -> None:
        """Goes on from a state."""
        super().load_state_dict(state)
        self._baseline.set_state(state["baseline"])
        self._last = None


__all__ = ["TuNAS", "TunasSearch", "replace_chance", "step_scale"]
