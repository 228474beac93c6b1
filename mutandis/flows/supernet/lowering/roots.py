"""The modules of a program, and the program around them.

Only modules share weights. What stands around them (a trainer, a dict of settings) is built anew for a DNA, by its own
`__init__`, around the live modules.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace as with_changes
from typing import Any

from torch import nn

from mutandis.errors import LoweringError, SettingError
from mutandis.hyper import HyperValue, OneOf, SearchSpace
from mutandis.hyper.arithmetic import Derived
from mutandis.hyper.programs.compile import compile_program
from mutandis.symbolic.building import KEEP, construct, copy_tree
from mutandis.symbolic.paths import Path
from mutandis.symbolic.record import LEAVES, is_symbolic, real_class, spec_for, values_of
from mutandis.symbolic.traverse import children, edited

Run = Callable[..., Any]
"""Called with a program and the parts of a batch."""

Stand = Callable[[Path, Any, tuple[Any, ...]], Any]
"""Called with the path of a node, the node, and its arguments in a child."""


class Roots:
    """Where the modules of a program stand.

    Args:
        space: The space of the program.

    Attributes:
        space: The space in which decisions inside modules do not hang on choices outside of all modules: a module below
            such a choice is there for every child, and the program around it uses it or not.
        paths: Symbolic path of each outermost module; empty for a program that is a module.
        nodes: What stands there in the program.
        has_standing: Whether some objects of the program take changes in place; known after the first `wrap`.
        run: How a batch goes through the program; None where its only module is called.

    Raises:
        LoweringError: there is no module, or a function of the program computes with one.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self._program = space.program
        self._nodes = _module_nodes(self._program)
        if not self._nodes:
            raise LoweringError(
                "cannot share the weights of a program without modules",
                got=self._program,
                expected="a torch.nn.Module in its tree, or a symbolic call that returns one",
                fix="annotate what a function returns (-> nn.Module), or put @mu.symbolize above the module's class"
                if is_call(self._program) or not is_symbolic(self._program)
                else "let it take its module as an argument, such as Trainer(Net(...)), instead of making it",
            )
        self.paths = tuple(str(path) for path, _ in self._nodes)
        self._inner = compile_program([node for _, node in self._nodes])
        self.nodes = [node for _, node in self._nodes]
        self._slots = [self._slot(Path.parse(point.paths[0])) for point in self._inner.points]
        self.space = _unconditional(space, self.slots)
        self._live: list[nn.Module] = []
        self.run: Run | None = None
        self._outer: Callable[[Sequence[Any]], Any] | None = None
        self._stand: Stand | None = None
        self.has_standing = False

    def _slot(self, path: Path) -> int:
        """Returns the place in the space of a decision, from its path in the list of modules."""
        step = path.steps[0]
        assert isinstance(step, int)  # The program that was compiled is a list.
        return self._space.point(str(self._nodes[step][0] + Path(path.steps[1:]))).index

    @property
    def slots(self) -> frozenset[int]:
        """The decisions that stand in modules, by their index in the space."""
        return frozenset(self._slots)

    def filled(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """Returns raw values that decide on modules the program does not use too."""
        return values if self.space is self._space else self.space.repair(values, lambda point: point.first()).values

    def build(self, values: Sequence[Any]) -> list[Any]:
        """Returns the modules of a child, built by their own `__init__`, and symbolic calls as such."""
        made: list[Any] = self._inner.build([values[slot] for slot in self._slots])
        return made

    def names(self) -> tuple[str, ...]:
        """Returns the path prefixes of the modules, for names of tensors."""
        return tuple(_name(path) for path in self.paths)

    def wrap(self, values: Sequence[Any], live: list[nn.Module], stand: Stand | None = None) -> Any:
        """Returns the program of raw values around live modules.

        Args:
            values: The raw values.
            live: The modules.
            stand: Returns what stands for an object that takes changes in place; by default it is built anew.
        """
        if self._outer is None:
            self._outer = self._compile_outer()
        self._live[:] = live
        self._stand = stand
        try:
            return self._outer(values)
        finally:
            self._stand = None

    def call(self, values: Sequence[Any], modules: list[nn.Module], batch: Sequence[Any]) -> Any:
        """Returns what the program of raw values makes of a batch, around given modules.

        Raises:
            LoweringError: there are several modules, and nobody has said how a batch goes through them.
        """
        if self.run is not None:
            return self.run(self.wrap(values, modules), *batch)
        if len(modules) > 1:
            raise several_modules(self.paths)
        return modules[0](*batch)

    def _compile_outer(self) -> Callable[[Sequence[Any]], Any]:
        places = {id(node): number for number, (_, node) in enumerate(self._nodes)}
        if self.paths == ("",):
            if is_call(self._program):
                return lambda values: LiveCall(self._live[0])
            return lambda values: self._live[0]

        memo: dict[int, Any] = {}

        def replace(value: Any, path: Path) -> Any:
            number = places.get(id(value))
            if number is not None:
                return Derived(self._live.__getitem__, (number,))
            if not takes_changes(value):
                return KEEP
            self.has_standing = True
            args = {name: copy_tree(item, replace, path=path / name, memo=memo)
                    for name, item in zip(spec_for(value).names, values_of(value), strict=True)}  # fmt: skip
            return Derived(self._stands(path, value), (), args)

        template = compile_program(copy_tree(self._program, replace, memo=memo))
        slots = _slots_in(template, self._space, memo)
        return lambda values: template.build([values[slot] for slot in slots])

    def _stands(self, path: Path, node: Any) -> Callable[..., Any]:
        """Returns a function of the arguments of a node that takes changes in place: what stands there in a child."""

        def made(**args: Any) -> Any:
            values = tuple(args[name] for name in spec_for(node).names)
            return construct(node, values) if self._stand is None else self._stand(path, node, values)

        made.__name__ = made.__qualname__ = real_class(node).__name__  # For notes on errors.
        return made


class LiveCall:
    """Stands for a symbolic call that builds a module: called, it returns the live module."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    def __call__(self, *args: Any, **kwargs: Any) -> nn.Module:
        """Returns the live module.

        Raises:
            SettingError: it was given something, such as a batch.
        """
        if args or kwargs:
            raise SettingError(
                "cannot run a call that returns a module on a batch",
                at="child(x)",
                got=[type(value).__name__ for value in (*args, *kwargs.values())],
                expected="no arguments",
                fix="write child()(x), as with children that are really built, or shared.module(x)",
            )
        return self._module

    def __getattr__(self, name: str) -> Any:
        module = self.__dict__.get("_module")
        known = "" if name.startswith("_") or not hasattr(module, name) else f"; child().{name} is the module's"
        raise AttributeError(f"a call that returns a {type(module).__name__} has no {name!r}{known}")

    def __repr__(self) -> str:
        return f"LiveCall of {type(self._module).__name__}"

    _mu_preview_ = __call__


def several_modules(paths: Sequence[str]) -> LoweringError:
    """Returns the error for a batch of a program of several modules."""
    shown = ", ".join(paths[:4]) + (f" and {len(paths) - 4} more" if len(paths) > 4 else "")
    return LoweringError(
        "cannot tell how a batch goes through a program of several modules",
        at=shown,
        expected="a function of the program and the batch",
        fix="pass run=lambda program, x: ..., which calls them one after the other",
    )


def _name(path: str) -> str:
    """Returns a symbolic path as names of modules separated by dots."""
    steps = [getattr(step, "key", step) for step in Path.parse(path)]
    return ".".join(str(step).replace(".", "_") for step in steps)


def is_call(value: Any) -> bool:
    """Returns whether a value is a symbolic call."""
    return bool(getattr(type(value), "_mu_is_call_", False))


def is_module_like(value: Any) -> bool:
    """Returns whether a node of a program becomes a module in every child."""
    if isinstance(value, OneOf):
        return all(map(is_module_like, value.candidates))
    if is_call(value):
        return _returns_module(value.function)
    return isinstance(value, nn.Module) or (is_symbolic(value) and issubclass(real_class(value), nn.Module))


def _returns_module(function: Callable[..., Any]) -> bool:
    if isinstance(function, type):
        return issubclass(function, nn.Module)
    try:
        hint = typing.get_type_hints(inspect.unwrap(function)).get("return")
    except Exception:  # Hints may name things that are not importable; then nothing is known.
        return False
    return isinstance(hint, type) and issubclass(hint, nn.Module)


def takes_changes(value: Any) -> bool:
    """Returns whether a node of a program is no module, and of a class that takes changes in place."""
    is_own = is_symbolic(value) and not is_call(value) and not is_module_like(value)
    return is_own and callable(getattr(real_class(value), "on_rebind", None))


def _slots_in(template: Any, space: SearchSpace, memo: Mapping[int, tuple[Any, Any]]) -> list[int]:
    """Returns the place in a space of each decision of a template that was made of a copy of its program."""
    index_of: dict[int, int] = space._template._index_of  # type: ignore[union-attr]
    original = {id(copy): number for number, (_, copy) in memo.items()}
    slots = {point.index: -1 for point in template.points}
    slots.update((index, index_of[original.get(number, number)]) for number, index in template._index_of.items())
    return [slots[index] for index in range(len(slots))]


def _unconditional(space: SearchSpace, slots: frozenset[int]) -> SearchSpace:
    """Returns a space whose decisions inside modules hang on none that stands outside of all modules."""
    free = {p.index for p in space.points if p.index in slots and any(i not in slots for i, _ in p.conditions)}
    if not free:
        return space
    points = [with_changes(point, conditions=()) if point.index in free else point for point in space.points]
    return SearchSpace(points, space._template)


def _module_nodes(program: Any) -> list[tuple[Path, Any]]:
    found: dict[int, tuple[Path, Any]] = {}
    _visit(program, Path(), found)
    return list(found.values())


def _visit(value: Any, path: Path, found: dict[int, tuple[Path, Any]]) -> None:
    if type(value) in LEAVES or id(value) in found:
        return
    if is_module_like(value):
        found[id(value)] = (path, value)
        return
    if isinstance(value, Derived):
        _refuse_computed(value, path)
    for step, item in children(value):
        if isinstance(value, HyperValue) and step == "candidates":
            for index, candidate in enumerate(item):
                _visit(candidate, path / "candidates" / index, found)
        else:
            _visit(item, path / step, found)
    for where, item in edited(value):
        _visit(item, path + where, found)


def _refuse_computed(value: Any, path: Path) -> None:
    """Refuses a value that a function computes from modules: what it returns is not known before it runs."""
    below: dict[int, tuple[Path, Any]] = {}
    for step, item in children(value):
        _visit(item, path / step, below)
    for where, node in below.values():
        raise LoweringError(
            "cannot share the weights of a module that is an argument of a computed value",
            at=where,
            got=node,
            expected="a module that the program holds as it is",
            fix="put the choice among modules where the computed value stands, or search it with trials (where=)",
        )


__all__ = ["LiveCall", "Roots", "Run", "Stand", "is_call", "is_module_like", "several_modules", "takes_changes"]
