"""The scalar product of a gradient and an output that nobody has kept, from what the output's own graph keeps.

The gradient of a gate g in m = g o is <dL/dm, o>. Keeping o for it would make a supernet of gates keep one activation
more per edge than the child. But o is known to the operation that made it: batch norm keeps its input, of which o is a
line per channel; a ReLU keeps o itself; pooling keeps its input; a sum and a constant factor are linear, so that their
products are those of their terms. While the gate's backward runs, all of these are still there, since they wait for
its gradient. Everything here is made of differentiable operations, so that second derivatives are right too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

Product = Callable[[Tensor], Tensor]
"""Returns <gradient, output> without dimensions, from the gradient."""

OF_NODE = "_mu_product_"
"""Under this name a node of our own has a function that returns its product, or None."""

SHIFT = "mutandis: shift"
"""Under this name the node that makes the shift of a norm has what it is made of: a shift, its gate and an offset."""

_DEEPEST = 16
_LARGEST_POOL = 16
_ROUNDINGS = 16
_DENSE = frozenset({torch.float32, torch.float64})
_BN = torch.ops.aten.native_batch_norm_backward.default


def product_of(output: Tensor, most: int = 1) -> Product | None:
    """Returns what gives the scalar product of a gradient and an output without keeping the output.

    Args:
        output: What some operation has just made.
        most: How many operations may be asked for their part.

    Returns:
        The product; None if the output must be kept.
    """
    if output.grad_fn is None:
        return None
    return _find(output.grad_fn, output, [most], _DEEPEST)


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Returns the scalar product of two tensors of one shape; in float32 at least."""
    if torch.is_grad_enabled() and (a.requires_grad or b.requires_grad):
        return (a * b).sum()
    if a.dtype is b.dtype and a.dtype in _DENSE and a.is_contiguous() and b.is_contiguous():
        return torch.dot(a.view(-1), b.view(-1))
    return (a.to(torch.promote_types(a.dtype, torch.float32)) * b).sum()


def _find(node: Any, output: Tensor | None, budget: list[int], depth: int) -> Product | None:
    """Returns the product of what a node of the graph has made; `output` itself where it is at hand."""
    if depth == 0 or node is None:
        return None
    name = node.name()
    if OF_NODE in getattr(node, "__dict__", ()):
        budget[0] -= 1
        return getattr(node, OF_NODE)(node)  # type: ignore[no-any-return]
    if name in _LEAVES:
        budget[0] -= 1
        return _LEAVES[name](node, output)
    if name in _LINEAR:
        return _LINEAR[name](node, budget, depth - 1)
    return None


def _relu(node: Any, output: Tensor | None) -> Product:
    return lambda gradient: dot(gradient, node._saved_result)


def _average(node: Any, output: Tensor | None) -> Product | None:
    """Average pooling, done again as sums of shifted rows and columns: much faster on a CPU than the operation."""
    (high, wide), pads = node._saved_kernel_size, node._saved_padding
    strides, divisor = node._saved_stride or (high, wide), node._saved_divisor_override
    if node._saved_ceil_mode or high + wide > _LARGEST_POOL:
        return None

    def box(x: Tensor) -> Tensor:
        x = F.pad(x, (pads[1], pads[1], pads[0], pads[0]))
        return _shifted(_shifted(x, -2, high, strides[0]), -1, wide, strides[1])

    def product(gradient: Tensor) -> Tensor:
        x = node._saved_self
        if divisor is None and not node._saved_count_include_pad:
            return dot(gradient / box(gradient.new_ones(1, *x.shape[-2:])), box(x))
        found: Tensor = dot(gradient, box(x)) / (divisor or high * wide)
        return found

    return product


def _shifted(x: Tensor, axis: int, size: int, stride: int) -> Tensor:
    """Returns the sums over windows along an axis."""
    length = (x.shape[axis] - size) // stride * stride + 1
    total = x.narrow(axis, 0, length)
    for start in range(1, size):
        total = total + x.narrow(axis, start, length)
    return total if stride == 1 else total.index_select(axis, torch.arange(0, length, stride, device=x.device))


def _batch_norm(node: Any, output: Tensor | None) -> Product | None:
    """Batch norm: o = x^ weight + bias per channel, and the sums over a channel are those of its own backward."""
    bias = _bias(node, output)
    if bias is None or not isinstance(node._saved_result1, Tensor):
        return None

    training, eps = node._saved_training, node._saved_eps

    def product(gradient: Tensor) -> Tensor:
        running = (None, None) if training else (node._saved_running_mean, node._saved_running_var)
        weight, shift = node._saved_weight, bias()
        if weight is None:
            weight = torch.ones_like(shift)  # The second derivative asks for one.
        _, scales, shifts = _BN(gradient, node._saved_input, weight, *running, node._saved_result1, node._saved_result2,
                                training, eps, (False, True, True))  # fmt: skip
        return torch.dot(scales, weight.to(scales)) + torch.dot(shifts, shift.to(shifts))

    return product


