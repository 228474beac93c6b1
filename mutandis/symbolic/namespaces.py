"""Lazy namespaces of ready symbolic classes: `mu.nn`, `mu.optim`, `mu.transforms`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

from mutandis.errors import closest
from mutandis.symbolic.calls import symbolize_function
from mutandis.symbolic.classes.wrap import wrapper_of


class Namespace:
    """Gives the classes of a module as symbolic ones, made when they are first asked for.

    Args:
        name: How users write it, such as `mu.nn`.
        load: Returns the original module.
    """

    def __init__(self, name: str, load: Callable[[], ModuleType]) -> None:
        self._name = name
        self._load = load
        self.__doc__ = f"The classes of the original module, symbolic; {name}.X is a subclass of its X."

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        module = self._load()
        try:
            value = getattr(module, name)
        except AttributeError:
            names = [n for n in dir(module) if not n.startswith("_")]
            raise AttributeError(f"{self._name} has no {name!r}{closest(name, names)}") from None
        made = _symbolic(value, f"{self._name}.{name}")
        if made is not value:
            self.__dict__[name] = made
        return made

    def __dir__(self) -> list[str]:
        return [name for name in dir(self._load()) if not name.startswith("_")]

    def __repr__(self) -> str:
        return f"<symbolic namespace {self._name}>"


def _symbolic(value: Any, name: str) -> Any:
    if isinstance(value, type):
        from mutandis.errors import SymbolicError

        try:
            return wrapper_of(value)
        except SymbolicError:  # nn.Parameter and the like are leaves; they stay what they are.
            return value
    if isinstance(value, ModuleType):
        return Namespace(name, lambda: value)
    return symbolize_function(value) if callable(value) else value


def _torchvision_transforms() -> ModuleType:
    from mutandis.symbolic.modules.vision import import_torchvision

    import_torchvision()
    return importlib.import_module("torchvision.transforms")


nn = Namespace("mu.nn", lambda: importlib.import_module("torch.nn"))
optim = Namespace("mu.optim", lambda: importlib.import_module("torch.optim"))
transforms = Namespace("mu.transforms", _torchvision_transforms)
