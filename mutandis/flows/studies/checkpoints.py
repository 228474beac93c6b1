"""Directories of trials: made when they are first asked for, gone when nobody needs them."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path


class Checkpoint:
    """A directory of one trial. It is removed with this object, or when the process ends.

    Args:
        prefix: How the name of the directory begins.
    """

    __slots__ = ("__weakref__", "_path", "_prefix")

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._path: Path | None = None

    @property
    def path(self) -> Path:
        """The directory, which is made where it is not there yet."""
        if self._path is None:
            self._path = Path(tempfile.mkdtemp(prefix=self._prefix))
            weakref.finalize(self, shutil.rmtree, self._path, ignore_errors=True)
        return self._path

    @property
    def made(self) -> Path | None:
        """The directory, or None where nobody asked for it."""
        return self._path


__all__ = ["Checkpoint"]
