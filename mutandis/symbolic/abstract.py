"""Abstract objects: instances whose `__init__` waits until every argument is decided.

An object becomes abstract by a swap of `__class__` to a generated, layout-free subclass that refuses use; it
becomes concrete by the swap back, on the same object, so that identity survives.
"""

from __future__ import annotations

from typing import Any

from mutandis.errors import AbstractError, SymbolicError
from mutandis.symbolic.record import LOCK, nested, record_of, spec_for, values_of
from mutandis.symbolic.undecided import Required, Undecided

_SWAP = object.__dict__["__class__"]

_GUARDED = (
    "__call__", "__len__", "__iter__", "__next__", "__getitem__", "__setitem__", "__delitem__", "__contains__",
    "__enter__", "__exit__", "__bool__", "__int__", "__float__", "__index__", "__reversed__", "__await__",
    "__aiter__", "__anext__", "__add__", "__radd__", "__sub__", "__mul__", "__rmul__", "__matmul__",
    "__truediv__", "__lt__", "__le__", "__gt__", "__ge__", "__or__", "__and__", "__rshift__", "__neg__",
)  # fmt: skip

OPERATIONS = frozenset({"clone", "rebind", "query", "get", "diff", "equal", "fingerprint", "traverse", "describe",
                        "to_json", "save", "to_python"})  # fmt: skip
"""Names of the symbolic operations; they work on abstract objects too."""


class _Shadow:
    """A base that keeps generated subclasses out of the user's `__init_subclass__` registries."""

    __slots__ = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        if "_mu_generated_" not in cls.__dict__:
            super().__init_subclass__(**kwargs)


class _ShadowWithDict:
    """The same for classes whose instances get their `__dict__` from elsewhere in the bases."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        if "_mu_generated_" not in cls.__dict__:
            super().__init_subclass__(**kwargs)


def undecided_paths(value: object) -> list[str]:
    """Returns where `value` is undecided, as readable paths relative to it."""
    found: list[str] = []
    _collect(value, "", found, set())
    return found


def _collect(value: Any, path: str, found: list[str], seen: set[int]) -> None:
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Undecided):
        found.append(f"{path} = {value!r}" if len(repr(value)) < 60 else path)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _collect(item, f"{path}[{index}]", found, seen)
    elif type(value) is dict:
        for key, item in value.items():
            _collect(item, f"{path}[{key!r}]", found, seen)
    elif getattr(type(value), "_mu_is_abstract_", False) is True:
        prefix = f"{path}." if path else ""
        for name, item in zip(spec_for(value).names, values_of(value), strict=True):
            _collect(item, prefix + name, found, seen)
        record = record_of(value) if spec_for(value).fields is None else None
        for where, item in ((record.edits or {}) if record is not None else {}).items():
            _collect(item, prefix + where, found, seen)


def refusal(value: object, action: str) -> AbstractError:
    """Returns the error for a use of an abstract object."""
    cls = type(value).__dict__["_mu_concrete_"]
    paths = undecided_paths(value)
    required = any(isinstance(item, Required) for item in nested(values_of(value)))
    remedy = "give the missing arguments by rebind(...)" if required else "decide it by rebind(...)"
    return AbstractError(
        f"cannot {action}: the {cls.__name__} is abstract",
        at=", ".join(paths[:5]) + (f" and {len(paths) - 5} more" if len(paths) > 5 else ""),
        expected="an object whose arguments are all decided",
        fix=f"{remedy}, sample children with mu.sample(program, algorithm), or build one with "
        "mu.space(program).materialize(dna)",
    )


def _guard(name: str) -> Any:
    def guarded(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise refusal(self, f"use {name}")

    guarded.__name__ = name
    return guarded


def _getattribute(self: Any, name: str) -> Any:
    if name[0] == "_" or name in OPERATIONS or name in type(self)._mu_open_:
        return object.__getattribute__(self, name)
    raise refusal(self, f"read attribute {name!r}")


def _getattr(self: Any, name: str) -> Any:
    raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r} while it is abstract")


def _setattr(self: Any, name: str, value: Any) -> None:
    raise refusal(self, f"set attribute {name!r}")


def _repr(self: Any) -> str:
    cls = type(self)._mu_concrete_
    shown = ", ".join(f"{n}={v!r}" for n, v in zip(spec_for(self).names, values_of(self), strict=True))
    return f"{cls.__name__}({shown})"


def _reduce(self: Any, protocol: Any) -> tuple[Any, ...]:
    spec = spec_for(self)
    wrapped = spec.origin is not None and spec.origin is not spec.cls and spec.cls is not None
    state = values_of(self) if spec.fields is not None else record_of(self)
    return (_revive, (spec.origin if wrapped else type(self)._mu_concrete_, wrapped), state)


def _revive(cls: type, wrapped: bool) -> Any:
    if wrapped:
        from mutandis.symbolic.classes.wrap import wrapper_of

        cls = wrapper_of(cls)
    value = allocate(cls)
    make_abstract(value)
    return value


def _setstate(self: Any, state: Any) -> None:
    spec = spec_for(self)
    if spec.fields is not None:
        for name, item in zip(spec.fields, state, strict=True):
            object.__setattr__(self, name, item)
    else:
        object.__setattr__(self, "_mu_", state)


def allocate(cls: type) -> Any:
    """Returns an instance of `cls` whose `__init__` has not run; a user's `__new__` is not asked."""
    try:
        return object.__new__(cls)
    except TypeError:  # Subclasses of builtins must be made by the builtin's own `__new__`.
        for base in cls.__mro__:
            if not base.__flags__ & (1 << 9):  # Py_TPFLAGS_HEAPTYPE
                return base.__new__(cls)  # type: ignore[call-overload]
        raise


