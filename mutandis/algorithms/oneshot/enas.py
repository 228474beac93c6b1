"""A recurrent controller on shared weights.

ENAS: Pham, Guan, Zoph, Le, Dean: Efficient Neural Architecture Search via Parameter Sharing, ICML 2018, arXiv
1802.03268, Sec. 2.2. The defaults are those of NATS-Bench (Dong et al. 2021, arXiv 2009.00437); the paper's cells had
`ENAS(learning_rate=0.0035, tanh_constant=1.1, batch_size=10, num_steps=30)`, with the `OptionPrior` of `priors` for
their operations.

*Notation*: pi = the controller, a = a path, R = reward - w log pi(a), b = baseline, M = `batch_size`. An update
descends

    -(1/M) sum of (R - b) log pi(a),  its gradient cut to a norm of `max_norm`, by Adam.

Baselines, d = `baseline_decay`, each taking the present R in before it is subtracted:

    ema       b <- b + (1 - d) (R - b), from 0, as published
    debiased  the same, without the pull towards 0
    epoch     b' + (1 - d) (R - b'), where b' is the mean of b in the epoch before; in the first epoch, R itself, so
              that nothing is learnt in it (the reference code of NATS-Bench)

*Departures*: entropy enters as -w log pi(a), whose mean is that of the entropies that the reference codes add.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from mutandis.algorithms.base import JSON, Search, need_int, need_number, need_one_of, settings
from mutandis.algorithms.oneshot.derive import best_of
from mutandis.algorithms.oneshot.protocol import (
    Cost,
    Evaluate,
    Needs,
    OneShot,
    SharedSearch,
    Virtual,
    check_outcome,
    finite,
    need_fraction,
)
from mutandis.algorithms.oneshot.selections import Selections, selections_of
from mutandis.algorithms.oneshot.tables.gradients import with_gradients
from mutandis.algorithms.oneshot.tables.optimise import TableAdam
from mutandis.algorithms.policies.answers import Baseline, Drawn, drawn_from, drawn_state
from mutandis.algorithms.policies.controller import Controller, one_thread
from mutandis.algorithms.policies.priors import OptionPrior, need_priors
from mutandis.algorithms.policies.recurrent import PolicyRNN
from mutandis.algorithms.sequences import Codec, Step
from mutandis.hyper import DNA, SearchSpace
from mutandis.hyper.rng import Rng

BASELINES = ("ema", "debiased", "epoch")
_MOST_WAITING = 1000


@settings
class ENAS(OneShot):
    """Draws paths from an LSTM that is trained by REINFORCE after every epoch of the weights.

    By trials, without shared weights, it is `PolicyRNN("reinforce")` of this size.

    Args:
        hidden_size: Units of each LSTM layer.
        num_layers: How many there are.
        temperature: Divides the logits.
        tanh_constant: Squashes the logits to within this of 0, after the temperature; None leaves them.
        learning_rate: Of Adam.
        epsilon: Of Adam.
        batch_size: M.
        num_steps: Updates after every epoch.
        entropy_weight: w >= 0.
        baseline: `ema`, `debiased` or `epoch`.
        baseline_decay: d, in [0, 1).
        max_norm: Of the gradient.
        init_range: The weights start uniform within this of 0.
        num_candidates: How many drawn DNAs are measured at the end.
        bins: Into how many cells a range with more values is cut.
        priors: Leanings towards some options.

    Raises:
        SettingError: a number is out of its range, or a word unknown.
    """

    hidden_size: int = 32
    num_layers: int = 2
    temperature: float = 5.0
    tanh_constant: float | None = 2.5
    learning_rate: float = 1e-3
    epsilon: float = 1e-3
    batch_size: int = 20
    num_steps: int = 50
    entropy_weight: float = 1e-4
    baseline: str = "ema"
    baseline_decay: float = 0.999
    max_norm: float = 5.0
    init_range: float = 0.1
    num_candidates: int = 100
    bins: int = 16
    priors: tuple[OptionPrior, ...] = ()

    def __post_init__(self) -> None:
        for name in ("hidden_size", "num_layers", "batch_size", "num_steps", "num_candidates", "bins"):
            need_int(f"ENAS.{name}", getattr(self, name), 1)
        for name in ("temperature", "learning_rate", "epsilon", "max_norm", "init_range"):
            need_number(f"ENAS.{name}", getattr(self, name), above=0.0)
        if self.tanh_constant is not None:
            need_number("ENAS.tanh_constant", self.tanh_constant, above=0.0)
        need_number("ENAS.entropy_weight", self.entropy_weight, low=0.0)
        need_number("ENAS.baseline_decay", self.baseline_decay, low=0.0, below=1.0)
        need_one_of("ENAS.baseline", self.baseline, BASELINES)
        need_priors("ENAS.priors", self.priors)

    def start(self, space: SearchSpace, *, seed: int, num_objectives: int = 1) -> Search:
        """Begins REINFORCE with a recurrent controller by trials.

        Raises:
            SettingError: the space is open-ended, or there are several objectives.
        """
        plain = PolicyRNN("reinforce", hidden_size=self.hidden_size, num_layers=self.num_layers,
                          learning_rate=self.learning_rate, batch_size=self.batch_size,
                          entropy_weight=self.entropy_weight, baseline_decay=self.baseline_decay,
                          temperature=self.temperature, tanh_constant=self.tanh_constant,
                          init_range=self.init_range, bins=self.bins, priors=self.priors)  # fmt: skip
        return plain.start(space, seed=seed, num_objectives=num_objectives)

    def start_shared(self, space: SearchSpace, *, seed: int, cost: Cost | None = None) -> SharedSearch:
        """Begins a run with random weights of the controller.

        Raises:
            SettingError: the space is open-ended, or a prior does not fit its decision.
            DecisionError: a prior names no decision.
        """
        return EnasSearch(self, space.bare(), seed)


class RunningBaseline:
    """One of the baselines of ENAS.

    Args:
        kind: `ema`, `debiased` or `epoch`.
        decay: d.
        length: Rewards per epoch.
    """

    def __init__(self, kind: str, decay: float, length: int) -> None:
        self._kind, self._decay, self._length = kind, decay, length
        self._debiased = Baseline(decay)
        self._value = 0.0
        self._before: float | None = None
        self._sum, self._count = 0.0, 0

    def add(self, reward: float) -> float:
        """Takes a reward in, and returns the baseline to subtract from it."""
        if self._kind == "debiased":
            return self._debiased.add(reward)
        if self._kind == "ema":
            self._value -= (1.0 - self._decay) * (self._value - reward)
            return self._value
        before = reward if self._before is None else self._before
        value = before - (1.0 - self._decay) * (before - reward)
        self._sum, self._count = self._sum + value, self._count + 1
        if self._count == self._length:
            self._before, self._sum, self._count = self._sum / self._count, 0.0, 0
        return value

    def state(self) -> list[Any]:
        """Returns the state as JSON."""
        return [self._debiased.state(), self._value, self._before, self._sum, self._count]

    def set_state(self, state: list[Any]) -> None:
        """Goes on from a state."""
        self._debiased.set_state(state[0])
        self._value, self._before, self._sum, self._count = state[1:]


class EnasSearch(SharedSearch):
    """A run of ENAS.

    Args:
        settings: The algorithm.
        space: The space.
        seed: Seed of the run.
    """

    def __init__(self, settings: ENAS, space: SearchSpace, seed: int) -> None:
        draws = settings.batch_size * settings.num_steps
        self.needs = Needs(outcome="reward", draws=draws, every=0, selection="index")
        self._settings = settings
        self._codec = Codec(space, settings.bins, canonical=True)
        self._rng = Rng(seed, "one shot", "ENAS")
        self._controller = Controller.of(settings, space, self._codec, self._rng)
        self._adam = TableAdam([self._controller.weights], settings.learning_rate, beta1=0.9,
                               epsilon=settings.epsilon, max_norm=settings.max_norm)  # fmt: skip
        self._baseline = RunningBaseline(settings.baseline, settings.baseline_decay, draws)
        self._batch: list[Drawn] = []
        self._waiting: dict[int, tuple[Selections, tuple[Step, ...], float]] = {}
        self._count = 0

    def progress(self, fraction: float) -> None:
        """Checks the fraction; nothing here follows it."""
        need_fraction(fraction)

    def weights(self) -> Selections:
        """Returns a path of the controller."""
        return selections_of(self._controller.sample(self._rng)[0])

    def policy(self) -> Selections:
        """Returns a path of the controller that its reward will be asked for."""
        dna, steps, log_prob = self._controller.sample(self._rng)
        selections = selections_of(dna, self._count)
        self._waiting[self._count] = (selections, steps, log_prob)
        self._count += 1
        if len(self._waiting) > _MOST_WAITING:
            del self._waiting[next(iter(self._waiting))]
        return selections

    def feedback(
        self,
        selections: Selections,
        *,
        loss: Tensor | None = None,
        reward: float | None = None,
        virtual: Virtual | None = None,
    ) -> None:
        """Takes a reward in, and moves the controller after `batch_size` of them."""
        check_outcome("ENAS", self.needs, {"loss": loss, "reward": reward, "virtual": virtual})
        found = self._waiting.get(selections.number)
        if found is None or found[0] is not selections:
            return
        del self._waiting[selections.number]
        quality = finite(reward)
        if quality is None or not found[1]:
            return
        self._batch.append(Drawn(found[1], found[2], quality))
        if len(self._batch) >= self._settings.batch_size:
            with one_thread(), with_gradients():
                self._learn(self._batch)
            self._batch = []

    def _learn(self, batch: list[Drawn]) -> None:
        rewards = [drawn.reward - self._settings.entropy_weight * drawn.log_prob for drawn in batch]
        advantage_B = torch.tensor([reward - self._baseline.add(reward) for reward in rewards])
        objective = (advantage_B * self._controller.log_probs([drawn.steps for drawn in batch])).mean()
        (gradient,) = torch.autograd.grad(-objective, self._controller.weights)
        self._adam.step([gradient])

    def derive(self, evaluate: Evaluate | None = None) -> DNA:
        """Returns the best of some drawn DNAs."""
        drawn = (self._controller.sample(self._rng)[0] for _ in range(self._settings.num_candidates))
        return best_of("ENAS", drawn, evaluate)

    def entropy(self) -> dict[str, float]:
        """Returns the entropy of the whole under the name of the root, in nats: the mean of -log pi over 32 draws."""
        rng = self._rng.derive("entropy")
        return {"": -math.fsum(self._controller.sample(rng)[2] for _ in range(32)) / 32}

    def probabilities(self) -> dict[str, list[float]]:
        """Returns nothing: the chances of a decision hang on those before it."""
        return {}

    def state_dict(self) -> JSON:
        """Returns the state as JSON; the weights as base64 of their float32 bytes."""
        return {
            "rng": self._rng.state(),
            "weights": self._controller.state(),
            "adam": self._adam.state(),
            "baseline": self._baseline.state(),
            "batch": drawn_state(self._batch),
            "count": self._count,
        }

    def load_state_dict(self, state: JSON) -> None:
        """Goes on from a state."""
        self._rng.set_state(state["rng"])
        self._controller.set_state(state["weights"])
        self._adam.set_state(state["adam"])
        self._baseline.set_state(state["baseline"])
        self._batch = drawn_from(self._codec, state["batch"])
        self._count, self._waiting = state["count"], {}


__all__ = ["ENAS", "EnasSearch", "RunningBaseline"]
