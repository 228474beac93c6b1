"""The layers of the cells of Liu et al. 2019 (arXiv 1806.09055), Sec. 3.1.1.

Shapes: B images, C channels, H rows, W columns. With a stride of 2, H and W are halved. Each is the published code's
own layer, so that parameters can be counted against the paper. `affine` says whether norms have a scale and a shift:
they have none while cells are searched.
"""

from __future__ import annotations

import torch
from torch import nn

from mutandis.errors import SettingError, closest
from mutandis.models.darts.genotypes import OPERATIONS
from mutandis.symbolic import symbolize


class ReluConvNorm(nn.Sequential):
    """ReLU, pointwise convolution, batch norm: `[B, C, H, W]` to `[B, D, H, W]`."""

    def __init__(self, channels: int, out_channels: int, affine: bool) -> None:
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(channels, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels, affine=affine),
        )


class DilatedConv(nn.Sequential):
    """ReLU, depthwise and pointwise convolution, batch norm; keeps C."""

    def __init__(self, channels: int, kernel_size: int, stride: int, affine: bool, dilation: int = 2) -> None:
        padding = dilation * (kernel_size // 2)
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(channels, channels, kernel_size, stride, padding, dilation, groups=channels, bias=False),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels, affine=affine),
        )


class SeparableConv(nn.Sequential):
    """Twice ReLU, depthwise and pointwise convolution and batch norm, the first with the stride; keeps C."""

    def __init__(self, channels: int, kernel_size: int, stride: int, affine: bool) -> None:
        super().__init__(
            *DilatedConv(channels, kernel_size, stride, affine, dilation=1),
            *DilatedConv(channels, kernel_size, 1, affine, dilation=1),
        )


class FactorizedReduce(nn.Module):
    """Halves H and W: two pointwise convolutions, of the even and of the odd places, side by side.

    Args:
        channels: Of the input, C.
        out_channels: Of the output, D, even.
        affine: Whether the norm has a scale and a shift.
    """

    def __init__(self, channels: int, out_channels: int, affine: bool) -> None:
        super().__init__()
        self.even = nn.Conv2d(channels, out_channels // 2, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(channels, out_channels // 2, 1, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(out_channels, affine=affine)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Returns `[B, D, H / 2, W / 2]`; H and W must be even."""
        x = torch.relu(x_BCHW)
        result: torch.Tensor = self.norm(torch.cat([self.even(x), self.odd(x[:, :, 1:, 1:])], 1))
        return result


class Zero(nn.Module):
    """No connection: zeros, which still hang on the input."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Returns zeros."""
        return x_BCHW[:, :, :: self.stride, :: self.stride].mul(0.0)


@symbolize
class Operation:
    """An operation of an edge: called with channels and a stride it makes a fresh layer.

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

    def __call__(self, channels: int, stride: int, *, is_search: bool = False) -> nn.Module:
        """Returns a layer that keeps the channels.

        Args:
            channels: C.
            stride: 1 or 2.
            is_search: Whether norms have no scale and shift, and a norm follows each pooling.
        """
        affine = not is_search
        kind, _, size = self.name.rpartition("_")
        if kind == "sep_conv":
            return SeparableConv(channels, int(size[0]), stride, affine)
        if kind == "dil_conv":
            return DilatedConv(channels, int(size[0]), stride, affine)
        if self.name == "none":
            return Zero(stride)
        if self.name == "skip_connect":
            return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels, affine)
        pool = nn.MaxPool2d(3, stride, 1) if kind == "max_pool" else nn.AvgPool2d(3, stride, 1, count_include_pad=False)
        return nn.Sequential(pool, nn.BatchNorm2d(channels, affine=False)) if is_search else pool


__all__ = ["DilatedConv", "FactorizedReduce", "Operation", "ReluConvNorm", "SeparableConv", "Zero"]
