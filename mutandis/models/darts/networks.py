"""The networks of Liu et al. 2019 (arXiv 1806.09055): stacks of two cells, for CIFAR's images and for ImageNet's.

One class serves the search and the evaluation: a cell is a list of edges for each node, all of them or the two that
were found, and an edge's operation may be a decision.

Shapes: B images, C channels, H rows, W columns, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from mutandis.errors import SettingError
from mutandis.models.darts.genotypes import INPUTS
from mutandis.models.darts.operations import FactorizedReduce, Operation, ReluConvNorm
from mutandis.symbolic import symbolize

STEM_MULTIPLIER = 3


@symbolize
class Edge:
    """An edge into a node of a cell.

    Args:
        source: The node that it reads, from 0.
        operation: What it does, an `Operation` or its name.
    """

    def __init__(self, source: int, operation: Operation | str) -> None:
        self.source = source
        self.operation = Operation(operation) if isinstance(operation, str) else operation


class Cell(nn.Module):
    """A cell: each node is the sum of its edges; the output is some nodes side by side.

    Args:
        nodes: For each node beside the two inputs, the edges that lead into it.
        concat: The nodes of the output, from 2.
        widths: Channels of the two inputs.
        channels: Of each node, C.
        is_reduction: Whether it halves H and W.
        after_reduction: Whether its first input is twice as high and wide as its second.
        is_search: As for `Operation`.
    """

    def __init__(self, nodes: Sequence[Sequence[Edge]], concat: Sequence[int], widths: tuple[int, int], channels: int,
                 *, is_reduction: bool, after_reduction: bool, is_search: bool) -> None:  # fmt: skip
        super().__init__()
        older, newer = widths
        affine = not is_search
        first = FactorizedReduce if after_reduction else ReluConvNorm
        self.inputs = nn.ModuleList([first(older, channels, affine), ReluConvNorm(newer, channels, affine)])
        self.nodes = nn.ModuleList()
        for edges in nodes:
            # By the node that is read: edges of any two choices that read the same one have the same name.
            layers = nn.ModuleDict()
            for number, edge in enumerate(edges):
                stride = 2 if is_reduction and edge.source < INPUTS else 1
                name = str(edge.source) if str(edge.source) not in layers else f"{edge.source}_{number}"
                layers[name] = edge.operation(channels, stride, is_search=is_search)
            self.nodes.append(layers)
        self.concat = tuple(concat)

    def forward(self, older: torch.Tensor, newer: torch.Tensor, drop_path: float = 0.0) -> torch.Tensor:
        """Returns the output of the cell, `[B, len(concat) C, H, W]`.

        Args:
            older: Output of the last cell but one.
            newer: Output of the last cell.
            drop_path: Rate at which paths other than the identity are dropped in training.
        """
        states = [layer(x) for layer, x in zip(self.inputs, (older, newer), strict=True)]
        for layers in self.nodes:
            parts = [self._edge(layer, states[int(name.partition("_")[0])], drop_path)
                     for name, layer in layers.items()]  # type: ignore[operator]  # fmt: skip
            states.append(sum(parts[1:], parts[0]))
        return torch.cat([states[node] for node in self.concat], 1)

    def _edge(self, layer: nn.Module, x_BCHW: torch.Tensor, drop_path: float) -> torch.Tensor:
        result: torch.Tensor = layer(x_BCHW)
        if self.training and drop_path > 0.0 and not isinstance(layer, nn.Identity):
            kept = torch.rand(len(result), 1, 1, 1, dtype=result.dtype, device=result.device) >= drop_path
            result = result * (kept.to(result.dtype) / (1.0 - drop_path))
        return result


class AuxiliaryHead(nn.Module):
    """A second classifier two thirds of the way up, for training only.

    Args:
        channels: Of its input.
        num_classes: K.
        is_imagenet: Whether it reads 14x14 (and leaves out the last norm, as when the paper's figures were made), or
            8x8.
    """

    def __init__(self, channels: int, num_classes: int, is_imagenet: bool) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.ReLU(),
            nn.AvgPool2d(5, stride=2 if is_imagenet else 3, count_include_pad=False),
            nn.Conv2d(channels, 128, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False),
            nn.Identity() if is_imagenet else nn.BatchNorm2d(768),
            nn.ReLU(),
        )
        self.classifier = nn.Linear(768, num_classes)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Returns logits `[B, K]`."""
        logits_BK: torch.Tensor = self.classifier(self.features(x_BCHW).flatten(1))
        return logits_BK


def _cifar_stem(channels: int) -> nn.ModuleList:
    width = STEM_MULTIPLIER * channels
    return nn.ModuleList([nn.Sequential(nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))])


