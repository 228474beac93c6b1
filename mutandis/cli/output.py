"""Where results go: tables with colour on a terminal, plain aligned text in a pipe, JSON for machines."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any


def is_terminal() -> bool:
    """Returns whether standard output is read by a person."""
    return sys.stdout.isatty()


def show_text(text: str) -> None:
    """Prints text as it is."""
    print(text)


def show_json(value: Any) -> None:
    """Prints a value as JSON, by the rules of `plain`."""
    print(json.dumps(plain(value), indent=2, allow_nan=False))


def show_code(code: str) -> None:
    """Prints Python code; with colours on a terminal."""
    if not is_terminal():
        print(code.rstrip("\n"))
        return
    from rich.syntax import Syntax

    _console().print(Syntax(code.rstrip("\n"), "python", background_color="default", word_wrap=True))


def show_facts(facts: Mapping[str, object]) -> None:
    """Prints names and values, a line each."""
    width = max(map(len, facts), default=0)
    if is_terminal():
        from rich.text import Text

        for name, value in facts.items():
            _console().print(Text.assemble((name.ljust(width), "bold cyan"), "  ", _cell(value)))
        return
    for name, value in facts.items():
        print(f"{name.ljust(width)}  {_cell(value)}".rstrip())


def show_table(
    heads: Sequence[str], rows: Sequence[Sequence[object]], *, title: str | None = None, marked: int | None = None
) -> None:
    """Prints a table.

    Args:
        heads: Names of the columns.
        rows: As many values each; numbers are aligned to the right, and None is left empty.
        title: What stands above it.
        marked: The place of a row that stands out on a terminal.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    right = [all(isinstance(row[i], (int, float, type(None))) for row in rows) for i in range(len(heads))]
    if is_terminal():
        _show_rich(heads, cells, right, title, marked)
        return
    if title:
        print(title)
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    for row in [list(heads), *cells]:
        aligned = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)]
        print("  ".join(aligned).rstrip())


def _show_rich(
    heads: Sequence[str], cells: list[list[str]], right: list[bool], title: str | None, marked: int | None
) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=None if title is None else Text(title), title_justify="left", box=box.SIMPLE_HEAD)
    for head, is_right in zip(heads, right, strict=True):
        table.add_column(Text(head), justify="right" if is_right else "left", overflow="fold")
    for number, row in enumerate(cells):
        table.add_row(*map(Text, row), style="bold green" if number == marked else None)
    _console().print(table)


def _console() -> Any:
    from rich.console import Console

    return Console(file=sys.stdout, highlight=False, markup=False, emoji=False)


def note(text: str) -> None:
    """Says something beside the result, on standard error."""
    print(text, file=sys.stderr)


def _cell(value: object) -> str:
    if value is None:
        return ""
    text = f"{value + 0.0:.6g}" if isinstance(value, float) else str(value)  # -0.0 + 0.0 is 0.0.
    return " ".join(text.split()) if "\n" in text else text


def plain(value: Any) -> Any:
    """Returns a value as JSON has it: nan and the infinities are null, and what JSON lacks is its text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return str(value)


__all__ = ["is_terminal", "note", "plain", "show_code", "show_facts", "show_json", "show_table", "show_text"]
