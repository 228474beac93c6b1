"""Studies by the path or address that a user writes, and how the command line remembers what it was asked for."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mutandis.errors import StorageError, closest
from mutandis.flows import Study
from mutandis.flows.studies.stores import open_store
from mutandis.flows.studies.stores.registry import file_of

COMMAND = "command"
"""Under which note of its header a study keeps the options of the command line that searched."""

_KEPT = (
    "target", "objective", "objectives", "algorithm", "settings", "scheduler", "scheduler_settings", "seed",
    "deterministic", "trials", "trial_timeout", "memory_bytes", "max_failures", "workers", "executor",
)  # fmt: skip
_FIX = "check the path; mutandis run SCRIPT:PROGRAM --study FILE makes one"
_LISTS = ("settings", "scheduler_settings")


def open_study(where: str, name: str | None = None, *, make: bool = False) -> Study:
    """Opens the study of a path or address.

    Args:
        where: A path, or an address with `://`.
        name: Which study; by default the only one there, or the one called `study`.
        make: Whether to make it where there is none.

    Raises:
        StorageError: there is no such file or study, several are there and none is named, or it cannot be opened.
    """
    path = file_of(where)
    if not make and path is not None and not _has_lines(path):
        raise _no_study(where, path)
    with open_store(where) as store:
        known = store.studies()
    if name is None:
        name = known[0] if len(known) == 1 else "study"
    if name not in known and not make:
        if not known:
            raise StorageError("cannot find a study", at=where, got="a store without any",
                               expected="a store that a search has used", fix=_FIX)  # fmt: skip
        raise StorageError(
            "cannot find a study",
            at=where,
            got=name,
            expected=f"one of {', '.join(known)}{closest(name, known)}",
            fix="name it: --name NAME",
        )
    return Study(where, name=name)


def _has_lines(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _no_study(where: str, path: Path) -> StorageError:
    """Returns the error for a path at which no study is; opening that would make one."""
    folder = next((place for place in (path, path.parent) if place.is_dir()), Path())
    others = [other for other in folder.iterdir() if other.suffix in (".db", ".jsonl") and _has_lines(other)]
    near = closest(where, map(str, others)) if folder != path or not others else f", such as {sorted(others)[0]}"
    found = {"got": "a folder" if path.is_dir() else "an empty file"} if path.exists() else {}
    return StorageError("cannot find a study", at=where, expected=f"a file that a study wrote{near}", fix=_FIX, **found)


def recall(study: Study) -> dict[str, Any]:
    """Returns the options that were noted in a study; empty for a study that a script made."""
    header = None if study.archive is None else study.archive.header
    found = {} if header is None else header.notes.get(COMMAND, {})
    return dict(found) if isinstance(found, Mapping) else {}


def remember(study: Study, options: argparse.Namespace, folder: str) -> None:
    """Notes in a study that is open what it was searched with, so that it can be resumed by its name alone.

    Args:
        study: The study, in a store.
        options: What `run` or `resume` was asked for, complete.
        folder: Where modules were looked for.
    """
    assert study.archive is not None  # Studies in memory are not resumed.
    header = study.archive.header
    assert header is not None  # The search has opened it.
    kept = {key: getattr(options, key) for key in _KEPT} | {"folder": folder}
    noted = {key: _as_json(value) for key, value in kept.items() if value not in (None, [])}
    if header.notes.get(COMMAND) != noted:
        study.archive.log.amend(dataclasses.replace(header, notes={**header.notes, COMMAND: noted}))


def merged(options: argparse.Namespace, recorded: Mapping[str, Any]) -> argparse.Namespace:
    """Returns the options of `resume`: what is said now, and else what is recorded.

    Settings are added to those that are recorded, unless another algorithm or scheduler is named.
    """
    made = argparse.Namespace(**vars(options))
    for key in _KEPT:
        if key not in _LISTS and getattr(made, key) is None and key in recorded:
            value = recorded[key]
            setattr(made, key, tuple(value) if isinstance(value, list) else value)
    for key, owner in (("settings", "algorithm"), ("scheduler_settings", "scheduler")):
        before = [] if getattr(options, owner) is not None else recorded.get(key, [])
        setattr(made, key, [tuple(pair) for pair in before] + getattr(options, key))
    return made


def _as_json(value: Any) -> Any:
    return [_as_json(item) for item in value] if isinstance(value, (list, tuple)) else value


__all__ = ["COMMAND", "merged", "open_study", "recall", "remember"]
