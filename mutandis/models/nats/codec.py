"""The benchmark's strings: `|op~0|+|op~0|op~1|+|op~0|op~1|op~2|` for cells, `8:16:24:32:64` for widths.

Node 0 is the input of a cell; node j adds up one operation of every earlier node, in the order of `EDGES`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from mutandis.errors import SchemaError, closest

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
"""The operations of an edge, in the benchmark's order."""

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""The edges (from, to) of a cell, in the order of the string."""

WIDTHS = (8, 16, 24, 32, 40, 48, 56, 64)
"""The candidates of each of the five widths of the size space."""

SIZE_CELL = (
    "nor_conv_3x3", "nor_conv_3x3", "nor_conv_3x3", "skip_connect", "nor_conv_3x3", "nor_conv_3x3",
)  # fmt: skip
"""The fixed cell of the size space, by edge."""

_EDGE = re.compile(r"([a-z0-9_]+)~(\d)")


def to_string(operations: Sequence[str]) -> str:
    """Returns the string of a cell.

    Args:
        operations: Six names of `OPERATIONS` in the order of `EDGES`.

    Raises:
        SchemaError: there are not six, or one is unknown.
    """
    _check(operations)
    nodes: dict[int, list[str]] = {}
    for (source, node), operation in zip(EDGES, operations, strict=True):
        nodes.setdefault(node, []).append(f"{operation}~{source}")
    return "+".join(f"|{'|'.join(parts)}|" for parts in nodes.values())


def operations_of(text: str) -> tuple[str, ...]:
    """Returns the six operations of a string of a cell, in the order of `EDGES`.

    Raises:
        SchemaError: it is no such string.
    """
    found: list[str] = []
    for node, part in enumerate(text.split("+"), 1):
        pieces = part.split("|")
        matches = [_EDGE.fullmatch(piece) for piece in pieces[1:-1]]
        sources = [int(match[2]) for match in matches if match is not None]
        if pieces[0] or pieces[-1] or sources != list(range(node)) or len(sources) != len(matches):
            raise _unreadable(text)
        found.extend(match[1] for match in matches if match is not None)
    if len(found) != len(EDGES):
        raise _unreadable(text)
    _check(found)
    return tuple(found)


def widths_of(text: str) -> tuple[int, ...]:
    """Returns the five widths of a string such as `8:16:24:32:64`.

    Raises:
        SchemaError: it is no such string.
    """
    parts = text.split(":")
    widths = tuple(int(part) for part in parts if part.isdecimal())
    if len(parts) != 5 or len(widths) != 5 or not set(widths) <= set(WIDTHS):
        raise SchemaError("cannot read widths", got=text, expected="five of 8, 16, ... 64, as in '8:16:24:32:64'",
                          fix="join the widths by colons")  # fmt: skip
    return widths


def _check(operations: Sequence[str]) -> None:
    unknown = [operation for operation in operations if operation not in OPERATIONS]
    if len(operations) != len(EDGES) or unknown:
        raise SchemaError(
            "cannot describe a cell",
            got=list(operations),
            expected=f"six of {', '.join(OPERATIONS)}{closest(unknown[0], OPERATIONS) if unknown else ''}",
            fix="give one operation per edge, in the order of EDGES",
        )


def _unreadable(text: str) -> SchemaError:
    return SchemaError("cannot read a cell", got=text, expected="|op~0|+|op~0|op~1|+|op~0|op~1|op~2|",
                       fix="take the string from to_string(operations)")  # fmt: skip


__all__ = ["EDGES", "OPERATIONS", "SIZE_CELL", "WIDTHS", "operations_of", "to_string", "widths_of"]
