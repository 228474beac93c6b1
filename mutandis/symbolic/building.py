"""Building symbolic objects from arguments, and copies of whole trees.

Copies make symbolic nodes anew and share every other leaf by reference; a node that stands at two places
stands at two places in the copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from mutandis.errors import SettingError, closest
from mutandis.symbolic.abstract import make_concrete
from mutandis.symbolic.paths import Key, Path
from mutandis.symbolic.record import (
    LEAVES,
    UNSET,
    get_edits,
    is_abstract,
    is_symbolic,
    nested,
    real_class,
    remember,
    spec_for,
    values_of,
)
from mutandis.symbolic.undecided import Undecided

T = TypeVar("T")

KEEP = object()
"""What a `replace` function returns for a node that it leaves alone."""

_PLACE: ContextVar[str | None] = ContextVar("mutandis_build_place", default=None)


@contextmanager
def building_at(path: Path | str) -> Iterator[None]:
    """Names the place that is being built, for the note on errors of user code."""
    token = _PLACE.set(str(path))
    try:
        yield
    finally:
        _PLACE.reset(token)


def note_building(error: BaseException, cls: Any) -> None:
    """Adds a note to an error of user code that says which node was being built."""
    place = _PLACE.get()
    name = getattr(cls, "__name__", repr(cls))
    note = f"while building {place} ({name})" if place else f"while building {name}"
    if note not in getattr(error, "__notes__", ()):
        error.add_note(note)


def resolve(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Returns the values that `__init__` sees: symbolic calls are replaced by their results."""
    if not any(getattr(type(value), "_mu_is_call_", False) for value in nested(values)):
        return values
    return tuple(_resolved(value) for value in values)


def _resolved(value: Any) -> Any:
    kind = type(value)
    if kind in LEAVES:
        return value
    if getattr(kind, "_mu_is_call_", False):
        return value._mu_result_()
    if kind is list:
        return [_resolved(item) for item in value]
    if kind is dict:
        return {key: _resolved(item) for key, item in value.items()}
    if kind is tuple:
        return tuple(_resolved(item) for item in value)
    if isinstance(value, tuple) and hasattr(value, "_make"):
        return value._make(_resolved(item) for item in value)
    return value


def construct(like: Any, values: Sequence[Any], edits: dict[str, Any] | None = None) -> Any:
    """Builds a new object of the class (or function) of `like` with other arguments.

    Args:
        like: A symbolic object.
        values: Argument values in parameter order.
        edits: Edits of layers, canonical path to value; values must be fresh.

    Returns:
        The new object; abstract when something in `values` or `edits` is undecided.
    """
    spec = spec_for(like)
    if getattr(type(like), "_mu_is_call_", False) or getattr(type(like), "_mu_is_partial_", False):
        made = like._mu_like_(tuple(values))
    else:
        args, kwargs = spec.split(values)
        made = real_class(like)(*args, **kwargs)
    if edits:
        add_edits(made, edits)
    return made


def add_edits(made: Any, edits: dict[str, Any]) -> None:
    """Records edits of layers on a new object and applies them when it is concrete."""
    from mutandis.symbolic.abstract import make_abstract

    remember(made, values_of(made), {**get_edits(made), **edits})
    if any(is_abstract(value) for value in nested(edits.values())):
        make_abstract(made)
    elif not is_abstract(made) and not getattr(type(made), "_mu_is_call_", False):
        from mutandis.symbolic.modules.edits import apply_edits

        apply_edits(made, get_edits(made))


def settle(value: Any) -> None:
    """Runs the `__init__` of an abstract object whose arguments have all been decided; keeps its identity."""
    spec = spec_for(value)
    make_concrete(value)
    if getattr(type(value), "_mu_is_call_", False) or getattr(type(value), "_mu_is_partial_", False):
        return
    args, kwargs = spec.split(resolve(values_of(value)))
    try:
        spec.init(value, *args, **kwargs)
    except BaseException as error:
        note_building(error, spec.origin)
        raise
    edits = get_edits(value)
    if edits:
        from mutandis.symbolic.modules.edits import apply_edits

        apply_edits(value, edits)


