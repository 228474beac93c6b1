"""Gates that act inside of an arm, where they cost less than on what it returns.

*Norms*. g (x^ w + b) + c = x^ (g w) + (g b + c): a gate on the output of a norm is one on two vectors. No activation is
kept for its gradient, and none is read again.

*Means over windows*. A gate on the output of average pooling is one on its input, which the operation keeps anyway. The
gradient that comes through adds up to that of an offset, since every output is a mean.

Both are seen in the layers of an arm: it must be the layer itself, or `nn.Sequential` that ends in it. Where hooks see
what the layer returns, the output is gated as any other, since they would see the gate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mutandis.flows.supernet.choices import weighing
from mutandis.flows.supernet.choices.products import SHIFT, dot
from mutandis.flows.supernet.choices.weighing import is_gate

_TORCH = nn.modules.module  # Holds the hooks that are called for every module.
_SEQUENCE, _NORM = nn.Sequential.forward, nn.modules.batchnorm._BatchNorm.forward
_DEEPEST = 8

Run = Callable[[nn.Module, nn.Module, Any, Any, Tensor, Tensor | None], Any]
"""Returns the gated output of an arm from it, its last layer, its arguments, a gate, an offset; None if it cannot."""


class Folds:
    """The last layers of some arms, as far as they take gates."""

    def __init__(self) -> None:
        self._known: dict[nn.Module, tuple[nn.Module, Run | None]] = {}

    def find(self, arm: nn.Module) -> tuple[nn.Module, Run] | None:
        """Returns the last layer of an arm, and what runs the arm with a gate in that; None where it takes none."""
        last = last_of(arm)
        if last is None:
            return None
        known = self._known.get(arm)
        if known is None or known[0] is not last:
            known = self._known[arm] = (last, _run_of(arm, last))
        return known if known[1] is not None else None  # type: ignore[return-value]


def last_of(arm: nn.Module) -> nn.Module | None:
    """Returns the layer whose output is that of an arm; None where it is not known, or hooks see it."""
    if _TORCH._global_forward_hooks:
        return None
    for _ in range(_DEEPEST):
        if arm._forward_hooks:
            return None
        if type(arm).forward is not _SEQUENCE or not arm._modules:
            return arm
        arm = next(reversed(arm._modules.values()))  # type: ignore[assignment]
    return None


def _run_of(arm: nn.Module, last: nn.Module) -> Run | None:
    """Returns what runs an arm with a gate in its last layer; None where there is no such thing, or doubt."""
    layers = [module for _, module in arm.named_modules(remove_duplicate=False)]
    if any("forward" in module.__dict__ for module in layers) or sum(module is last for module in layers) > 1:
        return None
    if type(last) is nn.AvgPool2d:
        is_mean = not last.count_include_pad or last.padding in (0, (0, 0))
        others = [m for m in layers if m is not last and type(m).forward not in (_SEQUENCE, nn.Identity.forward)]
        return _fed if is_mean and not last.ceil_mode and last.divisor_override is None and not others else None
    is_norm = type(last).forward is _NORM and {"weight", "bias"} <= last._parameters.keys()
    return _folded if is_norm and last._parameters["weight"] is not None else None


def _folded(arm: nn.Module, norm: nn.Module, args: Any, kwargs: Any, gate: Tensor, offset: Tensor | None) -> Any:
    table: dict[str, Any] = norm._parameters
    scale, shift = table["weight"], table["bias"]
    if shift is None:
        return None
    made = shift * gate if offset is None else shift * gate + offset
    put = dict.__setitem__
    try:
        put(table, "weight", scale * gate)
        put(table, "bias", made)
        output = arm(*args, **kwargs)
    finally:
        put(table, "weight", scale)
        put(table, "bias", shift)
    if output.numel() >= weighing.SMALL and made.grad_fn is not None:
        made.grad_fn.metadata[SHIFT] = shift, gate, offset
    return output


def _fed(arm: nn.Module, pool: nn.Module, args: Any, kwargs: Any, gate: Tensor, offset: Tensor | None) -> Any:
    if len(args) != 1 or kwargs or type(args[0]) is not Tensor or not is_gate(gate, offset, args[0].dtype):
        return None
    return arm(_Fed.apply(args[0], gate, offset))  # type: ignore[no-untyped-call]


class _Fed(torch.autograd.Function):
    """A tensor times a gate that is 1: itself, in the same memory."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gate: Tensor, offset: Tensor | None) -> Tensor:
        ctx.save_for_backward(x)
        ctx.numbers = gate, offset
        return x.detach()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        (x,), (gate, offset) = ctx.saved_tensors, ctx.numbers
        needs_x, needs_gate, needs_offset = ctx.needs_input_grad
        return (
            (gradient * gate if torch.is_grad_enabled() else gradient) if needs_x else None,
            dot(gradient, x).to(gate) if needs_gate else None,
            gradient.sum().to(offset) if needs_offset else None,
        )


__all__ = ["Folds", "last_of"]
