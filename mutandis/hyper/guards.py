"""What happens when an undecided value is used as if it were decided: an error that names the remedy."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

from mutandis.errors import UndecidedError

_LAYERS = "torch.nn.modules."
_NEAR = 16


def undecided_error(value: object, action: str) -> UndecidedError:
    """Returns the error for using an undecided value; the remedy fits the code that used it."""
    return UndecidedError(
        f"cannot {action}: it is not decided yet",
        got=value,
        expected="a decided value",
        fix=_remedy(sys._getframe(1)),
    )


def _remedy(frame: FrameType | None) -> str:
    """Returns what to write instead, by looking for the constructor that the value was handed to."""
    plain: str | None = None
    for _ in range(_NEAR):
        if frame is None:
            break
        module = str(frame.f_globals.get("__name__", ""))
        owner = type(frame.f_locals.get("self")).__name__
        if frame.f_code.co_name == "__init__" and "self" in frame.f_locals:
            if module.startswith("torch.nn."):
                return (
                    f"write mu.nn.{owner}(...) instead of nn.{owner}(...), or mu.bind({owner}, ...); "
                    "to compute with the value use mu.derive(f, value)"
                )
            if module.startswith("torch.optim"):
                return f"write mu.partial(torch.optim.{owner}, ...) or mu.optim.{owner}(...), not the plain class"
            if not module.startswith("mutandis.") and plain is None:
                plain = owner
        frame = frame.f_back
    if plain is not None:
        return (
            f"decorate {plain} with @mu.symbolize, or write mu.bind({plain}, ...); torch layers are mu.nn.Conv2d and "
            "so on; to compute with the value use mu.derive(f, value)"
        )
    return (
        "pass it to something symbolic (a class with @mu.symbolize, mu.nn.Conv2d, mu.bind(f, ...)), or compute with "
        "it by mu.derive(f, value)"
    )


def is_asked_by_layer(frame: FrameType | None) -> bool:
    """Returns whether a frame runs for the `__init__` of one of torch's own layers."""
    for _ in range(_NEAR):
        if frame is None:
            return False
        name = str(frame.f_globals.get("__name__", ""))
        if name.startswith(_LAYERS):
            if frame.f_code.co_name == "__init__":
                return not name.endswith(".module")
        elif frame.f_code.co_name != "__instancecheck__":
            return False
        frame = frame.f_back
    return False


def _guard(name: str, words: str) -> Any:
    def guarded(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise undecided_error(self, words)

    guarded.__name__ = name
    return guarded


class Guards:
    """A base that refuses every use of an undecided value except arithmetic."""

    __slots__ = ()

    __bool__ = _guard("__bool__", "use a value as a condition")
    __int__ = _guard("__int__", "turn a value into an int")
    __float__ = _guard("__float__", "turn a value into a float")
    __complex__ = _guard("__complex__", "turn a value into a number")
    __index__ = _guard("__index__", "use a value as an index or a size")
    __iter__ = _guard("__iter__", "iterate over a value")
    __len__ = _guard("__len__", "take the length of a value")
    __getitem__ = _guard("__getitem__", "take an item of a value")
    __contains__ = _guard("__contains__", "look into a value")
    __call__ = _guard("__call__", "call a value")
    __lt__ = _guard("__lt__", "compare a value")
    __le__ = _guard("__le__", "compare a value")
    __gt__ = _guard("__gt__", "compare a value")
    __ge__ = _guard("__ge__", "compare a value")
    __matmul__ = _guard("__matmul__", "compute with a value")
    __rmatmul__ = _guard("__rmatmul__", "compute with a value")
    __and__ = _guard("__and__", "compute with a value")
    __or__ = _guard("__or__", "compute with a value")
    __xor__ = _guard("__xor__", "compute with a value")
    __lshift__ = _guard("__lshift__", "compute with a value")
    __rshift__ = _guard("__rshift__", "compute with a value")
    __invert__ = _guard("__invert__", "compute with a value")
    __array__ = _guard("__array__", "turn a value into an array")
    __array_ufunc__ = None

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        # Some layers of torch ask isinstance(x, int) and then fail with a text of their own, or store what
        # they were given and fail much later: the question is where they can be stopped.
        if is_asked_by_layer(sys._getframe(1)):
            raise undecided_error(self, "build a torch layer from a value")
        return type(self)

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Refuses torch functions and tensor operators."""
        values = [v for v in (*args, *(kwargs or {}).values()) if isinstance(v, Guards)]
        raise undecided_error(values[0] if values else cls, "use a value in a torch function")

    def __getattr__(self, name: str) -> Any:
        # A slot that is read before it is filled must not be reported with a repr, which would read it again.
        if name.startswith("_") or any(name in vars(kind).get("__slots__", ()) for kind in type(self).__mro__):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        raise undecided_error(self, f"read attribute {name!r} of a value")

    def __format__(self, spec: str) -> str:
        if spec:
            raise undecided_error(self, "format a value")
        return repr(self)


__all__ = ["Guards", "is_asked_by_layer", "undecided_error"]
