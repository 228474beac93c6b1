"""Residual networks for small images whose every layer has a width, and stages that stop after some blocks.

ResNet: He, Zhang, Ren, Sun, CVPR 2016, arXiv 1512.03385, Sec. 4.2 (the networks for CIFAR-10, shortcut option A).
Widths, depths and projections: Dong, Yang: Network Pruning via Transformable Architecture Search, NeurIPS 2019,
arXiv 1905.09717 (TAS).

*Shortcuts*. The output of a block has the width of its second convolution, whatever comes in:

    padding     every other pixel where the block halves the image; channels beyond the width are cut off, missing
                ones are zeros at the end. He et al.'s option A; without parameters.
    projection  a mean over 2x2 and a pointwise convolution where the block halves the image; a pointwise convolution
                and batch norm where only the widths differ; else nothing. As in the released networks of TAS.
    always      the same, and a pointwise convolution and batch norm where the widths agree, too. He et al.'s option C.

Shapes: B images, C channels in, D channels out, H rows, W columns, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from mutandis.errors import SettingError
from mutandis.symbolic import symbolize

NUM_STAGES = 3
SHORTCUTS = ("padding", "projection", "always")


class Padding(nn.Module):
    """A shortcut without parameters: `[B, C, H, W]` to `[B, D, H / stride, W / stride]`."""

    def __init__(self, out_channels: int, stride: int) -> None:
        super().__init__()
        self.out_channels, self.stride = out_channels, stride

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Returns the leading channels, or all and zeros behind them."""
        x = x_BCHW[:, : self.out_channels, :: self.stride, :: self.stride]
        return functional.pad(x, (0, 0, 0, 0, 0, self.out_channels - x.shape[1]))


class Projection(nn.Module):
    """A shortcut with a pointwise convolution: `[B, C, H, W]` to `[B, D, H / stride, W / stride]`."""

    def __init__(self, channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.conv = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels) if stride == 1 else nn.Identity()

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Returns the projected image, halved by a mean over 2x2 where the stride is 2."""
        x: torch.Tensor = self.norm(self.conv(self.pool(x_BCHW)))
        return x


def make_shortcut(channels: int, out_channels: int, stride: int, rule: str) -> nn.Module:
    """Returns the shortcut of a block, by the rules at the head of this module."""
    if stride == 1 and channels == out_channels and rule != "always":
        return nn.Identity()
    return Padding(out_channels, stride) if rule == "padding" else Projection(channels, out_channels, stride)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, `[B, C, H, W]` to `[B, D, H / stride, W / stride]`.

    Args:
        channels: C.
        hidden: Channels between the convolutions.
        out_channels: D.
        stride: 1, or 2 to halve the image.
        shortcut: One of `SHORTCUTS`.
    """

    def __init__(self, channels: int, hidden: int, out_channels: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, hidden, 3, stride, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(hidden)
        self.second = nn.Conv2d(hidden, out_channels, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(out_channels)
        self.short = make_shortcut(channels, out_channels, stride, shortcut)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Returns `[B, D, H / stride, W / stride]`."""
        hidden = functional.relu(self.first_norm(self.first(x_BCHW)))
        return functional.relu(self.short(x_BCHW) + self.second_norm(self.second(hidden)))


@symbolize
class CifarResNet(nn.Module):
    """A stem and three stages of residual blocks; the second and the third stage begin by halving the image.

        CifarResNet(full_widths(20), [3, 3, 3])                # ResNet-20

    Args:
        widths: Channels of every 3x3 convolution in order: of the stem, then two per block, stage after stage. Of
            blocks that `depths` leaves out, too.
        depths: How many blocks of each stage run, the first ones.
        num_classes: K.
        in_channels: Channels of the images.
        shortcut: One of `SHORTCUTS`.

    Raises:
        SettingError: the widths are not 1 + 6 n, a depth is not in [1, n], or the rule is unknown.
    """

    def __init__(
        self,
        widths: Sequence[int],
        depths: Sequence[int],
        num_classes: int = 10,
        in_channels: int = 3,
        shortcut: str = "projection",
    ) -> None:
        super().__init__()
        num_blocks = check_sizes(widths, depths, shortcut)
        channels = widths[0]
        self.stem = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(channels)
        stages = []
        for stage, depth in enumerate(depths):
            blocks: list[nn.Module] = []
            for index in range(depth):
                place = 1 + 2 * (stage * num_blocks + index)
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(ResidualBlock(channels, widths[place], widths[place + 1], stride, shortcut))
                channels = widths[place + 1]
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        self.classifier = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Returns logits `[B, K]` of images `[B, in_channels, H, W]`."""
        x = self.stages(functional.relu(self.stem_norm(self.stem(x_BCHW))))
        logits_BK: torch.Tensor = self.classifier(x.mean((2, 3)))
        return logits_BK


def check_sizes(widths: Sequence[int], depths: Sequence[int], shortcut: str) -> int:
    """Returns the number of blocks of a stage that there are widths for.

    Raises:
        SettingError: as for `CifarResNet`.
    """
    num_blocks, rest = divmod(len(widths) - 1, 2 * NUM_STAGES)
    if rest or num_blocks < 1:
        raise SettingError("cannot build a CifarResNet", at="widths", got=f"{len(widths)} widths",
                           expected="1 + 6 n, for three stages of n blocks",
                           fix="give one for the stem and two for each block, as full_widths(20) does")  # fmt: skip
    if len(depths) != NUM_STAGES or not all(1 <= depth <= num_blocks for depth in depths):
        raise SettingError("cannot build a CifarResNet", at="depths", got=list(depths),
                           expected=f"three numbers in [1, {num_blocks}]",
                           fix="say how many blocks of each stage run")  # fmt: skip
    if shortcut not in SHORTCUTS:
        raise SettingError("cannot build a CifarResNet", at="shortcut", got=shortcut,
                           expected=f"one of {', '.join(SHORTCUTS)}", fix="leave it out")  # fmt: skip
    return num_blocks


__all__ = [
    "NUM_STAGES", "SHORTCUTS", "CifarResNet", "Padding", "Projection", "ResidualBlock", "check_sizes", "make_shortcut",
]  # fmt: skip
