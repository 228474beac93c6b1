"""Neural architecture optimisation: better programs by gradient, in the space of an encoder.

Luo, Tian, Qin, Chen, Liu: Neural Architecture Optimization, NeurIPS 2018, arXiv 1808.07233, Algorithm 1: try random
programs; fit encoder, predictor and decoder to all results; move the codes of the best uphill and decode them; try
what is new; again. Network, loss and step: see `nao_network`.

*Notation*: eta = the length of a step uphill, 1, 2, ... until enough is new; s = a reward in [0, 1]: its place between
the worst and the best so far, 1/2 where they are equal.

*Departures*: the network is fitted anew in each round (the paper's code goes on from the last), so that the state of a
run needs no weights. Decoding takes legal options only, where the paper drops sequences that are not. Symmetric
programs are not added to the data. With answers outstanding, a round uses what is known, and random programs take the
place of what cannot be generated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from mutandis.algorithms.base import JSON, Algorithm, Search, from_state, need_int, need_number, settings, to_state
from mutandis.algorithms.policies.recurrent import VectorAdam
from mutandis.algorithms.predictors.nao_network import Network, Vocabulary, joint_loss, summary, uphill
from mutandis.algorithms.sequences import Codec
from mutandis.algorithms.wrappers import unseen
from mutandis.hyper import DNA, Feedback, Proposal, SearchSpace
from mutandis.hyper.rng import Rng

_FEWEST = 2
"""Results that a network is fitted to at the least."""


@settings
class NAO(Algorithm):
    """Learns to encode, rate and decode DNAs; decodes codes that were moved uphill.

    Works on every space but open-ended ones; no DNA is proposed twice. The defaults are those of the paper's code,
    made for a thousand trials; a round then takes a minute or more. All results are kept.

    Args:
        num_initial: How many random DNAs come first.
        num_new: How many are generated in each round.
        num_top: From how many of the best the steps uphill start.
        epochs: How often a fit goes over all results.
        batch_size: Sequences per step of Adam.
        learning_rate: Of Adam.
        weight_decay: Of Adam, added to the gradient.
        clip: The largest norm of a gradient.
        trade_off: lambda, the share of the predictor in the loss.
        embedding_size: Size of the embedding of a token.
        hidden_size: Units of the encoder and of the decoder.
        mlp_size: Units of each layer of the predictor.
        num_mlp_layers: How many it has.
        dropout: Share of units that are dropped in training.
        max_eta: The longest step uphill that is tried.
        bins: Into how many cells a range with more values is cut.

    Raises:
        SettingError: a number is out of its range.
    """

    num_initial: int = 600
    num_new: int = 300
    num_top: int = 100
    epochs: int = 1000
    batch_size: int = 100
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    clip: float = 5.0
    trade_off: float = 0.8
    embedding_size: int = 48
    hidden_size: int = 96
    mlp_size: int = 200
    num_mlp_layers: int = 3
    dropout: float = 0.1
    max_eta: int = 30
    bins: int = 16

    def __post_init__(self) -> None:
        for name in ("num_new", "num_top", "epochs", "batch_size", "embedding_size", "hidden_size", "mlp_size",
                     "num_mlp_layers", "max_eta", "bins"):  # fmt: skip
            need_int(f"NAO.{name}", getattr(self, name), 1)
        need_int("NAO.num_initial", self.num_initial, _FEWEST)
        need_number("NAO.learning_rate", self.learning_rate, above=0.0)
        need_number("NAO.weight_decay", self.weight_decay, low=0.0)
        need_number("NAO.clip", self.clip, above=0.0)
        need_number("NAO.trade_off", self.trade_off, low=0.0, high=1.0)
        need_number("NAO.dropout", self.dropout, low=0.0, below=1.0)

    def start(self, space: SearchSpace, *, seed: int, num_objectives: int = 1) -> Search:
        """Begins with random DNAs.

        Raises:
            SettingError: the space is open-ended, or there are several objectives.
        """
        self.check_objectives(num_objectives)
        return _CodeSearch(self, space.bare(), seed)


class _CodeSearch(Search):
    def __init__(self, settings: NAO, space: SearchSpace, seed: int) -> None:
        self._settings = settings
        self._space = space
        self._model = CodeModel(settings, space, seed)
        self._rng = Rng(seed, "nao")
        self._results: list[tuple[DNA, float]] = []
        self._seen: set[DNA] = set()
        self._queue: list[DNA] = []
        self._left = settings.num_initial  # How many random DNAs come before the next round.
        self._round = 0
        self._proposed = 0

    def propose(self) -> Proposal:
        if not self._queue and not self._left:
            self._generate()
        while self._queue and self._queue[-1] in self._seen:
            self._queue.pop()
        if self._queue:
            dna = self._queue.pop()
        else:
            dna = unseen(self._space, self._seen, self._rng)
            self._left = max(0, self._left - 1)
        self._seen.add(dna)
        number = self._proposed
        self._proposed += 1
        return Proposal(number, dna)

    def _generate(self) -> None:
        """Fills the queue; what is missing is left to random draws."""
        self._round += 1
        found: list[DNA] = []
        if len(self._results) >= _FEWEST and self._model.has_steps:
            self._model.fit(self._results, self._round)
            found = self._model.generate(self._results, self._seen, self._rng)
        self._queue = found[::-1]
        self._left = self._settings.num_new - len(found)

    def feedback(self, feedback: Feedback) -> None:
        self._seen.add(feedback.dna)
        if feedback.rewards is not None and abs(feedback.rewards[0]) < float("inf"):
            self._results.append((feedback.dna, feedback.rewards[0]))

    def state_dict(self) -> JSON:
        return {
            "rng": self._rng.state(),
            "results": [[to_state(dna), reward] for dna, reward in self._results],
            "seen": sorted((to_state(dna) for dna in self._seen), key=repr),
            "queue": [to_state(dna) for dna in self._queue],
            "left": self._left,
            "round": self._round,
            "proposed": self._proposed,
        }

    def load_state_dict(self, state: JSON) -> None:
        self._rng.set_state(state["rng"])
        self._results = [(self._dna(values), reward) for values, reward in state["results"]]
        self._seen = {self._dna(values) for values in state["seen"]}
        self._queue = [self._dna(values) for values in state["queue"]]
        self._left, self._round, self._proposed = state["left"], state["round"], state["proposed"]

    def _dna(self, values: Sequence[Any]) -> DNA:
        return from_state(self._space, values)


class CodeModel:
    """The network on a space: fitted to results, it generates DNAs.

    Args:
        settings: The settings.
        space: The space.
        seed: Seed of weights, order and dropout.

    Attributes:
        has_steps: Whether there is anything to decide.
        network: The network of the last fit.
    """

    network: Network

    def __init__(self, settings: NAO, space: SearchSpace, seed: int) -> None:
        self._settings = settings
        self._codec = Codec(space, settings.bins, canonical=True)
        self._vocabulary = Vocabulary(self._codec.slots)
        self.has_steps = bool(self._codec.slots)
        self._seed = seed

    def fit(self, results: Sequence[tuple[DNA, float]], number: int) -> None:
        """Fits new weights.

        Args:
            results: DNAs of one active decision or more, and finite rewards.
            number: The number of the fit, for its seed.
        """
        of = self._settings
        generator = torch.Generator().manual_seed(Rng(self._seed, "nao fit", number).getrandbits(63))
        self.network = Network(
            self._vocabulary,
            embedding_size=of.embedding_size,
            hidden_size=of.hidden_size,
            mlp_size=of.mlp_size,
            num_mlp_layers=of.num_mlp_layers,
            dropout=of.dropout,
            generator=generator,
        )
        batch = self._vocabulary.batch([self._codec.steps(dna) for dna, _ in results])
        score_N = torch.tensor(scaled([reward for _, reward in results]))
        optimizer = VectorAdam(self.network.weights, of.learning_rate)
        for _ in range(of.epochs):
            for rows in torch.split(torch.randperm(len(results), generator=generator), of.batch_size):
                part = batch.part(rows)
                states = self.network.encode(part, train=True)
                predicted = self.network.score(summary(states, part.mask_BT), train=True)
                likelihood = self.network.log_likelihood(part, states, train=True)
                loss = joint_loss(predicted, score_N[rows], likelihood, of.trade_off)
                (gradient,) = torch.autograd.grad(loss, self.network.weights)
                gradient = gradient * min(1.0, of.clip / (float(gradient.norm()) + 1e-6))
                optimizer.step(gradient + of.weight_decay * self.network.weights.detach())

    def generate(self, results: Sequence[tuple[DNA, float]], seen: set[DNA], rng: Rng) -> list[DNA]:
        """Returns at most `num_new` DNAs that were not seen, decoded from codes uphill of the best results.

        Args:
            results: DNAs and rewards.
            seen: What is left out.
            rng: Draws the values within cells.
        """
        best = sorted(results, key=lambda result: -result[1])
        starts = list(dict.fromkeys(dna for dna, _ in best))[: self._settings.num_top]
        batch = self._vocabulary.batch([self._codec.steps(dna) for dna in starts])
        with torch.no_grad():
            states = self.network.encode(batch)
        found: dict[DNA, None] = {}
        for eta in range(1, self._settings.max_eta + 1):
            moved = uphill(states, batch.mask_BT, self.network.score, float(eta))
            for row, mask_T in zip(moved, batch.mask_BT, strict=True):
                choose = self.network.chooser(self._vocabulary, row[: int(mask_T.sum())])
                dna, _ = self._codec.walk(choose, rng)
                if dna not in seen:
                    found[dna] = None
                if len(found) == self._settings.num_new:
                    return list(found)
        return list(found)


def scaled(rewards: Sequence[float]) -> list[float]:
    """Returns rewards as their places in [0, 1] between the worst and the best; 1/2 where these are equal."""
    low, high = min(rewards), max(rewards)
    if low == high:
        return [0.5] * len(rewards)
    return [(reward / 2 - low / 2) / (high / 2 - low / 2) for reward in rewards]  # Halves, lest they overflow.


__all__ = ["NAO", "CodeModel", "scaled"]
