"""Symbolic calls: a function and its arguments, kept as data until somebody runs them.

A `Call` stands for its result: alone it runs when called, and as an argument of a symbolic object it is
evaluated when its holder is built, as the plain call would have been. A `Partial` is a callable that takes
further arguments, and is passed on as it is.
"""

from __future__ import annotations

import functools
import inspect
import sys
import typing
from collections.abc import Callable
from typing import Any, TypeVar, cast

from mutandis.errors import SymbolicError
from mutandis.symbolic.abstract import make_abstract
from mutandis.symbolic.building import note_building, resolve
from mutandis.symbolic.classes.methods import install_methods
from mutandis.symbolic.record import (
    LEAVES,
    ONE_SHOT,
    UNSET,
    Record,
    Spec,
    get_edits,
    hold,
    is_abstract,
    nested,
    private,
    real_class,
    values_of,
)
from mutandis.symbolic.serial import names

F = TypeVar("F", bound=Callable[..., Any])

_NO_RESULT = object()
_VAR = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class _Bound:
    """What calls and partials share: a function, its spec, and recorded arguments."""

    _mu_: Any = None
    _mu_has_own_spec_ = True
    _mu_open_ = ("function",)
    _mu_own_spec_: Spec
    function: Callable[..., Any]

    def _mu_setup_(self, function: Callable[..., Any], spec: Spec, values: tuple[Any, ...]) -> None:
        object.__setattr__(self, "function", function)
        object.__setattr__(self, "_mu_own_spec_", spec)
        kept = tuple(list(value) if isinstance(value, ONE_SHOT) else private(value) for value in values)
        object.__setattr__(self, "_mu_", Record(kept, self))
        hold(self, kept)
        if any(is_abstract(value) for value in nested(kept)):
            make_abstract(self)

    def _mu_like_(self, values: tuple[Any, ...]) -> Any:
        made: Any = object.__new__(real_class(self))
        made._mu_setup_(self.function, self._mu_own_spec_, values)
        return made

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        arguments = (real_class(self), self.function, is_abstract(self))
        return (revive, arguments, object.__getattribute__(self, "_mu_"))

    def __setstate__(self, record: Record) -> None:
        object.__setattr__(self, "_mu_", record)

    def __repr__(self) -> str:
        spec, shown = self._mu_own_spec_, [_name(self.function)]
        for name, value in zip(spec.names, values_of(self), strict=True):
            if value is UNSET:
                continue
            if name == spec.var_positional:
                shown.extend(map(repr, value))
            elif name == spec.var_keyword:
                shown.extend(f"{key}={item!r}" for key, item in value.items())
            else:
                shown.append(f"{name}={value!r}")
        return f"mu.{self._mu_word_}({', '.join(shown)})"

    _mu_word_ = "bind"


class Call(_Bound):
    """A function and all its arguments; made by `mu.bind` or by calling a symbolized function.

    Attributes:
        function: The callable.
    """

    _mu_is_call_ = True
    _mu_cached_: Any = _NO_RESULT

    def __call__(self) -> Any:
        """Runs the function and returns what it returns, with recorded edits of its layers applied."""
        args, kwargs = self._mu_own_spec_.split(resolve(values_of(self)))
        try:
            result = self.function(*args, **kwargs)
            edits = get_edits(self)
            if edits:
                from mutandis.symbolic.modules.edits import apply_edits

                apply_edits(result, edits, fresh=True)
        except Exception as error:
            note_building(error, self.function)
            raise
        return result

    def _mu_result_(self) -> Any:
        """Returns the result as an argument sees it: computed once per call object and set of arguments."""
        key = object.__getattribute__(self, "_mu_")
        cached = self.__dict__.get("_mu_cached_", _NO_RESULT)
        if cached is _NO_RESULT or cached[0] is not key:
            cached = (key, self())
            object.__setattr__(self, "_mu_cached_", cached)
        return cached[1]

    def _mu_preview_(self, *, explicit: bool = False) -> Any:
        """Returns the module this call would build, to look at its layers, or None.

        Args:
            explicit: The user names a layer, so the function may be run whatever it is.
        """
        if "_mu_cached_" in self.__dict__ or explicit or _builds_module(self.function):
            torch = sys.modules.get("torch")
            if torch is None:
                return None
            with torch.random.fork_rng(devices=[], device_type="cpu"):
                result = self._mu_result_()
            return result if isinstance(result, torch.nn.Module) else None
        return None


