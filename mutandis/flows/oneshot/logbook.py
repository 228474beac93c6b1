"""What people see of a run: a bar, a warning where it collapses, and TensorBoard."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from mutandis.errors import MissingDependency, MutandisWarning
from mutandis.flows.oneshot.result import Epoch
from mutandis.progress import Bar

_SHOWN = 6


class Logbook:
    """Tells how a run goes.

    Args:
        total: Weight steps of the run.
        epochs: Epochs of the run.
        collapse: The share of choices without weights from which on the run is said to collapse.
        progress: Whether the bar is shown; None where standard error is a terminal.
        tensorboard: A folder for TensorBoard, an open `SummaryWriter`, or None.

    Raises:
        MissingDependency: a folder is given, and tensorboard is not installed.
    """

    def __init__(self, total: int, epochs: int, *, collapse: float, progress: bool | None,
                 tensorboard: Any) -> None:  # fmt: skip
        self._bar = Bar(total, show=progress)
        self._epochs, self._collapse = epochs, collapse
        self._is_warned = False
        self._last: Epoch | None = None
        self._is_own = isinstance(tensorboard, (str, Path))
        self._writer = _open(tensorboard) if self._is_own else tensorboard

    def tell(self, count: int, loss: float) -> None:
        """Hears how many weight steps are done, and the last loss."""
        self._bar.update(count, f"loss {loss:.3f}" + ("" if self._last is None else f"  {summary(self._last)}"))

    def epoch(self, record: Epoch) -> None:
        """Hears of an epoch; warns once where the likeliest architecture has nearly no weights late in the run."""
        self._last = record
        if self._writer is not None:
            for name, value in scalars(record).items():
                self._writer.add_scalar(name, value, record.number)
            if record.likeliest and hasattr(self._writer, "add_text"):
                rows = [f"{path}: {label}" for path, label in record.likeliest.items()]
                self._writer.add_text("likeliest", "  \n".join(rows), record.number)
        is_late = 2 * record.number >= self._epochs
        share = record.free_share
        if is_late and share is not None and share >= self._collapse and not self._is_warned:
            self._is_warned = True
            warnings.warn(
                f"the likeliest architecture after epoch {record.number} takes candidates without weights (such as "
                f"skip connections) at {share:.0%} of the choices: a known failure of relaxed search; stop earlier, or "
                "compare with an algorithm that trains single paths, such as RSPS()",
                MutandisWarning,
                stacklevel=4,
            )

    def close(self) -> None:
        """Ends the bar; closes a writer that was opened here."""
        self._bar.close()
        if self._writer is not None and self._is_own:
            self._writer.close()


def scalars(record: Epoch) -> dict[str, float]:
    """Returns the numbers of an epoch by name."""
    found: dict[str, float | None] = {
        "loss": record.loss, "outcome": record.outcome, "learning_rate": record.learning_rate,
        "free_share": record.free_share, **{f"entropy/{path}": h for path, h in record.entropy.items()},
    }  # fmt: skip
    return {name: value for name, value in found.items() if value is not None}


def summary(record: Epoch) -> str:
    """Returns the mean entropy and the likeliest candidates in a few words."""
    if not record.likeliest:
        return ""
    entropy = sum(record.entropy.values()) / len(record.entropy)
    labels = [str(label) for label in record.likeliest.values()]
    more = "" if len(labels) <= _SHOWN else f" (+{len(labels) - _SHOWN})"
    return f"entropy {entropy:.2f}  best {' '.join(labels[:_SHOWN])}{more}"


def _open(folder: str | Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingDependency(
            "cannot write for TensorBoard",
            at="one_shot.tensorboard",
            expected="tensorboard to be installed",
            fix="pip install 'mutandis[trackers]'",
        ) from error
    return SummaryWriter(str(folder))


__all__ = ["Logbook", "scalars", "summary"]
