"""NATS-Bench's networks, and the two spaces over them.

The topology space chooses one of five operations for each of six edges of a cell that is repeated in the whole
network (15,625 cells); the size space keeps the cell and chooses five widths (32,768 networks).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from mutandis.errors import SettingError
from mutandis.hyper import oneof
from mutandis.models.nats.codec import EDGES, OPERATIONS, SIZE_CELL, WIDTHS, to_string
from mutandis.models.nats.operations import Operation, Reduction
from mutandis.symbolic import symbolize

_NUM_NODES = 4


class Cell(nn.Module):
    """A cell: node j is the sum of one operation of every earlier node; the last node is the output.

    Args:
        operations: Six operations in the order of `EDGES`.
        channels: Of the input, C.
        out_channels: Of the nodes, D.
    """

    def __init__(self, operations: Sequence[Operation], channels: int, out_channels: int) -> None:
        super().__init__()
        self.edges = nn.ModuleList(
            operation(channels if source == 0 else out_channels, out_channels)
            for (source, _), operation in zip(EDGES, operations, strict=True)
        )

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Returns `[B, D, H, W]`."""
        nodes = [x_BCHW]
        for node in range(1, _NUM_NODES):
            parts = [edge(nodes[source]) for (source, end), edge in zip(EDGES, self.edges, strict=True) if end == node]
            nodes.append(torch.stack(parts).sum(0) if len(parts) > 1 else parts[0])
        return nodes[-1]


class _Classifier(nn.Module):
    """A stem, cells and reductions, and a linear layer on the mean over space."""

    def __init__(self, stem_channels: int, cells: Sequence[nn.Module], channels: int, num_classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, stem_channels, 3, padding=1, bias=False), nn.BatchNorm2d(stem_channels))
        self.cells = nn.ModuleList(cells)
        self.last = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU())
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Returns logits `[B, num_classes]` of images `[B, 3, H, W]`."""
        x = self.stem(x_BCHW)
        for cell in self.cells:
            x = cell(x)
        logits_BK: torch.Tensor = self.classifier(self.last(x).mean((2, 3)))
        return logits_BK


@symbolize
class TopologyNetwork(_Classifier):
    """The network of the topology space: three stages of equal cells, reductions between them.

    Args:
        operations: Six operations in the order of `EDGES`, or their names.
        channels: Of the first stage; the benchmark's is 16. The others have twice and four times that.
        cells_per_stage: The benchmark's is 5.
        num_classes: Of the last layer.

    Attributes:
        arch: The benchmark's string of the cell.
    """

    def __init__(
        self,
        operations: Sequence[Operation | str],
        channels: int = 16,
        cells_per_stage: int = 5,
        num_classes: int = 10,
    ) -> None:
        made = [Operation(item) if isinstance(item, str) else item for item in operations]
        arch = to_string([operation.name for operation in made])
        cells: list[nn.Module] = []
        for stage in range(3):
            width = channels * 2**stage
            if stage:
                cells.append(Reduction(width // 2, width))
            cells.extend(Cell(made, width, width) for _ in range(cells_per_stage))
        super().__init__(channels, cells, channels * 4, num_classes)
        self.arch = arch


@symbolize
class SizeNetwork(_Classifier):
    """The network of the size space: three cells of fixed topology, two reductions, five widths.

    Args:
        widths: Five numbers of channels.
        num_classes: Of the last layer.

    Attributes:
        arch: The benchmark's string of the widths.

    Raises:
        SettingError: there are not five widths.
    """

    def __init__(self, widths: Sequence[int], num_classes: int = 10) -> None:
        if len(widths) != 5:
            raise SettingError("cannot build a SizeNetwork", at="widths", got=list(widths), expected="five widths",
                               fix="give one per cell and reduction")  # fmt: skip
        operations = [Operation(name) for name in SIZE_CELL]
        before = [widths[0], *widths]
        cells: list[nn.Module] = [
            Cell(operations, a, b) if i % 2 == 0 else Reduction(a, b)
            for i, (a, b) in enumerate(zip(before, widths, strict=False))
        ]
        super().__init__(widths[0], cells, widths[-1], num_classes)
        self.arch = ":".join(map(str, widths))


def topology_program(*, channels: int = 16, cells_per_stage: int = 5, num_classes: int = 10) -> Any:
    """Returns the topology space: an abstract `TopologyNetwork` with six decisions, 15,625 children.

    Args:
        channels: As for the network; small where the network is only looked up in a table.
        cells_per_stage: Likewise.
        num_classes: Likewise.
    """
    edges = [
        oneof([Operation(name) for name in OPERATIONS], name=f"edge {source} to {node}", hints="topology")
        for source, node in EDGES
    ]
    return TopologyNetwork(edges, channels, cells_per_stage, num_classes)


def size_program(*, num_classes: int = 10) -> Any:
    """Returns the size space: an abstract `SizeNetwork` with five decisions, 32,768 children."""
    widths = [oneof(list(WIDTHS), name=f"width {place}", hints="size") for place in range(5)]
    return SizeNetwork(widths, num_classes)


__all__ = ["Cell", "SizeNetwork", "TopologyNetwork", "size_program", "topology_program"]
