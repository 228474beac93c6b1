"""Which places of a layer's weight a smaller size uses, among those of a larger one.

What mixes the sizes of a width are the layers that *read* it: a convolution or a linear layer whose input channels are
the ones that some sizes do not have. A reader whose weight is masked along its input axis computes what it would from
a masked input, since x W^T with x = x' * m is x' (W * m)^T. So nothing is done to activations, and a mask costs one
product of the size of a weight. The layers between (batch norm, depthwise convolutions, activations, sums) treat each
channel alone: their leading channels are what the smaller child computes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import nn

from mutandis.flows.supernet.cuts import Axis
from mutandis.flows.supernet.lowering.layers import is_depthwise

READ, KERNEL, MADE, FIXED = "read", "kernel", "made", "fixed"


def role_of(module: nn.Module, name: str, axis: int) -> str:
    """Returns what an axis of a layer's parameter is.

    Returns:
        `read`: input channels that the layer adds up. `kernel`: an axis in space. `made`: channels that are treated
        one by one, such as outputs. `fixed`: an axis that cannot be masked, since the layer normalises over it, or
        feeds it back to itself, or divides it among heads or groups.
    """
    if isinstance(module, nn.modules.conv._ConvNd):
        if axis >= 2:
            return KERNEL
        if name != "weight" or is_depthwise(module) or axis != (1 if not module.transposed else 0):
            return MADE
        return READ if module.groups == 1 else FIXED
    if isinstance(module, nn.Linear):
        return READ if axis == 1 else MADE
    if isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
        is_input = name == "weight_ih" or name.startswith("weight_ih_l0")
        return READ if is_input and axis == 1 else FIXED
    if isinstance(module, (nn.MultiheadAttention, nn.LayerNorm, nn.RMSNorm, nn.Bilinear)):
        return FIXED
    return MADE


def places(axis: Axis, full: int) -> torch.Tensor:
    """Returns the places of a shared axis of length `full` that a cut names, in its order."""
    if axis is None:
        return torch.arange(full)
    return axis if isinstance(axis, torch.Tensor) else torch.arange(axis[0], axis[0] + axis[1])


def mask_of(small: Axis, large: Axis, full: int) -> torch.Tensor | None:
    """Returns which places of a larger cut a smaller one has.

    Args:
        small: What the smaller child uses of the shared axis.
        large: What the larger one uses.
        full: Length of the shared axis.

    Returns:
        `[places of large]` bool; None where the smaller child has others, or the same in another order.
    """
    few, many = places(small, full), places(large, full)
    mask = torch.isin(many, few)
    return mask if torch.equal(many[mask], few) else None


def grouped(axes: Mapping[int, Iterable[int]]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Returns the axes of a weight in groups whose decisions have nothing to do with each other.

    Args:
        axes: The decisions that each axis depends on.

    Returns:
        (axes, decisions) of each group; both in order.
    """
    groups: list[tuple[set[int], set[int]]] = []
    for axis, decisions in axes.items():
        joined = ({axis}, set(decisions))
        for group in [g for g in groups if g[1] & joined[1]]:
            groups.remove(group)
            joined = (joined[0] | group[0], joined[1] | group[1])
        groups.append(joined)
    return sorted((tuple(sorted(own)), tuple(sorted(decisions))) for own, decisions in groups)


__all__ = ["FIXED", "KERNEL", "MADE", "READ", "grouped", "mask_of", "places", "role_of"]
