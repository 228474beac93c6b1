"""Objects of a program that take changes in place: their class defines `on_rebind`, as for `mu.rebind`.

Such an object is built once, by its own `__init__`, and stands in the program of every child from then on. With each
switch that changes something at or below it, its arguments become those of the child, what it holds of them is replaced
(modules, and objects without an `on_rebind`), and `on_rebind(changes)` is told: `{path: (old, new)}`, paths relative
to the object, of arguments and of decisions inside the modules below. It is built anew where that returns False.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from mutandis.flows.supernet.around.held import exchange
from mutandis.hyper import HyperValue, ManyOf, OneOf, Point, SearchSpace
from mutandis.symbolic.building import construct
from mutandis.symbolic.paths import Path
from mutandis.symbolic.record import is_symbolic, real_class, remember, spec_for, values_of
from mutandis.symbolic.transactions.plan import unchanged
from mutandis.symbolic.traverse import children, walk

Values = tuple[Any, ...]
Changes = dict[str, tuple[Any, Any]]


class Standing:
    """The objects of a live program that take changes in place.

    Args:
        space: The space of the program.
        inside: The decisions that stand in modules, by index.
    """

    def __init__(self, space: SearchSpace, inside: frozenset[int]) -> None:
        self._points = [point for point in space.points if point.index in inside]
        self._hypers = _hypers(space)
        self._kept: dict[Path, Any] = {}
        self._told: dict[Path, Values] = {}
        self._values: Values = ()

    def __bool__(self) -> bool:
        return bool(self._kept)

    def at(self, values: Values) -> None:
        """Says at which raw values the program stands that asks from now on."""
        self._values = values

    def stand(self, path: Path, node: Any, args: tuple[Any, ...]) -> Any:
        """Returns the object that stands for a node, after it has taken its changes.

        Args:
            path: Where the node stands.
            node: The node of the program.
            args: Its arguments in this child.
        """
        kept = self._kept.get(path)
        if kept is None:
            return self._build(path, node, args)
        old, told = values_of(kept), self._told[path]
        changes, exchanged = _changes(kept, old, args)
        changes |= self._inside(path, told)
        if not changes:
            return kept
        remember(kept, args)
        exchange(kept, exchanged)
        try:
            is_taken = kept.on_rebind(changes) not in (False, NotImplemented)
        except BaseException:
            remember(kept, old)
            raise
        if not is_taken:
            return self._build(path, node, args)
        self._told[path] = self._values
        return kept

    def _build(self, path: Path, node: Any, args: tuple[Any, ...]) -> Any:
        made = self._kept[path] = construct(node, args)
        self._told[path] = self._values
        return made

    def _inside(self, at: Path, before: Values) -> Changes:
        """Returns the decisions inside modules below an object that are others, unless one above them is."""
        found: Changes = {}
        for point in self._points:
            old, new = before[point.index], self._values[point.index]
            if old == new or old is None or new is None:
                continue
            for text in point.paths:
                path = Path.parse(text)
                if path.startswith(at):
                    found[str(_in_child(Path(path.steps[len(at):])))] = (self._shown(point, old),
                                                                         self._shown(point, new))  # fmt: skip
        return found

    def _shown(self, point: Point, value: Any) -> Any:
        hyper = self._hypers.get(point.index)
        if isinstance(hyper, OneOf):
            return hyper.candidates[value]
        return [hyper.candidates[pick] for pick in value] if isinstance(hyper, ManyOf) else value


def _changes(kept: Any, old: tuple[Any, ...], new: tuple[Any, ...]) -> tuple[Changes, dict[int, Any]]:
    """Returns where the arguments of an object differ, and the new objects by the ids of those they stand for."""
    spec = spec_for(kept)
    changes: Changes = {}
    pairs: dict[int, Any] = {}
    for name, before, after in zip(spec.names, old, new, strict=True):
        keys = before.keys() | after.keys() if name == spec.var_keyword else ()
        items = [(key, before.get(key), after.get(key)) for key in sorted(keys)] or [(name, before, after)]
        for step, a, b in items:
            below, inside = compared(a, b, Path((step,)))
            changes |= below
            pairs |= inside
    return changes, pairs


def compared(old: Any, new: Any, path: Path) -> tuple[Changes, dict[int, Any]]:
    """Returns where two arguments differ, by path; and the new objects by the ids of the old ones they stand for."""
    if old is new:
        return {}, {}
    same_kind = real_class(old) is real_class(new) if is_symbolic(old) and is_symbolic(new) else type(old) is type(new)
    is_opened = is_symbolic(old) or type(old) in (list, tuple, dict)
    if isinstance(old, nn.Module) or not (same_kind and is_opened):
        is_change = isinstance(old, nn.Module) or not unchanged(old, new)
        return ({str(path): (old, new)} if is_change else {}), _pair(old, new)
    pairs = _pair(old, new)
    before, after = dict(children(old)), dict(children(new))
    if before.keys() != after.keys():
        return {str(path): (old, new)}, pairs
    changes: Changes = {}
    for step in before:
        below, inside = compared(before[step], after[step], path / step)
        changes |= below
        pairs |= inside
    return changes, pairs


def _pair(old: Any, new: Any) -> dict[int, Any]:
    return {id(old): new} if is_symbolic(old) or isinstance(old, nn.Module) else {}


def _in_child(path: Path) -> Path:
    """Returns the path of a place in a child: without the steps into candidates."""
    steps = list(path.steps)
    while "candidates" in steps:
        index = steps.index("candidates")
        del steps[index : index + 2]
    return Path(steps)


def _hypers(space: SearchSpace) -> dict[int, HyperValue]:
    """Returns the hyper values of a program by the index of their points."""
    index_of: dict[int, int] = space._template._index_of  # type: ignore[union-attr]
    values = [value for _, value, _ in walk(space.program, layers=False) if isinstance(value, HyperValue)]
    return {index_of[id(value)]: value for value in values if id(value) in index_of}


__all__ = ["Standing", "compared"]
