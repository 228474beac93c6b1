"""Comparing trees: equality, differences, fingerprints. Tensors and arrays count as values."""

from __future__ import annotations

import hashlib
import math
import sys
import types
from collections.abc import Iterator
from typing import Any

from mutandis.errors import PathError
from mutandis.symbolic.building import KEEP, copy_tree
from mutandis.symbolic.paths import Path
from mutandis.symbolic.record import get_edits, is_symbolic, real_class, values_of
from mutandis.symbolic.traverse import children, edited
from mutandis.symbolic.undecided import Undecided


class _Missing:
    """The type of `MISSING`, one side of a difference where nothing stands."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING = _Missing()


def equal(a: Any, b: Any) -> bool:
    """Returns whether two trees are equal: same classes, same arguments, same edits, equal leaves.

    Leaves compare by type first (`1` differs from `True` and `1.0`); nan equals nan; tensors and arrays
    compare by dtype, shape and values; modules that are not symbolic by type, attributes and state.
    """
    return _equal(a, b, set())


def _equal(a: Any, b: Any, seen: set[tuple[int, int]]) -> bool:
    if a is b:
        return True
    kind = _kind(a)
    if kind is not _kind(b):
        return False
    if kind in (int, str, bool, bytes, type(None)):
        return bool(a == b)
    if (id(a), id(b)) in seen:
        return True
    if kind in (list, tuple) or (isinstance(a, tuple) and hasattr(a, "_fields")):
        return len(a) == len(b) and all(_equal(x, y, seen) for x, y in zip(a, b, strict=True))
    if kind is dict:
        return a.keys() == b.keys() and all(_equal(item, b[key], seen) for key, item in a.items())
    if isinstance(a, Undecided):
        seen.add((id(a), id(b)))
        return _equal(a._mu_settings_(), b._mu_settings_(), seen)
    if is_symbolic(a):
        seen.add((id(a), id(b)))
        if getattr(a, "_mu_own_spec_", None) is not None and a.function is not b.function:
            return False
        first, second = values_of(a), values_of(b)
        same = len(first) == len(second) and all(_equal(x, y, seen) for x, y in zip(first, second, strict=True))
        return same and _equal(get_edits(a), get_edits(b), seen)
    return _equal_leaf(a, b, seen)


def _kind(value: Any) -> type:
    return real_class(value) if is_symbolic(value) else type(value)


def _equal_leaf(a: Any, b: Any, seen: set[tuple[int, int]]) -> bool:
    if isinstance(a, float):
        return a == b or (math.isnan(a) and math.isnan(b))
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(a, torch.Tensor):
        return bool(
            a.dtype == b.dtype
            and a.shape == b.shape
            and a.device == b.device
            and a.requires_grad == b.requires_grad
            and torch.equal(torch.nan_to_num(a.detach()), torch.nan_to_num(b.detach()))
            and torch.equal(a.detach().isnan(), b.detach().isnan())
        )
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(a, numpy.ndarray):
        if a.dtype != b.dtype or a.shape != b.shape:
            return False
        return bool(numpy.array_equal(a, b, equal_nan=a.dtype.kind in "fc"))
    if torch is not None and isinstance(a, torch.nn.Module):
        return _equal_modules(a, b, seen)
    if isinstance(a, (types.FunctionType, types.BuiltinFunctionType, type)):
        return False
    try:
        return bool(a == b)
    except Exception:  # An `==` that refuses to answer leaves identity, which was tested already.
        return False


def _equal_modules(a: Any, b: Any, seen: set[tuple[int, int]]) -> bool:
    seen.add((id(a), id(b)))
    names = ("_parameters", "_buffers", "_modules")
    plain = {k: v for k, v in vars(a).items() if not k.startswith("_")}
    if not _equal(plain, {k: v for k, v in vars(b).items() if not k.startswith("_")}, seen):
        return False
    return all(_equal(dict(vars(a)[name]), dict(vars(b)[name]), seen) for name in names)


class Diff(dict[str, tuple[Any, Any]]):
    """The differences of two trees: path to (value in the first, value in the second), `MISSING` where none."""

    def __str__(self) -> str:
        if not self:
            return "no difference"
        return "\n".join(f"{path or '(the root)'}: {old!r} -> {new!r}" for path, (old, new) in self.items())

    def apply(self, a: Any) -> Any:
        """Returns a copy of `a` in which every difference is taken over.

        Raises:
            PathError: a path of the difference does not exist in `a`.
        """
        return apply(a, self)


def diff(a: Any, b: Any) -> Diff:
    """Returns where two trees differ.

    Args:
        a: The first tree.
        b: The second tree.

    Returns:
        Path to (old, new); empty (and false) when they are equal. Lists of other length and objects of
        another class or with other edits differ as a whole.
    """
    found = Diff()
    for path, old, new in _differences(a, b, Path()):
        found[str(path)] = (old, new)
    return found


def _differences(a: Any, b: Any, path: Path) -> Iterator[tuple[Path, Any, Any]]:
    if equal(a, b):
        return
    kind = _kind(a)
    if kind is dict and type(b) is dict:
        for step, item in children(a):
            yield from _side(item, b.get(getattr(step, "key", None), MISSING), path / step)
        for step, item in children(b):
            if getattr(step, "key", None) not in a:
                yield path / step, MISSING, item
        return
    first, second = children(a), children(b)
    walkable = kind in (list, tuple) or is_symbolic(a)
    same_edits = not is_symbolic(a) or (is_symbolic(b) and equal(get_edits(a), get_edits(b)))
    function = getattr(a, "function", None) if hasattr(kind, "_mu_own_spec_") else None
    same_function = function is None or function is getattr(b, "function", None)
    same_steps = [step for step, _ in first] == [step for step, _ in second]
    if not (walkable and kind is _kind(b) and same_edits and same_function and same_steps):
        yield path, a, b
    else:
        for (step, item), (_, other) in zip(first, second, strict=True):
            yield from _side(item, other, path / step)


def _side(item: Any, other: Any, path: Path) -> Iterator[tuple[Path, Any, Any]]:
    if other is MISSING:
        yield path, item, MISSING
    else:
        yield from _differences(item, other, path)


def apply(a: Any, difference: Diff) -> Any:
    """Returns a copy of `a` that has the values of the other side of a difference.

    Args:
        a: The tree that the difference was taken from.
        difference: What `diff(a, b)` returned.

    Returns:
        A tree equal to `b`.

    Raises:
        PathError: a path of the difference does not exist in `a`.
    """
    pending = {path: new for path, (old, new) in difference.items() if old is not MISSING}
    used: set[str] = set()

    def replace(node: Any, path: Path) -> Any:
        text = str(path)
        if text in pending:
            used.add(text)
            return pending[text]
        return KEEP

    if "" in pending:
        return copy_tree(pending[""])
    made = _apply_containers(copy_tree(a, replace), pending, used)
    for path, (old, new) in difference.items():
        if old is MISSING:
            _insert(made, Path.parse(path), new)
            used.add(path)
    unknown = set(pending) - used
    if unknown:
        raise PathError("cannot apply a difference", at=sorted(unknown)[0], expected="a path of this tree")
    return made


def _apply_containers(made: Any, pending: dict[str, Any], used: set[str]) -> Any:
    """Takes over the differences whose place is a builtin container, which copies do not ask about."""
    for text, new in pending.items():
        if text in used:
            continue
        used.add(text)
        path = Path.parse(text)
        made = _put(made, list(path), new)
    return made


def _put(node: Any, steps: list[Any], new: Any) -> Any:
    from mutandis.symbolic.building import construct
    from mutandis.symbolic.record import spec_for

    if not steps:
        return new
    step, rest = steps[0], steps[1:]
    key = getattr(step, "key", step)
    if type(node) is dict:
        made = dict(node)
        if new is MISSING and not rest:
            del made[key]
        else:
            made[key] = _put(node[key], rest, new)
        return made
    if type(node) in (list, tuple):
        items = list(node)
        items[key] = _put(items[key], rest, new)
        return type(node)(items)
    values = dict(zip(spec_for(node).names, values_of(node), strict=True))
    if key not in values and spec_for(node).var_keyword:
        keyword = str(spec_for(node).var_keyword)
        values[keyword] = {**values[keyword], key: _put(values[keyword][key], rest, new)}
    else:
        values[key] = _put(values[key], rest, new)
    return construct(node, list(values.values()), get_edits(node))


def _insert(made: Any, path: Path, new: Any) -> None:
    from mutandis.symbolic.traverse import get

    last = path.steps[-1]
    get(made, path.parent)[getattr(last, "key", last)] = new


def fingerprint(value: Any) -> str:
    """Returns a text that names a tree: equal trees have equal fingerprints, in every process.

    Args:
        value: A symbolic tree; tensors and arrays count with their bytes.

    Returns:
        32 hexadecimal digits (BLAKE2b).
    """
    digest = hashlib.blake2b(digest_size=16)
    _feed(value, digest, {})
    return digest.hexdigest()


def _feed(value: Any, digest: Any, seen: dict[int, int]) -> None:
    def add(*parts: object) -> None:
        for part in parts:
            data = part if isinstance(part, bytes) else str(part).encode()
            digest.update(len(data).to_bytes(8, "little") + data)

    kind = _kind(value)
    add(f"{kind.__module__}.{kind.__qualname__}")
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    if isinstance(value, float):
        add("nan" if math.isnan(value) else repr(value + 0.0))
    elif isinstance(value, (set, frozenset)):
        add(*sorted(fingerprint(item) for item in value))
    elif torch is not None and isinstance(value, torch.Tensor):
        data = value.detach().cpu().contiguous()
        add(data.dtype, tuple(data.shape), data.reshape(-1).view(torch.uint8).numpy().tobytes())
    elif numpy is not None and isinstance(value, numpy.ndarray):
        add(value.dtype, value.shape, numpy.ascontiguousarray(value).tobytes())
    elif isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType)):
        add(getattr(value, "__module__", ""), getattr(value, "__qualname__", repr(value)))
    elif isinstance(value, Undecided):
        for name, item in value._mu_settings_().items():
            add(name)
            _feed(item, digest, seen)
    elif is_symbolic(value) or kind in (list, tuple, dict):
        if hasattr(kind, "_mu_own_spec_") or getattr(kind, "_mu_has_own_spec_", False):
            add(getattr(value.function, "__module__", ""), getattr(value.function, "__qualname__", ""))
        for step, item in children(value):
            add(repr(step))
            _feed(item, digest, seen)
        for where, item in edited(value):
            add("edit", where)
            _feed(item, digest, seen)
    elif torch is not None and isinstance(value, torch.nn.Module):
        add(repr(value))
        for name, tensor in value.state_dict().items():
            add(name)
            _feed(tensor, digest, seen)
    else:
        add(
            repr(value)
            if "__repr__" in {name for base in kind.__mro__[:-1] for name in vars(base)}
            else kind.__qualname__
        )
