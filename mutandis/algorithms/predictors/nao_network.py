"""The network of neural architecture optimisation: encoder, predictor of the reward, decoder.

Luo, Tian, Qin, Chen, Liu: Neural Architecture Optimization, NeurIPS 2018, arXiv 1808.07233, Sec. 3.

*Notation*: B = sequences, T = the longest of them, E = size of embeddings, H = size of states, V = tokens;
x = tokens, one per step of a sequence; H = the states of the encoder, each of norm 1 (`states_BTH`); e = their mean,
of norm 1 again (`code_BH`); f(e) = the predicted reward in (0, 1); eta = the length of a step uphill.

The loss is L = lambda mean (s - f)^2 + (1 - lambda) mean NLL, over sequences and over steps (eq. (5)); a step uphill is
H' = normalise(H + eta df/dH) (eq. (6)).

The decoder starts in the code, attends to the states, and is told which slot it fills; tokens that are not legal there
have no share of its distribution.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from mutandis.algorithms.sequences import Legal, Slot, Step

_START = 0
_INIT = 0.1
State = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Batch:
    """Sequences as tensors, padded to the longest.

    Attributes:
        tokens_BT: Int.
        slots_BT: Int, the slot of each token.
        legal_BTV: Bool, which tokens could have stood there.
        mask_BT: Float, 1 where there is a token.
    """

    tokens_BT: Tensor
    slots_BT: Tensor
    legal_BTV: Tensor
    mask_BT: Tensor

    def part(self, rows: Tensor) -> Batch:
        """Returns some of the sequences."""
        return Batch(self.tokens_BT[rows], self.slots_BT[rows], self.legal_BTV[rows], self.mask_BT[rows])


class Vocabulary:
    """Numbers the options of all slots; 0 is the token before the first.

    Args:
        slots: All slots.
    """

    def __init__(self, slots: Sequence[Slot]) -> None:
        self.num_slots = len(slots)
        self._first = [1]
        for slot in slots:
            self._first.append(self._first[-1] + slot.num_options)
        self.size = self._first[-1]

    def token(self, slot: Slot, option: int) -> int:
        """Returns the token of an option."""
        return self._first[slot.index] + option

    def option(self, slot: Slot, token: int) -> int:
        """Returns the option of a token of a slot."""
        return token - self._first[slot.index]

    def legal(self, slot: Slot, legal: Legal) -> Tensor:
        """Returns `[V]` bool, the tokens that may stand in a slot."""
        made = torch.zeros(self.size, dtype=torch.bool)
        first = self._first[slot.index]
        made[first : first + slot.num_options] = True if legal is None else torch.tensor(legal)
        return made

    def batch(self, sequences: Sequence[Sequence[Step]]) -> Batch:
        """Returns sequences of at least one step as tensors."""
        count, longest = len(sequences), max(map(len, sequences))
        made = Batch(
            torch.zeros(count, longest, dtype=torch.long),
            torch.zeros(count, longest, dtype=torch.long),
            torch.ones(count, longest, self.size, dtype=torch.bool),
            torch.zeros(count, longest),
        )
        for row, steps in enumerate(sequences):
            made.mask_BT[row, : len(steps)] = 1.0
            for place, step in enumerate(steps):
                made.tokens_BT[row, place] = self.token(step.slot, step.option)
                made.slots_BT[row, place] = step.slot.index
                made.legal_BTV[row, place] = self.legal(step.slot, step.legal)
        return made


class Network:
    """Encoder, predictor and decoder; all weights are one vector.

    Args:
        vocabulary: The tokens.
        embedding_size: E.
        hidden_size: H.
        mlp_size: Units of each layer of the predictor.
        num_mlp_layers: How many there are.
        dropout: Share of embeddings and units that are dropped in training.
        generator: Draws weights and dropout; the global generator is not touched.

    Attributes:
        weights: `[P]` float32, to be moved in place.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        embedding_size: int,
        hidden_size: int,
        mlp_size: int,
        num_mlp_layers: int,
        dropout: float,
        generator: torch.Generator,
    ) -> None:
        e, h = embedding_size, hidden_size
        sizes = [h, *[mlp_size] * num_mlp_layers, 1]
        shapes: dict[str, tuple[int, ...]] = {
            "tokens": (vocabulary.size, e), "slots": (max(1, vocabulary.num_slots), e),
            "encoder": (e + h + 1, 4 * h), "decoder": (e + h + 1, 4 * h),
            "attended": (2 * h + 1, h), "output": (h + 1, vocabulary.size),
            **{f"mlp {i}": (a + 1, b) for i, (a, b) in enumerate(pairwise(sizes))},
        }  # fmt: skip
        total = sum(map(math.prod, shapes.values()))
        self.weights = torch.empty(total).uniform_(-_INIT, _INIT, generator=generator).requires_grad_()
        ends = list(accumulate(map(math.prod, shapes.values())))
        self._shapes = {name: (end, shape) for (name, shape), end in zip(shapes.items(), ends, strict=True)}
        self._num_layers = len(sizes) - 1
        self._hidden = h
        self._dropout = dropout
        self._generator = generator

    def _part(self, name: str) -> Tensor:
        end, shape = self._shapes[name]  # A view is made each time: the weights move beneath it.
        return self.weights[end - math.prod(shape) : end].view(shape)

    def encode(self, batch: Batch, *, train: bool = False) -> Tensor:
        """Returns the states of the encoder, `[B, T, H]`, each of norm 1."""
        inputs_BTE = self._dropped(self._part("tokens")[batch.tokens_BT], train)
        return normalise(self._unrolled("encoder", inputs_BTE, self._zero(len(inputs_BTE))))

    def score(self, code_BH: Tensor, *, train: bool = False) -> Tensor:
        """Returns f, `[B]` in (0, 1)."""
        value = code_BH
        for layer in range(self._num_layers):
            value = affine(self._part(f"mlp {layer}"), value)
            if layer < self._num_layers - 1:
                value = self._dropped(torch.relu(value), train)
        return torch.sigmoid(value[:, 0])

    def log_likelihood(self, batch: Batch, states_BTH: Tensor, *, train: bool = False) -> Tensor:
        """Returns the mean log probability of a step, over all steps of the batch."""
        before_BT = torch.cat([torch.full_like(batch.tokens_BT[:, :1], _START), batch.tokens_BT[:, :-1]], dim=1)
        inputs_BTE = self._dropped(self._part("tokens")[before_BT] + self._part("slots")[batch.slots_BT], train)
        code_BH = summary(states_BTH, batch.mask_BT)
        outputs_BTH = self._dropped(self._unrolled("decoder", inputs_BTE, (code_BH, code_BH)), train)
        logits_BTV = self._logits(outputs_BTH, states_BTH, batch.mask_BT)
        log_BTV = torch.log_softmax(logits_BTV.masked_fill(~batch.legal_BTV, -math.inf), dim=-1)
        taken_BT = log_BTV.gather(2, batch.tokens_BT[:, :, None])[:, :, 0]
        return torch.where(batch.mask_BT > 0, taken_BT, 0.0).sum() / batch.mask_BT.sum()

    def _unrolled(self, name: str, inputs_BTE: Tensor, state: State) -> Tensor:
        outputs = []
        for place in range(inputs_BTE.shape[1]):
            state = self._cell(name, inputs_BTE[:, place], state)
            outputs.append(state[0])
        return torch.stack(outputs, dim=1)

    def _cell(self, name: str, input_BE: Tensor, state: State) -> State:
        hidden_BH, cell_BH = state
        gates = torch.chunk(affine(self._part(name), torch.cat([input_BE, hidden_BH], dim=1)), 4, dim=1)
        cell_BH = torch.sigmoid(gates[1]) * cell_BH + torch.sigmoid(gates[0]) * torch.tanh(gates[2])
        return torch.sigmoid(gates[3]) * torch.tanh(cell_BH), cell_BH

    def _logits(self, outputs_BTH: Tensor, states_BSH: Tensor, mask_BS: Tensor) -> Tensor:
        scores_BTS = outputs_BTH @ states_BSH.transpose(1, 2)
        shares_BTS = torch.softmax(scores_BTS.masked_fill(mask_BS[:, None, :] == 0, -math.inf), dim=-1)
        context_BTH = shares_BTS @ states_BSH
        joined_BTH = torch.tanh(affine(self._part("attended"), torch.cat([context_BTH, outputs_BTH], dim=-1)))
        return affine(self._part("output"), joined_BTH)

    def _zero(self, count: int) -> State:
        made = torch.zeros(count, self._hidden)
        return made, made

    def _dropped(self, values: Tensor, train: bool) -> Tensor:
        if not train or not self._dropout:
            return values
        kept = torch.rand(values.shape, generator=self._generator) >= self._dropout
        return values * kept / (1.0 - self._dropout)

    def chooser(self, vocabulary: Vocabulary, states_TH: Tensor) -> Callable[[Slot, Legal], int]:
        """Returns a function for `Codec.walk` that takes the likeliest legal option of each slot in turn.

        Args:
            vocabulary: The tokens.
            states_TH: The states of one sequence.
        """
        states_1TH = states_TH[None]
        mask_1T = torch.ones(1, len(states_TH))
        code_1H = summary(states_1TH, mask_1T)
        state, token = (code_1H, code_1H), _START

        def choose(slot: Slot, legal: Legal) -> int:
            nonlocal state, token
            with torch.no_grad():
                input_1E = (self._part("tokens")[token] + self._part("slots")[slot.index])[None]
                state = self._cell("decoder", input_1E, state)
                logits_V = self._logits(state[0][:, None], states_1TH, mask_1T)[0, 0]
                token = int(logits_V.masked_fill(~vocabulary.legal(slot, legal), -math.inf).argmax())
            return vocabulary.option(slot, token)

        return choose


