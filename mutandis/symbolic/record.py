"""What a symbolic object remembers: the arguments it was built from, edits of its layers, its holders.

A class carries a `Spec` under `_mu_spec_`; an instance carries its memory under `_mu_`: a bare tuple of
argument values while all of them are leaves, a `Record` as soon as it holds or is held. Slotted values have
no room for either; their arguments are their fields.
"""

from __future__ import annotations

import inspect
import threading
import types
import weakref
from collections.abc import Iterable, Iterator
from typing import Any, cast

from mutandis.errors import SymbolicError
from mutandis.symbolic.undecided import Undecided

LOCK = threading.RLock()
"""Guards rebuilds, holder lists and class caches; re-entrant, since building runs user code."""


class Unset:
    """The type of `UNSET`, the value of a parameter that a partial call leaves open."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "UNSET"

    def __reduce__(self) -> str:
        return "UNSET"


UNSET = Unset()

LEAVES = frozenset({int, float, str, bool, type(None), bytes, complex, types.FunctionType,
                    types.BuiltinFunctionType, range, slice, type(Ellipsis), Unset})  # fmt: skip
"""Types that can never hold a symbolic object."""

PORTABLE = LEAVES - {types.FunctionType, types.BuiltinFunctionType}
"""Leaves that always copy and pickle; the generated `__init__` tests them inline and keeps a bare tuple."""

ONE_SHOT: tuple[type[Any], ...] = (
    types.GeneratorType,
    *map(type, map(iter, cast("tuple[Any, ...]", ([], (), {}, set(), {}.values(), {}.items())))),
    *(map, filter, zip, enumerate, reversed),
)
"""Iterators that are empty the second time; a rebuild would find nothing in them."""

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Spec:
    """How a class (or function) is built: its parameters, and where its instances keep their arguments.

    Attributes:
        cls: The class that was symbolized, or None for a function.
        origin: The class as its author wrote it (differs from `cls` for wrappers of other people's classes).
        signature: The signature without `self`.
        names: Parameter names in order.
        var_positional: Name of the `*args` parameter, or None.
        var_keyword: Name of the `**kwargs` parameter, or None.
        fields: For slotted values: attribute name of each parameter; otherwise None.
        replaced: Whether a rebind makes a new object (frozen and slotted values) rather than changing it.
        init: The original `__init__`.
        by_position: Whether every parameter can be given by position.
    """

    __slots__ = ("_positions", "by_position", "cls", "fields", "init", "names", "origin", "replaced", "signature",
                 "var_keyword", "var_positional")  # fmt: skip

    def __init__(
        self,
        cls: type | None,
        signature: inspect.Signature,
        *,
        origin: Any = None,
        init: Any = None,
        fields: tuple[str, ...] | None = None,
        replaced: bool = False,
    ) -> None:
        self.cls = cls
        self.origin = origin if origin is not None else cls
        self.signature = signature
        self.names = tuple(signature.parameters)
        kinds = {p.kind: p.name for p in signature.parameters.values()}
        self.var_positional = kinds.get(inspect.Parameter.VAR_POSITIONAL)
        self.var_keyword = kinds.get(inspect.Parameter.VAR_KEYWORD)
        self.fields = fields
        self.replaced = replaced
        self.init = init
        self._positions = {name: index for index, name in enumerate(self.names)}
        self.by_position = all(kind in _POSITIONAL for kind in kinds)

    def position(self, name: str) -> int | None:
        """Returns the index of a parameter, or None."""
        return self._positions.get(name)

    def split(self, values: Iterable[Any]) -> tuple[list[Any], dict[str, Any]]:
        """Returns the positional and keyword arguments of a call from values in parameter order."""
        if self.by_position:
            return list(values), {}
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        by_name = False
        for parameter, value in zip(self.signature.parameters.values(), values, strict=True):
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                args.extend(value)
            elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
                kwargs.update(value)
            elif parameter.kind in _POSITIONAL and not by_name:
                args.append(value)
            else:
                by_name = True
                kwargs[parameter.name] = value
        return args, kwargs


class Record:
    """The memory of an object that holds symbolic values, is held by others, or has edited layers.

    Immutable except for `holders`: `copy.copy` may share a record, so a change makes a new one.
    """

    __slots__ = ("__weakref__", "args", "edits", "holders", "owner")

    def __init__(self, args: tuple[Any, ...], owner: Any = None, edits: dict[str, Any] | None = None) -> None:
        self.args = args
        self.edits = edits
        self.holders: list[weakref.ref[Any]] = []
        self.owner: weakref.ref[Any] | None = _weak(owner)

    def with_args(self, args: tuple[Any, ...]) -> Record:
        """Returns the record of the same owner and holders for other arguments, whose nodes know the owner."""
        made = object.__new__(Record)
        made.args, made.edits, made.holders, made.owner = args, self.edits, self.holders, self.owner
        return made

    def __deepcopy__(self, memo: dict[int, Any]) -> Record:
        from mutandis.symbolic.classes.copying import deepcopy_record

        return deepcopy_record(self, memo)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        from mutandis.symbolic.classes.copying import reduce_record

        return reduce_record(self)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        args, edits, owner = state
        self.args = args
        self.edits = edits
        self.holders = []
        self.owner = _weak(owner)
        if owner is not None:
            hold(owner, args)
            hold(owner, (edits or {}).values())


def _weak(owner: Any) -> weakref.ref[Any] | None:
    try:
        return None if owner is None else weakref.ref(owner)
    except TypeError:  # A class with `__slots__` and no `__weakref__` cannot be found from its children.
        return None


def spec_of(cls: type) -> Spec | None:
    """Returns the spec of a symbolic class (its own, not an ancestor's), or None."""
    spec = cls.__dict__.get("_mu_spec_")
    if spec is None:
        if getattr(cls, "_mu_spec_", None) is None:
            return None
        from mutandis.symbolic.classes.decorate import adopt  # An heir that was never seen: a lazily found subclass.

        return adopt(cls)
    if spec.cls is not cls or (spec.init is object.__init__ and cls.__init__ is not object.__init__):
        raise SymbolicError(
            "cannot use a class that was changed after it was symbolized",
            at=cls.__qualname__,
            got=cls,
            expected="mu.symbolize as the outermost decorator",
            fix=f"write @mu.symbolize above the other decorator of {cls.__name__}, such as @dataclass",
        )
    return spec  # type: ignore[no-any-return]


def is_symbolic(value: object) -> bool:
    """Returns whether `value` is an instance of a symbolic class, or a symbolic call."""
    return getattr(type(value), "_mu_spec_", None) is not None


def is_abstract(value: object) -> bool:
    """Returns whether `value` is an undecided value, or a symbolic object that waits for decisions."""
    return isinstance(value, Undecided) or getattr(type(value), "_mu_is_abstract_", False) is True


def real_class(value: object) -> type:
    """Returns the class of a symbolic object as its author knows it, abstract or not."""
    cls = type(value)
    return cls.__dict__.get("_mu_concrete_", cls)  # type: ignore[no-any-return]


def spec_for(value: object) -> Spec:
    """Returns the spec of a symbolic object.

    Raises:
        SymbolicError: `value` is not symbolic.
    """
    cls = type(value)
    if getattr(cls, "_mu_has_own_spec_", False):
        return object.__getattribute__(value, "_mu_own_spec_")  # type: ignore[no-any-return]
    spec = cls.__dict__.get("_mu_spec_")
    if spec is not None and spec.cls is cls and spec.init is not object.__init__:
        return spec  # type: ignore[no-any-return]
    spec = spec_of(real_class(value))
    if spec is None:
        raise SymbolicError(
            "cannot treat a value as a symbolic object",
            got=value,
            expected="an instance of a class decorated with @mu.symbolize, or of mu.nn, mu.optim",
            fix=f"decorate {type(value).__name__} with @mu.symbolize, or build it with mu.bind",
        )
    return spec


def values_of(value: object) -> tuple[Any, ...]:
    """Returns the argument values of a symbolic object in parameter order.

    Raises:
        SymbolicError: the object was not built through `__init__`, so nothing is known of it.
    """
    spec = spec_for(value)
    if spec.fields is not None:
        return tuple(object.__getattribute__(value, name) for name in spec.fields)
    memory = object.__getattribute__(value, "_mu_") if _has_memory(value) else None
    if memory is None:
        if not spec.names:
            return ()
        recovered = _recover(value, spec)
        if recovered is not None:
            return recovered
        raise SymbolicError(
            "cannot tell the arguments of an object that was not built through __init__",
            got=value,
            expected="an object made by calling its class",
            fix=f"build it by calling {real_class(value).__name__}(...)",
        )
    return memory if type(memory) is tuple else memory.args  # type: ignore[no-any-return]


def _has_memory(value: object) -> bool:
    try:
        object.__getattribute__(value, "_mu_")
    except AttributeError:
        return False
    return True


def _recover(value: object, spec: Spec) -> tuple[Any, ...] | None:
    """Reads the arguments of a dataclass instance that existed before its class was seen."""
    fields = getattr(type(value), "__dataclass_fields__", None)
    if fields is None or not all(name in fields for name in spec.names):
        return None
    return tuple(getattr(value, name) for name in spec.names)


def arguments(value: object) -> dict[str, Any]:
    """Returns the arguments `value` was built from, by parameter name, defaults included.

    Args:
        value: A symbolic object.

    Returns:
        A new dict in the order of the signature; `*args` stands under its name as a tuple, `**kwargs` as a
        dict. Parameters that a `mu.partial` leaves open are left out.

    Raises:
        SymbolicError: `value` is not symbolic, or was not built through `__init__`.
    """
    pairs = zip(spec_for(value).names, values_of(value), strict=True)
    return {name: item for name, item in pairs if item is not UNSET}


def record_of(value: object) -> Record | None:
    """Returns the record of a symbolic object, made on demand; None where there is no room for one."""
    memory = object.__getattribute__(value, "_mu_") if _has_memory(value) else None
    if memory is None and spec_for(value).fields is not None:
        return None
    if isinstance(memory, Record) and (memory.owner is None or memory.owner() is value):
        return memory
    args = values_of(value)
    fresh = Record(args, value, memory.edits if isinstance(memory, Record) else None)
    object.__setattr__(value, "_mu_", fresh)
    return fresh


def remember(value: object, args: tuple[Any, ...], edits: dict[str, Any] | None = None) -> None:
    """Replaces what a symbolic object remembers, keeps its holders, and links its new children to it.

    Args:
        value: A symbolic object.
        args: Argument values in parameter order; containers must be private copies.
        edits: Edits of layers by canonical path, or None.
    """
    spec = spec_for(value)
    if spec.fields is not None:
        for name, item in zip(spec.fields, args, strict=True):
            object.__setattr__(value, name, item)
        return
    old = object.__getattribute__(value, "_mu_") if _has_memory(value) else None
    fresh = Record(args, value, edits or None)
    if isinstance(old, Record) and (old.owner is None or old.owner() is value):
        fresh.holders = old.holders
    object.__setattr__(value, "_mu_", fresh)
    hold(value, args)
    if edits:
        hold(value, edits.values())


def get_edits(value: object) -> dict[str, Any]:
    """Returns a copy of the recorded edits of layers of a symbolic module: canonical path to value."""
    if spec_for(value).fields is not None:
        return {}
    memory = object.__getattribute__(value, "_mu_") if _has_memory(value) else None
    return dict(memory.edits) if isinstance(memory, Record) and memory.edits else {}


def nested(values: Iterable[Any]) -> Iterator[Any]:
    """Yields the symbolic objects and undecided values directly inside `values`, through containers."""
    for value in values:
        kind = type(value)
        if kind in LEAVES:
            continue
        if kind is list or kind is tuple or (isinstance(value, tuple) and hasattr(value, "_fields")):
            if not LEAVES.issuperset(map(type, value)):
                yield from nested(value)
        elif kind is dict:
            if not LEAVES.issuperset(map(type, value.values())):
                yield from nested(value.values())
        elif isinstance(value, Undecided) or is_symbolic(value):
            yield value


def plain_objects(values: Iterable[Any]) -> list[Any] | None:
    """Returns the symbolic objects among values that hold nothing but leaves and concrete objects, else None."""
    found = []
    for value in values:
        kind = type(value)
        if kind in LEAVES:
            continue
        if getattr(kind, "_mu_spec_", None) is None or kind.__dict__.get("_mu_concrete_") is not None:
            return None
        if getattr(kind, "_mu_has_own_spec_", False):
            return None
        found.append(value)
    return found


def hold(holder: object, values: Iterable[Any]) -> None:
    """Tells the symbolic objects inside `values` (also inside undecided values) that `holder` holds them."""
    reference = None
    for child in nested(values):
        if isinstance(child, Undecided):
            hold(holder, [item for _, item in child._mu_items_()])
            continue
        record = record_of(child)
        if record is None:
            hold(holder, values_of(child))  # A slotted value cannot lead upwards; its children lead past it.
            continue
        if reference is None:
            reference = _weak(holder)
            if reference is None:
                return
        _append(record, reference)


def _append(record: Record, reference: weakref.ref[Any]) -> None:
    holders = record.holders
    if holders and holders[-1]() is reference():
        return
    with LOCK:
        if len(holders) >= 8 and (len(holders) & (len(holders) - 1)) == 0:
            holders[:] = [known for known in holders if known() is not None]  # Pruned at each doubling.
        holders.append(reference)


def holders_of(value: object) -> list[Any]:
    """Returns the live symbolic objects that hold `value` directly (through containers), each once.

    A holder is believed only if `value` really is among its arguments or edits now: copies of records may
    name strangers.
    """
    spec = spec_for(value)
    if spec.fields is not None:
        return []
    memory = object.__getattribute__(value, "_mu_") if _has_memory(value) else None
    if not isinstance(memory, Record):
        return []
    found: dict[int, Any] = {}
    for reference in list(memory.holders):
        holder = reference()
        if holder is None or id(holder) in found or not is_symbolic(holder):
            continue
        values = (*values_of(holder), *get_edits(holder).values())
        if _reaches(values, value):
            found[id(holder)] = holder
    return list(found.values())


def _reaches(values: Iterable[Any], target: object) -> bool:
    for child in nested(values):
        if child is target:
            return True
        if isinstance(child, Undecided):
            if _reaches([item for _, item in child._mu_items_()], target):
                return True
        elif spec_for(child).fields is not None and _reaches(values_of(child), target):
            return True
    return False


def private(value: Any) -> Any:
    """Returns `value` with its builtin containers copied, so that later changes by users do not show."""
    kind = type(value)
    if kind is list:
        return value[:] if LEAVES.issuperset(map(type, value)) else [private(item) for item in value]
    if kind is dict:
        return {key: private(item) for key, item in value.items()}
    if kind is tuple:
        return value if LEAVES.issuperset(map(type, value)) else tuple(private(item) for item in value)
    if isinstance(value, tuple) and hasattr(value, "_make"):
        return value._make(private(item) for item in value)
    return value
