"""A progress bar for people: shown on a terminal, silent elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

_INTERVAL = 0.1


class Bar:
    """A line that says how far a search is and what the best so far is.

    Args:
        total: How many trials there will be, or None.
        show: Whether to show it; by default only where standard error is a terminal.
    """

    def __init__(self, total: int | None, *, show: bool | None = None) -> None:
        self._total = total
        self._shown = sys.stderr.isatty() if show is None else show
        self._progress: Any = None
        self._task: Any = None
        self._last = 0.0

    def update(self, done: int, text: str) -> None:
        """Shows how many trials are done and a text, at most ten times a second."""
        if not self._shown:
            return
        now = time.monotonic()
        if self._progress is None:
            self._open()
        elif now - self._last < _INTERVAL and done != self._total:
            return
        self._last = now
        self._progress.update(self._task, completed=done, text=text)

    def _open(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        console = Console(file=sys.stderr, force_terminal=True if not sys.stderr.isatty() else None)
        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.fields[text]}"))
        self._progress = Progress(*columns, console=console)
        self._task = self._progress.add_task("search", total=self._total, text="")
        self._progress.start()

    def close(self) -> None:
        """Leaves the line as it is and gives the terminal back."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
            self._shown = False

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
