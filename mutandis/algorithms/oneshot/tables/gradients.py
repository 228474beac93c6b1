"""Gradients of tables from a loss that may have been propagated before."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

Gradients = list[Tensor | None]


def gradients_by(loss: Tensor, leaves: Sequence[Tensor], *, keep_graph: bool) -> Gradients:
    """Returns the gradients of a loss by leaves; None for one that took no part.

    Those of an earlier `loss.backward()` are used where there are any.
    """
    if any(leaf.grad is not None for leaf in leaves):
        return [leaf.grad for leaf in leaves]
    if not leaves or not loss.requires_grad:
        return [None] * len(leaves)
    return list(torch.autograd.grad(loss, list(leaves), retain_graph=keep_graph, allow_unused=True))


@contextlib.contextmanager
def with_gradients() -> Iterator[None]:
    """Records gradients, whatever mode the loop is in: it may measure rewards under `no_grad`."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


__all__ = ["Gradients", "gradients_by", "with_gradients"]
