"""Layers behind a sequence whose depth is mixed and whose layers have widths of their own.

What such a layer reads is as wide as the last layer that runs. So the outputs behind each depth are brought to one
width where they are added (Dong and Yang 2019, arXiv 1905.09717, eq. (6)),

    sum over l of p_l align(y_l, C),   C = the largest width of all,

where `align` masks or interpolates y_l by the widths of layer l alone; and the layer that reads the sum has nothing
left to mask: it takes its weight at C.

*Notation*: l = number of layers, p_l = its weight, y_l = what comes out behind l layers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from mutandis.flows.supernet.lowering.layers import channel_axis
from mutandis.flows.supernet.mixing.weighing import interpolated, joint, mode_of, offset_of
from mutandis.flows.supernet.selections import MASK, Selection

_WITH_CHANNELS = (nn.Linear, nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)


@dataclass(frozen=True, slots=True)
class Case:
    """What an axis is at one depth.

    Attributes:
        decisions: What it depends on there.
        rows: `[joint candidates, places]` bool, which places of the longest axis each combination has.
    """

    decisions: tuple[int, ...]
    rows: torch.Tensor

    @property
    def sizes(self) -> list[int]:
        """The number of places of each combination."""
        return self.rows.sum(1).tolist()  # type: ignore[no-any-return]

    @property
    def is_leading(self) -> bool:
        """Whether they are the leading places."""
        return all(bool(row[:size].all()) for row, size in zip(self.rows, self.sizes, strict=True))


class Behind:
    """An axis of input channels that is as long as the last layer of a sequence that runs.

    Args:
        name: The parameter.
        axis: The axis.
        depth: The decision for the depth.
        cases: One per candidate of the depth that runs, in their order.
        lend: Returns the weight at the longest axis.
        is_larger: Whether that is longer than the live one.
    """

    def __init__(self, name: str, axis: int, depth: int, cases: Sequence[Case], lend: Callable[[], torch.Tensor],
                 *, is_larger: bool) -> None:  # fmt: skip
        self.name, self.axis, self.depth, self.cases = name, axis, depth, tuple(cases)
        self.lend, self.is_larger = lend, is_larger

    @property
    def decisions(self) -> set[int]:
        """All decisions that it depends on."""
        return {self.depth}.union(*(case.decisions for case in self.cases))

    @property
    def is_leading(self) -> bool:
        """Whether all sizes are leading places."""
        return all(case.is_leading for case in self.cases)

    def block(self, channels: Sequence[int]) -> int:
        """Returns how many places each channel of a sequence has on the axis; 0 where it is not what is read.

        Args:
            channels: The number of channels behind each depth.
        """
        most = [max(case.sizes) for case in self.cases]
        blocks = {size // count if size % count == 0 else 0 for size, count in zip(most, channels, strict=True)}
        return blocks.pop() if len(blocks) == 1 else 0

    def mask(self, like: torch.Tensor, selections: Mapping[int, Selection]) -> torch.Tensor:
        """Returns `[places]`, the expected mask, for a layer that does not read a sum of depths."""
        chances = joint([selections[self.depth]], like)
        rows = [_expected(case, like, selections) for case in self.cases]
        return torch.stack([chance * row for chance, row in zip(chances, rows, strict=True)]).sum(0)

    def aligned(self, number: int, y: torch.Tensor, axis: int, block: int,
                selections: Mapping[int, Selection]) -> torch.Tensor:  # fmt: skip
        """Returns what comes out behind some layers, as wide as the widest.

        Args:
            number: The place of the depth among the candidates.
            y: The output.
            axis: Its axis of channels.
            block: How many places of the weight a channel has.
            selections: By index of the decision.
        """
        case = self.cases[number]
        rows = case.rows[:, ::block]
        full, count = rows.shape[1], y.shape[axis]
        modes = {mode_of(selections[i]) for i in (case.decisions or (self.depth,))}
        offsets = [o for i in case.decisions if (o := offset_of(selections[i])) is not None]
        if modes == {MASK}:
            mask = _expected(Case(case.decisions, rows), y, selections)[:count]
            shape = [count if i == axis else 1 for i in range(y.dim())]
            made = y * mask.reshape(shape) if case.decisions else y
            if count < full:
                empty = made.new_zeros([full - count if i == axis else n for i, n in enumerate(y.shape)])
                made = torch.cat([made, empty], axis)
        else:
            factors = joint([selections[i] for i in case.decisions], y) if case.decisions else y.new_ones(1)
            spread = interpolated(torch.eye(full).to(y), 1, rows.sum(1).tolist(), factors)[:, :count]
            made = (y.movedim(axis, -1) @ spread.T).movedim(-1, axis)
        return made + sum(offsets) if offsets else made


def _expected(case: Case, like: torch.Tensor, selections: Mapping[int, Selection]) -> torch.Tensor:
    """Returns `[places]`, how much of each place there is."""
    rows = case.rows.to(like)
    return joint([selections[i] for i in case.decisions], like) @ rows if case.decisions else rows[0]


def channels_axis(layer: nn.Module, y: torch.Tensor) -> int:
    """Returns the axis of channels of what a layer of a sequence returns: that of the last layer inside with any."""
    inside = [module for module in layer.modules() if isinstance(module, _WITH_CHANNELS)]
    return channel_axis(inside[-1], y) if inside else min(1, y.dim() - 1)


__all__ = ["Behind", "Case", "channels_axis"]
