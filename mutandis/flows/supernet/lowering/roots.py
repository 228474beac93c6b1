"""The modules of a program, and the program around them.

Only modules share weights. What stands around them (a trainer, a dict of settings) is built anew for a DNA, by its own
`__init__`, around the live modules.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from mutandis.errors import LoweringError
from mutandis.hyper import HyperValue, OneOf, SearchSpace
from mutandis.hyper.arithmetic import Derived
from mutandis.hyper.programs.compile import compile_program
from mutandis.symbolic.building import KEEP, copy_tree
from mutandis.symbolic.paths import Path
from mutandis.symbolic.record import LEAVES, is_symbolic, real_class
from mutandis.symbolic.traverse import children, edited
from mutandis.symbolic.undecided import Undecided

Run = Callable[..., Any]
"""Called with a program and the parts of a batch."""


class Roots:
    """Where the modules of a program stand.

    Args:
        space: The space of the program.

    Attributes:
        paths: Symbolic path of each outermost module; empty for a program that is a module.
        nodes: What stands there in the program.
        run: How a batch goes through the program; None where its only module is called.

    Raises:
        LoweringError: there is no module, or one stands below a choice outside any module.
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
                fix="annotate what a function returns (-> nn.Module), or put @mu.symbolize above the module's class",
            )
        self.paths = tuple(str(path) for path, _ in self._nodes)
        self._inner = compile_program([node for _, node in self._nodes])
        self.nodes = [node for _, node in self._nodes]
        self._slots = [self._slot(Path.parse(point.paths[0])) for point in self._inner.points]
        self._live: list[nn.Module] = []
        self.run: Run | None = None
        self._outer: Callable[[Sequence[Any]], Any] | None = None

    def _slot(self, path: Path) -> int:
        """Returns the place in the space of a decision, from its path in the list of modules."""
        step = path.steps[0]
        assert isinstance(step, int)  # The program that was compiled is a list.
        return self._space.point(str(self._nodes[step][0] + Path(path.steps[1:]))).index

    @property
    def slots(self) -> frozenset[int]:
        """The decisions that stand in modules, by their index in the space."""
        return frozenset(self._slots)

    def build(self, values: Sequence[Any]) -> list[Any]:
        """Returns the modules of a child, built by their own `__init__`, and symbolic calls as such."""
        made: list[Any] = self._inner.build([values[slot] for slot in self._slots])
        return made

    def names(self) -> tuple[str, ...]:
        """Returns the path prefixes of the modules, for names of tensors."""
        return tuple(_name(path) for path in self.paths)

    def wrap(self, values: Sequence[Any], live: list[nn.Module]) -> Any:
        """Returns the program of raw values around live modules."""
        if self._outer is None:
            self._outer = self._compile_outer()
        self._live[:] = live
        return self._outer(values)

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

        def replace(value: Any, path: Path) -> Any:
            number = places.get(id(value))
            return KEEP if number is None else Derived(self._live.__getitem__, (number,))

        template = compile_program(copy_tree(self._program, replace))
        slots = [self._space.point(point.paths[0]).index for point in template.points]
        return lambda values: template.build([values[slot] for slot in slots])


class LiveCall:
    """Stands for a symbolic call that builds a module: called, it returns the live module."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    def __call__(self) -> nn.Module:
        """Returns the live module."""
        return self._module

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


def _module_nodes(program: Any) -> list[tuple[Path, Any]]:
    found: dict[int, tuple[Path, Any]] = {}
    _visit(program, Path(), found, None)
    return list(found.values())


def _visit(value: Any, path: Path, found: dict[int, tuple[Path, Any]], choice: Any) -> None:
    if type(value) in LEAVES or id(value) in found:
        return
    if is_module_like(value):
        if choice is not None:
            raise LoweringError(
                "cannot share the weights of a module that stands below a choice outside of modules",
                at=path,
                got=choice,
                expected="a choice whose candidates are all modules, or a choice inside of a module",
                fix="make the choice inside the module, or search this decision with trials (where=)",
            )
        found[id(value)] = (path, value)
        return
    inside = value if isinstance(value, Undecided) and isinstance(value, (HyperValue, Derived)) else choice
    for step, item in children(value):
        if isinstance(value, HyperValue) and step == "candidates":
            for index, candidate in enumerate(item):
                _visit(candidate, path / "candidates" / index, found, inside)
        else:
            _visit(item, path / step, found, inside)
    for where, item in edited(value):
        _visit(item, path + where, found, inside)


__all__ = ["LiveCall", "Roots", "Run", "is_call", "is_module_like", "several_modules"]
