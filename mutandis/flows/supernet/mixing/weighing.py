"""Masks and interpolation, as they act on the weight of the layer that reads the channels.

*Notation*: w_i = weights of the selection, C_i = sizes, C = the largest,

    mask         x * m, m = sum over i of w_i 1[channel < C_i]     Wan et al. 2020, arXiv 2004.05565, Sec. 3.1
    interpolate  sum over i of w_i CWI(x[: C_i], C)                Dong and Yang 2019, arXiv 1905.09717, eq. (4) to (7)

CWI is the mean over channels floor(c C_i / C) to ceil((c + 1) C_i / C) for each channel c below C. Both are linear in
the channels, so that they are applied to the weight in place of the input.

*Departures*: sizes are mixed where the channels are read, behind norm and activation; the code of TAS mixes before the
activation. A norm has one scale and shift per channel for all sizes, instead of a norm per size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from mutandis.flows.supernet.selections import MASK, Gate, Selection, Subset

Made = dict[Any, torch.Tensor]
"""Masks by what they are made of."""


class Weighing:
    """How some axes of a weight are masked.

    Args:
        name: The parameter.
        axes: The axes.
        decisions: The decisions that they depend on.
        rows: `[joint candidates, *sizes of the axes]` bool, the places that each combination of candidates has; the
            last decision runs fastest.
        is_read: Whether it is the axis of input channels alone.

    Attributes:
        sizes: How many places each combination has.
        is_leading: Whether these are the leading places of the axis.
        block: How many places a channel has side by side, behind a flattening; for interpolation.
    """

    __slots__ = ("_as_numbers", "axes", "block", "decisions", "is_leading", "is_read", "name", "rows", "sizes")

    def __init__(self, name: str, axes: Sequence[int], decisions: Sequence[int], rows: torch.Tensor,
                 *, is_read: bool) -> None:  # fmt: skip
        self.name, self.axes, self.decisions, self.rows = name, tuple(axes), tuple(decisions), rows
        self.is_read = is_read
        self.sizes = tuple(rows.flatten(1).sum(1).tolist())
        self.is_leading = is_read and all(bool(row[:n].all()) for row, n in zip(rows, self.sizes, strict=True))
        self.block = 1
        self._as_numbers: torch.Tensor | None = None

    def is_mask(self, selections: Mapping[int, Selection]) -> bool:
        """Returns whether selections mask the places, and do not interpolate them."""
        return not self.is_read or all(mode_of(selections[i]) == MASK for i in self.decisions)

    def apply(self, weight: torch.Tensor, selections: Mapping[int, Selection], made: Made) -> torch.Tensor:
        """Returns a weight that mixes sizes.

        Args:
            weight: The weight of the largest size.
            selections: By index of the decision.
            made: Masks that were made before, for the same selections.
        """
        if self.is_mask(selections):
            shape = [size if axis in self.axes else 1 for axis, size in enumerate(weight.shape)]
            return weight * self.mask(weight, selections, made).reshape(shape)
        axis, sizes = self.axes[0], [size // self.block for size in self.sizes]
        factors = joint([selections[i] for i in self.decisions], weight)
        channels = weight.reshape(*weight.shape[:axis], -1, self.block, *weight.shape[axis + 1 :])
        return interpolated(channels, axis, sizes, factors).reshape_as(weight)

    def mask(self, like: torch.Tensor, selections: Mapping[int, Selection], made: Made) -> torch.Tensor:
        """Returns the mask of all places, flat; the layers that read one width share it."""
        if self._as_numbers is None or self._as_numbers.dtype != like.dtype or self._as_numbers.device != like.device:
            self._as_numbers = self.rows.to(like).flatten(1)
        chosen = [selections[i] for i in self.decisions]
        if not self.is_leading or len(chosen) > 1:
            return _masked(joint(chosen, like), self._as_numbers)
        mode = (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), _version(chosen[0]))
        key = (self.decisions, self.sizes, self.rows.shape, like.dtype, like.device, mode)
        if key not in made:
            made[key] = _masked(joint(chosen, like), self._as_numbers)
        return made[key]


def _version(selection: Selection) -> int:
    """Returns how often the weights of a selection were changed in place."""
    weights = selection.gate if isinstance(selection, Gate) else selection.values
    return 0 if weights.is_inference() else weights._version


def _masked(factors: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = _Mask.apply(factors, rows)  # type: ignore[no-untyped-call]
    return result


class _Mask(torch.autograd.Function):
    """The weighted sum of rows. It keeps nothing that a backward pass would free, so that more than one may come."""

    @staticmethod
    def forward(ctx: Any, factors: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        ctx.rows = rows
        return (factors[:, None] * rows).sum(0)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        return (ctx.rows * gradient).sum(1), None


def joint(selections: Sequence[Selection], like: torch.Tensor) -> torch.Tensor:
    """Returns the weight of every combination of candidates, as numbers like those of another tensor.

    Args:
        selections: One for each decision; decisions are drawn apart, so that weights are multiplied.
        like: Gives device and type.

    Returns:
        `[product of the numbers of candidates]`, the last decision runs fastest.
    """
    total: torch.Tensor | None = None
    for selection in selections:
        weights = vector(selection).to(like)
        total = weights if total is None else (total[:, None] * weights).reshape(-1)
    assert total is not None  # There is a decision.
    return total


def interpolated(weight: torch.Tensor, axis: int, sizes: Sequence[int], factors: torch.Tensor) -> torch.Tensor:
    """Returns a weight that reads interpolated channels: the sum of those of all sizes, weighted.

    Args:
        weight: Of the largest size.
        axis: The axis of input channels.
        sizes: How many leading channels each size has, at most as many as the axis.
        factors: `[number of sizes]`.
    """
    full = weight.shape[axis]
    shape = [full if i == axis else 1 for i in range(weight.dim())]
    total = torch.zeros_like(weight)
    for size, factor in zip(sizes, factors, strict=True):
        start = torch.arange(full, device=weight.device) * size // full
        is_double = -(-(torch.arange(1, full + 1, device=weight.device) * size) // full) - start > 1
        # A mean of one or two channels, since no size is above the full one.
        share = factor * weight / (1.0 + is_double.to(weight)).reshape(shape)
        total = total.index_add(axis, start, share)
        second = is_double.nonzero()[:, 0]
        total = total.index_add(axis, start[second] + 1, share.index_select(axis, second))
    return total


def vector(selection: Selection) -> torch.Tensor:
    """Returns the weights of a selection in the order of its candidates."""
    return torch.stack(list(selection.weights.values())) if isinstance(selection, Gate) else selection.values


def offset_of(selection: Selection) -> torch.Tensor | None:
    """Returns a number that is 0, to be added for its gradient; None where there is none."""
    return selection.offset if isinstance(selection, Subset) else None


def mode_of(selection: Selection) -> str:
    """Returns how a selection mixes sizes."""
    return MASK if isinstance(selection, Gate) else selection.mode


__all__ = ["Made", "Weighing", "interpolated", "joint", "mode_of", "offset_of", "vector"]
