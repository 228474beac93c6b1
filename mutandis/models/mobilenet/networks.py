"""MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381), plain: nothing in it knows of a search.

Shapes: B images, C channels, D channels out, H rows, W columns, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from mutandis.errors import SettingError
from mutandis.symbolic import symbolize

STAGES = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
)  # fmt: skip
"""Table 2 of the paper: expansion, filters, number of bottlenecks and stride of the first of them, for each stage."""


class InvertedBottleneck(nn.Module):
    """Pointwise expansion, depthwise convolution, pointwise projection, `[B, C, H, W]` to `[B, D, H, W] / stride`.

    Args:
        channels: C.
        out_channels: D.
        kernel_size: Of the depthwise convolution, odd.
        expansion: Of C in between; 1 leaves the first convolution out.
        stride: Of the depthwise convolution.
        is_residual: Whether the input is added to the output.
    """

    def __init__(self, channels: int, out_channels: int, *, kernel_size: int, expansion: int, stride: int,
                 is_residual: bool) -> None:  # fmt: skip
        super().__init__()
        hidden = channels * expansion
        layers: list[nn.Module] = [] if expansion == 1 else _conv_norm(channels, hidden, 1)
        layers += _conv_norm(hidden, hidden, kernel_size, stride, groups=hidden)
        layers += [nn.Conv2d(hidden, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)]
        self.layers = nn.Sequential(*layers)
        self.is_residual = is_residual

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Returns `[B, D, H / stride, W / stride]`."""
        result: torch.Tensor = self.layers(x_BCHW)
        return x_BCHW + result if self.is_residual else result


@symbolize
class Bottleneck:
    """Settings of an inverted bottleneck; called, it makes a fresh layer.

    Args:
        kernel_size: Of the depthwise convolution, odd.
        expansion: How many times wider it is inside than its input.
    """

    def __init__(self, kernel_size: int = 3, expansion: int = 6) -> None:
        self.kernel_size, self.expansion = kernel_size, expansion

    def __call__(self, channels: int, out_channels: int, stride: int, *, is_residual: bool) -> nn.Module:
        """Returns a layer `[B, C, H, W]` to `[B, D, H, W] / stride`."""
        return InvertedBottleneck(channels, out_channels, kernel_size=self.kernel_size, expansion=self.expansion,
                                  stride=stride, is_residual=is_residual)  # fmt: skip


@symbolize
class Stage:
    """Bottlenecks of one output width; the first has the stride, and all others add their input to their output.

    Args:
        filters: Channels of their outputs.
        bottlenecks: Their settings, at least one.
        stride: Of the first.
    """

    def __init__(self, filters: int, bottlenecks: Sequence[Bottleneck], stride: int = 1) -> None:
        self.filters, self.bottlenecks, self.stride = filters, bottlenecks, stride

    def __call__(self, channels: int) -> nn.Module:
        """Returns the layers, `[B, channels, H, W]` to `[B, filters, H, W] / stride`."""
        before = [channels] + [self.filters] * (len(self.bottlenecks) - 1)
        return nn.Sequential(*(
            make(width, self.filters, self.stride if number == 0 else 1, is_residual=number > 0)
            for number, (width, make) in enumerate(zip(before, self.bottlenecks, strict=True))
        ))  # fmt: skip


@symbolize
class MobileNetV2(nn.Module):
    """A stem, stages of inverted bottlenecks, a pointwise convolution, and a linear layer on the mean over space.

    Args:
        stages: The stages.
        stem_filters: Channels of the first convolution.
        head_filters: Channels of the last.
        num_classes: K.
        in_channels: Channels of the images.
        stem_stride: Of the first convolution; 1 for small images.
        dropout: Rate before the linear layer.

    Raises:
        SettingError: there are no stages, or one is empty.
    """

    def __init__(self, stages: Sequence[Stage], stem_filters: int = 32, head_filters: int = 1280,
                 num_classes: int = 1000, in_channels: int = 3, stem_stride: int = 2,
                 dropout: float = 0.2) -> None:  # fmt: skip
        super().__init__()
        if not stages or not all(stage.bottlenecks for stage in stages):
            raise SettingError("cannot build a MobileNetV2", at="stages", got=list(stages),
                               expected="at least one stage, and a bottleneck in each",
                               fix="take them from mobilenet_v2()")  # fmt: skip
        self.stem = nn.Sequential(*_conv_norm(in_channels, stem_filters, 3, stem_stride))
        self.stages = nn.ModuleList()
        channels = stem_filters
        for stage in stages:
            self.stages.append(stage(channels))
            channels = stage.filters
        self.head = nn.Sequential(*_conv_norm(channels, head_filters, 1))
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(head_filters, num_classes))
        self.apply(_initialise)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Returns logits `[B, K]`."""
        x = self.stem(x_BCHW)
        for stage in self.stages:
            x = stage(x)
        logits_BK: torch.Tensor = self.classifier(self.head(x).mean((2, 3)))
        return logits_BK


def _conv_norm(channels: int, out_channels: int, kernel_size: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Returns a convolution without bias, its norm, and a ReLU capped at 6."""
    conv = nn.Conv2d(channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(out_channels), nn.ReLU6()]


def _initialise(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d):
        nn.init.kaiming_normal_(layer.weight, mode="fan_out")
    elif isinstance(layer, nn.Linear):
        nn.init.normal_(layer.weight, 0.0, 0.01)
        nn.init.zeros_(layer.bias)


def mobilenet_v2(*, stages: Sequence[tuple[int, int, int, int]] = STAGES, stem_filters: int = 32,
                 head_filters: int = 1280, num_classes: int = 1000, in_channels: int = 3, stem_stride: int = 2,
                 dropout: float = 0.2) -> MobileNetV2:  # fmt: skip
    """Returns a MobileNetV2; by default the published one, 3.5 million parameters and 301 million MAdds at 224x224.

    Args:
        stages: Expansion, filters, number of bottlenecks and stride of the first, for each stage.
        stem_filters: As for the network.
        head_filters: Likewise.
        num_classes: Likewise.
        in_channels: Likewise.
        stem_stride: Likewise.
        dropout: Likewise.
    """
    made = [
        Stage(filters, [Bottleneck(3, expansion) for _ in range(count)], stride)
        for expansion, filters, count, stride in stages
    ]
    return MobileNetV2(made, stem_filters, head_filters, num_classes, in_channels, stem_stride, dropout)


__all__ = ["STAGES", "Bottleneck", "InvertedBottleneck", "MobileNetV2", "Stage", "mobilenet_v2"]
