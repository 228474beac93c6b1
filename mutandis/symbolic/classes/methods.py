"""The symbolic operations as methods, where a class does not define the name itself."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable
from typing import Any

_HOMES = {
    "clone": "building", "rebind": "transactions.rebind", "query": "traverse", "get": "traverse",
    "traverse": "traverse", "diff": "compare", "equal": "compare", "fingerprint": "compare", "describe": "describe",
    "to_json": "serial.documents", "save": "serial.documents", "to_python": "code",
}  # fmt: skip

_REGISTRATIONS = frozenset({"add_module", "register_module", "register_buffer", "register_parameter"})


class Operation:
    """A non-data descriptor that binds a free function to an object.

    Layers, parameters and buffers of the same name win: an attention module may own a layer called `query`.
    """

    __slots__ = ("function", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.function: Callable[..., Any] | None = None

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:  # Dataclasses would take what they find here for the default of a field.
            raise AttributeError(self.name)
        try:
            state = object.__getattribute__(instance, "__dict__")
        except AttributeError:
            state = {}
        if "_modules" in state:
            for table in ("_parameters", "_buffers", "_modules"):
                if self.name in state.get(table, ()):
                    return state[table][self.name]
            caller = sys._getframe(1).f_code  # torch asks `hasattr` before it registers a name.
            if caller.co_name in _REGISTRATIONS:
                raise AttributeError(self.name)
        if self.function is None:
            home = importlib.import_module(f"mutandis.symbolic.{_HOMES[self.name]}")
            self.function = getattr(home, self.name)
        return types.MethodType(self.function, instance)


def install_methods(cls: type) -> None:
    """Adds the operations to a class that does not define these names."""
    for name in _HOMES:
        if not any(name in base.__dict__ for base in cls.__mro__):
            type.__setattr__(cls, name, Operation(name))
