"""How records travel through `copy.deepcopy` and `pickle`.

A record must never make a class copy or pickle worse than the undecorated one: what cannot be copied is
shared, what cannot be pickled becomes a marker that only a rebuild complains about.
"""

from __future__ import annotations

import copy
import pickle
import types
from typing import Any

from mutandis.errors import short_repr
from mutandis.symbolic.record import LEAVES, Record, is_symbolic
from mutandis.symbolic.undecided import Undecided


class Unavailable(Undecided):
    """Stands for an argument that could not be pickled; a rebuild asks for it."""

    __slots__ = ("what",)

    def __init__(self, what: str) -> None:
        self.what = what

    def __repr__(self) -> str:
        return f"<unavailable since unpickling: {self.what}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return (Unavailable, (self.what,))


def deepcopy_record(record: Record, memo: dict[int, Any]) -> Record:
    """Copies a record for `copy.deepcopy` and links the copied children to the copied owner."""
    fresh = Record.__new__(Record)
    memo[id(record)] = fresh
    owner = record.owner() if record.owner is not None else None
    new_owner = memo.get(id(owner)) if owner is not None else None
    args = tuple(_copied(value, memo) for value in record.args)
    edits = None if record.edits is None else {k: _copied(v, memo) for k, v in record.edits.items()}
    fresh.__setstate__((args, edits, new_owner))
    return fresh


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    kind = type(value)
    if kind in LEAVES:
        return value
    if id(value) in memo:
        return memo[id(value)]
    if kind is list:
        return [_copied(item, memo) for item in value]
    if kind is dict:
        return {key: _copied(item, memo) for key, item in value.items()}
    if kind is tuple:
        return tuple(_copied(item, memo) for item in value)
    try:
        return copy.deepcopy(value, memo)
    except Exception:  # Locks, files, generators, non-leaf tensors: the copy shares what cannot be copied.
        return value


def reduce_record(record: Record) -> tuple[Any, ...]:
    """Pickles a record: (arguments, edits, owner), the owner strongly, so that links can be renewed."""
    owner = record.owner() if record.owner is not None else None
    args = tuple(_portable(value) for value in record.args)
    edits = None if record.edits is None else {k: _portable(v) for k, v in record.edits.items()}
    return (_new_record, (), (args, edits, owner))


def _new_record() -> Record:
    return Record.__new__(Record)


def _portable(value: Any) -> Any:
    kind = type(value)
    if kind in LEAVES and kind is not types.FunctionType:
        return value
    if kind is list:
        return [_portable(item) for item in value]
    if kind is dict:
        return {key: _portable(item) for key, item in value.items()}
    if kind is tuple:
        return tuple(_portable(item) for item in value)
    if isinstance(value, type) and "_mu_spec_" in value.__dict__ and value.__dict__["_mu_spec_"].origin is not value:
        return _WrapperMark(value.__dict__["_mu_spec_"].origin)
    if is_symbolic(value) or isinstance(value, Undecided) or _is_torch(value) or kind.__module__ == "numpy":
        return value
    try:
        pickle.dumps(value)
    except Exception:  # Any failure of a user's `__reduce__` means the same: it cannot travel.
        return Unavailable(short_repr(value))
    return value


def _is_torch(value: Any) -> bool:
    return hasattr(value, "state_dict") or type(value).__module__.partition(".")[0] == "torch"


class _WrapperMark:
    """Pickles a wrapper class by its original; unpickles to the wrapper."""

    def __init__(self, origin: type) -> None:
        self.origin = origin

    def __reduce__(self) -> tuple[Any, ...]:
        from mutandis.symbolic.classes.wrap import wrapper_of

        return (wrapper_of, (self.origin,))


__all__ = ["Unavailable", "deepcopy_record", "reduce_record"]
