"""Genotypes: which two operations lead into each node of the two cells, in the tuples of DARTS' own code.

A cell has nodes 0 and 1, the outputs of the two cells before it, and nodes 2, 3, ... that add up two operations of
earlier nodes; the nodes of `normal_concat` (or `reduce_concat`), side by side, are its output.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

from mutandis.errors import SchemaError, closest

OPERATIONS = (
    "none", "max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3",
    "dil_conv_5x5",
)  # fmt: skip
"""The operations of an edge, in the published order."""

CELLS = ("normal", "reduce")
"""The two cells: one keeps the size of its input, the other halves it."""

INPUTS = 2
"""How many nodes of a cell are its inputs, and how many edges lead into each of the others."""

Pair = tuple[str, int]
"""An operation, and the node that it reads."""


class Genotype(NamedTuple):
    """Two cells as DARTS writes them: for node 2, 3, ... in turn two pairs of an operation and the node that it reads.

    Attributes:
        normal: Of the normal cell, two pairs a node.
        normal_concat: The nodes whose outputs, side by side, are the output of the normal cell.
        reduce: Of the reduction cell.
        reduce_concat: Likewise.
    """

    normal: tuple[Pair, ...]
    normal_concat: tuple[int, ...]
    reduce: tuple[Pair, ...]
    reduce_concat: tuple[int, ...]

    def __str__(self) -> str:
        """Returns the text that DARTS' code prints, which `parse_genotype` reads."""
        parts = (f"{name}={list(value)}" for name, value in zip(self._fields, self, strict=True))
        return f"Genotype({', '.join(parts)})"


def genotype(normal: Iterable[Any], reduce: Iterable[Any], normal_concat: Iterable[int] | None = None,
             reduce_concat: Iterable[int] | None = None) -> Genotype:  # fmt: skip
    """Returns a checked genotype.

    Args:
        normal: Of the normal cell, two pairs of an operation and a node for each node.
        reduce: Of the reduction cell.
        normal_concat: Nodes of the output; by default all but the inputs.
        reduce_concat: Likewise.

    Raises:
        SchemaError: it describes no cells of this space.
    """
    return Genotype(*_cell("normal", normal, normal_concat), *_cell("reduce", reduce, reduce_concat))


