"""The program around the live modules: built anew for each DNA, but for what must outlive a switch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from mutandis.flows.supernet.around.copies import Copies, trained_copy
from mutandis.flows.supernet.around.held import Held, exchange, held_in
from mutandis.flows.supernet.around.optimizers import Optimizers
from mutandis.flows.supernet.around.others import Others
from mutandis.flows.supernet.around.schedules import Schedules, inner
from mutandis.flows.supernet.around.standing import Standing
from mutandis.flows.supernet.assembly import Assembly, put
from mutandis.flows.supernet.lowering.children import Child
from mutandis.flows.supernet.lowering.roots import Roots, Stand
from mutandis.flows.supernet.store import Store

Values = tuple[Any, ...]


class Owned:
    """What a program with shared weights makes when it is built, and what of it is kept.

    Args:
        roots: Builds the program around modules.
        store: The shared tensors.
        live: Returns the live program.
        mount: Puts the live program together for raw values.
        build: Builds the real child of raw values.
        guard: Guards an optimizer that is kept.
    """

    def __init__(self, roots: Roots, store: Store, live: Callable[[], Assembly], mount: Callable[[Values], None],
                 build: Callable[[Values], Child], guard: Callable[[torch.optim.Optimizer], Any],
                 ) -> None:  # fmt: skip
        self._roots, self._store, self._live, self._mount = roots, store, live, mount
        self._build = build
        self._is_owner: bool | None = None
        self._standing = Standing(roots.space, roots.slots)
        self._optimizers, self._schedules, self._others = Optimizers(store, guard), Schedules(), Others()
        self._copies = Copies(store, live, build)
        self._num_known = 0

    def wrap(self, values: Values) -> Any:
        """Returns the program of raw values around the live modules, with what is kept in its places.

        Raises:
            LoweringError: something cannot be kept.
        """
        if self._is_owner is None:
            self._is_owner = self._roots.paths != ("",) and self._makes_something(values)
        if not self._is_owner:
            return self._roots.wrap(values, self._live().roots)
        self._standing.at(values)
        program = self._built(values, self._standing.stand)
        made = self._made(program)
        is_new = any(not self._optimizers.knows(held) for held in made if _is_optimizer(held))
        is_new = is_new or (bool(self._standing) and self._num_known != len(self._store.every_key()))
        self._keep(program, made)
        if is_new:
            self._num_known = len(self._store.every_key())
            self._complete(values)
        self._optimizers.watch()
        return program

    def _keep(self, program: Any, made: list[Held]) -> None:
        """Puts what is kept into its places in a program."""
        kept: dict[int, Any] = {}
        copies = list(filter(self._copies.has, made))
        others = [held for held in made if not (_is_optimizer(held) or _is_schedule(held) or held in copies)]
        copied = set().union(*map(self._copies.parameters, copies))
        for held in copies:
            kept[id(held.value)] = self._copies.keep(held)
        live, swaps = _ids(self._live().roots), self._others.swaps
        swaps.clear()
        for held in others:
            kept[id(held.value)] = self._others.keep(held, live)
        for held in filter(_is_optimizer, made):
            if copied & {id(p) for group in held.value.param_groups for p in group["params"]}:
                raise trained_copy(held.at)
            kept[id(held.value)] = self._optimizers.keep(held, swaps)
        self._keep_schedules(made, kept)
        for held in made:
            held.put(kept[id(held.value)])
        for held in others:
            self._others.settle(held)
        if self._copies.exchanged:
            exchange(program, self._copies.exchanged)

    def anew(self, values: Values) -> Any:
        """Returns a program of its own around the live modules, for a look: what is kept is left alone."""
        return self._roots.wrap(values, self._live().roots) if self._is_owner is False else self._built(values)

    def state(self) -> dict[str, Any]:
        """Returns the state of what is kept, as `load` takes it."""
        return {"optimizers": self._optimizers.state(), "schedules": self._schedules.state(),
                "others": self._others.state(_ids(self._live().roots)), "copies": self._copies.state()}  # fmt: skip

    def load(self, state: dict[str, Any]) -> None:
        """Goes on from a state, with the next child."""
        self._optimizers.load(state["optimizers"])
        self._schedules.load(state["schedules"])
        self._others.load(state["others"])
        self._copies.load(state["copies"])

    def _makes_something(self, values: Values) -> bool:
        modules = list(self._build(values).roots.values())
        found = held_in(self._roots.wrap(values, modules), _ids(modules))
        return bool(found) or self._roots.has_standing

    def _built(self, values: Values, stand: Stand | None = None) -> Any:
        with whole(self._live(), self._store), self._copies.offered():
            return self._roots.wrap(values, self._live().roots, stand)

    def _made(self, program: Any) -> list[Held]:
        return held_in(program, _ids(self._live().roots))

    def _keep_schedules(self, made: list[Held], kept: dict[int, Any]) -> None:
        """Keeps schedules; what one is made of is kept with it."""
        schedules = list(filter(_is_schedule, made))
        parts = {id(part) for held in schedules for part in _below(held.value)}
        for held in schedules:
            if id(held.value) not in parts:
                before = _below(held.value)
                kept[id(held.value)] = self._schedules.keep(held, kept[id(held.value.optimizer)])
                kept.update(zip(map(id, before), _below(kept[id(held.value)]), strict=False))

    def _complete(self, values: Values) -> None:
        """Finds the groups of weights that this child does not have, by building children that have them."""
        for key in list(self._optimizers.missing()):
            if key not in self._optimizers.missing():
                continue  # Another one of these children had it too.
            born = self._store.born(key)
            self._mount(born)
            made = self._made(self._built(born))
            swaps = {id(old): new for held in made for old, new in self._others.pairs(held, _ids(self._live().roots))}
            for held in filter(_is_optimizer, made):
                if self._optimizers.knows(held):
                    self._optimizers.adopt(held, swaps)
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


def _is_optimizer(held: Held) -> bool:
    return isinstance(held.value, torch.optim.Optimizer)


def _is_schedule(held: Held) -> bool:
    return isinstance(held.value, LRScheduler)


def _below(schedule: Any) -> list[Any]:
    """Returns the schedules that a schedule is made of, at any depth."""
    return [found for part in inner(schedule) for found in (part, *_below(part))]


def _ids(modules: list[nn.Module]) -> set[int]:
    return {id(module) for root in modules for module in root.modules()}


__all__ = ["Owned", "whole"]
