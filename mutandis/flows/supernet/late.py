"""Attributes that are computed when they are read.

What a text such as `module.arch` says may depend on every decision, and only the user's `__init__` can tell. Building
it at each switch would cost more than the switch; so the real child is built when somebody reads it.
"""

from __future__ import annotations

import types
import weakref
from collections.abc import Callable
from typing import Any

import torch
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


class LiveApply:
    """Stands for `module._apply` in the live program, through which `to`, `float` and `cuda` go.

    PyTorch would move the parts of shared tensors that a module holds, and they would be parts no more.

    Args:
        owner: The module.
        at: Where it stands.
        roots: Returns the outermost modules of the live program.
        move: Moves all shared tensors.
    """

    def __init__(self, owner: nn.Module, at: str, roots: Callable[[], list[nn.Module]],
                 move: Callable[[Callable[..., Any]], Any]) -> None:  # fmt: skip
        self._owner, self._at, self._roots, self._move = owner, at, roots, move

    def __call__(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> nn.Module:
        """Moves all shared tensors where an outermost module is to move.

        Raises:
            LoweringError: another module is to move.
        """
        tensors = [t for module in self._owner.modules() for t in (*module._parameters.values(),
                   *module._buffers.values()) if t is not None]  # fmt: skip
        with torch.no_grad():
            changed = [made for made in map(fn, tensors) if not any(made is t for t in tensors)]
        if changed:
            if not any(self._owner is root for root in self._roots()):
                raise LoweringError(
                    "cannot move a part of the live program",
                    at=f"module {self._at}",
                    got=f"{changed[0].dtype} on {changed[0].device}",
                    expected="one place and type for all shared weights, of which its modules hold parts",
                    fix="move all of them: shared.module.to(...)",
                )
            self._move(fn)
        return self._owner

    def __reduce__(self) -> tuple[Any, ...]:
        return _plain_apply, (self._owner,)  # A copy of a module is no part of a live program.


def _plain_apply(module: nn.Module) -> Any:
    return types.MethodType(type(module)._apply, module)


def copy_error() -> LoweringError:
    """Returns the error for a copy of the live program."""
    return LoweringError(
        "cannot copy the live program, whose weights are shared",
        expected="a free-standing child",
        fix="use shared.export(dna)",
    )


__all__ = ["LateBuffers", "LateRecord", "LiveApply", "LiveTable", "copy_error"]
