"""A small residual network for images, and the space of its operations, widths and depths.

Shapes: B images, C channels, H rows, W columns, K classes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from mutandis.errors import SettingError
from mutandis.hyper import oneof
from mutandis.symbolic import symbolize
from mutandis.symbolic.namespaces import nn as symbolic_nn


@symbolize
class ConvBlock(nn.Module):
    """Convolution, batch norm and ReLU, `[B, C, H, W]` to the same shape.

    Args:
        width: C.
        kernel_size: Odd.
        separable: Whether to split it into a depthwise and a pointwise convolution.
    """

    def __init__(self, width: int, kernel_size: int = 3, separable: bool = False) -> None:
        super().__init__()
        groups = width if separable else 1
        self.conv = nn.Conv2d(width, width, kernel_size, padding=kernel_size // 2, groups=groups, bias=False)
        self.point = nn.Conv2d(width, width, 1, bias=False) if separable else nn.Identity()
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Returns `[B, C, H, W]`."""
        return functional.relu(self.norm(self.point(self.conv(x_BCHW))))


@symbolize
class ConvNet(nn.Module):
    """A stem, then stages of residual blocks; between two stages a pointwise convolution and a pooling by two.

    Args:
        widths: Channels of each stage.
        stages: For each stage its blocks, modules that keep the shape.
        num_classes: K.
        in_channels: Channels of the images.
        dropout: Rate before the last layer.

    Raises:
        SettingError: `widths` and `stages` differ in length, or are empty.
    """

    def __init__(
        self,
        widths: Sequence[int],
        stages: Sequence[Sequence[nn.Module]],
        num_classes: int = 10,
        in_channels: int = 3,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not widths or len(widths) != len(stages):
            raise SettingError(
                "cannot build a ConvNet",
                at="widths",
                got=list(widths),
                expected=f"one width for each of the {len(stages)} stages",
                fix="give as many widths as stages, at least one",
            )
        self.stem = nn.Conv2d(in_channels, widths[0], 3, padding=1)
        self.stages = nn.ModuleList(nn.ModuleList(blocks) for blocks in stages)
        self.steps = nn.ModuleList(nn.Conv2d(before, after, 1) for before, after in itertools.pairwise(widths))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(widths[-1], num_classes)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Returns logits `[B, K]`."""
        x = self.stem(x_BCHW)
        for index, blocks in enumerate(self.stages):
            if index > 0:
                x = functional.max_pool2d(self.steps[index - 1](x), 2)
            for block in blocks:  # type: ignore[attr-defined]
                x = x + block(x)
        logits_BK: torch.Tensor = self.head(self.dropout(x.mean((2, 3))))
        return logits_BK


def searchable_convnet(
    *,
    num_stages: int = 2,
    widths: Sequence[int] = (8, 16, 24, 32),
    depths: Sequence[int] = (1, 2, 3),
    kernel_sizes: Sequence[int] = (3, 5),
    num_classes: int = 10,
    in_channels: int = 3,
) -> Any:
    """Returns an abstract `ConvNet`: each stage decides its width and depth, each block its operation.

    Args:
        num_stages: How many stages; images are halved between two.
        widths: Candidates of each stage's width.
        depths: Candidates of each stage's number of blocks.
        kernel_sizes: Each is offered as a full and as a separable convolution, beside the identity.
        num_classes: Of the last layer.
        in_channels: Channels of the images.
    """
    chosen = [oneof(list(widths), name=f"width{stage}") for stage in range(num_stages)]

    def block(width: Any) -> Any:
        convs = [ConvBlock(width, size, separable) for size in kernel_sizes for separable in (False, True)]
        return oneof([*convs, symbolic_nn.Identity()])

    stages = [oneof([[block(width) for _ in range(depth)] for depth in depths]) for width in chosen]
    return ConvNet(chosen, stages, num_classes, in_channels)  # type: ignore[arg-type]


__all__ = ["ConvBlock", "ConvNet", "searchable_convnet"]
