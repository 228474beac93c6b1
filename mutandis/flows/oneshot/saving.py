"""A run on disk, whole after each epoch: a run that goes on from there equals one that never stopped.

Kept are the shared weights, the optimizer, the search, the history, the random numbers of torch, and those of loaders
that have a `generator`. Random numbers of your own (numpy, `random`) are yours to keep.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from mutandis.algorithms.oneshot.protocol import SharedSearch
from mutandis.errors import StorageError
from mutandis.flows.oneshot.result import Epoch
from mutandis.flows.oneshot.session import Session
from mutandis.flows.supernet import Shared

_FORMAT = 1


class Checkpoint:
    """The file of a run.

    Args:
        path: Where it is.
        run: What the run is: a file of another run is refused.
        loaders: Batches whose generators are kept.
    """

    def __init__(self, path: str | Path, run: dict[str, Any], loaders: Sequence[Iterable[Any]]) -> None:
        self._path = Path(path)
        self._run = run
        found = [getattr(loader, "generator", None) for loader in loaders]
        self._is_cuda = torch.cuda.is_available()
        self._generators = [g for g in found if isinstance(g, torch.Generator)]

    def save(self, shared: Shared, session: Session, search: SharedSearch) -> None:
        """Writes the state after an epoch; a file that was there is replaced at once or not at all."""
        state = {
            "format": _FORMAT,
            "run": json.dumps(self._run),
            "weights": shared.module.state_dict(),
            "optimizer": session.optimizer.state_dict(),
            "search": json.dumps(search.state_dict(), allow_nan=False),
            "history": json.dumps([epoch.to_json() for epoch in session.history]),
            "random": torch.random.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if self._is_cuda else [],
            "generators": [g.get_state() for g in self._generators],
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_name(self._path.name + ".new")
        torch.save(state, fresh)
        os.replace(fresh, self._path)

    def load(self, shared: Shared, session: Session, search: SharedSearch) -> bool:
        """Goes on from the file, where there is one.

        Returns:
            Whether there was one.

        Raises:
            StorageError: it cannot be read, or belongs to another run.
        """
        if not self._path.exists():
            return False
        try:
            state = torch.load(self._path, map_location="cpu", weights_only=True)
            run, form = json.loads(state["run"]), state["format"]
        except Exception as error:
            raise StorageError("cannot read a checkpoint", at=self._path, got=f"{type(error).__name__}: {error}",
                               expected="a file that one_shot has written",
                               fix="name another file, or delete this one") from error  # fmt: skip
        if form != _FORMAT or run != self._run:
            differs = sorted(key for key in run.keys() | self._run.keys() if run.get(key) != self._run.get(key))
            raise StorageError("cannot go on from a checkpoint", at=self._path,
                               got={key: run.get(key) for key in differs},
                               expected=f"a run with {({key: self._run.get(key) for key in differs})}",
                               fix="name another file for another run")  # fmt: skip
        shared.module.load_state_dict(state["weights"])
        session.optimizer.load_state_dict(state["optimizer"])
        search.load_state_dict(json.loads(state["search"]))
        session.history[:] = [Epoch(**record) for record in json.loads(state["history"])]
        torch.random.set_rng_state(state["random"])
        if state["cuda"]:
            torch.cuda.set_rng_state_all(state["cuda"])
        for generator, kept in zip(self._generators, state["generators"], strict=False):
            generator.set_state(kept)
        return True


__all__ = ["Checkpoint"]
