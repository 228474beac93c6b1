"""Sums of outputs with weights, which keep for their gradients only what nothing else keeps.

m = sum over i of w_i o_i + c. The gradient of o_i is w_i dL/dm, that of w_i is <dL/dm, o_i>, that of c is the sum of
dL/dm. Outputs are kept only where `products` cannot find the scalar product without them. Where one output has a weight
of 1 and nothing must be kept, m is the output itself: a gate costs no pass over the activations then. Second
derivatives are right. For small outputs, and under `torch.compile` and the transforms of `torch.func`, the sum is
written out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mutandis.flows.supernet.choices.products import OF_NODE, Product, dot, is_zeroed, product_of

SMALL = 16384
"""Below so many numbers it takes less time to keep outputs than to do without them, on a CPU of 2024."""

_ROUNDING = 8 * torch.finfo(torch.float64).eps  # What a one-hot vector minus itself plus a softmax leaves.
_LEAVES_OF_A_GATE = 4  # A skip connection starts at a sum of a few outputs; asking each is cheaper than keeping it.


def weighted_sum(outputs: Sequence[Tensor], weights: Sequence[Tensor], offset: Tensor | None = None) -> Tensor:
    """Returns the sum of outputs, each times its weight, with gradients to all of them.

    Args:
        outputs: Of one shape, at least one.
        weights: One per output, tensors without dimensions. The sum has the type that products of the two have.
        offset: A tensor without dimensions that is added; None for nothing.
    """
    if is_transformed() or not all(map(_is_plain, outputs)):
        return _plainly(outputs, weights, offset)
    if outputs[0].numel() < SMALL:
        is_zero = len(outputs) == 1 and is_zeroed(outputs[0].grad_fn)
        return _without(outputs[0], weights[0], offset) if is_zero else _plainly(outputs, weights, offset)
    if len(outputs) == 1 and is_gate(weights[0], offset, outputs[0].dtype):
        product = product_of(outputs[0], _LEAVES_OF_A_GATE)
        if product is not None:
            gated: Tensor = _Gated.apply(product, outputs[0], weights[0], offset)  # type: ignore[no-untyped-call]
            return gated
    wanted = [torch.is_grad_enabled() and weight.requires_grad for weight in weights]
    products = [product_of(o) if is_wanted else None for o, is_wanted in zip(outputs, wanted, strict=True)]
    kept = [is_wanted and product is None for is_wanted, product in zip(wanted, products, strict=True)]
    made: Tensor = _Weighted.apply(products, kept, offset, *weights, *outputs)  # type: ignore[no-untyped-call]
    return made


def is_gate(weight: Tensor, offset: Tensor | None, dtype: torch.dtype) -> bool:
    """Returns whether a weight is known to act on a type as 1 does, and the offset to be 0 but for rounding."""
    one, zero = _value(weight), 0.0 if offset is None else _value(offset)
    if one is None or zero is None:
        return False
    return (one == 1.0 or abs(one - 1.0) <= torch.finfo(dtype).eps / 4) and abs(zero) <= _ROUNDING


def _is_plain(output: Tensor) -> bool:
    return type(output) is Tensor and output.layout is torch.strided and output.is_floating_point()


def is_transformed() -> bool:
    """Returns whether torch compiles, differentiates functions, or computes parts of a graph again.

    All take graphs apart in ways of their own; `torch.utils.checkpoint` lets each tensor be asked for only once.
    """
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return True
    hooks = torch._C._autograd._top_saved_tensors_default_hooks(True)
    return hooks is not None and hooks[0].__module__ == "torch.utils.checkpoint"


def _plainly(outputs: Sequence[Tensor], weights: Sequence[Tensor], offset: Tensor | None) -> Tensor:
    total = outputs[0] * weights[0]
    for output, weight in zip(outputs[1:], weights[1:], strict=True):
        total = total + output * weight
    return total if offset is None else total + offset


def _without(zeros: Tensor, weight: Tensor, offset: Tensor | None) -> Tensor:
    """Returns zeros times a weight, and an offset; nothing is kept for the gradient of the weight, which is 0."""
    return zeros + (weight * 0 if offset is None else torch.add(offset, weight, alpha=0))


def _value(number: Tensor) -> float | None:
    """Returns what a tensor without dimensions is; None where reading it would wait for a device."""
    return number.item() if number.device.type == "cpu" else None


class _Gated(torch.autograd.Function):
    """One output times a weight that is 1: the output itself, in the same memory."""

    @staticmethod
    def forward(ctx: Any, product: Product, output: Tensor, weight: Tensor, offset: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight, offset)
        ctx.product = product
        setattr(ctx, OF_NODE, _product_of_gate)
        return output.detach()  # No view of it: what changes it in place afterwards may, as without the gate.

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        weight, offset = ctx.saved_tensors
        _, needs_output, needs_weight, needs_offset = ctx.needs_input_grad
        return (
            None,
            (gradient * weight if torch.is_grad_enabled() else gradient) if needs_output else None,
            ctx.product(gradient).to(weight) if needs_weight else None,
            gradient.sum().to(offset) if needs_offset else None,
        )


def _product_of_gate(node: Any) -> Product:
    """Returns the product of an output with its gate, for a gate around it."""

    def product(gradient: Tensor) -> Tensor:
        weight, offset = node.saved_tensors
        value: Tensor = node.product(gradient) * weight.to(gradient)
        return value if offset is None else value + gradient.sum() * offset.to(gradient)

    return product


class _Weighted(torch.autograd.Function):
    """The sum; `weighted_sum` decides what is kept for its backward pass."""

    @staticmethod
    def forward(ctx: Any, products: list[Product | None], kept: list[bool], offset: Tensor | None,
                *rest: Tensor) -> Tensor:  # fmt: skip
        count = len(kept)
        weights, outputs = rest[:count], rest[count:]
        ctx.save_for_backward(offset, *weights, *(o for o, is_kept in zip(outputs, kept, strict=True) if is_kept))
        ctx.products, ctx.kept = products, kept
        setattr(ctx, OF_NODE, _product_of_sum)
        total = outputs[0] * weights[0]
        for output, weight in zip(outputs[1:], weights[1:], strict=True):
            total = _added(total, output, weight)
        return total if offset is None else total + offset

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        offset, *rest = ctx.saved_tensors
        count = at = len(ctx.kept)
        _, _, needs_offset, *needed = ctx.needs_input_grad
        found: list[Tensor | None] = [None] * (2 * count)
        for i, product in enumerate(ctx.products):
            if needed[i]:
                value = dot(gradient, rest[at]) if product is None else product(gradient)
                found[i] = value.to(rest[i])
            if needed[count + i]:
                found[count + i] = gradient * rest[i]
            at += ctx.kept[i]
        return None, None, gradient.sum().to(offset) if needs_offset else None, *found


def _added(total: Tensor, output: Tensor, weight: Tensor) -> Tensor:
    value = _value(weight)
    if value is None or total.dtype is not output.dtype:
        return total + output * weight
    return total.add_(output, alpha=value)


def _product_of_sum(node: Any) -> Product | None:
    """Returns the product of a sum that was made here, for a gate around it."""
    if not all(product is not None or is_kept for product, is_kept in zip(node.products, node.kept, strict=True)):
        return None

    def product(gradient: Tensor) -> Tensor:
        offset, *rest = node.saved_tensors
        kept = iter(rest[len(node.kept) :])
        total = gradient.new_zeros(()) if offset is None else gradient.sum() * offset.to(gradient)
        for inner, weight in zip(node.products, rest, strict=False):
            value = dot(gradient, next(kept)) if inner is None else inner(gradient)
            total = total + value * weight.to(gradient)
        return total

    return product


__all__ = ["is_gate", "is_transformed", "weighted_sum"]