def _bias(node: Any, output: Tensor | None) -> Callable[[], Tensor] | None:
    """Returns what gives the bias of a batch norm, which its graph does not keep.

    One that is trained is a leaf of the graph, or a part of one. Any other is read off one element per channel.
    """
    source = node.next_functions[2][0]
    if source is not None:
        if hasattr(source, "variable"):
            return lambda: source.variable  # type: ignore[no-any-return]
        if SHIFT in source.metadata:
            return lambda: _gated(*source.metadata[SHIFT])
        leaf = source.next_functions[0][0] if source.name() == "AsStridedBackward0" else None
        if leaf is None or not hasattr(leaf, "variable"):
            return None
        shape = source._saved_size, source._saved_stride, source._saved_storage_offset
        return lambda: leaf.variable.as_strided(*shape)  # type: ignore[no-any-return]
    if output is None or output.numel() == 0:
        return None
    found = _read_off(node, output)
    return lambda: found


def _gated(shift: Tensor, gate: Tensor, offset: Tensor | None) -> Tensor:
    return shift * gate if offset is None else shift * gate + offset


@torch.no_grad()
def _read_off(node: Any, output: Tensor) -> Tensor:
    """Returns `[C]`, the bias of a batch norm, from one element per channel; exactly 0 where it is within rounding."""
    x, y = (t[0].flatten(1)[:, 0] if t.dim() > 2 else t[0] for t in (node._saved_input, output))
    weight = node._saved_weight
    if node._saved_training:
        line = (x - node._saved_result1) * node._saved_result2
    else:
        line = (x - node._saved_running_mean) * (node._saved_running_var + node._saved_eps).rsqrt()
    if weight is not None:
        line = line * weight
    found = y - line
    return torch.where(found.abs() <= _ROUNDINGS * torch.finfo(y.dtype).eps * (1 + line.abs()), 0, found)


def _scaled(node: Any, budget: list[int], depth: int) -> Product | None:
    """A product with a number, as in `x * 0.5`."""
    factor = node._saved_other
    if node._saved_self is not None or not isinstance(factor, Tensor) or factor.dim() or factor.requires_grad:
        return None
    if is_zeroed(node):
        # Zero times a sum where a second derivative is asked for, which needs a graph.
        return lambda gradient: gradient.sum() * 0 if torch.is_grad_enabled() else gradient.new_zeros(())
    inner = _find(node.next_functions[0][0], None, budget, depth)
    return None if inner is None else lambda gradient: inner(gradient) * factor.to(gradient)


def is_zeroed(node: Any) -> bool:
    """Returns whether a node is a product with a number that is known to be 0."""
    if node is None or node.name() != "MulBackward0" or node._saved_self is not None:
        return False
    factor = node._saved_other
    return isinstance(factor, Tensor) and not factor.dim() and factor.device.type == "cpu" and _is_zero(factor)


def _is_zero(factor: Tensor) -> bool:
    try:
        return float(factor) == 0.0
    except RuntimeError:  # Python's dispatch modes, such as a FLOP counter, cannot read a number out of a graph.
        return False


def _sum_of(node: Any, budget: list[int], depth: int) -> Product | None:
    """`torch.stack(parts, d).sum(d)`."""
    stack = node.next_functions[0][0]
    if stack is None or stack.name() != "StackBackward0" or node._saved_keepdim or len(node._saved_dim) != 1:
        return None
    rank = len(node._saved_self_sym_sizes)
    if _axis(node._saved_dim[0], rank) != _axis(stack._saved_dim, rank):
        return None
    return _total(stack.next_functions, budget, depth)


def _axis(number: int, rank: int) -> int:
    """Returns an axis counted from the front; the graph keeps -1 as the largest number of 64 bits."""
    return (number - 2**64 if number >= 2**63 else number) % rank


def _added(node: Any, budget: list[int], depth: int) -> Product | None:
    """`a + b` of one shape."""
    terms = node.next_functions
    if node._saved_alpha != 1 or any(source is None for source, _ in terms) or len(set(_shapes(terms))) != 1:
        return None
    return _total(terms, budget, depth)


def _shapes(terms: Any) -> Iterator[Any]:
    for source, number in terms:
        yield tuple(source._input_metadata[number].shape)


def _total(terms: Any, budget: list[int], depth: int) -> Product | None:
    found = [_find(source, None, budget, depth) for source, _ in terms if budget[0] > 0]
    if len(found) < len(terms):
        return None
    products = [product for product in found if product is not None]
    if len(products) < len(found):
        return None

    def product(gradient: Tensor) -> Tensor:
        total = products[0](gradient)
        for other in products[1:]:
            total = total + other(gradient)
        return total

    return product


_LEAVES: dict[str, Callable[[Any, Tensor | None], Product | None]] = {
    "NativeBatchNormBackward0": _batch_norm, "ReluBackward0": _relu, "AvgPool2DBackward0": _average,
}  # fmt: skip
_LINEAR: dict[str, Callable[[Any, list[int], int], Product | None]] = {
    "MulBackward0": _scaled, "SumBackward1": _sum_of, "AddBackward0": _added,
}  # fmt: skip

__all__ = ["OF_NODE", "SHIFT", "Product", "dot", "is_zeroed", "product_of"]
