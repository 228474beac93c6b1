"""What is known of torch's layers: which axes of their tensors run over channels, and of inputs and outputs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
_INPUTS = {
    ("weight", 0),
    ("weight", 1),
    ("running_mean", 0),
    ("in_proj_weight", 1),
    ("weight_ih_l0", 1),
    ("weight_ih", 1),
}

Name = tuple[str, str]
"""Path of a module, and name of one of its parameters."""


@dataclass(slots=True)
class Full:
    """Sizes of the shared tensors at the layers of a child.

    Attributes:
        inputs: Number of input channels of the shared weight, by path.
        outputs: Number of output channels.
        shapes: Shapes of all shared parameters, by path of the module and name.
    """

    inputs: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, int] = field(default_factory=dict)
    shapes: dict[Name, tuple[int, ...]] = field(default_factory=dict)

    def note(self, path: str, module: nn.Module, name: str, shape: tuple[int, ...]) -> None:
        """Takes in the shape of a shared tensor of a layer."""
        axis = input_axis(module)
        if (name, axis) in _INPUTS and len(shape) > axis:
            self.inputs[path] = max(shape[axis], self.inputs.get(path, 0))  # Of a parametrised weight, the whole one.
            if is_grouped(module):
                # Groups of a fixed size. With a fixed number of groups channels change their group with the size, and
                # no child has as many channels as this says: nothing is proven then, as it should be.
                conv: Any = module
                self.inputs[path] = shape[1] * (shape[0] // (conv.out_channels // conv.groups))
        if name == "weight" and isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)):
            self.outputs[path] = shape[1 if getattr(module, "transposed", False) else 0]


def is_grouped(module: nn.Module) -> bool:
    """Returns whether a convolution has several groups of more than one channel."""
    return isinstance(module, nn.modules.conv._ConvNd) and module.groups > 1 and not is_depthwise(module)


def is_depthwise(module: nn.Module) -> bool:
    """Returns whether each channel is convolved alone, so that the output keeps the order of the input."""
    groups = getattr(module, "groups", 1)
    return isinstance(module, nn.modules.conv._ConvNd) and 1 < groups == module.in_channels == module.out_channels


def input_axis(module: nn.Module) -> int:
    """Returns the axis of a layer's weight that runs over its input channels."""
    if isinstance(module, NORMS) or is_depthwise(module) or getattr(module, "transposed", False):
        return 0
    return 1


def channel_axis(module: nn.Module, x: torch.Tensor) -> int:
    """Returns the axis of a layer's input or output that its weights run over."""
    if isinstance(module, nn.modules.conv._ConvNd):
        return x.dim() - len(module.kernel_size) - 1
    last = isinstance(module, (nn.Linear, nn.LayerNorm, nn.RMSNorm))
    return x.dim() - 1 if last else min(1, x.dim() - 1)


def is_layer(module: nn.Module) -> bool:
    """Returns whether labels take the place of what a module computes."""
    if isinstance(module, NORMS):
        return type(module).forward.__module__.startswith("torch.")  # Else its own code says which axis is which.
    layers = (nn.Linear, nn.modules.conv._ConvNd, nn.Embedding, nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)
    return isinstance(module, layers)


def input_tensors(module: nn.Module) -> tuple[str, ...]:
    """Returns the tensors of a layer that run over its input channels."""
    if isinstance(module, nn.RNNBase):
        return "weight_ih_l0", "weight_ih_l0_reverse"
    if isinstance(module, nn.RNNCellBase):
        return ("weight_ih",)
    if isinstance(module, nn.MultiheadAttention):
        return ("in_proj_weight",)
    if isinstance(module, NORMS):
        return "weight", "bias", "running_mean", "running_var"
    return ("weight", "bias") if is_depthwise(module) else ("weight",)


__all__ = [
    "NORMS",
    "Full",
    "Name",
    "channel_axis",
    "input_axis",
    "input_tensors",
    "is_depthwise",
    "is_grouped",
    "is_layer",
]
