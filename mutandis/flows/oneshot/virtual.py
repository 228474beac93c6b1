"""Losses at weights that are not there, for updates that look a step of the weights ahead."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from mutandis.algorithms.oneshot.selections import Selections
from mutandis.errors import LoweringError
from mutandis.flows.oneshot.running import forked, layers_of, running
from mutandis.flows.oneshot.teams.relay import Relay
from mutandis.flows.oneshot.teams.team import Team
from mutandis.flows.supernet import Shared

Make = Callable[[list[Tensor]], torch.optim.Optimizer]


class VirtualStep:
    """One policy step's view of other weights; the real ones, statistics and random numbers stay as they are.

    Args:
        shared: The shared program.
        loss: The loss of a live program on a batch.
        batches: The `train` and the `valid` batch.
        weights: What the optimizer trains.
        optimizer: The optimizer.
        make: Makes another one like it.
        team: The processes whose mean loss it is; by default this one alone.

    Attributes:
        learning_rate: The present step size of the first group of weights.
    """

    def __init__(self, shared: Shared, loss: Callable[[Any, Any], Tensor], batches: Mapping[str, Any],
                 weights: list[Tensor], optimizer: torch.optim.Optimizer, make: Make,
                 team: Team | None = None) -> None:  # fmt: skip
        self._shared, self._loss, self._batches, self._weights = shared, loss, batches, weights
        self._optimizer, self._make, self._team = optimizer, make, team
        self._seed = int(torch.randint(2**62, ()))
        self.learning_rate = float(optimizer.param_groups[0]["lr"])

    def weights(self) -> Sequence[Tensor]:
        """Returns the present weights, detached."""
        return [weight.detach().clone() for weight in self._weights]

    def stepped(self, gradients: Sequence[Tensor | None]) -> Sequence[Tensor]:
        """Returns the weights after one step of a copy of the optimizer, with all its state."""
        ahead = [weight.detach().clone().requires_grad_() for weight in self._weights]
        twin = self._make(ahead)
        twin.load_state_dict(copy.deepcopy(self._optimizer.state_dict()))
        for weight, gradient in zip(ahead, gradients, strict=True):
            weight.grad = None if gradient is None else gradient.detach().clone()
        twin.step()
        return [weight.detach() for weight in ahead]

    def loss(self, selections: Selections, data: str, weights: Sequence[Tensor]) -> Tensor:
        """Returns the loss on the `train` or `valid` batch at given weights, with its graph to both arguments.

        Raises:
            LoweringError: a layer uses a part of a shared weight.
        """
        if self._team is None or self._team.is_alone:
            return self._own_loss(selections, data, weights)
        relay = Relay(selections, weights)
        own = self._own_loss(relay.copies, data, relay.others)
        return relay.loss(self._team.mean(float(own.detach())), relay.gradients(own), self._team)

    def _own_loss(self, selections: Selections, data: str, weights: Sequence[Tensor]) -> Tensor:
        device = self._weights[0].device
        with running(self._shared, selections) as child, forked(device, self._seed), self._replaced(child, weights):
            return self._loss(child, self._batches[data])

    @contextmanager
    def _replaced(self, child: Any, weights: Sequence[Tensor]) -> Iterator[None]:
        """Puts other tensors in the places of the weights, and copies in those of the buffers."""
        others = {_place(weight): other for weight, other in zip(self._weights, weights, strict=True)}
        before: list[tuple[Any, str, Tensor]] = []
        after: list[Tensor] = []
        for layer in layers_of(child):
            for name, weight in layer._parameters.items():
                if weight is None:
                    continue
                other = others.get(_place(weight))  # The weight itself, or what a guard lends for it.
                if other is None and weight.requires_grad and not weight.is_leaf:
                    raise _partial(name, weight)
                before.append((layer._parameters, name, weight))
                after.append(weight if other is None else other)
            for name, buffer in dict.items(layer._buffers):
                if buffer is not None:
                    before.append((layer._buffers, name, buffer))
                    after.append(buffer.clone())
        try:
            for (table, name, _), tensor in zip(before, after, strict=True):
                dict.__setitem__(table, name, tensor)
            yield
        finally:
            for table, name, tensor in before:
                dict.__setitem__(table, name, tensor)


def _place(weight: Tensor) -> tuple[Any, ...]:
    """Returns what tells whether two tensors are the same part of the same memory."""
    return weight.data_ptr(), tuple(weight.shape), weight.stride()


def _partial(name: str, weight: Tensor) -> LoweringError:
    return LoweringError(
        "cannot look a step ahead",
        at=f"parameter {name}",
        got=f"a part of a shared weight, {tuple(weight.shape)}",
        expected="whole weights, which choices among layers have",
        fix="use a first-order algorithm, such as DARTS(order=1)",
    )


__all__ = ["Make", "VirtualStep"]