def _imagenet_stem(channels: int) -> nn.ModuleList:
    def conv(before: int, after: int) -> nn.Conv2d:
        return nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False)

    half = channels // 2
    first = nn.Sequential(
        conv(3, half), nn.BatchNorm2d(half), nn.ReLU(), conv(half, channels), nn.BatchNorm2d(channels)
    )
    return nn.ModuleList([first, nn.Sequential(nn.ReLU(), conv(channels, channels), nn.BatchNorm2d(channels))])


@symbolize
class Network(nn.Module):
    """A stem, cells with a reduction cell at one and at two thirds, and a linear layer on the mean over space.

    Args:
        normal: The normal cell: for each node beside the two inputs, the edges that lead into it.
        reduce: The reduction cell.
        channels: Of a node of the first cells, C; doubled by each reduction cell.
        num_cells: At least 3.
        num_classes: K.
        normal_concat: Nodes of the output of the normal cell; by default all but the inputs.
        reduce_concat: Likewise.
        stem: `cifar` (one convolution of 3 C channels), or `imagenet` (three strided ones, which divide H and W by 8).
        has_auxiliary: Whether training returns the logits of an auxiliary head too.
        drop_path: Rate at which paths are dropped in training; an attribute that may be set every epoch.
        is_search: Whether norms of the cells have no scale and shift, and pooling is followed by one.

    Raises:
        SettingError: the stem is unknown, or there are fewer than 3 cells.
    """

    def __init__(self, normal: Sequence[Sequence[Edge]], reduce: Sequence[Sequence[Edge]], channels: int = 36,
                 num_cells: int = 20, num_classes: int = 10, *, normal_concat: Sequence[int] | None = None,
                 reduce_concat: Sequence[int] | None = None, stem: str = "cifar", has_auxiliary: bool = False,
                 drop_path: float = 0.0, is_search: bool = False) -> None:  # fmt: skip
        super().__init__()
        _check(stem, num_cells)
        is_imagenet = stem == "imagenet"
        self.drop_path, self.has_auxiliary = drop_path, has_auxiliary
        self.stem = _imagenet_stem(channels) if is_imagenet else _cifar_stem(channels)
        self.cells = nn.ModuleList()
        width = channels if is_imagenet else STEM_MULTIPLIER * channels
        widths, after_reduction = (width, width), is_imagenet
        self.auxiliary_at = 2 * num_cells // 3
        for number in range(num_cells):
            is_reduction = number in (num_cells // 3, self.auxiliary_at)
            channels = channels * 2 if is_reduction else channels
            nodes, concat = (reduce, reduce_concat) if is_reduction else (normal, normal_concat)
            kept = range(INPUTS, INPUTS + len(nodes)) if concat is None else concat
            self.cells.append(Cell(nodes, kept, widths, channels, is_reduction=is_reduction,
                                   after_reduction=after_reduction, is_search=is_search))  # fmt: skip
            widths, after_reduction = (widths[1], len(kept) * channels), is_reduction
            if number == self.auxiliary_at:
                auxiliary_width = widths[1]
        self.auxiliary = AuxiliaryHead(auxiliary_width, num_classes, is_imagenet) if has_auxiliary else None
        self.classifier = nn.Linear(widths[1], num_classes)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Returns logits `[B, K]` of images `[B, 3, H, W]`; in training, with an auxiliary head, both logits."""
        older = self.stem[0](x_BCHW)
        newer = self.stem[1](older) if len(self.stem) > 1 else older
        second = None
        for number, cell in enumerate(self.cells):
            older, newer = newer, cell(older, newer, self.drop_path)
            if number == self.auxiliary_at and self.auxiliary is not None and self.training:
                second = self.auxiliary(newer)
        logits_BK: torch.Tensor = self.classifier(newer.mean((2, 3)))
        return logits_BK if second is None else (logits_BK, second)


def _check(stem: str, num_cells: int) -> None:
    if stem not in ("cifar", "imagenet"):
        raise SettingError("cannot build a DARTS network", at="stem", got=stem, expected="'cifar' or 'imagenet'",
                           fix="name the kind of images")  # fmt: skip
    if num_cells < 3:
        raise SettingError("cannot build a DARTS network", at="num_cells", got=num_cells,
                           expected="at least 3, two of which reduce", fix="take more cells")  # fmt: skip


__all__ = ["AuxiliaryHead", "Cell", "Edge", "Network"]
