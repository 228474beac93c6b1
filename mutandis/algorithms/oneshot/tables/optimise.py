"""Adam for the tables of a policy, each on its own clock.

Kingma, Ba: Adam, ICLR 2015, arXiv 1412.6980, Algorithm 1; weight decay enters the gradient (L2), as in the published
searches. A table without a gradient keeps its numbers, moments and step count: the decision was not active.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mutandis.algorithms.policies.controller import packed, unpacked


class TableAdam:
    """Moves tables in place.

    Args:
        tables: `[n]` float64 or float32 each.
        learning_rate: The step size.
        beta1: Decay of the first moment, in [0, 1).
        beta2: Decay of the second.
        epsilon: Added to the root of the second moment.
        weight_decay: Times the table, added to its gradient.
        max_norm: The norm of all gradients together is cut to this, if given.
    """

    def __init__(
        self,
        tables: Sequence[Tensor],
        learning_rate: float,
        *,
        beta1: float = 0.5,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        max_norm: float | None = None,
    ) -> None:
        self._tables = tables
        self._rate = learning_rate
        self._beta1, self._beta2, self._epsilon, self._decay = beta1, beta2, epsilon, weight_decay
        self._max_norm = max_norm
        self._first = [torch.zeros_like(table, requires_grad=False) for table in tables]
        self._second = [torch.zeros_like(table, requires_grad=False) for table in tables]
        self._counts = [0] * len(tables)

    def step(self, gradients: Sequence[Tensor | None], scale: float = 1.0) -> None:
        """Moves the tables against their gradients.

        Args:
            gradients: One per table, or None for a table that rests. If one is not finite, all rest.
            scale: Multiplies the step size.
        """
        given = [gradient for gradient in gradients if gradient is not None]
        if not all(bool(torch.isfinite(gradient).all()) for gradient in given):
            return
        shrink = 1.0
        if self._max_norm is not None:
            norm = math.sqrt(sum(float((gradient * gradient).sum()) for gradient in given))
            shrink = min(1.0, self._max_norm / (norm + 1e-6))
        for index, gradient in enumerate(gradients):
            if gradient is not None:
                self._move(index, shrink * gradient, scale)

    @torch.no_grad()
    def _move(self, index: int, gradient: Tensor, scale: float) -> None:
        table, first, second = self._tables[index], self._first[index], self._second[index]
        gradient = gradient + self._decay * table
        self._counts[index] += 1
        first.mul_(self._beta1).add_((1.0 - self._beta1) * gradient)
        second.mul_(self._beta2).add_((1.0 - self._beta2) * gradient * gradient)
        root = (second / (1.0 - self._beta2 ** self._counts[index])).sqrt() + self._epsilon
        table -= scale * self._rate / (1.0 - self._beta1 ** self._counts[index]) * first / root

    def state(self) -> list[Any]:
        """Returns the state as JSON; moments of float32 as base64 of their bytes, exact both ways."""
        return [list(self._counts), [_dumped(t) for t in self._first], [_dumped(t) for t in self._second]]

    def set_state(self, state: list[Any]) -> None:
        """Goes on from a state."""
        self._counts = list(state[0])
        for mine, given in ((self._first, state[1]), (self._second, state[2])):
            for table, numbers in zip(mine, given, strict=True):
                table.copy_(unpacked(numbers) if isinstance(numbers, str) else torch.tensor(numbers, dtype=table.dtype))


def _dumped(table: Tensor) -> Any:
    return packed(table) if table.dtype == torch.float32 else table.tolist()


__all__ = ["TableAdam"]