def affine(weights: Tensor, values: Tensor) -> Tensor:
    """Returns values times all rows of a matrix but the last, plus the last."""
    return values @ weights[:-1] + weights[-1]


def normalise(values: Tensor) -> Tensor:
    """Returns vectors along the last axis with norm 1; zero stays zero."""
    return F.normalize(values, dim=-1)


def summary(states_BTH: Tensor, mask_BT: Tensor) -> Tensor:
    """Returns e, `[B, H]` of norm 1: the mean of the states that the mask leaves."""
    total_BH = (states_BTH * mask_BT[:, :, None]).sum(dim=1)
    return normalise(total_BH / mask_BT.sum(dim=1, keepdim=True))


def joint_loss(predicted_B: Tensor, score_B: Tensor, log_likelihood: Tensor, trade_off: float) -> Tensor:
    """Returns what is minimised (eq. (5)).

    Args:
        predicted_B: f.
        score_B: s, in [0, 1].
        log_likelihood: The mean over steps.
        trade_off: lambda, in [0, 1].
    """
    return trade_off * ((score_B - predicted_B) ** 2).mean() - (1.0 - trade_off) * log_likelihood


def uphill(states_BTH: Tensor, mask_BT: Tensor, score: Callable[[Tensor], Tensor], eta: float) -> Tensor:
    """Returns the states after one step along the gradient of the predicted reward (eq. (6)).

    Args:
        states_BTH: The states.
        mask_BT: 1 where there is a token.
        score: Returns f of codes.
        eta: The length of the step.
    """
    states_BTH = states_BTH.detach().requires_grad_()
    (gradient_BTH,) = torch.autograd.grad(score(summary(states_BTH, mask_BT)).sum(), states_BTH)
    return normalise(states_BTH.detach() + eta * gradient_BTH)


__all__ = ["Batch", "Network", "Vocabulary", "affine", "joint_loss", "normalise", "summary", "uphill"]
