"""An LSTM that takes the steps of a DNA one by one, each given all before it.

Zoph, Le: Neural Architecture Search with Reinforcement Learning, ICLR 2017, arXiv 1611.01578, Sec. 3.1; Hochreiter
and Schmidhuber 1997 for the cell. What was taken last is embedded and fed in; every slot has a softmax of its own on
the top hidden state; options that are not legal are masked before it.

*Notation*: shapes are B = children, T = steps, H = hidden size, N = options of all slots together, M = options of the
widest slot. Logits z are shaped as z <- z / temperature, then z <- c tanh(z) with c = `tanh_constant` (Bello et al.
2017, arXiv 1611.09940, Sec. 4; as in ENAS, Pham et al. 2018).

With priors (see `priors`), c is divided slot by slot, and fixed numbers are added to z at last.

All numbers are float32 views of one vector, so that the weights are saved, restored and optimised as a whole.
"""

from __future__ import annotations

import base64
import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from random import Random
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from mutandis.algorithms.policies.categorical import drawn
from mutandis.algorithms.policies.priors import OptionPrior, priors_by_slot
from mutandis.algorithms.sequences import Codec, Legal, Slot, Step
from mutandis.hyper import DNA, SearchSpace
from mutandis.hyper.rng import Rng

State = list[tuple[Tensor, Tensor]]


def shaped(logits: Tensor, temperature: float, tanh_constant: float | None) -> Tensor:
    """Returns logits divided by a temperature and then squashed into (-tanh_constant, tanh_constant).

    Args:
        logits: Any shape.
        temperature: Above 0; 1 changes nothing.
        tanh_constant: Above 0, or None for no squashing.
    """
    logits = logits / temperature
    return logits if tanh_constant is None else tanh_constant * torch.tanh(logits)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Lets torch compute in the calling thread alone, and then as before.

    The numbers here are so small that threads waiting for each other take ten times as long on a busy machine; and
    sums have the same bits whatever the number of cores.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class ControllerSettings(Protocol):
    """The settings of an algorithm that has a controller; see `Controller`."""

    @property
    def hidden_size(self) -> int: ...
    @property
    def num_layers(self) -> int: ...
    @property
    def temperature(self) -> float: ...
    @property
    def tanh_constant(self) -> float | None: ...
    @property
    def init_range(self) -> float: ...
    @property
    def priors(self) -> tuple[OptionPrior, ...]: ...


