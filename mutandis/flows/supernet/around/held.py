"""Where the objects of a program hold what must outlive a switch, and how to put another one there.

That are optimizers and their schedules; modules and parameters that do not share weights; and other objects that hold
these or say what their state is, such as a `GradScaler`, but hold nothing that is another one after a switch, such as
the modules that share weights. All else is made anew by each `__init__`, like the program itself.

Looked at are attributes of the program's own objects and of what these hold, containers, functions with what they
enclose, and methods; not the insides of modules.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import nn

from mutandis.symbolic.paths import Key, Path
from mutandis.symbolic.record import LEAVES, is_abstract, is_symbolic
from mutandis.symbolic.traverse import children

_DEEPEST = 6  # Objects between the program's own and what they hold.
_WIDEST = 64  # Elements of a container whose insides are looked at too.
_PLAIN = LEAVES - {types.FunctionType, types.MethodType}
_KINDS = (torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler, nn.Module, nn.Parameter)

Put = Callable[[Any], None]
Owners = tuple[tuple[str, Any], ...]


class Held:
    """An object that a program has made, and that must outlive a switch.

    Attributes:
        at: Where it stands.
        value: The object.
        owners: Ids of objects that are no part of the program as it was written, but hold it.
        puts: Functions that put another object in its places.
    """

    def __init__(self, at: str, value: Any) -> None:
        self.at, self.value = at, value
        self.owners: set[int] = set()
        self.puts: list[Put] = []

    def put(self, other: Any) -> None:
        """Lets everything that holds it hold another one."""
        if other is not self.value:
            for put in self.puts:
                put(other)


def has_state(value: Any) -> bool:
    """Returns whether a class says what the state of an object is, as a `GradScaler` does."""
    kind = type(value)
    return all(callable(getattr(kind, name, None)) for name in ("state_dict", "load_state_dict"))


def exchange(holder: Any, others: Mapping[int, Any]) -> None:
    """Lets an object and what it holds hold other objects, given by the ids of those they stand for."""
    search = _Search((), others)
    search.visit(holder, Path(), _nowhere, ())


def held_in(program: Any, live: Collection[int]) -> list[Held]:
    """Returns what a program has made that must outlive a switch, in the order in which it is found.

    Args:
        program: The program.
        live: The modules that share weights, by id; they are no part of this.
    """
    search = _Search(live)
    search.visit(program, Path(), _nowhere, ())
    return [*search.found.values(), *search.others()]


class _Search:
    def __init__(self, live: Collection[int], exchanged: Mapping[int, Any] | None = None) -> None:
        self._live = live
        self._exchanged = exchanged or {}
        self._tied: set[int] = set()
        self._others: list[tuple[str, Any, Put]] = []
        self._seen: set[int] = set()
        self._alive: list[Any] = []  # Their ids shall not be given to others meanwhile.
        self.found: dict[int, Held] = {}

    def visit(self, value: Any, path: Path, put: Put, owners: Owners) -> None:
        """Looks at a value and what it holds.

        Args:
            value: The value.
            path: Where it stands.
            put: Puts another one there.
            owners: The objects on the way that are not the program's own.
        """
        if type(value) in _PLAIN or isinstance(value, (type, types.ModuleType)) or is_abstract(value):
            return
        if id(value) in self._exchanged:
            put(self._exchanged[id(value)])
            return
        if isinstance(value, _KINDS):
            self._note(value, path, put, owners)
            for module in value.modules() if self._exchanged and isinstance(value, nn.Module) else ():
                for name, layer in module._modules.items():
                    module._modules[name] = self._exchanged.get(id(layer), layer)
            return
        if isinstance(value, torch.Tensor):
            return
        if id(value) in self._seen and not isinstance(value, (tuple, types.MethodType, functools.partial)):
            self._others += [(at, other, put) for at, other, _ in self._others if other is value][:1]
            return  # Of those that cannot be changed where they are, each place counts.
        self._seen.add(id(value))
        self._alive.append(value)
        if not self._visit_parts(value, path, put, owners) and len(owners) < _DEEPEST:
            self._visit_object(value, path, put, owners)

    def _note(self, value: Any, path: Path, put: Put, owners: Owners) -> None:
        if isinstance(value, nn.Module) and any(id(module) in self._live for module in value.modules()):
            self._tie(owners)
        if isinstance(value, nn.Module) and (id(value) in self._live or not _has_tensors(value)):
            return
        found = self.found.setdefault(id(value), Held(str(path), value))
        found.puts.append(put)
        found.owners.update(id(owner) for _, owner in owners)
        if isinstance(value, torch.optim.lr_scheduler.LRScheduler):
            optimizer = value.optimizer
            self.visit(optimizer, path / "optimizer", lambda other: setattr(value, "optimizer", other), owners)

    def _visit_parts(self, value: Any, path: Path, put: Put, owners: Owners) -> bool:
        """Looks at the elements of a container or a function; returns whether it is one."""
        if isinstance(value, list):
            self._visit_all(list(enumerate(value)), path, value.__setitem__, owners)
        elif isinstance(value, dict):
            items = [(key, item) for key, item in value.items() if isinstance(key, (str, int))]
            self._visit_all(items, path, value.__setitem__, owners, Key)
        elif isinstance(value, tuple):
            parts = list(value)

            def put_part(index: int, other: Any) -> None:
                parts[index] = other
                put(type(value)(*parts) if hasattr(value, "_make") else tuple(parts))

            self._visit_all(list(enumerate(value)), path, put_part, owners)
        elif isinstance(value, types.MethodType):
            function = value.__func__
            self.visit(value.__self__, path, lambda other: put(types.MethodType(function, other)), owners)
        elif isinstance(value, types.FunctionType):
            for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
                self._visit_cell(cell, path / name, owners)
        elif isinstance(value, functools.partial):
            self._visit_partial(value, path, put, owners)
        else:
            return False
        return True

    def _visit_all(self, items: list[tuple[Any, Any]], path: Path, put: Callable[[Any, Any], None], owners: Owners,
                   step: Callable[[Any], Any] = lambda key: key) -> None:  # fmt: skip
        for key, item in items:
            if len(items) <= _WIDEST or isinstance(item, _KINDS):
                self.visit(item, path / step(key), functools.partial(put, key), owners)

    def _visit_cell(self, cell: Any, path: Path, owners: Owners) -> None:
        try:
            inside = cell.cell_contents
        except ValueError:  # Nothing was put there yet.
            return
        self.visit(inside, path, lambda other: setattr(cell, "cell_contents", other), owners)

    def _visit_partial(self, value: Any, path: Path, put: Put, owners: Owners) -> None:
        args, named = list(value.args), dict(value.keywords)

        def renew() -> None:
            put(functools.partial(value.func, *args, **named))

        def put_argument(index: int, other: Any) -> None:
            args[index] = other
            renew()

        def put_named(name: str, other: Any) -> None:
            named[name] = other
            renew()

        self._visit_all(list(enumerate(value.args)), path, put_argument, owners)
        self._visit_all(list(value.keywords.items()), path, put_named, owners)

    def _visit_object(self, value: Any, path: Path, put: Put, owners: Owners) -> None:
        attributes = getattr(value, "__dict__", None)
        if not isinstance(attributes, dict):
            return
        if is_symbolic(value):
            self._tie(owners)
            for step, item in children(value):
                self.visit(item, path / step, _nowhere, owners)
        else:
            self._others.append((str(path), value, put))
            owners = (*owners, (str(path), value))
        for name, item in list(attributes.items()):
            if name != "_mu_":
                self.visit(item, path / name, functools.partial(object.__setattr__, value, name), owners)

    def _tie(self, owners: Owners) -> None:
        """Notes which objects hold what is another one after a switch."""
        self._tied.update(id(owner) for _, owner in owners)

    def others(self) -> list[Held]:
        """Returns other objects that must outlive a switch."""
        holding = {number for held in self.found.values() for number in held.owners}
        made: dict[int, Held] = {}
        for at, value, put in self._others:
            if id(value) not in self._tied and (id(value) in holding or has_state(value)):
                made.setdefault(id(value), Held(at, value)).puts.append(put)
        return list(made.values())


def _nowhere(other: Any) -> None:
    """Leaves an argument of a symbolic object as it is: its attribute is what is read."""


def _has_tensors(module: nn.Module) -> bool:
    return any(True for _ in module.parameters()) or any(True for _ in module.buffers())


__all__ = ["Held", "exchange", "has_state", "held_in"]
