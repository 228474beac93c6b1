"""Where results go: tables with colour on a terminal, plain aligned text in a pipe, JSON for machines."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from mutandis.errors import StorageError

_NARROW = 24
"""Columns of at most so many characters are never broken on a terminal."""

_LEAST = 12
"""How many characters a broken column keeps."""


def is_terminal() -> bool:
    """Returns whether standard output is read by a person."""
    return sys.stdout is not None and sys.stdout.isatty()


@contextmanager
def writing() -> Iterator[None]:
    """Tells of an output that takes no more, such as a full disk; a pipe whose reader is gone is no such thing.

    Raises:
        StorageError: standard output cannot be written to.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        drop_output()
        raise StorageError("cannot write to standard output", got=error, expected="a place with room",
                           fix="check the disk that it goes to") from error  # fmt: skip


def drop_output() -> None:
    """Lets the rest of standard output go nowhere, so that it is no error when the process ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def flush() -> None:
    """Writes what standard output holds back: what is wrong with it shows here, not when the process ends.

    Raises:
        StorageError: standard output cannot be written to.
    """
    if sys.stdout is not None:
        with writing():
            sys.stdout.flush()


def show_text(text: str, *, end: str = "\n") -> None:
    """Prints text as it is."""
    with writing():
        print(text, end=end)


def show_json(value: Any) -> None:
    """Prints a value as JSON, by the rules of `plain`."""
    show_text(json.dumps(plain(value), indent=2, allow_nan=False))


def show_code(code: str) -> None:
    """Prints Python code; with colours on a terminal."""
    if not is_terminal():
        show_text(code.rstrip("\n"))
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
        show_text(f"{name.ljust(width)}  {_cell(value)}".rstrip())


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
        show_text(title)
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    for row in [list(heads), *cells]:
        aligned = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)]
        show_text("  ".join(aligned).rstrip())


def _show_rich(
    heads: Sequence[str], cells: list[list[str]], right: list[bool], title: str | None, marked: int | None
) -> None:
    from rich import box
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    table = Table(title=None if title is None else Text(title), title_justify="left", box=box.SIMPLE_HEAD)
    widths = [max(map(cell_len, column)) for column in zip(heads, *cells, strict=True)]
    for head, is_right, width in zip(heads, right, widths, strict=True):
        table.add_column(Text(head), justify="right" if is_right else "left", overflow="fold", no_wrap=width <= _NARROW)
    for number, row in enumerate(cells):
        table.add_row(*map(Text, row), style="bold green" if number == marked else None)
    # A terminal that is too narrow breaks lines itself, which reads better than numbers broken in columns.
    _console(least=1 + sum(3 + (width if width <= _NARROW else _LEAST) for width in widths)).print(table)


def _console(least: int = 0) -> Any:
    from rich.console import Console

    made = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    if made.width < least:
        made.width = least
    return made


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
