"""Directories of trials: made when they are first asked for, gone when nobody needs them."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path


class Checkpoint:
    """A directory of one trial.

    Args:
        prefix: How the name of a temporary directory begins. It is removed with this object, or when the process ends.
        place: Where a directory that outlives this object shall be, for the next attempt at the trial, in whatever
            process; None for a temporary one.
    """

    __slots__ = ("__weakref__", "_path", "_place", "_prefix")

    def __init__(self, prefix: str, place: Path | None = None) -> None:
        self._prefix = prefix
        self._place = place
        self._path: Path | None = None

    @property
    def path(self) -> Path:
        """The directory, which is made where it is not there yet."""
        if self._place is not None:
            self._place.mkdir(parents=True, exist_ok=True)
            return self._place
        if self._path is None:
            self._path = Path(tempfile.mkdtemp(prefix=self._prefix))
            weakref.finalize(self, shutil.rmtree, self._path, ignore_errors=True)
        return self._path

    @property
    def made(self) -> Path | None:
        """The directory, or None where nobody asked for it."""
        if self._place is not None:
            return self._place if self._place.is_dir() else None
        return self._path

    def remove(self) -> None:
        """Removes a directory that would outlive this object."""
        if self._place is not None:
            shutil.rmtree(self._place, ignore_errors=True)


__all__ = ["Checkpoint"]
