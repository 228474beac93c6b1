"""Comparing trees: equality, differences, fingerprints. Tensors and arrays count as values.

Two trees are equal when they would be built by the same calls: same classes, arguments and edits of layers.
Weights of symbolic modules do not count (a clone equals its original), nor does which nodes are shared. Modules
that are not symbolic are values: equal when of one type with equal attributes, parameters and buffers.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mutandis.errors import PathError, short_repr
from mutandis.symbolic.building import construct, copy_tree
from mutandis.symbolic.paths import Key, Path, Step
from mutandis.symbolic.record import LEAVES, UNSET, get_edits, is_symbolic, real_class, spec_for, values_of
from mutandis.symbolic.serial.leaves import equal_leaf, leaf_bytes
from mutandis.symbolic.undecided import Undecided

_EXACT = frozenset({int, str, bool, type(None), bytes})


class Missing:
    """The type of `MISSING`, one side of a difference where nothing stands."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "MISSING"

    def __reduce__(self) -> str:
        return "MISSING"


MISSING = Missing()


def equal(a: Any, b: Any) -> bool:
    """Returns whether two trees are equal: same classes, same arguments, same edits, equal leaves.

    Args:
        a: A symbolic tree, or any value.
        b: Another one.

    Returns:
        Whether they are equal. Leaves compare by type first (`1` differs from `True` and `1.0`); nan equals
        nan; tensors and arrays compare by dtype, shape and values; functions by identity.
    """
    return _equal(a, b, set())


def _kind(value: Any) -> type:
    return real_class(value) if is_symbolic(value) else type(value)


def _equal(a: Any, b: Any, seen: set[tuple[int, int]]) -> bool:
    if a is b:
        return True
    kind = type(a)
    if kind in _EXACT:
        return type(b) is kind and bool(a == b)
    symbolic = is_symbolic(a)
    if kind is not type(b) and not (symbolic and real_class(a) is _kind(b)):
        return False
    if kind in LEAVES:
        return bool(equal_leaf(a, b))
    if (id(a), id(b)) in seen:  # Known to be equal, or being compared further up.
        return True
    seen.add((id(a), id(b)))
    if kind is list or kind is tuple or (isinstance(a, tuple) and hasattr(a, "_fields")):
        return len(a) == len(b) and all(_equal(x, y, seen) for x, y in zip(a, b, strict=True))
    if kind is dict:
        return _equal_dicts(a, b, seen)
    if isinstance(a, Undecided):
        return _equal_dicts(a._mu_settings_(), b._mu_settings_(), seen)
    if symbolic:
        return (
            _equal(_function(a), _function(b), seen)
            and _equal(values_of(a), values_of(b), seen)
            and _equal_dicts(get_edits(a), get_edits(b), seen)
        )
    if kind in (set, frozenset):
        return len(a) == len(b) and _elements(a) == _elements(b)
    answer = equal_leaf(a, b)
    return _equal_dicts(_attributes(a), _attributes(b), seen) if answer is None else answer


def _equal_dicts(a: Mapping[Any, Any], b: Mapping[Any, Any], seen: set[tuple[int, int]]) -> bool:
    if len(a) != len(b) or a.keys() != b.keys():
        return False
    if not all(type(key) is str for key in a) and _elements(a) != _elements(b):  # 1 and True are one key.
        return False
    return all(_equal(item, b[key], seen) for key, item in a.items())


def _elements(values: Any) -> list[str]:
    return sorted(fingerprint(value) for value in values)


def _function(value: Any) -> Any:
    """Returns the function of a symbolic call; None for other objects."""
    return value.function if getattr(type(value), "_mu_has_own_spec_", False) else None


def _attributes(value: Any) -> dict[str, Any]:
    """Returns what makes up an object that is neither symbolic nor plain data."""
    if isinstance(value, functools.partial):
        return {"func": value.func, "args": value.args, "keywords": value.keywords}
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.compare}
    attributes: dict[str, Any] = dict(getattr(value, "__dict__", {}))
    if "_modules" in attributes:  # Hook tables have keys of their own in every module.
        attributes = {k: list(v.values()) if "_hooks" in k and v is not None else v for k, v in attributes.items()}
        attributes = {k: dict(v) if k in ("_modules", "_parameters", "_buffers") else v for k, v in attributes.items()}
    return attributes


@dataclasses.dataclass(frozen=True)
class _Edit:
    """A step to the edit of a layer, which may be several names long."""

    where: str


_Place = tuple[Step | _Edit, ...]


