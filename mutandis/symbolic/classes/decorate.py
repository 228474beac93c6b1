"""`mu.symbolize` for classes: the class stays the object that was written, only its `__init__` is wrapped.

The wrapper is generated with the signature of the original, records the arguments when the object being
built is an instance of exactly this class, and costs one type test per argument while all are leaves.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable
from typing import Any, TypeVar, cast

from mutandis.errors import SymbolicError
from mutandis.symbolic.abstract import make_abstract
from mutandis.symbolic.building import note_building, resolve
from mutandis.symbolic.classes.methods import install_methods
from mutandis.symbolic.classes.pickling import install_pickling
from mutandis.symbolic.record import (
    LOCK,
    ONE_SHOT,
    PORTABLE,
    Record,
    Spec,
    hold,
    is_abstract,
    nested,
    plain_objects,
    private,
)
from mutandis.symbolic.serial import names

T = TypeVar("T", bound=type)

_EMPTY = inspect.Parameter.empty
_VAR = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def symbolize_class(cls: T) -> T:
    """Makes a class symbolic in place.

    Args:
        cls: The class; subclasses defined later are symbolic too.

    Returns:
        The same class object.

    Raises:
        SymbolicError: the class cannot be symbolized, with the reason.
    """
    if "_mu_spec_" in cls.__dict__ and cls.__dict__["_mu_spec_"].cls is cls:
        return cls
    refuse_unfit(cls)
    with LOCK:
        mark(cls)
        _hook_subclasses(cls)
        install_methods(cls)
        install_pickling(cls)
    names.register(cls)
    return cls


def mark(cls: type, *, origin: type | None = None) -> Spec:
    """Wraps the `__init__` of a class and gives it its spec."""
    spec = make_spec(cls, origin=origin)
    if not hasattr(cls, "_mu_") and spec.fields is None:
        type.__setattr__(cls, "_mu_", None)
    if spec.init is not object.__init__:
        type.__setattr__(cls, "__init__", make_init(cls, spec))
    type.__setattr__(cls, "_mu_spec_", spec)
    return spec


def make_spec(cls: type, *, origin: type | None = None) -> Spec:
    """Returns how a class is built and where its instances keep their arguments."""
    init: Any = cls.__init__  # type: ignore[misc]
    if init is object.__init__:
        return Spec(cls, inspect.Signature(), origin=origin, init=init)
    try:
        signature = inspect.signature(init)
    except (TypeError, ValueError) as error:
        raise _refusal(cls, f"its __init__ has no readable signature ({error})") from error
    parameters = list(signature.parameters.values())
    if parameters and parameters[0].kind not in _VAR:
        parameters = parameters[1:]
    signature = inspect.Signature(parameters)
    fields = None
    if not has_room(cls):
        fields = _field_names(cls, signature)
        if fields is None:
            raise _refusal(cls, "its instances have __slots__ and no room for a record; "
                                "add '__dict__' (or '_mu_') to __slots__")  # fmt: skip
    return Spec(cls, signature, origin=origin, init=init, fields=fields, replaced=bool(fields) or _is_frozen(cls))


def has_room(cls: type) -> bool:
    """Returns whether instances of `cls` can keep a record."""
    return cls.__dictoffset__ != 0 or any("_mu_" in base.__dict__ and isinstance(
        base.__dict__["_mu_"], types.MemberDescriptorType) for base in cls.__mro__)  # fmt: skip


def _is_frozen(cls: type) -> bool:
    parameters = cls.__dict__.get("__dataclass_params__")
    if parameters is not None:
        return bool(parameters.frozen)
    setter = getattr(cls, "__setattr__", None)
    return hasattr(cls, "__attrs_attrs__") and getattr(setter, "__name__", "") == "_frozen_setattrs"


def _field_names(cls: type, signature: inspect.Signature) -> tuple[str, ...] | None:
    """Returns the attribute that holds each parameter of a slotted dataclass or attrs class."""
    by_parameter: dict[str, str] = {}
    if "__attrs_attrs__" in cls.__dict__:
        by_parameter = {f.alias: f.name for f in cls.__dict__["__attrs_attrs__"] if f.init}
    elif dataclasses.is_dataclass(cls):
        by_parameter = {f.name: f.name for f in dataclasses.fields(cls) if f.init}
    if not all(name in by_parameter for name in signature.parameters):
        return None
    return tuple(by_parameter[name] for name in signature.parameters)


def make_init(cls: type, spec: Spec) -> Callable[..., None]:
    """Generates the recording `__init__` of a class."""
    parameters = spec.signature.parameters.values()
    first = next(iter(inspect.signature(spec.init).parameters.values()), None)
    me = first.name if first is not None and first.kind not in _VAR else "_mu_self"
    scope: dict[str, Any] = {
        "_mu_cls": cls, "_mu_spec": spec, "_mu_init": spec.init, "_mu_leaf": PORTABLE, "_mu_enter": enter,
        "_mu_set": object.__setattr__, "_mu_heirs": set(), "_mu_strangers": set(), "_mu_adopt": None,
        "_mu_note": note_building,
    }  # fmt: skip
    scope["_mu_adopt"] = functools.partial(_adopt_heir, scope)
    header = [me + (", /" if me == "_mu_self" else "")]
    tests, values, call = [], [], []
    positional_only_open, bare_star = False, False
    for parameter in parameters:
        name, kind = parameter.name, parameter.kind
        default = ""
        if parameter.default is not _EMPTY:
            scope[f"_mu_default_{name}"] = parameter.default
            default = f"=_mu_default_{name}"
        if positional_only_open and kind is not inspect.Parameter.POSITIONAL_ONLY:
            header.append("/")
        positional_only_open = kind is inspect.Parameter.POSITIONAL_ONLY
        if kind is inspect.Parameter.VAR_POSITIONAL:
            header.append(f"*{name}")
            tests.append(f"not {name}")
            call.append(f"*{name}")
            bare_star = True
        elif kind is inspect.Parameter.VAR_KEYWORD:
            header.append(f"**{name}")
            tests.append(f"not {name}")
            call.append(f"**{name}")
        else:
            if kind is inspect.Parameter.KEYWORD_ONLY and not bare_star:
                header.append("*")
                bare_star = True
            header.append(name + default)
            tests.append(f"type({name}) in _mu_leaf")
            call.append(f"{name}={name}" if kind is inspect.Parameter.KEYWORD_ONLY else name)
        values.append(name)
    if positional_only_open and me != "_mu_self":
        header.append("/")
    tested = " and ".join([f"type({me}) is _mu_cls", *tests])
    packed = "(" + "".join(f"{name}, " for name in values) + ")"
    store = (
        f"{me}._mu_ = {packed}"
        if cast("Any", cls).__setattr__ is object.__setattr__
        else f"_mu_set({me}, '_mu_', {packed})"
    )
    original = f"_mu_init({', '.join([me, *call])})"
    factories = _factories(cls)
    scope.update({f"_mu_factory_{name}": factory for name, factory in factories.items()})
    body = [
        f"def __init__({', '.join(header)}):",
        *(f"    if {name} is _mu_default_{name}: {name} = _mu_factory_{name}()" for name in factories),
        f"    if {tested}:",
        f"        {store if spec.fields is None else 'pass'}",
        "        _mu_mine = True",
        "    else:",
        f"        _mu_type = type({me})",
        "        _mu_mine = _mu_type is _mu_cls or _mu_type in _mu_heirs or (",
        "            _mu_type not in _mu_strangers and _mu_adopt(_mu_type))",
        "        if _mu_mine:",
        f"            _mu_values = _mu_enter({me}, _mu_spec, {packed})",
        "            if _mu_values is None:",
        "                return",
        f"            {packed} = _mu_values" if values else "            pass",
        "    try:",
        f"        {original}",
        "    except BaseException as _mu_error:",
        "        if _mu_mine:",
        "            _mu_note(_mu_error, _mu_cls)",
        "        raise",
    ]
    exec(compile("\n".join(body), f"<mutandis {cls.__qualname__}.__init__>", "exec"), scope)
    made: Callable[..., None] = functools.wraps(spec.init)(scope["__init__"])
    made.__mu_scope__ = scope  # type: ignore[attr-defined]
    return made


def _factories(cls: type) -> dict[str, Callable[[], Any]]:
    """Returns the default factories of a dataclass or attrs class by parameter name.

    Their `__init__` has a marker for a default; the record must hold what the factory makes.
    """
    if "__attrs_attrs__" in cls.__dict__:
        return {
            field.alias: field.default.factory
            for field in cls.__dict__["__attrs_attrs__"]
            if field.init and hasattr(field.default, "factory") and not field.default.takes_self
        }
    if "__dataclass_fields__" in cls.__dict__ and "__init__" in cls.__dict__:
        return {
            field.name: field.default_factory
            for field in dataclasses.fields(cls)
            if field.init and field.default_factory is not dataclasses.MISSING
        }
    return {}


def _adopt_heir(scope: dict[str, Any], cls: type) -> bool:
    """Returns whether this wrapper is the `__init__` of `cls`, which then records through it."""
    concrete = cls.__dict__.get("_mu_concrete_", cls)
    mine = getattr(concrete.__init__, "__mu_scope__", None) is scope
    if mine:
        if "_mu_spec_" not in concrete.__dict__:
            adopt(concrete)
        scope["_mu_heirs"].add(cls)
    else:
        scope["_mu_strangers"].add(cls)
    return mine


def adopt(cls: type) -> Spec:
    """Gives a class that inherits from a symbolic one its own spec, at the first sight of it."""
    with LOCK:
        spec = cls.__dict__.get("_mu_spec_")
        if spec is not None:
            return spec  # type: ignore[no-any-return]
        own = cls.__dict__.get("__init__")
        if own is not None and getattr(own, "__mu_scope__", None) is None:
            return mark(cls)  # An `__init__` that a decorator such as @dataclass generated later.
        spec = make_spec(cls)
        type.__setattr__(cls, "_mu_spec_", spec)
        inherited: Any = cls.__init__  # type: ignore[misc]
        if (scope := getattr(inherited, "__mu_scope__", None)) is not None:
            spec.init = scope["_mu_init"]
            scope["_mu_heirs"].add(cls)
    names.register(cls)
    return spec  # type: ignore[no-any-return]


def _hook_subclasses(cls: type) -> None:
    own = cls.__dict__.get("__init_subclass__")

    def __init_subclass__(sub: type, **kwargs: Any) -> None:
        if own is not None:
            own.__get__(None, sub)(**kwargs)
        else:
            super(cast("Any", cls), sub).__init_subclass__(**kwargs)
        welcome(sub)

    type.__setattr__(cls, "__init_subclass__", classmethod(__init_subclass__))  # type: ignore[arg-type]


def welcome(sub: type) -> None:
    """Makes a new subclass of a symbolic class symbolic, unless it was generated by us."""
    if "_mu_generated_" in sub.__dict__ or "_mu_spec_" in sub.__dict__:
        return
    if "__init__" in sub.__dict__ and sub.__dict__["__init__"] is not None:
        mark(sub)
    install_pickling(sub)
    names.register(sub)


def enter(self: Any, spec: Spec, values: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Records arguments that are not all leaves.

    Returns:
        The values to call `__init__` with, or None when the object has become abstract.
    """
    if spec.fields is None and (objects := plain_objects(values)) is not None:
        object.__setattr__(self, "_mu_", Record(values, self))
        hold(self, objects)
        return values
    if any(isinstance(value, ONE_SHOT) for value in values):
        kept = tuple(list(value) if isinstance(value, ONE_SHOT) else value for value in values)
        passed = tuple(iter(k) if isinstance(v, ONE_SHOT) else v for k, v in zip(kept, values, strict=True))
    else:
        kept = passed = values
    recorded = tuple(private(value) for value in kept)
    inside = list(nested(recorded))
    abstract = any(is_abstract(value) for value in inside)
    if spec.fields is not None:
        if not abstract:
            return resolve(passed) if inside else passed
        for name, value in zip(spec.fields, recorded, strict=True):
            object.__setattr__(self, name, value)
    else:
        object.__setattr__(self, "_mu_", Record(recorded, self))
        if inside:
            hold(self, recorded)
    if abstract:
        make_abstract(self)
        return None
    return resolve(passed) if inside else passed


