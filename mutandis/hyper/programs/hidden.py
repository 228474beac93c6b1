"""Finds decisions that stand where the symbolic tree cannot see them, and says so instead of ignoring them."""

from __future__ import annotations

import functools
import sys
import types
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from mutandis.errors import SpaceError
from mutandis.symbolic.abstract import is_abstract_type
from mutandis.symbolic.record import LEAVES, is_abstract, is_symbolic
from mutandis.symbolic.undecided import Required, Undecided

_BUDGET = 20_000
_DEPTH = 4
_SKIPPED = (type, types.ModuleType, types.MethodType, str, bytes)


def refuse_hidden(value: Any, path: str) -> None:
    """Raises if an opaque leaf, or the inside of a built module, hides an undecided value.

    Args:
        value: A leaf of the tree, or a concrete symbolic module.
        path: Where it stands.

    Raises:
        SpaceError: it holds a hyper value or an abstract object.
    """
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        return
    module = torch is not None and isinstance(value, torch.nn.Module)
    if is_symbolic(value) and not module:
        return
    found = _search(value, module)
    if found is None:
        return
    where, hidden = found
    raise SpaceError(
        "cannot see a decision that is hidden in a plain object",
        at=f"{path}{where}" if path else where.lstrip("."),
        got=hidden,
        expected="hyper values inside the arguments of symbolic objects, lists, tuples and dicts",
        fix=_remedy(value, module),
    )


def _remedy(value: Any, module: bool) -> str:
    name = type(value).__name__
    if isinstance(value, functools.partial):
        return "write mu.partial(f, ...) instead of functools.partial(f, ...)"
    if module and type(value).__module__.startswith("torch."):
        return f"write mu.nn.{name}(...) instead of nn.{name}(...), or mu.bind(nn.{name}, ...)"
    if isinstance(value, (Mapping, list, tuple, set, frozenset, deque)):
        return f"use a plain list, tuple or dict instead of {name}"
    return (
        f"decorate {name} with @mu.symbolize and pass the value as an argument, or build it with mu.bind({name}, ...); "
        "for containers of layers use mu.nn.Sequential and the like"
    )


def _search(value: Any, module: bool) -> tuple[str, Any] | None:
    """Returns (path below `value`, undecided value) of the first that is hidden, or None."""
    seen: set[int] = {id(value)}
    pending: deque[tuple[str, Any, int]] = deque(_parts(value, "", module))
    depth_left = _BUDGET
    while pending and depth_left:
        depth_left -= 1
        path, item, depth = pending.popleft()
        if type(item) in LEAVES or id(item) in seen or isinstance(item, _SKIPPED):
            continue
        seen.add(id(item))
        if is_abstract(item) and not isinstance(item, Required):
            return path, item
        if is_abstract_type(type(item)) or depth >= _DEPTH or (is_symbolic(item) and not _is_module(item)):
            continue
        if _is_module(item) or isinstance(item, (list, tuple, set, frozenset, deque, Mapping, functools.partial)):
            cost = 0 if _is_module(item) else 1
            pending.extend((p, child, depth + cost) for p, child, _ in _parts(item, path, _is_module(item)))
    return None


def _is_module(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.nn.Module)


def _parts(value: Any, path: str, module: bool) -> Iterator[tuple[str, Any, int]]:
    if isinstance(value, Undecided):
        return
    if isinstance(value, functools.partial):
        yield from ((f"{path}.args[{i}]", item, 0) for i, item in enumerate(value.args))
        yield from ((f"{path}.{name}", item, 0) for name, item in value.keywords.items())
    elif isinstance(value, Mapping):
        yield from ((f"{path}[{key!r}]", value[key], 0) for key in list(value)[:1000])
    elif isinstance(value, (list, tuple, deque, set, frozenset)):
        yield from ((f"{path}[{i}]", item, 0) for i, item in zip(range(1000), value, strict=False))
    elif module:
        for name, layer in value._modules.items():
            yield (f"{path}[{name}]" if name.isdigit() else f"{path}.{name}"), layer, 0
        yield from _attributes(value, path, ("_parameters", "_buffers", "_modules", "_mu_"))
    else:
        yield from _attributes(value, path, ())


def _attributes(value: Any, path: str, skipped: tuple[str, ...]) -> Iterator[tuple[str, Any, int]]:
    try:
        state = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return
    if isinstance(state, dict):
        for name, item in list(state.items()):
            if name not in skipped and not name.startswith("_mu_"):
                yield f"{path}.{name}", item, 0


__all__ = ["refuse_hidden"]