class Diff(dict[str, tuple[Any, Any]]):
    """The differences of two trees: path to (value in the first, value in the second), `MISSING` where none.

    Empty, and so false, when the trees are equal.
    """

    def __init__(self) -> None:
        super().__init__()
        self._places: dict[str, _Place] = {}

    def add(self, place: _Place, old: Any, new: Any) -> None:
        """Records one difference."""
        path = Path()
        for step in place:
            path = path + Path.parse(step.where) if isinstance(step, _Edit) else path / step
        self[str(path)] = (old, new)
        self._places[str(path)] = place

    def __str__(self) -> str:
        if not self:
            return "no difference"
        return "\n".join(
            f"{path or '(the root)'}: {short_repr(old)} -> {short_repr(new)}" for path, (old, new) in self.items()
        )

    def apply(self, a: Any) -> Any:
        """Returns a copy of `a` in which every difference is taken over.

        Raises:
            PathError: a path of the difference does not exist in `a`.
        """
        return _Patch(self).node(a, {place: self[path] for path, place in self._places.items()})


def diff(a: Any, b: Any) -> Diff:
    """Returns where two trees differ.

    Args:
        a: The first tree.
        b: The second tree.

    Returns:
        Path to (old, new), the smallest parts that differ; empty and false when the trees are equal. Elements
        at the end of the longer list have `MISSING` on the other side.
    """
    found = Diff()
    _differences(a, b, (), found, set())
    return found


def apply(a: Any, difference: Diff) -> Any:
    """Returns a copy of `a` in which every difference is taken over.

    Args:
        a: The tree that the difference was taken from.
        difference: What `diff(a, b)` returned.

    Returns:
        A tree equal to `b`, sharing no symbolic node with either.

    Raises:
        PathError: a path of the difference does not exist in `a`.
    """
    return difference.apply(a)


def _differences(a: Any, b: Any, place: _Place, found: Diff, same: set[tuple[int, int]]) -> None:
    """Adds the differences below a place; recursion stops at pairs that are known to be equal."""
    if a is b or (id(a), id(b)) in same:
        return
    first, second = _parts(a), _parts(b)
    if first is None or second is None or not _comparable(a, b, first, second):
        if not equal(a, b):
            found.add(place, a, b)
        return
    count = len(found)
    for step in [*first, *(step for step in second if step not in first)]:
        old, new = first.get(step, MISSING), second.get(step, MISSING)
        if old is MISSING or new is MISSING:
            found.add((*place, step), old, new)
        else:
            _differences(old, new, (*place, step), found, same)
    if len(found) == count:
        same.add((id(a), id(b)))


def _parts(value: Any) -> dict[Step | _Edit, Any] | None:
    """Returns the parts of a node that can differ on their own; None for leaves."""
    kind = type(value)
    if kind is list or kind is tuple or (isinstance(value, tuple) and hasattr(value, "_fields")):
        return dict(enumerate(value))
    if kind is dict:
        return {Key(key): item for key, item in value.items()}
    if isinstance(value, Undecided):
        return dict(value._mu_items_()) or None
    if not is_symbolic(value):
        return None
    spec = spec_for(value)
    parts: dict[Step | _Edit, Any] = {}
    for name, item in zip(spec.names, values_of(value), strict=True):
        if name == spec.var_keyword:
            parts.update(item if item is not UNSET else {})
        elif item is not UNSET:
            parts[name] = item
    parts.update({_Edit(where): item for where, item in get_edits(value).items()})
    return parts


def _comparable(a: Any, b: Any, first: Mapping[Any, Any], second: Mapping[Any, Any]) -> bool:
    """Returns whether two nodes differ in their parts only."""
    if _kind(a) is not _kind(b):
        return False
    if type(a) is dict:  # 1 and True are one key.
        return all(type(k.key) is str for k in (*first, *second)) or _elements(a) == _elements(b)
    if isinstance(a, tuple) and hasattr(a, "_fields"):
        return len(a) == len(b)
    if isinstance(a, Undecided):
        old, new = a._mu_settings_(), b._mu_settings_()
        return list(first) == list(second) and equal({k: v for k, v in old.items() if k not in first},
                                                     {k: v for k, v in new.items() if k not in second})  # fmt: skip
    return not is_symbolic(a) or equal(_function(a), _function(b))


_Changes = dict[_Place, tuple[Any, Any]]