class Controller:
    """A distribution over the DNAs of a space, autoregressive in the steps of its codec.

    A step costs O(layers * H^2 + H * options), a batch B * T times as much.

    Args:
        codec: The steps.
        hidden_size: H, also the size of the embedding.
        num_layers: How many LSTM cells are stacked.
        temperature: See `shaped`.
        tanh_constant: See `shaped`.
        init_range: All weights start uniform in [-init_range, init_range].
        generator: Draws the first weights.
        priors: By index of the slot.

    Attributes:
        weights: `[P]` float32, all weights, a leaf that takes gradients.
    """

    def __init__(
        self,
        codec: Codec,
        *,
        hidden_size: int,
        num_layers: int,
        temperature: float,
        tanh_constant: float | None,
        init_range: float,
        generator: torch.Generator,
        priors: Mapping[int, OptionPrior] | None = None,
    ) -> None:
        self._codec = codec
        self._hidden = hidden_size
        self._temperature = temperature
        self._tanh_constant = tanh_constant
        self._offsets = [0]
        for slot in codec.slots:
            self._offsets.append(self._offsets[-1] + slot.num_options)
        total = self._offsets[-1]
        self._width = max((slot.num_options for slot in codec.slots), default=0)
        h = hidden_size
        cells = [(4 * h, h), (4 * h, h), (4 * h,)] * num_layers
        self._shapes: list[tuple[int, ...]] = [(total + 1, h), (total, h), (total,), *cells]
        size = sum(math.prod(shape) for shape in self._shapes)
        self.weights = torch.empty(size).uniform_(-init_range, init_range, generator=generator).requires_grad_()
        self._priors = dict(priors or {})
        self._start_biases()
        rows = [[min(first + i, last - 1) for i in range(self._width)] for first, last in pairwise(self._offsets)]
        self._rows_SM = torch.tensor(rows, dtype=torch.long).reshape(len(rows), self._width)

    @classmethod
    def of(cls, settings: ControllerSettings, space: SearchSpace, codec: Codec, rng: Rng) -> Controller:
        """Returns the controller of an algorithm, its weights drawn from a generator of its own.

        Raises:
            SettingError: a prior does not fit its decision.
            DecisionError: a prior names no decision.
        """
        return cls(
            codec,
            hidden_size=settings.hidden_size,
            num_layers=settings.num_layers,
            temperature=settings.temperature,
            tanh_constant=settings.tanh_constant,
            init_range=settings.init_range,
            generator=torch.Generator().manual_seed(rng.derive("weights").getrandbits(63)),
            priors=priors_by_slot(settings.priors, space, codec),
        )

    def state(self) -> str:
        """Returns the weights as text: base64 of their float32 bytes."""
        return packed(self.weights)

    @torch.no_grad()
    def set_state(self, state: str) -> None:
        """Goes on from weights."""
        self.weights.copy_(unpacked(state))

    @torch.no_grad()
    def _start_biases(self) -> None:
        """Puts the biases that are given in the place of random ones, and lays out what is added to logits."""
        count = len(self._codec.slots)
        self._fixed_SM, self._squash_S1 = torch.zeros(count, self._width), torch.zeros(count, 1)
        if self._tanh_constant is not None:
            self._squash_S1 += self._tanh_constant
        bias = self._views()[2]
        for index, prior in self._priors.items():
            self._squash_S1[index] /= prior.tanh_reduce
            self._fixed_SM[index, : len(prior.fixed)] = torch.tensor(prior.fixed)
            if prior.start:
                bias[self._offsets[index] : self._offsets[index + 1]] = torch.tensor(prior.start)

    def _shaped(self, logits_BM: Tensor, slot_B: Tensor) -> Tensor:
        """Returns the logits of some slots, squashed, with what their priors add."""
        if not self._priors:
            return shaped(logits_BM, self._temperature, self._tanh_constant)
        logits_BM = logits_BM / self._temperature
        if self._tanh_constant is not None:
            logits_BM = self._squash_S1[slot_B] * torch.tanh(logits_BM)
        return logits_BM + self._fixed_SM[slot_B][:, : logits_BM.shape[1]]

    def _views(self) -> list[Tensor]:
        parts = torch.split(self.weights, [math.prod(shape) for shape in self._shapes])
        return [part.view(shape) for part, shape in zip(parts, self._shapes, strict=True)]

    def _start(self, count: int, num_layers: int) -> State:
        return [(torch.zeros(count, self._hidden), torch.zeros(count, self._hidden)) for _ in range(num_layers)]

    def sample(self, rng: Random) -> tuple[DNA, tuple[Step, ...], float]:
        """Draws a DNA.

        Args:
            rng: Draws one number per step, and the values within cells.

        Returns:
            The DNA, its steps, and the logarithm of their probability in nats.
        """
        with torch.no_grad(), one_thread():
            embedding, head, bias, *cells = self._views()
            state = self._start(1, len(cells) // 3)
            token, total = 0, 0.0

            def choose(slot: Slot, legal: Legal) -> int:
                nonlocal token, total
                hidden_BH = _advance(embedding[token : token + 1], state, cells)
                first, last = self._offsets[slot.index], self._offsets[slot.index + 1]
                raw_BM = (hidden_BH[0] @ head[first:last].T + bias[first:last])[None]
                logits = self._shaped(raw_BM, torch.tensor([slot.index]))[0]
                if legal is not None:
                    logits = logits.masked_fill(~torch.tensor(legal), -math.inf)
                log_chances = torch.log_softmax(logits.double(), 0)
                option = drawn(log_chances.exp().tolist(), rng.random())
                token, total = first + option + 1, total + float(log_chances[option])
                return option

            dna, steps = self._codec.walk(choose, rng)
        return dna, steps, total

    def log_probs(self, batch: Sequence[Sequence[Step]]) -> Tensor:
        """Returns the logarithms of the probabilities of sequences of steps, `[B]` in nats, with their gradient."""
        length = max(map(len, batch), default=0)
        total_B = torch.zeros(len(batch))
        if not length:
            return total_B
        embedding, head, bias, *cells = self._views()
        state = self._start(len(batch), len(cells) // 3)
        token_B = torch.zeros(len(batch), dtype=torch.long)
        for t in range(length):
            slot_B, option_B, legal_BM, runs_B = self._column(batch, t)
            hidden_BH = _advance(embedding[token_B], state, cells)
            rows_BM = self._rows_SM[slot_B]
            logits_BM = self._shaped((hidden_BH @ head.T + bias).gather(1, rows_BM), slot_B)
            chances_BM = torch.log_softmax(logits_BM.masked_fill(~legal_BM, -math.inf), 1)
            taken_B = chances_BM.gather(1, option_B[:, None])[:, 0]
            total_B = total_B + torch.where(runs_B, taken_B, 0.0)
            token_B = rows_BM.gather(1, option_B[:, None])[:, 0] + 1
        return total_B

    def _column(self, batch: Sequence[Sequence[Step]], t: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns slot, option, legal options of step t of each sequence, and whether it has one."""
        slots, options, legal, runs = [], [], [], []
        for steps in batch:
            step = steps[t] if t < len(steps) else steps[0] if steps else Step(self._codec.slots[0], 0, None)
            allowed = step.legal or (True,) * step.slot.num_options
            slots.append(step.slot.index)
            options.append(step.option)
            legal.append(allowed + (False,) * (self._width - len(allowed)))
            runs.append(t < len(steps))
        return torch.tensor(slots), torch.tensor(options), torch.tensor(legal), torch.tensor(runs)


def _advance(x_BH: Tensor, state: State, cells: Sequence[Tensor]) -> Tensor:
    """Feeds an input through all layers, changes their states in place, and returns the top hidden state."""
    for layer, (h_BH, c_BH) in enumerate(state):
        input_weight, hidden_weight, bias = cells[3 * layer : 3 * layer + 3]
        i, f, g, o = (x_BH @ input_weight.T + h_BH @ hidden_weight.T + bias).chunk(4, 1)
        c_BH = torch.sigmoid(f) * c_BH + torch.sigmoid(i) * torch.tanh(g)
        x_BH = torch.sigmoid(o) * torch.tanh(c_BH)
        state[layer] = (x_BH, c_BH)
    return x_BH


def packed(numbers: Tensor) -> str:
    """Returns a float32 tensor as text: base64 of its little-endian bytes, 16/3 characters a number, exact."""
    return base64.b64encode(numbers.detach().numpy().astype("<f4").tobytes()).decode()


def unpacked(text: str) -> Tensor:
    """Returns the tensor, `[P]` float32, that `packed` wrote."""
    return torch.from_numpy(np.frombuffer(base64.b64decode(text), dtype="<f4").astype(np.float32))


__all__ = ["Controller", "one_thread", "packed", "shaped", "unpacked"]
