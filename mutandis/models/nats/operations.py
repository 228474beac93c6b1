"""The layers of NATS-Bench's networks.

Shapes: B images, C channels in, D channels out, H rows, W columns. All keep H and W except where a stride is given.
Each is the benchmark's own layer, so that parameters can be counted against its tables; batch norm is affine and keeps
running statistics, as when the benchmark trains from scratch.
"""

from __future__ import annotations

import torch
from torch import nn

from mutandis.errors import SettingError, closest
from mutandis.models.nats.codec import OPERATIONS
from mutandis.symbolic import symbolize


class ReluConvNorm(nn.Sequential):
    """ReLU, convolution without bias, batch norm: `[B, C, H, W]` to `[B, D, H / stride, W / stride]`."""

    def __init__(self, channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False),
            nn.BatchNorm2d(out_channels),
        )


class Zero(nn.Module):
    """No connection: zeros `[B, D, H, W]`, which still hang on the input."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.channels, self.out_channels = channels, out_channels

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Returns zeros."""
        if self.channels == self.out_channels:
            return x_BCHW.mul(0.0)
        batch, _, height, width = x_BCHW.shape
        return x_BCHW.new_zeros(batch, self.out_channels, height, width)


class Projection(nn.Sequential):
    """The skip connection between different widths: a pointwise convolution and batch norm."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__(nn.Conv2d(channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels))


class Pool(nn.Sequential):
    """An average over 3x3 that leaves the padding out, behind a pointwise convolution where widths differ."""

    def __init__(self, channels: int, out_channels: int) -> None:
        first: nn.Module = nn.Identity() if channels == out_channels else ReluConvNorm(channels, out_channels, 1)
        super().__init__(first, nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False))


@symbolize
class Operation:
    """An operation of an edge: called with widths it makes a fresh layer.

    Args:
        name: One of `OPERATIONS`.

    Raises:
        SettingError: the name is unknown.
    """

    def __init__(self, name: str) -> None:
        if name not in OPERATIONS:
            raise SettingError("cannot make an operation", at="Operation.name", got=name,
                               expected=f"one of {', '.join(OPERATIONS)}{closest(str(name), OPERATIONS)}",
                               fix="use one of these names")  # fmt: skip
        self.name = name

    def __call__(self, channels: int, out_channels: int | None = None) -> nn.Module:
        """Returns a layer `[B, C, H, W]` to `[B, D, H, W]`."""
        made = channels if out_channels is None else out_channels
        if self.name == "none":
            return Zero(channels, made)
        if self.name == "skip_connect":
            return nn.Identity() if channels == made else Projection(channels, made)
        if self.name == "avg_pool_3x3":
            return Pool(channels, made)
        return ReluConvNorm(channels, made, 3 if self.name == "nor_conv_3x3" else 1)


class Reduction(nn.Module):
    """The residual block between stages: halves H and W, `[B, C, H, W]` to `[B, D, H / 2, W / 2]`."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.first = ReluConvNorm(channels, out_channels, 3, stride=2)
        self.second = ReluConvNorm(out_channels, out_channels, 3)
        self.short = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(channels, out_channels, 1, bias=False))

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Returns `[B, D, H / 2, W / 2]`."""
        result: torch.Tensor = self.short(x_BCHW) + self.second(self.first(x_BCHW))
        return result


__all__ = ["Operation", "Pool", "Projection", "Reduction", "ReluConvNorm", "Zero"]
