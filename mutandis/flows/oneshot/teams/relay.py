"""Between the graph of a pass and that of a policy: gradients are put right on the way.

A pass may run on a share of the data, or with a loss that was scaled up so that half precision does not lose small
gradients. The policy shall see neither. So the pass gets copies of the tensors that its selections hold; the gradients
that arrive there are averaged over the processes and scaled down; and the policy gets a loss of its own,

    L' = mean loss + sum over tensors t of <g_t, t - stop(t)>,

whose value is the mean loss, and whose gradient at each t is the mean gradient g_t.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mutandis.algorithms.oneshot.selections import Selection, Selections
from mutandis.flows.oneshot.teams.team import Team


class Relay:
    """Copies of selections for one pass.

    Args:
        selections: What a search has drawn.
        others: Further tensors that the pass uses, such as weights.

    Attributes:
        copies: The selections for the pass, with leaves in place of tensors that take gradients.
        others: Likewise.
    """

    def __init__(self, selections: Selections, others: Sequence[Tensor] = ()) -> None:
        self._pairs: list[tuple[Tensor, Tensor]] = []
        self.copies = Selections(selections.number, {i: self._copied(s) for i, s in selections.items()})
        self.others = [self._leaf(tensor) for tensor in others]

    def _copied(self, selection: Selection) -> Selection:
        fields = {field.name: getattr(selection, field.name) for field in dataclasses.fields(selection)}
        changes: dict[str, Any] = {n: self._leaf(v) for n, v in fields.items() if isinstance(v, Tensor)}
        made: Selection = dataclasses.replace(selection, **changes) if changes else selection
        return made

    def _leaf(self, tensor: Tensor) -> Tensor:
        if not tensor.requires_grad:
            return tensor
        copy = tensor.detach().clone().requires_grad_()
        self._pairs.append((tensor, copy))
        return copy

    @property
    def leaves(self) -> list[Tensor]:
        """The tensors of the pass that take gradients."""
        return [copy for _, copy in self._pairs]

    def gradients(self, loss: Tensor) -> list[Tensor | None]:
        """Returns the gradients of a loss of the pass by the leaves; None for one that took no part."""
        if not self._pairs or not loss.requires_grad:
            return [None] * len(self._pairs)
        return list(torch.autograd.grad(loss, self.leaves, allow_unused=True))

    def loss(self, value: float, gradients: Sequence[Tensor | None], team: Team, scale: float = 1.0) -> Tensor:
        """Returns the loss for the policy; nan where a gradient is not finite.

        Args:
            value: The mean loss.
            gradients: Of the leaves, as the pass has left them; None for one that took no part.
            team: Whose gradients are averaged.
            scale: What the loss of the pass was multiplied with.
        """
        made = torch.tensor(value, dtype=torch.float64)
        for (tensor, _), gradient in zip(self._pairs, team.average(gradients), strict=True):
            if gradient is None:
                continue
            if not bool(torch.isfinite(gradient).all()):
                return torch.tensor(math.nan, dtype=torch.float64)
            part = (gradient.to(tensor) / scale * (tensor - tensor.detach())).sum()
            made = made.to(tensor.device) + part
        return made


__all__ = ["Relay"]