def _cell(label: str, pairs: Iterable[Any], concat: Iterable[int] | None) -> tuple[tuple[Pair, ...], tuple[int, ...]]:
    """Returns a checked cell, and the nodes of its output."""
    cell: tuple[Pair, ...] = tuple((name, source) for name, source in pairs)
    nodes = range(INPUTS, INPUTS + len(cell) // INPUTS)
    kept = tuple(nodes) if concat is None else tuple(concat)
    _check(label, cell, nodes, kept)
    return cell, kept


def parse_genotype(text: str) -> Genotype:
    """Reads what DARTS' code prints: `Genotype(normal=[('sep_conv_3x3', 1), ...], normal_concat=range(2, 6), ...)`.

    The text is parsed and not run.

    Raises:
        SchemaError: it is no such text.
    """
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if not isinstance(call, ast.Call) or call.args or getattr(call.func, "id", None) != "Genotype":
            raise _unreadable(text)
        given = {str(keyword.arg): _literal(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError):
        raise _unreadable(text) from None
    if set(given) != set(Genotype._fields):
        raise _unreadable(text)
    return genotype(given["normal"], given["reduce"], given["normal_concat"], given["reduce_concat"])


def _literal(node: ast.expr) -> Any:
    if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "range" and not node.keywords:
        return range(*(ast.literal_eval(argument) for argument in node.args))
    return ast.literal_eval(node)


def _unreadable(text: str) -> SchemaError:
    return SchemaError("cannot read a genotype", got=text,
                       expected="Genotype(normal=[('sep_conv_3x3', 1), ...], normal_concat=..., reduce=..., "
                                "reduce_concat=...)",
                       fix="take the text from str(genotype)")  # fmt: skip


def _check(label: str, cell: Sequence[Any], nodes: range, concat: Sequence[Any]) -> None:
    unknown = [name for name, _ in cell if name not in OPERATIONS]
    problem = None
    if not cell or len(cell) % INPUTS:
        problem = "two pairs of an operation and a node for each node"
    elif unknown:
        problem = f"operations among {', '.join(OPERATIONS)}{closest(str(unknown[0]), OPERATIONS)}"
    elif not all(type(s) is int and 0 <= s < INPUTS + i // INPUTS for i, (_, s) in enumerate(cell)):
        problem = "operations that read earlier nodes"
    elif not concat or not set(concat) <= set(nodes):
        problem = f"an output made of nodes {nodes[0]} to {nodes[-1]}"
    if problem is not None:
        raise SchemaError("cannot describe a cell", at=label, got=list(cell), expected=problem,
                          fix="copy the tuples as they were published, such as DARTS_V2")  # fmt: skip


def edge_name(cell: str, source: int, node: int) -> str:
    """Returns the name of the decision which operation stands on an edge."""
    return f"{cell} edge {source} to {node}"


def edge_path(cell: str, source: int, node: int) -> str:
    """Returns the path of that decision in the all-edges program."""
    return f"{cell}[{node - INPUTS}][{source}].operation"


def node_edges(num_nodes: int = 4, at: str = "") -> tuple[tuple[str, ...], ...]:
    """Returns the paths of the decisions on the edges into each node of the all-edges program.

    An algorithm that takes them, `DARTS(cells=TopEdges(node_edges(), none=0))`, finds a child with two edges a node.

    Args:
        num_nodes: How many nodes a cell has beside its inputs.
        at: Path of the network in the program, such as `model.`, with the dot.
    """
    nodes = product(CELLS, range(INPUTS, INPUTS + num_nodes))
    return tuple(tuple(at + edge_path(cell, source, node) for source in range(node)) for cell, node in nodes)


def derive_genotype(policy: Mapping[str, Sequence[float]], *, num_nodes: int = 4, at: str = "") -> Genotype:
    """Returns the genotype of a policy over the all-edges program: at each node, its two strongest edges.

    An edge is as strong as its likeliest operation, `none` left aside (Liu et al. 2019, Sec. 2.4).

    Args:
        policy: The chance of each operation by the path of the decision: `policy` of what `mu.one_shot` returns.
        num_nodes: How many nodes a cell has beside its inputs.
        at: Path of the network in the program, such as `model.`, with the dot.

    Raises:
        SchemaError: an edge is missing.
    """
    cells: dict[str, list[Pair]] = {cell: [] for cell in CELLS}
    for cell, node in product(CELLS, range(INPUTS, INPUTS + num_nodes)):
        best = [_best(policy, at, cell, source, node) for source in range(node)]
        ranked = sorted(best, key=lambda found: (-found[0], found[1]))[:INPUTS]
        cells[cell] += [(OPERATIONS[operation], source) for _, source, operation in ranked]
    return genotype(cells["normal"], cells["reduce"])


def _best(policy: Mapping[str, Sequence[float]], at: str, cell: str, source: int,
          node: int) -> tuple[float, int, int]:  # fmt: skip
    path = at + edge_path(cell, source, node)
    row = policy.get(path)
    if row is None or len(row) != len(OPERATIONS):
        raise SchemaError("cannot derive a genotype", at=path, got=row,
                          expected=f"a chance of each of the {len(OPERATIONS)} operations",
                          fix="pass the policy of a search in supernet_program()")  # fmt: skip
    operation = max(range(1, len(row)), key=lambda k: (row[k], -k))
    return float(row[operation]), source, operation


DARTS_V1 = genotype(
    normal=[("sep_conv_3x3", 1), ("sep_conv_3x3", 0), ("skip_connect", 0), ("sep_conv_3x3", 1),
            ("skip_connect", 0), ("sep_conv_3x3", 1), ("sep_conv_3x3", 0), ("skip_connect", 2)],
    reduce=[("max_pool_3x3", 0), ("max_pool_3x3", 1), ("skip_connect", 2), ("max_pool_3x3", 0),
            ("max_pool_3x3", 0), ("skip_connect", 2), ("skip_connect", 2), ("avg_pool_3x3", 0)],
)  # fmt: skip
"""The published cells of the first-order search."""

DARTS_V2 = genotype(
    normal=[("sep_conv_3x3", 0), ("sep_conv_3x3", 1), ("sep_conv_3x3", 0), ("sep_conv_3x3", 1),
            ("sep_conv_3x3", 1), ("skip_connect", 0), ("skip_connect", 0), ("dil_conv_3x3", 2)],
    reduce=[("max_pool_3x3", 0), ("max_pool_3x3", 1), ("skip_connect", 2), ("max_pool_3x3", 1),
            ("max_pool_3x3", 0), ("skip_connect", 2), ("skip_connect", 2), ("max_pool_3x3", 1)],
)  # fmt: skip
"""The published cells of the second-order search."""

__all__ = ["CELLS", "DARTS_V1", "DARTS_V2", "INPUTS", "OPERATIONS", "Genotype", "Pair", "derive_genotype",
           "edge_name", "edge_path", "genotype", "node_edges", "parse_genotype"]  # fmt: skip
