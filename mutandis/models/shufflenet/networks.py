"""ShuffleNetV2 with a choice of blocks: the network that Single Path One-Shot and DSNAS search.

Guo, Zhang, Mu, Heng, Liu, Wei, Sun: Single Path One-Shot Neural Architecture Search with Uniform Sampling, ECCV 2020,
arXiv 1904.00420 (SPOS), Sec. 3.3 and Table 1, with its released code. Hu, Xie, Zheng, Liu, Shi, Liu, Lin: DSNAS, CVPR
2020, arXiv 2002.09128, searches the same network. Blocks: Ma, Zhang, Zheng, Sun: ShuffleNet V2, ECCV 2018, arXiv
1807.11164.

A block that keeps the size of the image lets every other channel through and puts the remaining ones through its
branch; one that halves the image puts all channels through both of its branches. What comes out of the two is
concatenated. (The channels are shuffled by this when the next block takes every other one.)

Shapes: B images, C channels in, D channels out, H rows, W columns, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from mutandis.errors import SettingError
from mutandis.symbolic import symbolize

KERNEL_SIZES = (3, 5, 7)


def depthwise(channels: int, kernel_size: int, stride: int) -> list[nn.Module]:
    """Returns a convolution of each channel alone, and its norm."""
    padding = kernel_size // 2
    return [
        nn.Conv2d(channels, channels, kernel_size, stride, padding, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
    ]


def pointwise(channels: int, out_channels: int) -> list[nn.Module]:
    """Returns a pointwise convolution, its norm and ReLU."""
    return [nn.Conv2d(channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels), nn.ReLU()]


class _Block(nn.Module):
    """Two branches side by side; the branch of the shortcut has layers only where the image is halved."""

    def __init__(self, branch: list[nn.Module], shortcut: list[nn.Module]) -> None:
        super().__init__()
        self.branch = nn.Sequential(*branch)
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Returns `[B, D, H / stride, W / stride]`."""
        if len(self.shortcut):
            return torch.cat((self.shortcut(x_BCHW), self.branch(x_BCHW)), 1)
        return torch.cat((x_BCHW[:, 0::2], self.branch(x_BCHW[:, 1::2])), 1)


@symbolize
class ShuffleBlock(_Block):
    """The block of ShuffleNetV2: pointwise, depthwise, pointwise.

    Args:
        channels: C.
        out_channels: D, with a stride of 1 equal to C.
        kernel_size: Of the depthwise convolutions, one of `KERNEL_SIZES`.
        stride: 1, or 2 to halve the image.

    Raises:
        SettingError: the channels or the kernel size do not suit it.
    """

    def __init__(self, channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1) -> None:
        if kernel_size not in KERNEL_SIZES:
            raise SettingError("cannot build a ShuffleBlock", at="ShuffleBlock.kernel_size", got=kernel_size,
                               expected="one of 3, 5, 7", fix="use one of these")  # fmt: skip
        inside, made = _branch_channels("ShuffleBlock", channels, out_channels, stride)
        middle = out_channels // 2
        branch = [*pointwise(inside, middle), *depthwise(middle, kernel_size, stride), *pointwise(middle, made)]
        super().__init__(branch, _shortcut(channels, kernel_size, stride))


@symbolize
class XceptionBlock(_Block):
    """The deeper block: three times a 3x3 depthwise and a pointwise convolution.

    Args:
        channels: C.
        out_channels: D, with a stride of 1 equal to C.
        stride: 1, or 2 to halve the image.

    Raises:
        SettingError: the channels do not suit it.
    """

    def __init__(self, channels: int, out_channels: int, stride: int = 1) -> None:
        inside, made = _branch_channels("XceptionBlock", channels, out_channels, stride)
        middle = out_channels // 2
        branch = [
            *depthwise(inside, 3, stride), *pointwise(inside, middle), *depthwise(middle, 3, 1),
            *pointwise(middle, middle), *depthwise(middle, 3, 1), *pointwise(middle, made),
        ]  # fmt: skip
        super().__init__(branch, _shortcut(channels, 3, stride))


@symbolize
class ShuffleNetV2(nn.Module):
    """A strided stem, blocks, a pointwise convolution, and a linear layer on the mean over space.

    Args:
        blocks: The blocks; the first takes `stem_channels`.
        out_channels: Of the last block.
        num_classes: K.
        in_channels: Channels of the images.
        stem_channels: Of the stem.
        last_channels: Of the pointwise convolution before the mean.
        stem_stride: 2 as published; 1 for small images.
        dropout: Rate before the linear layer.
    """

    def __init__(
        self,
        blocks: Sequence[nn.Module],
        out_channels: int = 640,
        num_classes: int = 1000,
        in_channels: int = 3,
        stem_channels: int = 16,
        last_channels: int = 1024,
        stem_stride: int = 2,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, stem_channels, 3, stem_stride, padding=1, bias=False),
            nn.BatchNorm2d(stem_channels), nn.ReLU(),
        )  # fmt: skip
        self.blocks = nn.ModuleList(blocks)
        self.last = nn.Sequential(*pointwise(out_channels, last_channels))
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(last_channels, num_classes, bias=False)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Returns logits `[B, K]` of images `[B, in_channels, H, W]`."""
        x = self.stem(x_BCHW)
        for block in self.blocks:
            x = block(x)
        logits_BK: torch.Tensor = self.classifier(self.dropout(self.last(x).mean((2, 3))))
        return logits_BK


def _shortcut(channels: int, kernel_size: int, stride: int) -> list[nn.Module]:
    if stride == 1:
        return []
    return [*depthwise(channels, kernel_size, stride), *pointwise(channels, channels)]


def _branch_channels(name: str, channels: int, out_channels: int, stride: int) -> tuple[int, int]:
    """Returns how many channels go into the branch of a block, and how many come out.

    Raises:
        SettingError: the channels of a block cannot be split like this.
    """
    is_right = channels == out_channels if stride == 1 else channels < out_channels
    if stride not in (1, 2) or not is_right or (channels % 2 and stride == 1):
        raise SettingError(f"cannot build a {name}", at=f"{name}.channels",
                           got=f"{channels} to {out_channels} channels with stride {stride}",
                           expected="an even number that is kept with stride 1, or fewer than out_channels with 2",
                           fix="halve the image where the number of channels grows")  # fmt: skip
    inside = channels // 2 if stride == 1 else channels
    return inside, out_channels - inside


__all__ = ["KERNEL_SIZES", "ShuffleBlock", "ShuffleNetV2", "XceptionBlock", "depthwise", "pointwise"]
