"""`main`: reads the command line, runs a command, and turns what goes wrong into a message and an exit code.

    0    done
    1    it could not be done; standard error says why
    2    the command line is not one
    130  interrupted by Ctrl-C, after what ran was ended and recorded

This module and `parser` load next to nothing, so that help is there at once.
"""

from __future__ import annotations

import argparse
import importlib
import io
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from mutandis.cli import output
from mutandis.cli.parser import make_parser, with_joined_values
from mutandis.errors import MutandisError, MutandisWarning

DONE, FAILED, MISUSED, INTERRUPTED = 0, 1, 2, 130

_COMMANDS = {
    "run": "mutandis.cli.running:run",
    "resume": "mutandis.cli.running:resume",
    "show": "mutandis.cli.reading:show",
    "best": "mutandis.cli.reading:best",
    "importances": "mutandis.cli.reading:importances",
    "export": "mutandis.cli.exporting:export",
    "report": "mutandis.cli.exporting:report",
    "dashboard": "mutandis.cli.exporting:dashboard",
    "space": "mutandis.cli.describing:space",
    "algorithms": "mutandis.cli.describing:algorithms",
}
"""Where the commands live, which are imported when they are called: `function(options) -> exit code`."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: The arguments; by default those of this process.

    Returns:
        The exit code.

    Raises:
        Exception: what code of the user raises; and what mutandis raises, with `--traceback`.
    """
    _take_all_letters()
    given = with_joined_values(sys.argv[1:] if argv is None else argv)
    if not given:
        make_parser().print_help(sys.stderr)
        return MISUSED
    try:
        options = make_parser().parse_args(given)
    except SystemExit as stop:  # What argparse raises for --help, --version and misuse.
        return int(stop.code or 0)
    try:
        with _plain_warnings():
            code = _command(options.command)(options)
            output.flush()
            return code
    except (MutandisError, FileNotFoundError) as error:
        if options.traceback:
            raise
        print(_message(error), file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # As in `mutandis show s.db | head`.
        output.drop_output()
        return DONE


def _take_all_letters() -> None:
    """Writes letters that standard output lacks as escapes, as standard error does, instead of failing."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _command(name: str) -> Callable[[argparse.Namespace], int]:
    module, _, function = _COMMANDS[name].partition(":")
    found: Callable[[argparse.Namespace], int] = getattr(importlib.import_module(module), function)
    return found


def _message(error: BaseException) -> str:
    """Returns what an error says, with its notes."""
    text = str(error)
    if isinstance(error, FileNotFoundError) and not isinstance(error, MutandisError) and error.filename is not None:
        text = f"cannot find a file: {error.filename}"
    return "\n".join(["error: " + text, *getattr(error, "__notes__", ())])


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Shows warnings as people read them: without the line of the library that gave them."""

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        print(f"warning: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("always", MutandisWarning)
        shown: Any = show
        warnings.showwarning = shown
        yield


__all__ = ["DONE", "FAILED", "INTERRUPTED", "MISUSED", "main"]
