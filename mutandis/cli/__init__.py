"""The command line: `mutandis run`, `show`, `best`, `resume` and the rest; see `mutandis --help`."""

from __future__ import annotations

from mutandis.cli.entry import main as main

__all__ = ["main"]
