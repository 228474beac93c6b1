"""A run on disk, whole after each epoch: a run that goes on from there equals one that never stopped.

Kept are the shared weights, the optimizer, the search, the history, the random numbers of torch, and those of loaders
that have a `generator`. Random numbers of your own (numpy, `random`) are yours to keep. Where several processes train
together the first one writes and reads the file, random numbers of all of them included.
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

_FORMAT = 2


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
        own = {
            "random": torch.random.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if self._is_cuda else [],
            "generators": [g.get_state() for g in self._generators],
        }
        ranks = session.team.gather(own)
        if not session.team.is_leader:
            return
        state = {
            "format": _FORMAT,
            "run": json.dumps(self._run),
            "weights": shared.module.state_dict(),
            "optimizer": session.optimizer.state_dict(),
            "search": json.dumps(search.state_dict(), allow_nan=False),
            "history": json.dumps([epoch.to_json() for epoch in session.history]),
            "scaler": None if session.scaler is None else session.scaler.state_dict(),
            "ranks": ranks,
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
        team = session.team
        state, failure = None, None
        try:
            state = self._read(team.size) if team.is_leader and self._path.exists() else None
        except StorageError as error:  # The others wait: they are told before it goes on.
            failure = error
        state, reason = team.sent((state, None if failure is None else str(failure)))
        if failure is not None:
            raise failure
        if reason is not None:
            raise StorageError("cannot go on from a checkpoint", at="rank 0", got=reason, expected="a file of this run",
                               fix="see the output of rank 0")  # fmt: skip
        if state is None:
            return False
        shared.module.load_state_dict(state["weights"])
        session.optimizer.load_state_dict(state["optimizer"])
        if session.scaler is not None and state["scaler"] is not None:
            session.scaler.load_state_dict(state["scaler"])
        search.load_state_dict(json.loads(state["search"]))
        session.history[:] = [Epoch(**record) for record in json.loads(state["history"])]
        own = state["ranks"][team.rank]
        torch.random.set_rng_state(own["random"])
        if own["cuda"]:
            torch.cuda.set_rng_state_all(own["cuda"])
        for generator, kept in zip(self._generators, own["generators"], strict=False):
            generator.set_state(kept)
        return True

    def _read(self, size: int) -> dict[str, Any]:
        """Returns what the file holds.

        Raises:
            StorageError: it cannot be read, or belongs to another run.
        """
        try:
            state: dict[str, Any] = torch.load(self._path, map_location="cpu", weights_only=True)
            run, form = json.loads(state["run"]), state["format"]
        except Exception as error:
            raise StorageError("cannot read a checkpoint", at=self._path, got=f"{type(error).__name__}: {error}",
                               expected="a file that one_shot has written",
                               fix="name another file, or delete this one") from error  # fmt: skip
        if form != _FORMAT:
            raise StorageError("cannot go on from a checkpoint", at=self._path, got=f"format {form}",
                               expected=f"format {_FORMAT}", fix="finish it with the release of its start")  # fmt: skip
        if run != self._run:
            differs = sorted(key for key in run.keys() | self._run.keys() if run.get(key) != self._run.get(key))
            raise StorageError("cannot go on from a checkpoint", at=self._path,
                               got={key: run.get(key) for key in differs},
                               expected=f"a run with {({key: self._run.get(key) for key in differs})}",
                               fix="name another file for another run")  # fmt: skip
        if len(state["ranks"]) != size:
            raise StorageError("cannot go on from a checkpoint", at=self._path,
                               got=f"a run of {len(state['ranks'])} processes", expected=f"a run of {size}",
                               fix="start as many processes as the run had")  # fmt: skip
        return state


__all__ = ["Checkpoint"]
