"""The live program: parts of really built children, put together for a DNA, with shared tensors for weights.

Nothing is copied at a switch and no module is of another class than its author wrote: an arm that is not chosen is
simply not in the tree, and a layer of another width is another object, whose weights are a view of the same tensor.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from mutandis.errors import LoweringError
from mutandis.flows.supernet.choices.contexts import Context
from mutandis.flows.supernet.choices.placed import Placed
from mutandis.flows.supernet.cuts import Cut
from mutandis.flows.supernet.late import LateBuffers, LateRecord, LiveApply, LiveTable
from mutandis.flows.supernet.lowering.children import Child
from mutandis.flows.supernet.lowering.dependencies import Dependencies
from mutandis.flows.supernet.lowering.facts import RECORD, state_buffers
from mutandis.flows.supernet.lowering.partition import Part, Partition
from mutandis.flows.supernet.selections import Choice, Selection
from mutandis.flows.supernet.store import Store
from mutandis.flows.supernet.tensors.loans import Loan
from mutandis.flows.supernet.tensors.refresh import Refresh, put

_MOST = 1024


class MissingPart(Exception):  # No error: the part is built then.
    """No child was built yet that has a part as it is needed.

    Args:
        values: The raw values of a child that has it; None where the caller knows them.
    """

    def __init__(self, values: Sequence[Any] | None = None) -> None:
        super().__init__()
        self.values = None if values is None else tuple(values)


class Instance:
    """A part as one child has it.

    Attributes:
        module: Its module.
        tree: Its modules by path: one for a shell.
        layers: For a shell, registered names and the paths of what stands there.
        loans: Its tensors: the loan and what of the shared tensor it is.
        epoch: When its tensors were lent, in moves of the store.
    """

    __slots__ = ("epoch", "layers", "loans", "module", "tree")

    def __init__(self, part: Part, child: Child, loans: Sequence[tuple[Loan, Cut]]) -> None:
        self.module = child.tree[part.path]
        prefix = f"{part.path}." if part.path else ""
        inside = child.tree if part.is_unit else {part.path: self.module}
        self.tree = {path: m for path, m in inside.items() if path == part.path or path.startswith(prefix)}
        layers = () if part.is_unit else child.facts[part.path].layers
        self.layers = [(name, where) for name, where in layers if where is not None]
        self.loans = [(loan, cut) for loan, cut in loans if loan.path in self.tree]
        self.epoch = -1


@dataclass(frozen=True, slots=True)
class Home:
    """Where a module of the live program stands, and for which values.

    Attributes:
        path: Its path.
        part: The part that it belongs to.
        values: The values of the decisions of the part.
    """

    path: str
    part: Part
    values: tuple[Any, ...]


class Assembly:
    """The live program of a space.

    Args:
        partition: How it is cut into parts.
        dependencies: Gives literals of decisions.
        store: The shared tensors.
        real: Returns a real child, for what is read late.
        call: Runs a batch through the program of raw values around modules.

    Attributes:
        values: The raw values it stands at, or None.
        roots: Its outermost modules.
        mode: Whether they were last seen in training mode.
    """

    def __init__(
        self,
        partition: Partition,
        dependencies: Dependencies,
        store: Store,
        real: Callable[[tuple[Any, ...]], Child],
        call: Callable[[tuple[Any, ...], list[nn.Module], Sequence[Any]], Any],
    ) -> None:
        self._partition = partition
        self._known = dependencies
        self._store = store
        self._real = real
        self._call = call
        self._parts = {part.path: part for part in partition.every_part()}
        self._tables: dict[str, dict[tuple[Any, ...], Instance]] = {path: {} for path in self._parts}
        self._copies = [(self._home(path), path, name, i) for (path, name), i in partition.copies.items()]
        # What stands at the path of a shell, and for which values of all decisions below it was put together.
        self._mounted_at: dict[str, tuple[Instance, tuple[Any, ...]]] = {}
        self._choices: dict[tuple[Any, ...], Choice] = {}
        self._context = Context(dependencies.space, {}, {})
        self._placed = Placed()
        self._homes: weakref.WeakKeyDictionary[nn.Module, Home] = weakref.WeakKeyDictionary()
        self.values: tuple[Any, ...] | None = None
        self.roots: list[nn.Module] = []
        self.mode = True

    def _home(self, path: str) -> Part:
        """Returns the part that a module belongs to."""
        while path not in self._parts:
            path = path.rpartition(".")[0]
        return self._parts[path]

    def _find(self, part: Part, values: Sequence[Any]) -> Instance:
        found = self._tables[part.path].get(tuple([values[i] for i in part.decisions]))
        if found is None:
            raise MissingPart(values)
        return found

    def lacks(self, child: Child) -> bool:
        """Returns whether a child has parts that are not known yet."""
        return any(
            path in child.tree and tuple([child.values[i] for i in part.decisions]) not in self._tables[path]
            for path, part in self._parts.items()
        )

    def harvest(self, child: Child, loans: Sequence[tuple[Loan, Cut]]) -> None:
        """Takes from a child the parts that are not known yet.

        Args:
            child: A child; its modules become part of the live program.
            loans: What it shares.
        """
        for path, part in self._parts.items():
            table = self._tables[path]
            key = tuple([child.values[i] for i in part.decisions])
            if path in child.tree and key not in table:
                if len(table) >= _MOST:
                    table.pop(next(iter(table)))
                    self._mounted_at.clear()  # It may be what stands there now.
                table[key] = made = Instance(part, child, loans)
                self._homes.update((module, Home(where, part, key)) for where, module in made.tree.items())
                self._lend(made)
                self._mark(made)
                self._defer(made)

    def home_of(self, module: nn.Module) -> Home | None:
        """Returns where a module stands; None for one that no child was built with, such as a `Choice`."""
        return self._homes.get(module)

    def twin(self, home: Home, changes: Mapping[int, Any]) -> Instance:
        """Returns the part of a module as it is with other values of some decisions.

        Raises:
            MissingPart: no child was harvested that has it.
        """
        values = tuple([changes.get(i, v) for i, v in zip(home.part.decisions, home.values, strict=True)])
        found = self._tables[home.part.path].get(values)
        if found is None:
            raise MissingPart
        return found

    def others(self, home: Home, changes: Mapping[int, Any]) -> Iterator[Instance]:
        """Yields the part of a module in every child that has these values, whatever the others are."""
        for values, instance in self._tables[home.part.path].items():
            given = dict(zip(home.part.decisions, values, strict=True))
            if all(given[index] == value for index, value in changes.items()):
                yield instance

    def _lend(self, instance: Instance) -> None:
        gathered: dict[str, list[tuple[Loan, Cut]]] = {}
        for loan, cut in instance.loans:
            if not self._store.is_lasting(loan.key, cut):
                gathered.setdefault(loan.path, []).append((loan, cut))
        for path, entries in gathered.items():
            # Copies of gathered rows, and products, are stale after a step, and their graph is gone after a backward.
            hook = Refresh(self._store, entries)
            instance.tree[path].register_forward_pre_hook(hook)
            if any(loan.is_buffer for loan, _ in entries):
                instance.tree[path].register_forward_hook(hook.write_back)

    def _mark(self, instance: Instance) -> None:
        """Lets modules move with all shared tensors only, and those that hold parts refuse to be copied by name."""
        for path, layer in instance.tree.items():
            layer.__dict__["_apply"] = LiveApply(layer, path, lambda: self.roots, self._store.module._apply)
        for path in {loan.path for loan, _ in instance.loans if self._store.is_elastic(loan.key)}:
            module: Any = instance.tree[path]
            module._parameters = LiveTable(module._parameters)

    def _renew(self, instance: Instance) -> None:
        instance.epoch = self._store.epoch
        for (loan, _), tensor in zip(instance.loans, self._store.lend_all(instance.loans), strict=True):
            put(instance.tree[loan.path], loan, tensor)

    def _defer(self, instance: Instance) -> None:
        for path, module in instance.tree.items():
            names = frozenset(self._partition.late.get(path, ()))
            plain = names - {RECORD}
            if RECORD in names:
                object.__setattr__(module, RECORD, LateRecord(module, lambda path=path: self._read(path, RECORD)))  # type: ignore[misc]
            if plain:
                for name in plain:
                    module.__dict__.pop(name, None)
                read = lambda name, path=path: self._read(path, name)  # noqa: E731
                module._buffers = LateBuffers(module._buffers, plain, read)

    def _read(self, path: str, name: str) -> Any:
        assert self.values is not None  # Only mounted modules are read.
        module = self._real(self.values).tree[path]
        return object.__getattribute__(module, name)

    def switch(self, values: tuple[Any, ...]) -> None:
        """Puts the parts of raw values together.

        Raises:
            MissingPart: no child was harvested that has a part as it is needed.
        """
        if self.roots:
            self.mode = self.roots[0].training
        roots = [self._mount(part, values) for part in self._partition.parts]
        if self._context:
            self._context.check(values)
        for root in roots:
            _set_mode(root, self.mode)
        self.roots, self.values = roots, values
        for home, path, name, index in self._copies:
            instance = self._tables[home.path].get(tuple([values[i] for i in home.decisions]))
            module = None if instance is None else instance.tree.get(path)
            if module is not None and name in module.__dict__:
                module.__dict__[name] = self._known.literal(index, values[index])

    def select(self, selections: Mapping[int, Selection], below: Mapping[int, Any]) -> None:
        """Lets selections decide what runs at choices, by index of the decision, from the next switch on.

        Args:
            selections: By index of the decision.
            below: Raw values of decisions that stand in arms other than that of the DNA.

        Raises:
            LoweringError: such a choice decides more than which of its arms runs.
        """
        for index in selections:
            effects = self._partition.side_effects(index)
            if effects:
                raise LoweringError(
                    "cannot run several arms of a choice at once",
                    at=f"{self._known.point(index).key or '(the root)'}, {effects[0] or '(the root)'}",
                    expected="a choice that only decides which layer stands at a place",
                    fix="make what else it decides a decision of its own, or select one arm at a time, as ENAS(), "
                    "RSPS() and TuNAS(op_warmup=0.0) do",
                )
        self._placed, self._context = Placed(), Context(self._known.space, selections, below)
        self._mounted_at.clear()

    def deselect(self, values: tuple[Any, ...]) -> bool:
        """Ends a selection where arms in the places of choices are all that raw values need, or returns False."""
        if self.values != values or any(type(root) is Choice for root in self.roots) or not self._placed.leave(values):
            return False
        self._placed, self._context = Placed(), Context(self._known.space, {}, {})
        return True

    def _choice(self, part: Part, values: Sequence[Any], index: int) -> nn.Module:
        if part.is_unit and len(part.arms) == 1 and self._context.single(index, values):
            instance = self._find(part, values)
            known = self._choices.get((part.path, (values[index], id(instance.module))))
            if known is not None and instance.epoch == self._store.epoch:  # As below, in half of the time.
                known.__dict__["selection"] = self._context.selection(index)
                _set_mode(instance.module, known.training)
                return known
        with self._context.arms(index, values) as inside:
            arms = {arm: self._mount(part, given) for arm, given in inside.items()}
        key = (part.path, *((arm, id(module)) for arm, module in arms.items()))
        made = self._choices.get(key)
        if made is None:
            if len(self._choices) >= _MOST:
                self._choices.clear()
            made = self._choices[key] = Choice(arms, self._context.selection(index), part.path, index)
        made.__dict__["selection"] = self._context.selection(index)
        for module in arms.values():
            _set_mode(module, made.training)
        return made

    def _mount(self, part: Part, values: Sequence[Any]) -> nn.Module:
        index = self._context.find(part, values) if self._context else None
        if index is not None:
            return self._choice(part, values, index)
        instance = self._find(part, values)
        if instance.epoch != self._store.epoch:
            self._renew(instance)
            self._mounted_at.pop(part.path, None)
        if part.is_unit:
            return instance.module
        state = (instance, tuple([values[i] for i in part.below]))
        if self._mounted_at.get(part.path) != state:
            self._mounted_at.pop(part.path, None)
            modules: Any = instance.module._modules
            for name, where in instance.layers:
                made = self._mount(part.layers[where], values)
                if modules[name] is not made:
                    modules[name] = made
                if type(made) is Choice:
                    self._placed.add(instance.module, name, made)
                _set_mode(made, instance.module.training)
            instance.layers and self._mounted_at.setdefault(part.path, state)
        return instance.module

    def run(self, batch: Sequence[Any]) -> Any:
        """Returns what the live program makes of a batch."""
        assert self.values is not None  # Asked after a switch.
        return self._call(self.values, self.roots, batch)

    def loans(self) -> Iterator[tuple[Loan, Cut]]:
        """Yields what the live program shares where it stands."""
        assert self.values is not None  # Asked after a switch.
        for part in self._partition.parts:
            for instance in self._mounted(part, self.values):
                yield from instance.loans

    def _mounted(self, part: Part, values: Sequence[Any]) -> Iterator[Instance]:
        instance = self._find(part, values)
        yield instance
        for where in dict.fromkeys(where for _, where in instance.layers):
            yield from self._mounted(part.layers[where], values)

    def own_buffers(self) -> list[tuple[Any, str, torch.Tensor]]:
        """Returns the buffers of the mounted parts that are not shared, as (table, name, buffer)."""
        assert self.values is not None  # Asked after a switch.
        mounted = [i for part in self._partition.parts for i in self._mounted(part, self.values)]
        return [entry for instance in mounted for module in instance.tree.values() for entry in _own_buffers(module)]

    def move(self, fn: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Follows the shared tensors to another device or type.

        Args:
            fn: What was done to each shared tensor.
        """
        tables = {id(m): m for table in self._tables.values() for i in table.values() for m in i.tree.values()}
        for module in tables.values():
            for table, name, buffer in _own_buffers(module):
                dict.__setitem__(table, name, fn(buffer))
        self.renew()

    def renew(self) -> None:
        """Lends again, after the shared tensors were replaced."""
        self._store.renew()
        if self.values is not None:
            self.switch(self.values)


def _own_buffers(module: nn.Module) -> list[tuple[Any, str, torch.Tensor]]:
    shared = state_buffers(module)
    table = module._buffers
    return [(table, name, buffer) for name, buffer in table.items() if buffer is not None and name not in shared]


def _set_mode(module: nn.Module, mode: bool) -> None:
    if module.training is not mode:
        module.train(mode)


__all__ = ["Assembly", "Home", "Instance", "MissingPart", "put"]
