"""Edits of layers that a module built inside `__init__`: stored by canonical path, applied after every build.

A layer may be registered under several names; its canonical path is the first in registration order, and an
edit takes effect under every name. Nothing here imports torch: modules are known by their `_modules`.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping
from typing import Any

from mutandis.errors import SettingError
from mutandis.symbolic.building import copy_tree
from mutandis.symbolic.paths import Path
from mutandis.symbolic.record import is_abstract, is_symbolic, nested
from mutandis.symbolic.traverse import layer_name, layer_step

Place = tuple[Any, str]
"""A module and the name under which it registers a layer."""


def find_layer(module: Any, path: Path) -> Any:
    """Returns the layer at a path of registered names, or None."""
    for step in path:
        module = getattr(module, "_modules", {}).get(layer_name(step))
        if module is None:
            return None
    return module


def places_of(root: Any, layer: Any) -> list[tuple[Path, Place]]:
    """Returns every registration of `layer` below `root`, in registration order: (path, place)."""
    found: list[tuple[Path, Place]] = []
    _collect(root, layer, Path(), set(), found)
    return found


def _collect(module: Any, layer: Any, path: Path, seen: set[int], found: list[tuple[Path, Place]]) -> None:
    if id(module) in seen:
        return
    seen.add(id(module))
    for name, child in module._modules.items():
        if child is None:
            continue
        here = path / layer_step(module, name)
        if child is layer:
            found.append((here, (module, name)))
        else:
            _collect(child, layer, here, seen, found)


def canonical_path(root: Any, path: Path) -> Path:
    """Returns the first path in registration order of the layer that stands at `path`."""
    places = places_of(root, find_layer(root, path))
    return places[0][0] if places else path


def apply_edits(root: Any, edits: Mapping[str, Any], *, fresh: bool = False) -> list[str]:
    """Puts edited layers into a freshly built module.

    Args:
        root: The module.
        edits: Canonical path to the new layer; undecided ones are left out.
        fresh: Whether each application gets copies of its own, as the results of a symbolic call do.

    Returns:
        The paths that do not exist now; their edits sleep until they do.

    Raises:
        SettingError: an edit is no module, or `root` has no layers.
    """
    if not hasattr(root, "_modules"):
        raise SettingError(
            "cannot apply edits of layers",
            at=", ".join(edits),
            got=root,
            expected="a torch.nn.Module",
            fix="edit the arguments instead",
        )
    dormant = []
    memo: dict[int, Any] = {}
    swaps: dict[int, tuple[Any, Any]] = {}
    for where, value in edits.items():
        layer = find_layer(root, Path.parse(where))
        if layer is None:
            dormant.append(where)
            continue
        if any(is_abstract(item) for item in nested([value])):
            continue
        made = _layer(_copied(value, memo) if fresh else value, where)
        if made is layer:
            continue
        for _, (holder, name) in places_of(root, layer):
            holder._modules[name] = made
        swaps[id(layer)] = (layer, made)
    if swaps:
        _renew_aliases(root, swaps)
    return dormant


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    if is_symbolic(value):
        return copy_tree(value, memo=memo)
    return copy.deepcopy(value)


def _layer(value: Any, where: str) -> Any:
    if getattr(type(value), "_mu_is_call_", False):
        value = value._mu_result_()
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(value, torch.nn.Module):
        raise SettingError(
            "cannot put a value in the place of a layer",
            at=where,
            got=value,
            expected="a torch.nn.Module",
            fix="give a layer, such as mu.nn.Identity()",
        )
    return value


def _renew_aliases(root: Any, swaps: Mapping[int, tuple[Any, Any]]) -> None:
    """Swaps replaced layers in the plain lists, dicts and tuples that modules keep beside the registry."""
    for module in root.modules():
        for key, value in module.__dict__.items():
            if key in ("_modules", "_mu_"):
                continue
            renewed = swapped(value, swaps)
            if renewed is not value:
                module.__dict__[key] = renewed


def swapped(value: Any, swaps: Mapping[int, tuple[Any, Any]], depth: int = 3) -> Any:
    """Returns `value` with objects exchanged: containers of one's own in place, tuples and methods anew.

    Args:
        value: What an attribute holds.
        swaps: Id of the old object to (old, new).
        depth: How deep containers are searched.

    Returns:
        The same object unless it had to be made anew.
    """
    known = swaps.get(id(value))
    if known is not None:
        return known[1]
    if depth == 0:
        return value
    kind = type(value)
    if kind is list:
        for index, item in enumerate(value):
            value[index] = swapped(item, swaps, depth - 1)
    elif kind is dict:
        for key, item in list(value.items()):
            value[key] = swapped(item, swaps, depth - 1)
    elif kind is tuple:
        items = tuple(swapped(item, swaps, depth - 1) for item in value)
        return value if all(a is b for a, b in zip(items, value)) else items
    elif hasattr(value, "__self__") and hasattr(value, "__func__") and id(value.__self__) in swaps:
        return type(value)(value.__func__, swaps[id(value.__self__)][1])
    return value
