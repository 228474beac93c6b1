"""Kernels of several sizes, each made of the next larger one by a matrix that is learned.

Cai, Gan, Wang, Zhang, Han: Once-for-All: Train One Network and Specialize It for Efficient Deployment, ICLR 2020, arXiv
1908.09791, Sec. 3.3 ("elastic kernel size"). The centre of a kernel would have to serve two ends, as a part of the
large kernel and as a small one; so a matrix stands between both, which the channels of a layer share and each layer has
for itself: 25 x 25 from 7 to 5, and 9 x 9 from 5 to 3.

*Notation*: K_0 > K_1 > ... = sizes, W = the shared kernel, of size K_0; C_i = the centre of size K_i, laid flat; M_i =
matrix of |K_i| rows and columns, the identity at first;

    W_0 = W,  W_i = M_i C_i(W_{i-1})

Of M_i, only those rows are computed, and get a gradient, that the sizes below use. The product of the matrices is
taken first, which is much smaller than the kernel. A kernel is made anew before each pass of its layer; code that reads
`layer.weight` and does not call the layer sees that of the last pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from itertools import pairwise

import torch
from torch import nn

from mutandis.errors import LoweringError
from mutandis.flows.supernet.cuts import Axis, Cut

Size = tuple[int, ...]
"""Of a kernel: its length along each axis in space."""


def descending(sizes: Iterable[Size], at: str) -> tuple[Size, ...]:
    """Returns sizes of kernels, the largest first.

    Args:
        sizes: Of one layer.
        at: Where it stands, for errors.

    Raises:
        LoweringError: some sizes do not lie within one another, so that none is the next larger one.
    """
    found = sorted(set(sizes), key=lambda size: (-math.prod(size), size))
    for large, small in pairwise(found):
        if any(a < b for a, b in zip(large, small, strict=True)):
            raise LoweringError(
                "cannot make kernels of larger ones",
                at=at,
                got=(large, small),
                expected="sizes of which each lies within the next larger one",
                fix="choose square kernels, or pass kernels='crop'",
            )
    return tuple(found)


def need_plain(layer: nn.Module, at: str) -> None:
    """Refuses kernels that are computed from other tensors, such as those of `weight_norm`.

    Raises:
        LoweringError: the tensor at `at` belongs to no convolution, or is not its weight.
    """
    if not isinstance(layer, nn.modules.conv._ConvNd) or at.rpartition(".")[2] != "weight":
        raise LoweringError(
            "cannot transform a kernel that is computed from other tensors",
            at=at,
            got=type(layer).__name__,
            expected="a convolution with a weight of its own",
            fix="pass kernels='crop' or kernels='separate'",
        )


def size_of(cut: Cut, full: Sequence[int]) -> Size:
    """Returns the size of the kernel of a child.

    Args:
        cut: What it uses of a convolution's weight.
        full: Shape of the shared weight.
    """
    return tuple(axis[1] if isinstance(axis, tuple) else most for axis, most in zip(cut[2:], full[2:], strict=True))


def steps_to(size: Size, sizes: Sequence[Size]) -> tuple[Size, ...]:
    """Returns the sizes that lead from the largest one, which is left out, to another, the last.

    Args:
        size: One of the sizes.
        sizes: All of them, the largest first.
    """
    return tuple(sizes[1 : sizes.index(size) + 1])


def centre(size: Size, full: Sequence[int]) -> tuple[Axis, ...]:
    """Returns where the centre of a kernel stands in it, by axis."""
    return tuple(None if n == most else ((most - n) // 2, n) for n, most in zip(size, full, strict=True))


def flat_centre(small: Size, large: Size, full: Sequence[int]) -> torch.Tensor:
    """Returns where the centre of a kernel stands in a larger centre that is laid flat, `[|small|]`.

    Args:
        small: Size of the one.
        large: Size of the other.
        full: Size of the kernel. Of even and odd sizes, it says what lies in the middle, so that other sizes between
            two change nothing.
    """
    places = torch.arange(math.prod(large)).reshape(large)
    for axis, (n, above, most) in enumerate(zip(small, large, full, strict=True)):
        places = places.narrow(axis, (most - n) // 2 - (most - above) // 2, n)
    return places.reshape(-1)


def matrix_cuts(steps: Sequence[Size], full: Sequence[int]) -> list[Cut]:
    """Returns which rows of the matrices on the way to a kernel it uses; of the last one, all."""
    inner = [flat_centre(small, large, full) for large, small in pairwise(steps)]
    return [(rows, None) for rows in (*inner, None)]


def joined(parts: Sequence[torch.Tensor], size: Size) -> torch.Tensor:
    """Returns a kernel, made of larger ones.

    Args:
        parts: The centre of the shared kernel, `[*, *, *K_1]`, and the rows of the matrices on the way, in their order;
            or the kernel itself, where there are none.
        size: Of the result.

    Returns:
        `[*, *, *size]`.
    """
    kernel, *matrices = parts
    if not matrices:
        return kernel
    device = kernel.device.type
    # Kernels are as exact as if they were parameters; their layers cast them.
    with torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext():
        product = matrices[0]
        for matrix in matrices[1:]:
            product = matrix @ product
        return (kernel.flatten(2) @ product.T).reshape(*kernel.shape[:2], *size)


__all__ = ["Size", "centre", "descending", "flat_centre", "joined", "matrix_cuts", "need_plain", "size_of", "steps_to"]
