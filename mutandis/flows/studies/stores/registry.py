"""From what a user writes to a store: a path or an address."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from mutandis.errors import SettingError, StorageError
from mutandis.flows.studies.stores.base import Store
from mutandis.flows.studies.stores.jsonl import JSONLMedium
from mutandis.flows.studies.stores.medium import PROCESS, Medium, need_durability, need_seconds
from mutandis.flows.studies.stores.memory import MemoryMedium
from mutandis.flows.studies.stores.sql import SQLMedium
from mutandis.flows.studies.stores.sqlite import SQLiteMedium

Maker = Callable[[str, str], Medium]
"""Makes a medium from what the user wrote and the class of durability."""

_SCHEMES: dict[str, Maker] = {}


def register_scheme(scheme: str) -> Callable[[Maker], Maker]:
    """Makes `scheme://...` an address of stores: a decorator of a function (address, durability) -> `Medium`.

    Raises:
        SettingError: the scheme is taken.
    """

    def register(maker: Maker) -> Maker:
        if scheme in _SCHEMES:
            raise SettingError("cannot register a store", at=scheme, got=maker, expected="a scheme that is free",
                               fix=f"choose another one than {', '.join(sorted(_SCHEMES))}")  # fmt: skip
        _SCHEMES[scheme] = maker
        return maker

    return register


@register_scheme("postgresql")
@register_scheme("postgresql+psycopg")
@register_scheme("postgres")
def _open_sql(where: str, durability: str) -> Medium:
    return SQLMedium(where, durability=durability)


@register_scheme("sqlite")
def _open_sqlite(where: str, durability: str) -> Medium:
    path = file_of(where)
    assert path is not None  # The scheme says so.
    return SQLiteMedium(_placed(path), durability=durability)


def file_of(where: str | os.PathLike[str]) -> Path | None:
    """Returns the file of a path or address, which need not exist; None for what is kept elsewhere.

    Args:
        where: As for `open_store`.
    """
    scheme, is_address, rest = os.fspath(where).partition("://")
    if is_address and scheme != "sqlite":
        return None
    return Path(os.path.expanduser(rest.removeprefix("/") if is_address else where))


def open_store(
    where: str | os.PathLike[str] | None = None,
    *,
    lease: float = 60.0,
    attempts: int = 3,
    durability: str = PROCESS,
    worker: str | None = None,
) -> Store:
    """Opens the store of an address, and makes it where there is none.

    Args:
        where: None for memory; a path that ends in `.jsonl` for a file of lines; any other path for an SQLite file;
            `postgresql://user@host:port/base` for a server.
        lease: Seconds after which a worker whose heartbeat stands still counts as lost.
        attempts: How many workers a trial may lose before it counts as failed.
        durability: `process`: what was recorded survives the death of any process, and a power cut loses at most the
            latest; `power`: results survive a power cut too, for a wait for the disk per result.
        worker: A name for this process in the records; by default one that tells others when the process is dead.

    Raises:
        StorageError: it cannot be opened, or holds something else.
        SettingError: an argument is out of range.
        MissingDependency: the address needs an extra that is not installed.
    """
    need_durability(durability)
    seconds = need_seconds("lease", lease)
    if not isinstance(attempts, int) or isinstance(attempts, bool) or attempts < 1:
        raise SettingError("cannot open a store", at="attempts", got=attempts, expected="an int >= 1",
                           fix="leave attempts out, or write attempts=3")  # fmt: skip
    return Store(_medium_of(where, durability), lease=seconds, attempts=attempts, worker=worker)


def _medium_of(where: str | os.PathLike[str] | None, durability: str) -> Medium:
    if where is None:
        return MemoryMedium()
    if not isinstance(where, (str, os.PathLike)) or not str(where):
        raise SettingError("cannot open a store", at="where", got=where, expected="a path, an address, or None",
                           fix="open_store('study.db')")  # fmt: skip
    text = os.fspath(where)
    scheme, is_address, _ = text.partition("://")
    if is_address:
        if scheme not in _SCHEMES:
            raise StorageError("cannot open a store", at="where", got=f"{scheme}://...",
                               expected=f"one of {', '.join(sorted(_SCHEMES))}, or a path",
                               fix="use a path for a file: study.db or study.jsonl")  # fmt: skip
        return _SCHEMES[scheme](text, durability)
    path = _placed(Path(os.path.expanduser(text)))
    return (JSONLMedium if text.endswith(".jsonl") else SQLiteMedium)(path, durability=durability)


def _placed(path: Path) -> Path:
    """Refuses a path at which there can be no file.

    Raises:
        StorageError: it is a folder, or in one that is not there.
    """
    folder = path.parent
    if path.is_dir():
        raise StorageError("cannot open a store", at=path, got="a folder", expected="a file, or where one can be made",
                           fix=f"name a file in it: {path / 'study.db'}")  # fmt: skip
    if not folder.is_dir():
        raise StorageError("cannot open a store", at=path, got="a path in what is no folder",
                           expected="a file, or where one can be made",
                           fix=f"make the folder first: mkdir -p {folder}")  # fmt: skip
    return path
