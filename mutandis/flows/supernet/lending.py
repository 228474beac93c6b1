"""Parts of shared tensors that stand for a child's own, and note when a gradient comes through.

A view would do, but for its hooks: PyTorch forgets what was hung on a view once its base was changed in place, which
every step of an optimizer does. These share the memory of the tensor without being views of it, so that they are lent
once and not after every step; and those of one part of a program are one node of the graph, not one each.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from mutandis.flows.supernet.cuts import Cut, is_whole, signature, take

Used = dict[tuple[Any, ...], Cut]
"""The cuts of one tensor through which gradients have come, by signature."""


def lent(entries: Sequence[tuple[torch.Tensor, Cut, Used]]) -> tuple[torch.Tensor, ...]:
    """Returns what a child uses of some shared tensors, of the same memory; gradients flow on to these.

    Args:
        entries: The shared tensor, a box of it, and what takes note of the box whenever a gradient comes.
    """
    boxes = [(signature(cut), cut, used) for _, cut, used in entries]
    result: tuple[torch.Tensor, ...] = _Lent.apply(boxes, *(tensor for tensor, _, _ in entries))  # type: ignore[no-untyped-call]
    return result


class _Lent(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, boxes: Sequence[tuple[Any, Cut, Used]], *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        ctx.set_materialize_grads(False)
        parts = [take(tensor.detach(), cut) for tensor, (_, cut, _) in zip(tensors, boxes, strict=True)]
        ctx.boxes = [
            (name, cut, used, tensor.shape, None if is_whole(cut) else tuple(part.shape), part.stride(),
             part.storage_offset() - tensor.storage_offset(), tensor.is_contiguous())
            for tensor, part, (name, cut, used) in zip(tensors, parts, boxes, strict=True)
        ]  # fmt: skip
        return tuple(_alias(tensor, part) for tensor, part in zip(tensors, parts, strict=True))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor | None) -> Any:
        found: list[torch.Tensor | None] = [None]
        for gradient, (name, cut, used, shape, size, stride, offset, is_plain) in zip(
            gradients, ctx.boxes, strict=True
        ):
            if gradient is not None:
                used[name] = cut
                if size is not None:
                    full = gradient.new_zeros(shape)
                    (full.as_strided(size, stride, offset) if is_plain else take(full, cut)).copy_(gradient)
                    gradient = full
            found.append(gradient)
        return tuple(found)


def _alias(tensor: torch.Tensor, part: torch.Tensor) -> torch.Tensor:
    """Returns a tensor of the memory of a part, which PyTorch does not know to be a view."""
    made = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    return made.set_(tensor.untyped_storage(), part.storage_offset(), part.shape, part.stride())


def mark_changed(tensors: Iterable[torch.Tensor]) -> None:
    """Lets a backward pass through what was computed before a change in place fail, as it does for any parameter."""
    torch.autograd.graph.increment_version(list(tensors))


__all__ = ["Used", "lent", "mark_changed"]
