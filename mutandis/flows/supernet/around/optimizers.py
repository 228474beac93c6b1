"""Optimizers that a program makes of its modules when it is built.

The program around the modules is built anew for each DNA, by its own `__init__`. An optimizer that is made there would
forget its momentum with every switch, and hold views of a few weights. So it is made over whole shared tensors, the
first one is kept for good, and stands in the place of every later one; from that it takes the settings that changed (a
learning rate that is a decision). In which group a weight belongs that the first child did not have, is asked of a
child that has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn

from mutandis.errors import LoweringError
from mutandis.flows.supernet.assembly import Assembly, put
from mutandis.flows.supernet.lowering.roots import Roots
from mutandis.flows.supernet.store import Store
from mutandis.symbolic.paths import Path
from mutandis.symbolic.record import LEAVES
from mutandis.symbolic.traverse import children

Values = tuple[Any, ...]


class Made(NamedTuple):
    """An optimizer that a program has made.

    Attributes:
        at: Where it stands.
        holder: The object whose attribute it is.
        name: Of the attribute.
        optimizer: The optimizer.
    """

    at: str
    holder: Any
    name: str
    optimizer: torch.optim.Optimizer


class Owned:
    """The optimizers of a program with shared weights.

    Args:
        roots: Builds the program around modules.
        store: The shared tensors.
        live: Returns the live program.
        mount: Puts the live program together for raw values.
        plain: Returns the modules of a real child.
        guard: Guards an optimizer that is kept.
    """

    def __init__(self, roots: Roots, store: Store, live: Callable[[], Assembly], mount: Callable[[Values], None],
                 plain: Callable[[Values], list[nn.Module]], guard: Callable[[torch.optim.Optimizer], Any],
                 ) -> None:  # fmt: skip
        self._roots, self._store, self._live, self._mount = roots, store, live, mount
        self._plain, self._guard = plain, guard
        self._is_owner: bool | None = None
        self._kept: dict[tuple[str, type], torch.optim.Optimizer] = {}
        self._settings: dict[tuple[str, type], list[dict[str, Any]]] = {}
        self._guards: dict[tuple[str, type], tuple[int, Any]] = {}

    def wrap(self, values: Values) -> Any:
        """Returns the program of raw values around the live modules, with the optimizers that were kept.

        Raises:
            LoweringError: an optimizer cannot be kept.
        """
        if self._is_owner is None:
            is_bare = self._roots.paths == ("",)
            self._is_owner = not is_bare and bool(optimizers_in(self._roots.wrap(values, self._plain(values))))
        if not self._is_owner:
            return self._roots.wrap(values, self._live().roots)
        program = self._built(values)
        fresh = optimizers_in(program)
        new = [made for made in fresh if (made.at, type(made.optimizer)) not in self._kept]
        for made in fresh:
            self._keep(made)
        if new:
            self._complete(values)
        self._watch()
        return program

    def _watch(self) -> None:
        """Guards the optimizers, anew where they have got more parameters."""
        for key, optimizer in self._kept.items():
            count = sum(len(group["params"]) for group in optimizer.param_groups)
            before, guard = self._guards.get(key, (0, None))
            if count != before:
                if guard is not None:
                    guard.remove()
                self._guards[key] = (count, self._guard(optimizer))

    def _built(self, values: Values) -> Any:
        with whole(self._live(), self._store):
            return self._roots.wrap(values, self._live().roots)

    def _keep(self, made: Made) -> None:
        """Puts the optimizer that is kept in the place of a new one, with the settings that changed."""
        key = (made.at, type(made.optimizer))
        settings = [{k: v for k, v in group.items() if k != "params"} for group in made.optimizer.param_groups]
        kept = self._kept.setdefault(key, made.optimizer)
        before = self._settings.setdefault(key, settings)
        if kept is not made.optimizer:
            if len(settings) != len(before):
                raise refusal(made.at, f"{len(settings)} groups of parameters", f"{len(before)}, as of the first child")
            for group, old, new in zip(kept.param_groups, before, settings, strict=True):
                group.update({name: value for name, value in new.items() if old.get(name) != value})
            self._adopt(made)
            self._settings[key] = settings
        setattr(made.holder, made.name, kept)

    def _adopt(self, made: Made) -> None:
        """Adds to the optimizer that is kept what another one of its kind holds beside its parameters."""
        kept = self._kept[made.at, type(made.optimizer)]
        groups = {id(p): i for i, group in enumerate(kept.param_groups) for p in group["params"]}
        for number, group in enumerate(made.optimizer.param_groups):
            for parameter in group["params"]:
                if groups.setdefault(id(parameter), number) != number:
                    raise refusal(made.at, "a parameter that is in another group for another child", "one group for it")
                if not any(parameter is p for p in kept.param_groups[number]["params"]):
                    kept.param_groups[number]["params"].append(parameter)

    def _complete(self, values: Values) -> None:
        """Finds the groups of weights that this child does not have, by building children that have them."""
        held = {id(p) for kept in self._kept.values() for group in kept.param_groups for p in group["params"]}
        for key in self._store.every_key():
            tensor = self._store.tensor(key)
            if isinstance(tensor, nn.Parameter) and id(tensor) not in held:
                self._mount(self._store.born(key))
                for made in optimizers_in(self._built(self._store.born(key))):
                    if (made.at, type(made.optimizer)) in self._kept:
                        self._adopt(made)
                        held.update(id(p) for group in made.optimizer.param_groups for p in group["params"])
        self._mount(values)


@contextmanager
def whole(live: Assembly, store: Store) -> Iterator[None]:
    """Lets the modules of the live program hold whole shared tensors for a while, of which optimizers are made."""
    before = []
    for module in (module for root in live.roots for module in root.modules()):
        home = live.home_of(module)
        if home is None:
            continue  # A `Choice` has no tensors of its own.
        for loan, _ in live.twin(home, {}).loans:
            if loan.path == home.path and not loan.is_buffer:
                before.append((module, loan, module._parameters[loan.name]))
                put(module, loan, store.tensor(loan.key))
    try:
        yield
    finally:
        for module, loan, tensor in before:
            assert tensor is not None  # Only loans were replaced.
            put(module, loan, tensor)


def optimizers_in(program: Any) -> list[Made]:
    """Returns the optimizers that attributes of the objects of a program hold.

    Raises:
        LoweringError: one stands in a container, or another object holds it.
    """
    found = []
    pending: list[tuple[Path, Any]] = [(Path(), program)]
    while pending:
        path, value = pending.pop()
        if type(value) in LEAVES or isinstance(value, nn.Module):
            continue
        pending.extend((path / step, item) for step, item in children(value))
        attributes = getattr(value, "__dict__", None)
        for name, item in list(attributes.items()) if isinstance(attributes, dict) else ():
            if isinstance(item, torch.optim.Optimizer):
                found.append(Made(str(path / name), value, name, item))
            elif name != "_mu_" and _holds(item):
                raise refusal(str(path / name), item, "an optimizer that is an attribute, and that nothing else holds")
    return found


def _holds(item: Any) -> bool:
    """Returns whether a container, or an object such as a scheduler, holds an optimizer."""
    if isinstance(item, (nn.Module, type)):
        return False
    inside = item.values() if isinstance(item, dict) else item if isinstance(item, (list, tuple)) else None
    if inside is None:
        attributes = getattr(item, "__dict__", None)
        inside = attributes.values() if isinstance(attributes, dict) else ()
    return any(isinstance(value, torch.optim.Optimizer) for value in inside)


def refusal(at: str, got: Any, expected: str) -> LoweringError:
    """Returns the error for an optimizer that cannot be kept."""
    return LoweringError(
        "cannot share weights with an optimizer that a program makes when it is built",
        at=at,
        got=got,
        expected=expected,
        fix="make it once, of shared.module.parameters(), or inside the method that trains",
    )


__all__ = ["Made", "Owned", "optimizers_in", "whole"]
