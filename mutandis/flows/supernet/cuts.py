"""Which part of a shared tensor a child uses: one rule per axis, by the kind of layer.

By default the leading rows and columns. Kernels are cropped at their centre (Cai et al. 2020, arXiv 1908.09791, Sec.
3.3; its matrices are in `tensors/kernels.py`). Gates and packed projections are several blocks in one axis, of each of
which the child uses the leading part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from mutandis.errors import LoweringError

Axis = None | tuple[int, int] | torch.Tensor
"""All of an axis; (start, length); or the places to gather."""

Cut = tuple[Axis, ...]

_GATES = {"LSTM": 4, "GRU": 3}
_CELL_GATES: dict[type, int] = {nn.LSTMCell: 4, nn.GRUCell: 3, nn.RNNCell: 1}


def plain_place(tree: Mapping[str, nn.Module], path: str, name: str) -> tuple[str, str]:
    """Returns the layer that a tensor is about and what it is called there; itself, unless it is parametrised.

    Args:
        tree: Modules by path.
        path: Of the module that holds the tensor; a `ParametrizationList` for originals, as of `weight_norm`.
        name: Of the tensor there.
    """
    if not isinstance(tree[path], nn.utils.parametrize.ParametrizationList):
        return path, name
    above, _, tensor = path.rpartition(".")
    return above.removesuffix("parametrizations").removesuffix("."), tensor


def cut_of(module: nn.Module, name: str, shape: Sequence[int], full: Sequence[int], at: str) -> Cut:
    """Returns what a layer uses of the shared tensor.

    Args:
        module: The layer of the child.
        name: Name of its parameter or buffer.
        shape: What the child has.
        full: What is shared.
        at: Where the layer stands, for errors.

    Raises:
        LoweringError: the child has more than is shared, or blocks that do not divide the axis.
    """
    if len(shape) != len(full) or any(size > most for size, most in zip(shape, full)):
        raise LoweringError(
            "cannot share a weight: a child has more of it than any child that was built before",
            at=f"{at}.{name}",
            got=tuple(shape),
            expected=f"at most {tuple(full)}, the largest of the children at the ends of each decision",
            fix="let sizes grow with their decisions, or make the largest one a candidate",
        )
    return tuple(
        None if size == most else _axis(module, name, axis, size, most, at)
        for axis, (size, most) in enumerate(zip(shape, full))
    )


def _axis(module: nn.Module, name: str, axis: int, size: int, full: int, at: str) -> Axis:
    if isinstance(module, nn.modules.conv._ConvNd) and axis >= 2:
        return ((full - size) // 2, size)
    blocks = num_blocks(module, name, axis)
    if blocks == 1:
        return (0, size)
    if size % blocks or full % blocks:
        raise LoweringError(
            "cannot share a weight that is made of equal blocks",
            at=f"{at}.{name}",
            got=(size, full),
            expected=f"sizes that {blocks} blocks divide",
            fix="use sizes that are multiples of it",
        )
    return blocks_index(blocks, size, full)


def num_blocks(module: nn.Module, name: str, axis: int) -> int:
    """Returns how many equal blocks an axis of a layer's tensor consists of."""
    if isinstance(module, nn.RNNBase):
        if axis == 0:
            return 1 if name.startswith("weight_hr") else _GATES.get(module.mode, 1)
        layer = name.rpartition("_l")[2].removesuffix("_reverse")
        return 2 if name.startswith("weight_ih") and layer != "0" and module.bidirectional else 1
    if isinstance(module, nn.MultiheadAttention):
        return 3 if axis == 0 and name.startswith("in_proj") else 1
    if axis == 0:
        return next((gates for cls, gates in _CELL_GATES.items() if isinstance(module, cls)), 1)
    return 1


def blocks_index(blocks: int, size: int, full: int) -> torch.Tensor:
    """Returns the leading places of each of several blocks: `[size]` ints below `full`."""
    starts = torch.arange(blocks) * (full // blocks)
    return (starts[:, None] + torch.arange(size // blocks)).reshape(-1)


def is_whole(cut: Cut) -> bool:
    """Returns whether a child uses all of a tensor."""
    return all(axis is None for axis in cut)


def is_box(cut: Cut) -> bool:
    """Returns whether what a child uses is a view."""
    return not any(isinstance(axis, torch.Tensor) for axis in cut)


def signature(cut: Cut) -> tuple[Any, ...]:
    """Returns a hashable form of a cut."""
    return tuple(tuple(axis.tolist()) if isinstance(axis, torch.Tensor) else axis for axis in cut)


def take(tensor: torch.Tensor, cut: Cut) -> torch.Tensor:
    """Returns what a child uses: the tensor itself, a view, or a copy where places are gathered."""
    if is_box(cut):
        if is_whole(cut):
            return tensor
        sizes, offset = list(tensor.shape), tensor.storage_offset()
        for number, axis in enumerate(cut):
            if isinstance(axis, tuple):
                offset += axis[0] * tensor.stride(number)
                sizes[number] = axis[1]
        return tensor.as_strided(sizes, tensor.stride(), offset)  # One step backward, however many axes are cut.
    for number, axis in enumerate(cut):
        if isinstance(axis, tuple):
            tensor = tensor.narrow(number, *axis)
        elif axis is not None:
            tensor = tensor.index_select(number, axis.to(tensor.device))
    return tensor


def region(cut: Cut, full: Sequence[int], device: torch.device) -> tuple[torch.Tensor, ...]:
    """Returns what indexes a tensor of shape `full` at the places of a cut."""
    places = []
    for axis, size in zip(cut, full):
        if axis is None:
            places.append(torch.arange(size))
        else:
            places.append(axis if isinstance(axis, torch.Tensor) else torch.arange(axis[0], sum(axis)))
    ranks = range(len(places))
    return tuple(p.to(device).reshape([-1 if i == r else 1 for i in ranks]) for r, p in zip(ranks, places))


__all__ = ["Axis", "Cut", "blocks_index", "cut_of", "is_box", "is_whole", "num_blocks", "plain_place", "region",
           "signature", "take"]  # fmt: skip
