"""The one traversal of the symbolic tree: children, walks, queries, look-ups."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

from mutandis.errors import PathError, SettingError, closest
from mutandis.symbolic.abstract import is_abstract_type
from mutandis.symbolic.paths import Key, Path, Step
from mutandis.symbolic.record import LEAVES, UNSET, get_edits, is_symbolic, spec_for, values_of
from mutandis.symbolic.undecided import Undecided

_CONTAINERS = (list, tuple, dict)


def children(value: Any) -> list[tuple[Step, Any]]:
    """Returns the children of a node through its arguments or elements: (step, child) in order.

    Args:
        value: A symbolic object, container, undecided value, or anything (leaves have no children).

    Returns:
        Arguments by name (`**kwargs` by their keys), elements by index, dict items by `Key`.
    """
    kind = type(value)
    if kind in LEAVES:
        return []
    if kind is list or kind is tuple or (isinstance(value, tuple) and hasattr(value, "_fields")):
        return list(enumerate(value))
    if kind is dict:
        return [(Key(key), item) for key, item in value.items()]
    if isinstance(value, Undecided):
        return list(value._mu_items_())
    if not is_symbolic(value):
        return []
    spec = spec_for(value)
    found: list[tuple[Step, Any]] = []
    for name, item in zip(spec.names, values_of(value), strict=True):
        if item is UNSET:
            continue
        if name == spec.var_keyword:
            found.extend(item.items())
        else:
            found.append((name, item))
    return found


def edited(value: Any) -> list[tuple[Path, Any]]:
    """Returns the recorded edits of the layers of a symbolic object: (path below it, value)."""
    if not is_symbolic(value):
        return []
    return [(Path.parse(where), item) for where, item in get_edits(value).items()]


def live_module(value: Any, *, explicit: bool = False) -> Any:
    """Returns the built module behind a symbolic node whose layers can be seen, or None."""
    torch = sys.modules.get("torch")
    if torch is None or is_abstract_type(type(value)):
        return None
    if getattr(type(value), "_mu_is_call_", False):
        return value._mu_preview_(explicit=explicit)
    return value if isinstance(value, torch.nn.Module) and is_symbolic(value) else None


def inner(value: Any) -> list[tuple[Path, Any]]:
    """Returns the layers that a symbolic module built inside `__init__`: those that no argument holds.

    Args:
        value: A symbolic object.

    Returns:
        (path below it, module) in registration order; a layer with several names under the first.
    """
    module = live_module(value)
    if module is None:
        return []
    held = _held_modules(value)
    found: list[tuple[Path, Any]] = []
    _collect_layers(module, Path(), held | {id(module)}, found)
    return found


def _held_modules(value: Any) -> set[int]:
    torch = sys.modules["torch"]
    held: set[int] = set()
    stack = list(values_of(value))
    while stack:
        item = stack.pop()
        if type(item) in LEAVES:
            continue
        if isinstance(item, torch.nn.Module) and not is_abstract_type(type(item)):
            held.update(id(module) for module in item.modules())
        elif getattr(type(item), "_mu_is_call_", False) and "_mu_cached_" in item.__dict__:
            stack.append(item._mu_result_())
        elif isinstance(item, (list, tuple)):
            stack.extend(item)
        elif type(item) is dict:
            stack.extend(item.values())
    return held


def _collect_layers(module: Any, path: Path, seen: set[int], found: list[tuple[Path, Any]]) -> None:
    for name, layer in module._modules.items():
        if layer is None or id(layer) in seen:
            continue
        seen.add(id(layer))
        here = path / layer_step(module, name)
        found.append((here, layer))
        _collect_layers(layer, here, seen, found)


def layer_step(module: Any, name: str) -> Step:
    """Returns the step that reads as the code which reaches a registered layer."""
    torch = sys.modules["torch"]
    if isinstance(module, torch.nn.ModuleDict):
        return Key(name)
    if name.isdigit():
        return int(name)
    return name if name.isidentifier() else Key(name)


def walk(value: Any, *, layers: bool = True) -> Iterator[tuple[Path, Any, Any]]:
    """Yields every node of a tree once, parents first: (path, value, parent).

    Args:
        value: The root.
        layers: Whether to visit the layers that modules built inside `__init__`.

    Yields:
        The root with an empty path and no parent, then its descendants, leaves included. A node that stands
        at several places comes at the first.
    """
    yield from _walk(value, Path(), None, layers, set())


def _walk(value: Any, path: Path, parent: Any, layers: bool, seen: set[int]) -> Iterator[tuple[Path, Any, Any]]:
    if type(value) not in LEAVES:
        if id(value) in seen:
            return
        if is_symbolic(value) or isinstance(value, (Undecided, *_CONTAINERS)) or _is_module(value):
            seen.add(id(value))
    yield path, value, parent
    for step, child in children(value):
        yield from _walk(child, path / step, value, layers, seen)
    if not is_symbolic(value):
        return
    if is_abstract_type(type(value)):
        for where, item in edited(value):
            yield from _walk(item, path + where, value, layers, seen)
    elif layers:
        module = live_module(value)
        for where, layer in inner(value):
            if id(layer) in seen:
                continue
            holder = module if len(where) == 1 else follow_layers(module, where.parent)
            yield from _walk(layer, path + where, holder, layers, seen)


def _is_module(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and not is_abstract_type(type(value)) and isinstance(value, torch.nn.Module)


def traverse(value: Any) -> Iterator[tuple[str, Any]]:
    """Yields (path, node) for every node of a symbolic tree, parents first, each shared node once."""
    for path, node, _ in walk(value):
        yield str(path), node


def query(value: Any, where: Callable[..., bool] | str | type) -> dict[str, Any]:
    """Returns the nodes that fit, by path.

    Args:
        value: The root of a symbolic tree.
        where: A predicate of the node, or of its path and the node, or of path, node and parent; a regular
            expression that the whole path must match; or a class.

    Returns:
        Path text to node, in the order of the walk.

    Raises:
        SettingError: `where` is none of these.
    """
    test = _as_test(where)
    return {str(path): node for path, node, parent in walk(value) if test(path, node, parent)}


def _as_test(where: Callable[..., bool] | str | type) -> Callable[[Path, Any, Any], bool]:
    if isinstance(where, str):
        pattern = re.compile(where)
        return lambda path, node, parent: pattern.fullmatch(str(path)) is not None
    if isinstance(where, type):
        cls = where
        return lambda path, node, parent: isinstance(node, cls)
    count = arity(where, "where")
    if count == 1:
        return lambda path, node, parent: bool(where(node))
    if count == 2:
        return lambda path, node, parent: bool(where(str(path), node))
    return lambda path, node, parent: bool(where(str(path), node, parent))


def arity(function: Any, role: str) -> int:
    """Returns with how many positional arguments (1, 2 or 3) a rule or predicate is called.

    Raises:
        SettingError: it is not callable or takes another number.
    """
    problem = "cannot use a rule" if role == "rule" else f"cannot use {role}"
    expected = "f(value), f(key, value) or f(key, value, parent)"
    if not callable(function):
        raise SettingError(problem, at=role, got=function, expected=expected, fix="pass a function")
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return 1
    required = [
        p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty
    ]
    only_keyword = [p for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    if any(p.kind is p.VAR_POSITIONAL for p in parameters) and not required:
        return 3
    if len(required) not in (1, 2, 3) or only_keyword:
        raise SettingError(problem, at=role, got=function, expected=expected,
                           fix="change the number of its parameters")  # fmt: skip
    return len(required)


def get(value: Any, path: str | int | Path) -> Any:
    """Returns the node at a path.

    Args:
        value: The root.
        path: Such as `model.blocks[1].kernel_size`.

    Returns:
        The argument, element, candidate or layer there.

    Raises:
        PathError: the path leads nowhere; the message names the part that worked and what exists there.
    """
    node = value
    done = Path()
    pending = list(Path.parse(path))
    while pending:
        node, used = step_into(node, done, pending)
        done = Path((*done, *pending[:used]))
        pending = pending[used:]
    return node


def step_into(node: Any, done: Path, pending: list[Step]) -> tuple[Any, int]:
    """Follows one step (or the path of an edit) from a node; returns the child and how many steps it took."""
    step = pending[0]
    options = children(node)
    for name, child in options:
        if name == step or (isinstance(name, Key) and name.key == step):
            return child, 1
    for where, item in edited(node):
        if tuple(where) == tuple(pending[: len(where)]):
            return item, len(where)
    if is_symbolic(node):
        spec = spec_for(node)
        if isinstance(step, int) and spec.var_positional:
            return step_into(dict(options)[spec.var_positional], done, pending)
    module = live_module(node, explicit=True) if is_symbolic(node) else (node if _is_module(node) else None)
    if module is not None:
        name = layer_name(step)
        layer = module._modules.get(name)
        if layer is not None:
            return layer, 1
    raise missing(node, done, step, [name for name, _ in options], module)


def layer_name(step: Step) -> str:
    """Returns the name under which torch registers the layer of a step."""
    return str(step.key) if isinstance(step, Key) else str(step)


def follow_layers(module: Any, path: Path) -> Any:
    """Returns the submodule at a path of registered layers."""
    for step in path:
        module = module._modules[layer_name(step)]
    return module


def missing(node: Any, done: Path, step: Step, options: list[Step], module: Any = None) -> PathError:
    """Returns the error for a step that does not exist."""
    shown = [str(Path((option,))) for option in options]
    if module is not None:
        shown += [str(Path((layer_step(module, name),))) for name in module._modules]
    wanted = str(Path((step,)))
    there = f"{', '.join(shown[:12]) or 'nothing'}{' ...' if len(shown) > 12 else ''}{closest(wanted, shown)}"
    place = f"{str(done) or 'the root'} ({type(node).__name__})"
    return PathError(
        "cannot find a symbolic path",
        at=done / step,
        got=wanted,
        expected=f"one of the children of {place}: {there}",
        fix="list what exists with mu.query(program, lambda value: True), or mu.describe(program)",
    )
