"""REINFORCE with a factorised policy.

Williams: Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning, Machine Learning
8, 1992, doi 10.1007/BF00992696; in the form of NATS-Bench (Dong, Liu, Musial, Gabrys, IEEE TPAMI 2021, arXiv
2009.00437, its REINFORCE baseline and reference code).

*Notation*: theta = logits, pi = the policy, r = reward, b = baseline, m = `baseline_decay`, w = `entropy_weight`.
After each result

    b = EMA_m(r) / (1 - m^t), the present r included,
    theta <- Adam(theta, -(r - b) d log pi(a) / d theta).

With w > 0 the reward is r - w log pi(a), whose expectation is that of r plus w times the entropy of the policy
(Williams and Peng, Connection Science 3(3), 1991).

*Departures*: NATS-Bench knows choices only; here ranges are cut into cells, and picks follow Plackett and Luce
(categorical.py). A table of logits whose decision was not active keeps its logits, moments and step count, where a
dense Adam would let it drift on.
"""

from __future__ import annotations

import math
from typing import Any

from mutandis.algorithms.base import JSON, Algorithm, Search, need_int, need_number, settings
from mutandis.algorithms.policies.answers import Baseline, Pending
from mutandis.algorithms.policies.categorical import CategoricalPolicy
from mutandis.algorithms.sequences import Codec
from mutandis.hyper import Feedback, Proposal, SearchSpace
from mutandis.hyper.rng import Rng


@settings
class Reinforce(Algorithm):
    """Moves a categorical distribution per decision towards what was better than usual.

    Works on every space but open-ended ones. Results count in the order in which they come, also late ones, as if they
    had just been drawn. A result whose DNA the policy did not draw (one that nobody asked for, or that a wrapper put in
    place of a proposal) says nothing about the policy and is left aside, as are failed trials.

    Args:
        learning_rate: Of Adam, in logits per step.
        baseline_decay: m, in (0, 1); at 0 the baseline would be the reward itself.
        entropy_weight: w >= 0, in units of the reward per nat.
        bins: Into how many cells a range with more values is cut.

    Raises:
        SettingError: a number is out of its range.
    """

    learning_rate: float = 0.01
    baseline_decay: float = 0.9
    entropy_weight: float = 0.0
    bins: int = 16

    def __post_init__(self) -> None:
        need_number("Reinforce.learning_rate", self.learning_rate, above=0.0)
        need_number("Reinforce.baseline_decay", self.baseline_decay, above=0.0, below=1.0)
        need_number("Reinforce.entropy_weight", self.entropy_weight, low=0.0)
        need_int("Reinforce.bins", self.bins, 1)

    def start(self, space: SearchSpace, *, seed: int, num_objectives: int = 1) -> Search:
        """Begins a run from a nearly uniform policy.

        Raises:
            SettingError: the space is open-ended, or there are several objectives.
        """
        self.check_objectives(num_objectives)
        return _PolicySearch(self, space.bare(), seed)


class Adam:
    """Adam for one list of numbers (Kingma and Ba 2015, arXiv 1412.6980, Algorithm 1), as torch computes it.

    Args:
        size: How many numbers.
        learning_rate: The step size.
    """

    BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8

    def __init__(self, size: int, learning_rate: float) -> None:
        self._rate = learning_rate
        self._first = [0.0] * size
        self._second = [0.0] * size
        self._count = 0

    def step(self, numbers: list[float], gradient: list[float]) -> None:
        """Moves numbers against a gradient, in place."""
        self._count += 1
        first, second = self._first, self._second
        rate = self._rate / (1 - self.BETA1**self._count)
        root = math.sqrt(1 - self.BETA2**self._count)
        for i, g in enumerate(gradient):
            first[i] = m = self.BETA1 * first[i] + (1 - self.BETA1) * g
            second[i] = v = self.BETA2 * second[i] + (1 - self.BETA2) * g * g
            numbers[i] -= rate * m / (math.sqrt(v) / root + self.EPSILON)

    def state(self) -> list[Any]:
        """Returns the state as JSON."""
        return [self._count, list(self._first), list(self._second)]

    def set_state(self, state: list[Any]) -> None:
        """Goes on from a state."""
        self._count, self._first, self._second = state[0], list(state[1]), list(state[2])


class _PolicySearch(Search):
    def __init__(self, settings: Reinforce, space: SearchSpace, seed: int) -> None:
        self._entropy_weight = settings.entropy_weight
        self._space = space
        self._codec = Codec(space, settings.bins)
        self._rng = Rng(seed, "reinforce")
        self._policy = CategoricalPolicy(self._codec)
        self._choose = self._policy.chooser(self._rng)
        start = self._rng.derive("logits")
        for table in self._policy.logits:
            table[:] = [1e-3 * start.gauss(0.0, 1.0) for _ in table]
        self._optimizers = [Adam(len(table), settings.learning_rate) for table in self._policy.logits]
        self._baseline = Baseline(settings.baseline_decay)
        self._pending = Pending(self._space, self._codec)
        self._proposed = 0

    def propose(self) -> Proposal:
        number = self._proposed
        self._proposed += 1
        dna, steps = self._codec.walk(self._choose, self._rng)
        self._pending.add(number, dna, steps)
        return Proposal(number, dna)

    def feedback(self, feedback: Feedback) -> None:
        drawn = self._pending.pop(feedback)
        if drawn is None:
            return
        reward = drawn.reward
        if self._entropy_weight:
            reward -= self._entropy_weight * self._policy.log_prob(drawn.steps)
        advantage = reward - self._baseline.add(reward)
        for table, gradient in self._policy.gradient(drawn.steps).items():
            self._optimizers[table].step(self._policy.logits[table], [-advantage * g for g in gradient])

    def state_dict(self) -> JSON:
        return {
            "rng": self._rng.state(),
            "logits": [list(table) for table in self._policy.logits],
            "adam": [optimizer.state() for optimizer in self._optimizers],
            "baseline": self._baseline.state(),
            "pending": self._pending.state(),
            "proposed": self._proposed,
        }

    def load_state_dict(self, state: JSON) -> None:
        self._rng.set_state(state["rng"])
        for table, logits in zip(self._policy.logits, state["logits"], strict=True):
            table[:] = logits
        for optimizer, numbers in zip(self._optimizers, state["adam"], strict=True):
            optimizer.set_state(numbers)
        self._baseline.set_state(state["baseline"])
        self._pending.set_state(state["pending"])
        self._proposed = state["proposed"]


__all__ = ["Adam", "Reinforce"]
