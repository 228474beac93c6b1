"""Labels, numbers that depend on a name and an index alone, and what a pass of labels need not compute.

A layer whose output labels replace has only its shape computed, once for all passes; its weights are labelled only if
other code reads them; and labels of a tensor are cut out of those that a larger one was given before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

_PRIMES = (73856093, 19349663, 83492791, 49979687, 67867967, 86028121)
_MOST = 2**23  # Labels that are kept: 64 MiB.
_PLAIN: tuple[type[Any], ...] = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def label(name: str, shape: tuple[int, ...], axis: int = 0, index: torch.Tensor | None = None) -> torch.Tensor:
    """Returns numbers in [0.5, 1.5) that depend on a name and the index of each element, not on the shape.

    Args:
        name: Tells tensors apart.
        shape: Of the result.
        axis: The axis that `index` is about.
        index: Places along the axis, in order; by default the leading ones.
    """
    seed = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=6).digest(), "big")
    with torch._C.DisableTorchFunction():
        total = torch.tensor(seed)
        for number, size in enumerate(shape):
            places = index if index is not None and number == axis else torch.arange(size)
            spread = [-1 if i == number else 1 for i in range(len(shape))]
            total = total + (places * _PRIMES[number % len(_PRIMES)] * (number + 1)).reshape(spread)
        for shift, factor in ((15, 2246822519), (13, 3266489917)):  # The mixing steps of xxHash, on 40 bits.
            total = ((total ^ (total >> shift)) * factor) & 0xFFFFFFFFFF
        return (total ^ (total >> 16)).double() / 2**40 + 0.5


class Desk:
    """What passes of labels through many children have in common: labels, and the shapes of outputs.

    Attributes:
        num_shapes: How many shapes were computed.
    """

    def __init__(self) -> None:
        self._labels: dict[tuple[str, int], torch.Tensor] = {}
        self._kept = 0
        self._shapes: dict[tuple[Any, ...], tuple[int, ...]] = {}

    @property
    def num_shapes(self) -> int:
        """How many different shapes of inputs and layers were met."""
        return len(self._shapes)

    def label(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        """Returns `label(name, shape)`, a tensor of its own."""
        known = self._labels.get((name, len(shape)))
        if known is None or any(size > most for size, most in zip(shape, known.shape)):
            made = label(name, shape)
            grown = made.numel() - (0 if known is None else known.numel())
            if grown <= 0 or self._kept + grown > _MOST:
                return made
            self._kept += grown
            known = self._labels[name, len(shape)] = made
        with torch._C.DisableTorchFunction():  # A clone, since activations may work in place.
            return known[tuple(slice(size) for size in shape)].clone(memory_format=torch.contiguous_format)

    def output(self, module: nn.Module, plain: Callable[..., Any], x: Any, *rest: Any) -> Any:
        """Returns something of the shape of a layer's output.

        Args:
            module: The layer.
            plain: Its own forward, for layers whose class says nothing about shapes, and for its errors.
            x: Its input.
            rest: Further arguments.
        """
        is_own = getattr(plain, "__func__", None) is type(module).forward  # And not put into the module.
        if rest or not is_own or not has_known_shape(module) or not _is_plain(x):
            return plain(x, *rest)
        conv: Any = module
        settings = () if isinstance(module, nn.Linear) else (
            conv.stride, conv.padding, conv.dilation, conv.groups, conv.padding_mode,
            conv._reversed_padding_repeated_twice)  # fmt: skip
        weight = tuple(_weight(module).shape)
        key = (type(module).forward, repr(settings), weight, tuple(x.shape))
        shape = self._shapes.get(key)
        if shape is None:
            try:
                shape = _shape(module, tuple(x.shape), weight)
            except Exception:  # The layer itself says what is wrong.
                return plain(x)
            self._shapes[key] = shape
        return torch.empty(()).expand(shape)


def has_known_shape(module: nn.Module) -> bool:
    """Returns whether a layer is one of torch's, of which the shape of the output is known without a pass."""
    weight, cls = _weight(module), type(module)
    if type(weight) is not nn.Parameter or not weight.is_floating_point():
        return False
    return any(
        isinstance(module, known)
        and cls.forward is known.forward
        and getattr(cls, "_conv_forward", None) is getattr(known, "_conv_forward", None)
        for known in _PLAIN
    )


def _weight(module: nn.Module) -> Any:
    return dict.get(module._parameters, "weight")  # Past `Unread`, which would label it.


def _is_plain(x: Any) -> bool:
    """Returns whether a tensor is one that labelled weights, in float64, can be applied to."""
    is_dense = type(x) is torch.Tensor and x.layout is torch.strided
    return is_dense and x.dtype is torch.float64 and x.device.type == "cpu"


def _shape(module: nn.Module, inputs: tuple[int, ...], weight: tuple[int, ...]) -> tuple[int, ...]:
    x, made = (torch.empty(shape, dtype=torch.float64, device="meta") for shape in (inputs, weight))
    conv: Any = module
    y = F.linear(x, made) if isinstance(module, nn.Linear) else conv._conv_forward(x, made, None)
    return tuple(y.shape)


class Unread(dict[str, Any]):
    """The parameters of a layer, each of which is told when it is read.

    Args:
        table: The module's own.
        read: Called with a parameter, or None, before somebody gets it.
    """

    def __init__(self, table: dict[str, Any], read: Callable[[Any], None]) -> None:
        super().__init__(table)
        self._read = read

    def __getitem__(self, name: str) -> Any:
        found = super().__getitem__(name)
        self._read(found)
        return found

    def get(self, name: str, default: Any = None) -> Any:
        """Returns a parameter, or the default."""
        self._read(super().get(name))
        return super().get(name, default)

    def items(self) -> Any:
        """Returns names and parameters."""
        return [(name, self[name]) for name in self]

    def values(self) -> Any:
        """Returns the parameters."""
        return [self[name] for name in self]


__all__ = ["Desk", "Unread", "has_known_shape", "label"]
