"""Arithmetic on values that are not decided yet: `width * 2` and `derive(f, width)` are values too."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from mutandis.errors import SettingError
from mutandis.hyper.guards import Guards, undecided_error
from mutandis.symbolic.record import is_abstract, nested
from mutandis.symbolic.serial import names
from mutandis.symbolic.undecided import Undecided

_SIGNS = {
    operator.add: "+", operator.sub: "-", operator.mul: "*", operator.truediv: "/", operator.floordiv: "//",
    operator.mod: "%", operator.pow: "**",
}  # fmt: skip


def _binary(function: Callable[..., Any], *, swapped: bool = False) -> Any:
    def operate(self: Any, other: Any) -> Any:
        if not isinstance(other, (int, float, complex, Arithmetic)):
            module = type(other).__module__.partition(".")[0]
            if module == "torch" or (module == "numpy" and getattr(other, "ndim", None)):
                raise undecided_error(self, "compute with a tensor and a value")
            if type(other).__module__ == "numpy":
                return Derived(function, (other, self) if swapped else (self, other))
            return NotImplemented
        return Derived(function, (other, self) if swapped else (self, other))

    return operate


class Arithmetic(Guards, Undecided):
    """An undecided value that can be computed with; the result is decided when its operands are."""

    __slots__ = ()

    __add__, __radd__ = _binary(operator.add), _binary(operator.add, swapped=True)
    __sub__, __rsub__ = _binary(operator.sub), _binary(operator.sub, swapped=True)
    __mul__, __rmul__ = _binary(operator.mul), _binary(operator.mul, swapped=True)
    __truediv__, __rtruediv__ = _binary(operator.truediv), _binary(operator.truediv, swapped=True)
    __floordiv__, __rfloordiv__ = _binary(operator.floordiv), _binary(operator.floordiv, swapped=True)
    __mod__, __rmod__ = _binary(operator.mod), _binary(operator.mod, swapped=True)
    __pow__, __rpow__ = _binary(operator.pow), _binary(operator.pow, swapped=True)

    def __neg__(self) -> Derived:
        return Derived(operator.neg, (self,))

    def __pos__(self) -> Derived:
        return Derived(operator.pos, (self,))

    def __abs__(self) -> Derived:
        return Derived(abs, (self,))

    def __round__(self, digits: int | None = None) -> Derived:
        return Derived(round, (self,) if digits is None else (self, digits))

    def __floor__(self) -> Derived:
        return Derived(math.floor, (self,))

    def __ceil__(self) -> Derived:
        return Derived(math.ceil, (self,))

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if isinstance(other, Undecided):
            return False
        raise undecided_error(self, "compare a value")

    def __ne__(self, other: object) -> bool:
        return not self.__eq__(other)

    def __hash__(self) -> int:
        return id(self) >> 4


class Derived(Arithmetic):
    """A value that is computed from decisions.

    Args:
        function: What computes it.
        args: Its positional arguments; undecided ones are decided first.
        kwargs: Its keyword arguments.
    """

    __slots__ = ("__weakref__", "args", "function", "kwargs")

    def __init__(
        self, function: Callable[..., Any], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> None:
        if not callable(function):
            raise SettingError(
                "cannot derive a value",
                at="derive",
                got=function,
                expected="a function and its arguments",
                fix="write mu.derive(f, x) instead of mu.derive(f(x))",
            )
        self.function = function
        self.args = tuple(args)
        self.kwargs = dict(kwargs or {})

    def _mu_items_(self) -> tuple[tuple[str, Any], ...]:
        return (("args", self.args), ("kwargs", self.kwargs)) if self.kwargs else (("args", self.args),)

    def _mu_replace_(self, items: Mapping[str, Any]) -> Derived:
        return Derived(self.function, items.get("args", self.args), items.get("kwargs", self.kwargs))

    def _mu_settings_(self) -> dict[str, Any]:
        settings: dict[str, Any] = {"function": self.function, "args": self.args}
        return {**settings, "kwargs": self.kwargs} if self.kwargs else settings

    def __repr__(self) -> str:
        return self.formula(repr)

    def formula(self, show: Callable[[Any], str]) -> str:
        """Returns the computation as text.

        Args:
            show: Writes an operand.
        """
        sign = _SIGNS.get(self.function)
        operands = [f"({show(a)})" if isinstance(a, Derived) and a.function in _SIGNS else show(a) for a in self.args]
        if sign is not None and len(operands) == 2:
            return f"{operands[0]} {sign} {operands[1]}"
        if self.function is operator.neg:
            return f"-{operands[0]}"
        name = getattr(self.function, "__qualname__", None) or repr(self.function)
        shown = [*map(show, self.args), *(f"{k}={show(v)}" for k, v in self.kwargs.items())]
        return f"derive({', '.join([name, *shown])})"


def derive(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Returns a value computed from decisions, usable anywhere an argument is.

    Args:
        function: Called with the decided arguments whenever a child is built.
        *args: Its arguments; hyper values, derived values and symbolic objects anywhere inside.
        **kwargs: Its keyword arguments.

    Returns:
        A derived value; the result itself if nothing in the arguments is undecided.
    """
    made = Derived(function, args, kwargs)
    if any(is_abstract(value) for value in nested((*args, *kwargs.values()))):
        return made
    return function(*args, **kwargs)


names.register(Derived)

__all__ = ["Arithmetic", "Derived", "derive"]