class Partial(_Bound):
    """A callable that remembers some arguments of a function and takes the others when called.

    Attributes:
        function: The callable.
    """

    _mu_is_partial_ = True
    _mu_word_ = "partial"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the function with the remembered and the given arguments; a given one wins."""
        positional: list[Any] = []
        named: dict[str, Any] = {}
        spec = self._mu_own_spec_
        values = dict(zip(spec.names, resolve(values_of(self)), strict=True))
        open_by_position = list(args)
        gap = False
        for parameter in spec.signature.parameters.values():
            value = values[parameter.name]
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                positional.extend(() if value is UNSET else value)
                positional.extend(open_by_position)
                open_by_position = []
            elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
                named.update({} if value is UNSET else value)
            elif parameter.name in kwargs:
                gap = True
            elif value is UNSET:
                if open_by_position and parameter.kind is not inspect.Parameter.KEYWORD_ONLY and not gap:
                    positional.append(open_by_position.pop(0))
                elif open_by_position and parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
                    named[parameter.name] = open_by_position.pop(0)
                else:
                    gap = True
            elif parameter.kind is not inspect.Parameter.KEYWORD_ONLY and not gap:
                positional.append(value)
            else:
                gap = True
                named[parameter.name] = value
        named.update(kwargs)
        return self.function(*positional, *open_by_position, **named)


Call._mu_spec_ = Spec(Call, inspect.Signature())  # type: ignore[attr-defined]
Partial._mu_spec_ = Spec(Partial, inspect.Signature())  # type: ignore[attr-defined]
install_methods(Call)
install_methods(Partial)


def bind(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Call:
    """Makes a symbolic call of any callable: it runs when it is called, or when its holder is built.

    Args:
        function: A function or class, decorated or not.
        *args: Its arguments; they may hold hyper values and symbolic objects.
        **kwargs: Its keyword arguments.

    Returns:
        The call.

    Raises:
        TypeError: the arguments do not fit the signature.
        SymbolicError: `function` is not callable.
    """
    _need_callable(function, "mu.bind")
    signature = _signature(function)
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    made: Call = object.__new__(Call)
    made._mu_setup_(function, Spec(None, signature, origin=function), tuple(bound.arguments.values()))
    return made


def partial(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Partial:
    """Makes a symbolic call that takes further arguments when it is called.

    Args:
        function: A function or class, such as `torch.optim.SGD`.
        *args: Its first arguments.
        **kwargs: Keyword arguments; they may hold hyper values and symbolic objects.

    Returns:
        The partial call: `mu.partial(torch.optim.SGD, lr=0.1)(model.parameters())`.

    Raises:
        TypeError: the arguments do not fit the signature.
        SymbolicError: `function` is not callable.
    """
    _need_callable(function, "mu.partial")
    signature = _signature(function)
    bound = signature.bind_partial(*args, **kwargs)
    values = tuple(bound.arguments.get(name, UNSET) for name in signature.parameters)
    made: Partial = object.__new__(Partial)
    made._mu_setup_(function, Spec(None, signature, origin=function), values)
    return made


def symbolize_function(function: F) -> F:
    """Makes a function return a symbolic call when an argument is undecided, and run as before otherwise."""
    if getattr(function, "_mu_function_", None) is not None:
        return function

    @functools.wraps(function)
    def symbolic(*args: Any, **kwargs: Any) -> Any:
        for value in (*args, *kwargs.values()):
            if type(value) not in LEAVES:
                inside = tuple(nested((*args, *kwargs.values())))
                if not inside:
                    break
                if any(is_abstract(item) for item in inside):
                    return bind(symbolic, *args, **kwargs)
                args = resolve(args)
                kwargs = dict(zip(kwargs, resolve(tuple(kwargs.values())), strict=True))
                break
        return function(*args, **kwargs)

    symbolic._mu_function_ = function  # type: ignore[attr-defined]
    names.register(symbolic)
    return cast("F", symbolic)


def _need_callable(function: object, verb: str) -> None:
    if not callable(function):
        raise SymbolicError(
            "cannot make a symbolic call",
            at=verb,
            got=function,
            expected="a callable: a function or a class",
            fix=f"write {verb}(f, x) instead of {verb}(f(x))",
        )


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):  # Builtins without a text signature take what they are given.
        return inspect.Signature([inspect.Parameter("args", _VAR[0]), inspect.Parameter("kwargs", _VAR[1])])


def _builds_module(function: Callable[..., Any]) -> bool:
    torch = sys.modules.get("torch")
    if torch is None:
        return False
    if isinstance(function, type):
        return issubclass(function, torch.nn.Module)
    try:
        hint = typing.get_type_hints(inspect.unwrap(function)).get("return")
    except Exception:  # Hints may name things that are not importable; then nothing is known.
        return False
    return isinstance(hint, type) and issubclass(hint, torch.nn.Module)


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", None) or repr(function)


def revive(cls: type[_Bound], function: Callable[..., Any], abstract: bool) -> Any:
    """Returns a call or partial of a function without its record, which unpickling and JSON put in."""
    made = object.__new__(cls)
    object.__setattr__(made, "function", function)
    object.__setattr__(made, "_mu_own_spec_", Spec(None, _signature(function), origin=function))
    if abstract:
        make_abstract(made)
    return made