def refuse_unfit(cls: type) -> None:
    """Raises for a class that cannot be symbolized."""
    reason = _unfit(cls)
    if reason:
        raise _refusal(cls, reason)


def _unfit(cls: type) -> str | None:
    torch = sys.modules.get("torch")
    if issubclass(cls, enum.Enum):
        return "an Enum is a fixed set of constants, which are leaves already"
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        return "a NamedTuple is a leaf container already; its elements are reached by index"
    if issubclass(cls, (int, float, complex, str, bytes, tuple, frozenset)):
        return "its value is fixed by __new__, before any argument could be recorded"
    if torch is not None and issubclass(cls, (torch.Tensor, torch.Generator)):
        return "a tensor or generator is a leaf"
    if cls.__dict__.get("_is_protocol", False) or cls in (typing.Protocol, typing.Generic):
        return "a Protocol describes objects and makes none"
    if cls.__init__ is None:  # type: ignore[misc]
        return "its __init__ is None"
    if not cls.__flags__ & (1 << 9):  # Py_TPFLAGS_HEAPTYPE
        return "it is a builtin type, which cannot be changed"
    own_new = next((base for base in cls.__mro__ if "__new__" in base.__dict__), object)
    generic = (object, typing.Generic)
    if cls.__init__ is object.__init__ and own_new not in generic:  # type: ignore[misc]
        return "it is built by __new__ alone, which runs before any argument could be recorded"
    return None


def _refusal(cls: type, reason: str) -> SymbolicError:
    return SymbolicError(
        f"cannot symbolize {cls.__qualname__}",
        at=f"{cls.__module__}.{cls.__qualname__}",
        got=cls,
        expected=f"a class that keeps what its __init__ is given; here {reason}",
        fix=f"make a symbolic call of it: mu.bind({cls.__name__}, ...)",
    )
