"""DARTS' space of cells as programs, and networks of given genotypes (Liu et al. 2019, arXiv 1806.09055)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mutandis.errors import SchemaError
from mutandis.hyper import manyof, oneof
from mutandis.models.darts.genotypes import (
    CELLS,
    INPUTS,
    OPERATIONS,
    Genotype,
    Pair,
    edge_name,
    genotype,
)
from mutandis.models.darts.networks import Edge, Network
from mutandis.models.darts.operations import Operation
from mutandis.symbolic import arguments


def supernet_program(*, channels: int = 16, num_cells: int = 8, num_classes: int = 10, num_nodes: int = 4) -> Any:
    """Returns the search network: every edge of both cells decides for one of the eight operations, `none` included.

    One decision stands for an edge of all cells of its kind: 28 decisions with four nodes. The two strongest edges
    into each node become a genotype by `derive_genotype`.

    Args:
        channels: As for `Network`.
        num_cells: Likewise.
        num_classes: Likewise.
        num_nodes: How many nodes a cell has beside its inputs.
    """
    normal, reduce = (
        [[_edge(cell, source, node, OPERATIONS) for source in range(node)] for node in _nodes(num_nodes)]
        for cell in CELLS
    )
    return Network(normal, reduce, channels, num_cells, num_classes, is_search=True)


def cell_program(*, channels: int = 16, num_cells: int = 8, num_classes: int = 10, num_nodes: int = 4,
                 is_search: bool = True, stem: str = "cifar", has_auxiliary: bool = False) -> Any:  # fmt: skip
    """Returns the space of genotypes: each node decides which two nodes it reads, and for an operation of each.

    With four nodes it has (1 * 3 * 6 * 10 * 7^8)^2, about 10^18, children; `none` is no operation of it.

    Args:
        channels: As for `Network`.
        num_cells: Likewise.
        num_classes: Likewise.
        num_nodes: How many nodes a cell has beside its inputs.
        is_search: Likewise; false for the layers of the network that is trained in the end.
        stem: Likewise.
        has_auxiliary: Likewise.
    """
    normal, reduce = ([_inputs(cell, node) for node in _nodes(num_nodes)] for cell in CELLS)
    return Network(normal, reduce, channels, num_cells, num_classes, is_search=is_search, stem=stem,
                   has_auxiliary=has_auxiliary)  # fmt: skip


def _inputs(cell: str, node: int) -> Any:
    edges = [_edge(cell, source, node, OPERATIONS[1:]) for source in range(node)]
    return manyof(INPUTS, edges, ordered=False, name=f"{cell} inputs of {node}", hints="topology")


def _nodes(num_nodes: int) -> range:
    return range(INPUTS, INPUTS + num_nodes)


def _edge(cell: str, source: int, node: int, names: tuple[str, ...]) -> Any:
    operation = oneof([Operation(name) for name in names], name=edge_name(cell, source, node), hints="operation")
    return Edge(source, operation)


def network_of(cells: Genotype, *, channels: int = 36, num_cells: int = 20, num_classes: int = 10,
               stem: str = "cifar", has_auxiliary: bool = False, drop_path: float = 0.0) -> Network:  # fmt: skip
    """Returns the network of a genotype that is trained in the end.

    The defaults are the published ones for CIFAR-10 (with `has_auxiliary=True` and `drop_path=0.2` in the end); those
    for ImageNet are `channels=48, num_cells=14, num_classes=1000, stem="imagenet"`.

    Args:
        cells: The genotype.
        channels: As for `Network`.
        num_cells: Likewise.
        num_classes: Likewise.
        stem: Likewise.
        has_auxiliary: Likewise.
        drop_path: Likewise.
    """
    normal, reduce = (
        [[Edge(source, Operation(name)) for name, source in cell[i : i + INPUTS]] for i in range(0, len(cell), INPUTS)]
        for cell in (cells.normal, cells.reduce)
    )
    return Network(normal, reduce, channels, num_cells, num_classes, normal_concat=list(cells.normal_concat),
                   reduce_concat=list(cells.reduce_concat), stem=stem, has_auxiliary=has_auxiliary,
                   drop_path=drop_path)  # fmt: skip


def genotype_of(network: Network) -> Genotype:
    """Returns the genotype of a network; edges without a connection (`none`) are left out.

    Raises:
        SchemaError: some node reads more or fewer than two others.
    """
    given = arguments(network)
    normal, reduce = ([pair for node, edges in enumerate(given[cell], INPUTS) for pair in _pairs(cell, node, edges)]
                      for cell in CELLS)  # fmt: skip
    return genotype(normal, reduce, given["normal_concat"], given["reduce_concat"])


def _pairs(cell: str, node: int, edges: Sequence[Edge]) -> list[Pair]:
    found = [(edge.operation.name, edge.source) for edge in edges]
    kept = [pair for pair in found if pair[0] != "none"] if len(found) != INPUTS else found
    if len(kept) != INPUTS:
        raise SchemaError("cannot write a genotype", at=f"{cell} node {node}", got=kept,
                          expected="two edges that connect",
                          fix="take the strongest ones by derive_genotype(result.policy)")  # fmt: skip
    return kept


__all__ = ["cell_program", "genotype_of", "network_of", "supernet_program"]