def copy_tree(
    value: Any,
    replace: Callable[[Any, Path], Any] | None = None,
    *,
    path: Path | None = None,
    memo: dict[int, Any] | None = None,
) -> Any:
    """Returns a copy of a symbolic tree, optionally with some nodes replaced.

    Args:
        value: The root: a symbolic object, a container, an undecided value or a leaf.
        replace: Called with each symbolic object, undecided value and leaf and its path; returns `KEEP` to
            go on as usual, or what to put there (which is not copied again).
        path: Where `value` stands.
        memo: Copies by id of the original; give one to copy several trees that share nodes.

    Returns:
        The copy.
    """
    return _copy(value, replace, path or Path(), {} if memo is None else memo)


def _copy(value: Any, replace: Callable[[Any, Path], Any] | None, path: Path, memo: dict[int, Any]) -> Any:
    kind = type(value)
    if kind in LEAVES and replace is None:
        return value
    if id(value) in memo and kind not in LEAVES:
        return memo[id(value)][1]
    if replace is not None and kind not in (list, dict, tuple):
        replaced = replace(value, path)
        if replaced is not KEEP:
            memo[id(value)] = (value, replaced)
            return replaced
    made: Any
    if kind is list:
        if replace is None and LEAVES.issuperset(map(type, value)):
            return value[:]
        made = [_copy(item, replace, path / index, memo) for index, item in enumerate(value)]
    elif kind is tuple:
        made = tuple(_copy(item, replace, path / index, memo) for index, item in enumerate(value))
    elif kind is dict:
        made = {key: _copy(item, replace, path / Key(key), memo) for key, item in value.items()}
    elif isinstance(value, Undecided):
        items = value._mu_items_()
        made = value._mu_replace_({name: _copy(item, replace, path / name, memo) for name, item in items})
    elif is_symbolic(value):
        made = _copy_object(value, replace, path, memo)
    elif isinstance(value, tuple) and hasattr(value, "_make"):
        made = value._make(_copy(item, replace, path / index, memo) for index, item in enumerate(value))
    else:
        return value
    memo[id(value)] = (value, made)  # The original is kept alive, so that its id stays its own.
    return made


def _copy_object(value: Any, replace: Callable[[Any, Path], Any] | None, path: Path, memo: dict[int, Any]) -> Any:
    spec = spec_for(value)
    values = [_copy_argument(name, item, spec, replace, path, memo)
              for name, item in zip(spec.names, values_of(value), strict=True)]  # fmt: skip
    edits = {where: _copy(item, replace, path + Path.parse(where), memo)
             for where, item in get_edits(value).items()}  # fmt: skip
    if not len(path):
        return construct(value, values, edits)
    with building_at(path):
        return construct(value, values, edits)


def _copy_argument(name: str, item: Any, spec: Any, replace: Any, path: Path, memo: dict[int, Any]) -> Any:
    if name == spec.var_keyword:
        return {key: _copy(part, replace, path / key, memo) for key, part in item.items()}
    return _copy(item, replace, path / name, memo)


def clone(x: T, /, **overrides: Any) -> T:
    """Returns a fresh program: the same symbolic tree, built anew, sharing only leaves that are not symbolic.

    Args:
        x: A symbolic object, an undecided value, or a list, tuple or dict of them.
        **overrides: Arguments of `x` that shall differ.

    Returns:
        The new program. Weights are initialised anew; `copy.deepcopy` keeps them.

    Raises:
        SettingError: an override is not an argument of `x`.
    """
    if not overrides:
        return copy_tree(x)  # type: ignore[no-any-return]
    spec = spec_for(x)
    given = _with_overrides(spec, overrides)
    memo: dict[int, Any] = {}
    values = [
        given[name] if name in given else _copy_argument(name, item, spec, None, Path(), memo)
        for name, item in zip(spec.names, values_of(x), strict=True)
    ]
    edits = {where: _copy(item, None, Path(), memo) for where, item in get_edits(x).items()}
    return construct(x, values, edits)  # type: ignore[no-any-return]


def _with_overrides(spec: Any, overrides: dict[str, Any]) -> dict[str, Any]:
    known: Iterable[str] = spec.names
    for name in overrides:
        if spec.position(name) is None:
            raise SettingError(
                "cannot override an argument",
                at=name,
                got=overrides[name],
                expected=f"one of {', '.join(known) or 'no arguments'}{closest(name, known)}",
                fix="use the name of an __init__ argument",
            )
    return overrides


__all__ = [
    "KEEP",
    "UNSET",
    "add_edits",
    "building_at",
    "clone",
    "construct",
    "copy_tree",
    "resolve",
    "settle",
]
