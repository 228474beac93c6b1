"""A recurrent controller, trained by REINFORCE or by PPO.

Zoph, Le: Neural Architecture Search with Reinforcement Learning, ICLR 2017, arXiv 1611.01578, Sec. 3.2 (REINFORCE);
Zoph, Vasudevan, Shlens, Le: Learning Transferable Architectures for Scalable Image Recognition, CVPR 2018, arXiv
1707.07012, Appendix A (PPO: Schulman et al. 2017, arXiv 1707.06347, eq. (7)).

*Notation*: m = children per update, pi = the controller, a = the steps of a child, R = reward, b = baseline,
A = R - b, rho = pi(a) / pi_drawn(a), eps = `clip`, w = `entropy_weight`. An update ascends

    reinforce   (1/m) sum_k A_k log pi(a_k),                                            once;
    ppo         (1/m) sum_k min(rho_k A_k, clip(rho_k, 1 - eps, 1 + eps) A_k),          `num_epochs` times,

with Adam. The baseline is the average of the rewards before the update, with the weight `baseline_decay` on the past
and without the pull towards 0 of its start; the first update uses the mean of its own children.

*Departures*: entropy enters through the reward, R - w log pi_drawn(a), whose expectation is that of R plus w times
the entropy of the whole sequence (Williams and Peng 1991); the sum of the entropies of the steps, which others add to
the objective, leaves out how early steps change the entropy of late ones. The papers give no eps and no number of
epochs; 0.2 is PPO's. The bias of a softmax starts uniform like the weights.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from mutandis.algorithms.base import JSON, Algorithm, Search, need_int, need_number, need_one_of, settings
from mutandis.algorithms.policies.answers import Baseline, Drawn, Pending, drawn_from, drawn_state
from mutandis.algorithms.policies.controller import Controller, one_thread, packed, unpacked
from mutandis.algorithms.policies.priors import OptionPrior, need_priors
from mutandis.algorithms.policies.reinforce import Adam
from mutandis.algorithms.sequences import Codec
from mutandis.hyper import Feedback, Proposal, SearchSpace
from mutandis.hyper.rng import Rng

UPDATES = ("ppo", "reinforce")


@settings
class PolicyRNN(Algorithm):
    """Draws decisions one after the other from an LSTM that has seen those before.

    Fits spaces whose later decisions depend on earlier ones; `Reinforce` learns faster where they do not. Works on
    every space but open-ended ones. The defaults are NASNet's; those of the first paper are

        PolicyRNN("reinforce", hidden_size=35, num_layers=2, learning_rate=6e-4, init_range=0.08)

    (with the cube of the accuracy as the reward). Both were made for thousands of trials; with hundreds, a
    `learning_rate` of 0.01 is a better start.

    An update happens whenever `batch_size` children were answered, in the order of their answers. An answer may come
    many updates late: PPO weighs it by rho, from the probability it was drawn with; REINFORCE takes it as if it had
    just been drawn. A result whose DNA the controller did not draw (one that nobody asked for, or that a wrapper put
    in place of a proposal) has no such probability and is left aside, as are failed trials.

    The state holds the weights and Adam's moments as base64 of their float32 bytes: 16 characters a weight.

    Args:
        update: `ppo` or `reinforce`.
        hidden_size: Units of each LSTM layer.
        num_layers: How many there are.
        learning_rate: Of Adam.
        batch_size: m.
        entropy_weight: w >= 0, in units of the reward per nat.
        baseline_decay: In [0, 1).
        temperature: Divides the logits.
        tanh_constant: Squashes the logits to within this of 0, after the temperature; None leaves them.
        clip: eps, in (0, 1); for `ppo` only.
        num_epochs: How often `ppo` goes over the same children.
        init_range: The weights start uniform within this of 0.
        bins: Into how many cells a range with more values is cut.
        priors: Leanings towards some options.

    Raises:
        SettingError: a number is out of its range, or the update unknown.
    """

    update: str = "ppo"
    hidden_size: int = 100
    num_layers: int = 1
    learning_rate: float = 3.5e-4
    batch_size: int = 20
    entropy_weight: float = 1e-5
    baseline_decay: float = 0.95
    temperature: float = 1.0
    tanh_constant: float | None = None
    clip: float = 0.2
    num_epochs: int = 4
    init_range: float = 0.1
    bins: int = 16
    priors: tuple[OptionPrior, ...] = ()

    def __post_init__(self) -> None:
        need_one_of("PolicyRNN.update", self.update, UPDATES)
        for name in ("hidden_size", "num_layers", "batch_size", "num_epochs", "bins"):
            need_int(f"PolicyRNN.{name}", getattr(self, name), 1)
        for name in ("learning_rate", "temperature", "init_range"):
            need_number(f"PolicyRNN.{name}", getattr(self, name), above=0.0)
        need_number("PolicyRNN.entropy_weight", self.entropy_weight, low=0.0)
        need_number("PolicyRNN.baseline_decay", self.baseline_decay, low=0.0, below=1.0)
        need_number("PolicyRNN.clip", self.clip, above=0.0, below=1.0)
        if self.tanh_constant is not None:
            need_number("PolicyRNN.tanh_constant", self.tanh_constant, above=0.0)
        need_priors("PolicyRNN.priors", self.priors)

    def start(self, space: SearchSpace, *, seed: int, num_objectives: int = 1) -> Search:
        """Begins a run with random weights, i.e. a nearly uniform policy.

        Raises:
            SettingError: the space is open-ended, there are several objectives, or a prior does not fit its decision.
            DecisionError: a prior names no decision.
        """
        self.check_objectives(num_objectives)
        return _ControllerSearch(self, space.bare(), seed)


def clipped_objective(ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """Returns what PPO maximises, elementwise (Schulman et al. 2017, eq. (7)).

    Args:
        ratio: rho > 0.
        advantage: A, of the same shape.
        clip: eps.
    """
    return torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)


class VectorAdam:
    """Adam for one tensor (Kingma and Ba 2015, Algorithm 1); `torch.optim` would load the compiler for it.

    Args:
        weights: `[P]`, moved in place.
        learning_rate: The step size.
    """

    def __init__(self, weights: Tensor, learning_rate: float) -> None:
        self._weights = weights
        self._rate = learning_rate
        self._count = 0
        self._first = torch.zeros_like(weights, requires_grad=False)
        self._second = torch.zeros_like(weights, requires_grad=False)

    def step(self, gradient: Tensor) -> None:
        """Moves the weights against a gradient, `[P]`."""
        self._count += 1
        self._first.lerp_(gradient, 1 - Adam.BETA1)
        self._second.mul_(Adam.BETA2).addcmul_(gradient, gradient, value=1 - Adam.BETA2)
        root = math.sqrt(1 - Adam.BETA2**self._count)
        with torch.no_grad():
            scale = (self._second.sqrt() / root).add_(Adam.EPSILON)
            self._weights.addcdiv_(self._first, scale, value=-self._rate / (1 - Adam.BETA1**self._count))

    def state(self) -> list[Any]:
        """Returns the state as JSON."""
        return [self._count, packed(self._first), packed(self._second)]

    def set_state(self, state: list[Any]) -> None:
        """Goes on from a state."""
        self._count, self._first, self._second = state[0], unpacked(state[1]), unpacked(state[2])


class _ControllerSearch(Search):
    def __init__(self, settings: PolicyRNN, space: SearchSpace, seed: int) -> None:
        self._settings = settings
        self._codec = Codec(space, settings.bins, canonical=True)
        self._rng = Rng(seed, "policy rnn")
        self._controller = Controller.of(settings, space, self._codec, self._rng)
        self._optimizer = VectorAdam(self._controller.weights, settings.learning_rate)
        self._baseline = Baseline(settings.baseline_decay)
        self._pending = Pending(space, self._codec)
        self._batch: list[Drawn] = []
        self._proposed = 0

    def propose(self) -> Proposal:
        number = self._proposed
        self._proposed += 1
        dna, steps, log_prob = self._controller.sample(self._rng)
        self._pending.add(number, dna, steps, log_prob)
        return Proposal(number, dna)

    def feedback(self, feedback: Feedback) -> None:
        drawn = self._pending.pop(feedback)
        if drawn is None or not drawn.steps:
            return
        self._batch.append(drawn)
        if len(self._batch) >= self._settings.batch_size:
            with one_thread():
                self._learn(self._batch)
            self._batch = []

    def _learn(self, batch: list[Drawn]) -> None:
        rewards = [drawn.reward - self._settings.entropy_weight * drawn.log_prob for drawn in batch]
        usual = self._baseline.value
        base = math.fsum(rewards) / len(rewards) if usual is None else usual
        for reward in rewards:
            self._baseline.add(reward)
        advantage_B = torch.tensor([reward - base for reward in rewards])
        drawn_B = torch.tensor([drawn.log_prob for drawn in batch])
        for _ in range(self._settings.num_epochs if self._settings.update == "ppo" else 1):
            log_prob_B = self._controller.log_probs([drawn.steps for drawn in batch])
            if self._settings.update == "ppo":
                ratio_B = torch.exp(log_prob_B - drawn_B)
                objective_B = clipped_objective(ratio_B, advantage_B, self._settings.clip)
            else:
                objective_B = advantage_B * log_prob_B
            (gradient,) = torch.autograd.grad(-objective_B.mean(), self._controller.weights)
            self._optimizer.step(gradient)

    def state_dict(self) -> JSON:
        return {
            "rng": self._rng.state(),
            "weights": self._controller.state(),
            "adam": self._optimizer.state(),
            "baseline": self._baseline.state(),
            "batch": drawn_state(self._batch),
            "pending": self._pending.state(),
            "proposed": self._proposed,
        }

    def load_state_dict(self, state: JSON) -> None:
        self._rng.set_state(state["rng"])
        self._controller.set_state(state["weights"])
        self._optimizer.set_state(state["adam"])
        self._baseline.set_state(state["baseline"])
        self._batch = drawn_from(self._codec, state["batch"])
        self._pending.set_state(state["pending"])
        self._proposed = state["proposed"]


__all__ = ["PolicyRNN", "VectorAdam", "clipped_objective"]
