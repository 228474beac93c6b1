"""Attributes that are computed when they are read.

What a text such as `module.arch` says may depend on every decision, and only the user's `__init__` can tell. Building
it at each switch would cost more than the switch; so the real child is built when somebody reads it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from torch import nn

from mutandis.errors import LoweringError
from mutandis.symbolic.record import Record


class LiveTable(dict[str, Any]):
    """The tensors of a module that holds parts of shared weights, of which PyTorch could make no copy."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise copy_error()

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        raise copy_error()


class LateBuffers(LiveTable):
    """The buffers of a module, and beside them attributes that are read late.

    `nn.Module.__getattr__` looks here for what is no plain attribute. Nothing that lists buffers sees the others.

    Args:
        buffers: The module's own.
        names: The attributes.
        read: Returns the value of one.
    """

    def __init__(self, buffers: dict[str, Any], names: frozenset[str], read: Callable[[str], Any]) -> None:
        super().__init__(buffers)
        self._names = names
        self._read = read

    def __contains__(self, name: object) -> bool:
        return name in self._names or super().__contains__(name)

    def __getitem__(self, name: str) -> Any:
        return self._read(name) if name in self._names else super().__getitem__(name)


class LateRecord(Record):
    """The arguments of a symbolic module, read from a real child.

    Args:
        owner: The module.
        read: Returns the record of the same module in a real child.
    """

    __slots__ = ("_read",)

    def __init__(self, owner: nn.Module, read: Callable[[], Any]) -> None:
        self._read = read
        self.holders = []
        self.owner = weakref.ref(owner)

    @property
    def args(self) -> tuple[Any, ...]:  # type: ignore[override]
        """The argument values."""
        record = self._read()
        return record if type(record) is tuple else record.args

    @property
    def edits(self) -> dict[str, Any] | None:  # type: ignore[override]
        """The edits of layers."""
        record = self._read()
        return None if type(record) is tuple else record.edits

    def __deepcopy__(self, memo: dict[int, Any]) -> Record:
        raise copy_error()

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        raise copy_error()


def copy_error() -> LoweringError:
    """Returns the error for a copy of the live program."""
    return LoweringError(
        "cannot copy the live program, whose weights are shared",
        expected="a free-standing child",
        fix="use shared.export(dna)",
    )


__all__ = ["LateBuffers", "LateRecord", "LiveTable", "copy_error"]
