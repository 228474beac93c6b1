"""The short way of a rebind: one plain argument of a plain object, reached through plain objects and containers.

Searches change single numbers in small trees thousands of times a second. Where nothing special is on the way
(no modules, calls, undecided values, edits, or holders outside the path) the transaction comes down to: save the
instance dicts, run `__init__` upwards, put back on an exception.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import cached_property, lru_cache
from typing import Any

from mutandis.symbolic.abstract import is_abstract_type
from mutandis.symbolic.building import building_at, note_building
from mutandis.symbolic.paths import Key, Path, Step
from mutandis.symbolic.record import LEAVES, PORTABLE, Record, private, spec_of

NO = object()
"""Says that the long way must be taken."""

_SIMPLE = (int, str, bool, type(None))

_Link = tuple[Any, Any, tuple[Any, ...], int, int, bool]
"""An object on the path, its spec and arguments, which of them changes, its depth, whether any is a container."""


@lru_cache(maxsize=4096)
def _steps(text: str) -> tuple[Step, ...]:
    return Path.parse(text).steps


@lru_cache(maxsize=4096)
def _is_plain(cls: type) -> bool:
    """Returns whether instances are built by `__init__` alone and keep their state in `__dict__` alone."""
    if is_abstract_type(cls) or getattr(cls, "_mu_has_own_spec_", False) or hasattr(cls, "on_rebind"):
        return False
    spec = spec_of(cls)
    if spec is None or spec.fields is not None or spec.replaced or spec.var_positional or spec.var_keyword:
        return False
    if any(isinstance(item, cached_property) for base in cls.__mro__ for item in base.__dict__.values()):
        return False
    outer = [base for base in cls.__mro__ if not base.__flags__ & (1 << 9) or base.__module__.startswith("torch")]
    return outer == [object] and all("__slots__" not in base.__dict__ for base in cls.__mro__[:-1])


def rebind_leaf(x: Any, path: Any, value: Any) -> Any:
    """Changes one argument in place if that is plain enough.

    Args:
        x: The root.
        path: Where the argument stands.
        value: Its new value.

    Returns:
        `x`, or `NO` when something on the way asks for the whole transaction; then nothing was changed.
    """
    if type(path) is not str or type(value) not in PORTABLE:
        return NO
    steps = _steps(path)
    chain: list[_Link] = []
    node, holder, inside = x, None, True
    for depth, step in enumerate(steps):
        cls = type(node)
        if cls is list or cls is dict:
            node, inside = _item(node, step), False
            if node is NO:
                return NO
            continue
        if not _is_plain(cls):  # type: ignore[arg-type]
            return NO
        spec = cls._mu_spec_
        index = spec._positions.get(step)
        memory = node.__dict__.get("_mu_")
        if index is None or memory is None:
            return NO
        boxes = False
        if type(memory) is tuple:
            if holder is not None:
                return NO
            values = memory
        else:
            if not _is_lonely(node, memory, holder):
                return NO
            values = memory.args
            for other in values:
                kind = type(other)
                if kind in LEAVES:
                    continue
                if kind is list or kind is dict:
                    boxes = True
                    if not _are_plain((other,)):
                        return NO
                elif not _is_plain(kind):  # type: ignore[arg-type]
                    return NO
        chain.append((node, spec, values, index, depth, boxes))
        holder, node, inside = node, values[index], True
    if not inside:  # An element of a container, not an argument.
        return NO
    changed = type(value)
    if type(node) is changed:
        if node == value if changed in _SIMPLE else node is value:
            return x
    elif type(node) not in PORTABLE:
        return NO
    if changed not in _SIMPLE and repr(node) == repr(value):  # -0.0 and nan are for the long way.
        return NO
    _build(chain, value, steps)
    return x


def _item(container: Any, step: Step) -> Any:
    """Returns what stands in a list or dict, or `NO`."""
    if type(container) is dict:
        return container.get(step.key if isinstance(step, Key) else step, NO)
    return container[step] if type(step) is int and 0 <= step < len(container) else NO


def _are_plain(values: Iterable[Any]) -> bool:
    """Returns whether values hold nothing but leaves and plain objects, through lists and dicts."""
    for value in values:
        kind = type(value)
        if kind in LEAVES:
            continue
        if kind is list:
            if not _are_plain(value):
                return False
        elif kind is dict:
            if not _are_plain(value.values()):
                return False
        elif not _is_plain(kind):  # type: ignore[arg-type]
            return False
    return True


def _is_lonely(node: Any, memory: Record, holder: Any) -> bool:
    """Returns whether nobody but `holder` holds a node, and the record is its own."""
    if memory.edits or memory.owner is None or memory.owner() is not node:
        return False
    holders = memory.holders
    if holder is None:
        return not holders
    if len(holders) == 1:
        return holders[0]() is holder
    return bool(holders) and holders[-1]() is holder and all(known() is holder or known() is None for known in holders)


def _build(chain: list[_Link], value: Any, steps: tuple[Step, ...]) -> None:
    torch = sys.modules.get("torch")
    random = None if torch is None else torch.get_rng_state()
    saved: list[tuple[dict[str, Any], dict[str, Any]]] = []
    changed = True
    try:
        for node, spec, values, index, _, boxes in reversed(chain):
            attributes: dict[str, Any] = node.__dict__
            before = attributes.copy()
            saved.append((attributes, before))
            memory = before["_mu_"]
            if changed:  # Those above hold the same objects as before.
                values = (*values[:index], value, *values[index + 1 :])
                memory = values if type(memory) is tuple else memory.with_args(values)
                changed = False
            attributes.clear()
            attributes["_mu_"] = memory
            given = map(private, values) if boxes else values
            if spec.by_position:
                spec.init(node, *given)
            else:
                args, kwargs = spec.split(given)
                spec.init(node, *args, **kwargs)
            if attributes.keys() != before.keys():
                for name in before.keys() - attributes.keys():
                    attributes[name] = before[name]
    except BaseException as error:
        _, spec, _, _, depth, _ = chain[len(chain) - len(saved)]
        for attributes, before in saved:
            attributes.clear()
            attributes.update(before)
        with building_at(Path(steps[:depth])):
            note_building(error, spec.origin)
        raise
    finally:
        if torch is not None and random is not None:
            torch.set_rng_state(random)
