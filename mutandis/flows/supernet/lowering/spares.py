"""A child that is taken apart for a pass of labels, and is afterwards what it was before.

Building a child costs more than a pass of labels through it. So a child that is about to be a part of the live program
lends its own modules for the pass. They get weights of any content, and what the pass does to their attributes, tensors
and modes is undone. What cannot be undone, such as an entry in a cache, shows when attributes are compared with the
facts; then the child is built once more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from mutandis.flows.supernet.lowering.children import Child
from mutandis.flows.supernet.lowering.facts import RECORD, have_changed, state_buffers

_TABLES = ("_parameters", "_buffers", "_modules")
_HARMLESS = frozenset({RECORD, "__dict__", "__weakref__"})


class Spare:
    """A child without weights on loan.

    Args:
        child: The child, before anything was done to it since it was built.
        build: Builds it once more.
    """

    def __init__(self, child: Child, build: Callable[[], Child]) -> None:
        self._child, self._build = child, build
        self._is_plain = child.is_plain and all(map(_is_plain, child.tree.values()))
        self._before = [_Before(module) for module in child.tree.values()] if self._is_plain else []

    def fresh(self) -> Child:
        """Returns a child that may be taken apart, with weights of any content; the one before is none any more."""
        if not self._is_plain:
            return self._build()
        self._undo()
        _dress(self._child)
        return self._child

    def give_back(self) -> None:
        """Makes the child what it was: what was done to it is undone, or else it is built anew."""
        self._undo()
        if self._is_plain and have_changed(self._child.tree, self._child.facts):
            self._child.replace(self._build())

    def _undo(self) -> None:
        for before in self._before:
            before.restore()


class _Before:
    """The attributes and tables of a module as they are now."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._attributes = dict(module.__dict__)
        self._tables = [(module.__dict__[name], dict(module.__dict__[name])) for name in _TABLES]

    def restore(self) -> None:
        """Puts them back."""
        self._module.__dict__.clear()
        self._module.__dict__.update(self._attributes)
        for table, content in self._tables:
            table.clear()
            table.update(content)


def _is_plain(module: nn.Module) -> bool:
    """Returns whether all that a module has, but for the arguments of a symbolic one, stands in its `__dict__`."""
    slots = [vars(cls).get("__slots__", ()) for cls in type(module).__mro__]
    return all(name in _HARMLESS for names in slots for name in ((names,) if isinstance(names, str) else names))


def _dress(child: Child) -> None:
    """Gives a child tensors of the shapes and types that it had; those that were one are one again."""
    made: dict[str, nn.Parameter] = {}
    for path, module in child.tree.items():
        state = state_buffers(module)
        for tensor in child.facts[path].tensors:
            if tensor[0] == "parameter" and len(tensor) > 2:
                _, name, shape, dtype, trained, home = tensor
                if home not in made:
                    made[home] = nn.Parameter(torch.empty(shape, dtype=_dtype(dtype)), requires_grad=trained)
                module._parameters[name] = made[home]
            elif tensor[0] == "state":
                module._buffers[tensor[1]] = torch.ones(tensor[2], dtype=_dtype(tensor[3]))
        for name, buffer in module._buffers.items():
            if buffer is not None and name not in state:
                module._buffers[name] = buffer.clone()  # Labels are written into it.


def _dtype(name: str) -> Any:
    return getattr(torch, name.removeprefix("torch."))


__all__ = ["Spare"]