def abstract_class(cls: type) -> type:
    """Returns the generated abstract subclass of `cls`; made once per class.

    Raises:
        SymbolicError: the layout of `cls` allows no swap of `__class__`.
    """
    known: _Kept | None = cls.__dict__.get("_mu_abstract_")
    if known is None or known.cls is None:
        with LOCK:
            known = cls.__dict__.get("_mu_abstract_")
            if known is None or known.cls is None:
                known = _Kept(_generate(cls))
                type.__setattr__(cls, "_mu_abstract_", known)
    assert known.cls is not None  # Made just now, or by a thread before.
    return known.cls


class _Kept:
    """Keeps a generated class in the namespace of its original, out of the copies that pickles by value make of it.

    Args:
        cls: The generated class; None in such a copy, which generates its own.
    """

    __slots__ = ("cls",)

    def __init__(self, cls: type | None = None) -> None:
        self.cls = cls

    def __reduce__(self) -> tuple[Any, ...]:
        return (_Kept, ())


def _generate(cls: type) -> type:
    namespace: dict[str, Any] = {
        "__slots__": (), "__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__,
        "_mu_generated_": True, "_mu_is_abstract_": True, "_mu_concrete_": cls,
        "_mu_open_": frozenset(getattr(cls, "_mu_open_", ())),
        "__class__": property(lambda self: cls),
        "__getattribute__": _getattribute, "__getattr__": _getattr, "__setattr__": _setattr, "__repr__": _repr,
        "__str__": _repr, "__reduce_ex__": _reduce, "__setstate__": _setstate,
        "__eq__": lambda self, other: self is other, "__hash__": lambda self: id(self) >> 4,
    }  # fmt: skip
    if getattr(cls, "_mu_has_own_spec_", False):  # Calls carry their function along and show it.
        for name in ("__reduce_ex__", "__setstate__", "__repr__", "__str__"):
            del namespace[name]
    for name in _GUARDED:
        inherited = any(name in base.__dict__ for base in cls.__mro__ if base is not object)
        if inherited and name not in namespace["_mu_open_"]:
            namespace[name] = _guard(name)
    failure: Exception | None = None
    for bases in ((_Shadow, cls), (_ShadowWithDict, cls), (cls,)):
        try:
            made = type.__new__(type(cls), cls.__name__, bases, dict(namespace))
            trial = allocate(cls)
            _SWAP.__set__(trial, made)
            _SWAP.__set__(trial, cls)
        except TypeError as error:
            failure = error
            continue
        return made
    raise SymbolicError(
        "cannot make an object of this class wait for decisions",
        at=cls.__qualname__,
        got=cls,
        expected="a class with an ordinary layout",
        fix=f"use mu.bind({cls.__name__}, ...) instead; Python says: {failure}",
    )


def make_abstract(value: Any) -> None:
    """Turns an object into its abstract self; its attributes stay but cannot be reached."""
    if getattr(type(value), "_mu_is_abstract_", False) is not True:
        _SWAP.__set__(value, abstract_class(type(value)))


def make_concrete(value: Any) -> None:
    """Gives an abstract object its class back; its `__init__` has still to run."""
    if getattr(type(value), "_mu_is_abstract_", False) is True:
        _SWAP.__set__(value, type(value)._mu_concrete_)


def is_abstract_type(cls: type) -> bool:
    """Returns whether `cls` is a generated abstract class."""
    return getattr(cls, "_mu_is_abstract_", False) is True