class _Patch:
    """One application of a difference; shared nodes that change alike stay shared."""

    def __init__(self, difference: Diff) -> None:
        self._difference = difference  # Kept alive, since ids of its values are keys below.
        self._copies: dict[int, Any] = {}
        self._fresh: dict[int, Any] = {}
        self._changed: dict[tuple[int, tuple[Any, ...]], Any] = {}

    def node(self, value: Any, changes: _Changes, place: _Place = ()) -> Any:
        """Returns the copy of a node with changes at places below it."""
        if () in changes:
            new = changes[()][1]
            return new if new is MISSING else copy_tree(new, memo=self._fresh)
        if not changes:
            return copy_tree(value, memo=self._copies)
        key = (id(value), tuple((where, id(new)) for where, (_, new) in changes.items()))
        if key not in self._changed:
            self._changed[key] = self._rebuilt(value, changes, place)
        return self._changed[key]

    def _rebuilt(self, value: Any, changes: _Changes, place: _Place) -> Any:
        parts = _parts(value) or {}
        below: dict[Step | _Edit, _Changes] = {}
        for where, change in changes.items():
            below.setdefault(where[0], {})[where[1:]] = change
        for step, inner in below.items():
            if step not in parts and not (() in inner and inner[()][0] is MISSING):
                shown = Path(s.where if isinstance(s, _Edit) else s for s in (*place, step))
                raise PathError("cannot apply a difference", at=shown, expected="a path of this tree",
                                fix="apply it to the tree that it was taken from")  # fmt: skip
        made = {step: self.node(item, below.get(step, {}), (*place, step)) for step, item in parts.items()}
        for step, inner in below.items():
            if step not in parts:
                made[step] = self.node(None, inner, (*place, step))
        return _assembled(value, {step: item for step, item in made.items() if item is not MISSING})


def _assembled(value: Any, parts: dict[Step | _Edit, Any]) -> Any:
    """Returns a new node like `value` with other parts."""
    if isinstance(value, Undecided):
        return value._mu_replace_({str(step): item for step, item in parts.items()})
    if type(value) is dict:
        return {step.key: item for step, item in parts.items() if isinstance(step, Key)}
    if isinstance(value, (list, tuple)):
        return value._make(parts.values()) if hasattr(value, "_make") else type(value)(parts.values())
    spec = spec_for(value)
    edits = {step.where: item for step, item in parts.items() if isinstance(step, _Edit)}
    named = {step: item for step, item in parts.items() if isinstance(step, str)}
    values = [named.pop(name, UNSET) for name in spec.names if name != spec.var_keyword]
    if spec.var_keyword is not None:
        values.insert(spec.names.index(spec.var_keyword), named)
    return construct(value, values, edits)


def fingerprint(value: Any) -> str:
    """Returns a text that names a tree: equal trees have equal fingerprints, in every process.

    Args:
        value: A symbolic tree; tensors and arrays count with their elements, functions by import name.

    Returns:
        32 hexadecimal digits (BLAKE2b).
    """
    return _digest(value, {}).hex()


def _hashed(parts: Iterator[bytes]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.digest()


def _digest(value: Any, memo: dict[int, tuple[Any, bytes]]) -> bytes:
    """Returns what stands for a node: the text of small leaves, a hash of everything else."""
    kind = type(value)
    if kind in _EXACT:
        return f"{kind.__name__} {value!r}".encode()
    known = memo.get(id(value))
    if known is not None:
        return known[1]
    memo[id(value)] = (value, b"itself")  # What an object that contains itself finds inside.
    made = _hashed(_digested(value, lambda part: _digest(part, memo)))
    memo[id(value)] = (value, made)
    return made


def _digested(value: Any, digest: Callable[[Any], bytes]) -> Iterator[bytes]:
    kind = _kind(value)
    yield f"{kind.__module__}:{kind.__qualname__}".encode()
    if kind is list or kind is tuple or (isinstance(value, tuple) and hasattr(value, "_fields")):
        yield from map(digest, value)
    elif kind is dict:
        yield from _sorted_items(value, digest)
    elif isinstance(value, Undecided):
        yield from _sorted_items(value._mu_settings_(), digest)
    elif is_symbolic(value):
        yield digest(_function(value))
        yield from (digest(None) if item is UNSET else digest(item) for item in values_of(value))
        yield from _sorted_items(get_edits(value), digest)
    elif kind in (set, frozenset):
        yield from sorted(map(digest, value))
    else:
        leaf = leaf_bytes(value)
        if leaf is None:
            yield from _sorted_items(_attributes(value), digest)
        else:
            yield leaf


def _sorted_items(items: Mapping[Any, Any], digest: Callable[[Any], bytes]) -> Iterator[bytes]:
    for key, item in sorted((digest(key), digest(item)) for key, item in items.items()):
        yield key
        yield item
