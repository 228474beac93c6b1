"""Labels of candidates: short, JSON-able, equal in every process."""

from __future__ import annotations

import hashlib
import re
import types
from typing import Any

from mutandis.symbolic.record import UNSET, is_symbolic, real_class, spec_for, values_of
from mutandis.symbolic.undecided import Undecided

_LONGEST = 160
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def label(value: Any) -> Any:
    """Returns a label of a candidate: plain values as they are, anything else as text.

    Texts show no addresses, and long ones end in a digest of the rest.
    """
    if value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and value - value == 0):
        return value
    text = _text(value)
    if len(text) <= _LONGEST:
        return text
    return f"{text[:_LONGEST]}...{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}"


def _text(value: Any) -> str:
    if isinstance(value, Undecided):
        word, count = getattr(type(value), "_word", type(value).__name__), getattr(type(value), "_num_positional", 0)
        settings = enumerate(value._mu_settings_().items())
        return f"{word}({', '.join(_text(v) if i < count else f'{n}={_text(v)}' for i, (n, v) in settings)})"
    if isinstance(value, (list, tuple)):
        inside = ", ".join(map(_text, value))
        return f"[{inside}]" if isinstance(value, list) else f"({inside})"
    if type(value) is dict:
        return "{" + ", ".join(f"{_text(k)}: {_text(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType, types.MethodType)):
        name = f"{value.__module__}.{value.__qualname__}" if value.__module__ else value.__qualname__
        code = getattr(value, "__code__", None)  # Functions without a name of their own are told apart by line.
        return f"{name}:{code.co_firstlineno}" if "<" in name and code is not None else name
    if is_symbolic(value):
        return _symbolic_text(value)
    if hasattr(type(value), "shape") and hasattr(type(value), "dtype"):
        return f"{type(value).__name__}{tuple(value.shape)}"
    return " ".join(_ADDRESS.sub("", repr(value)).split())


def _symbolic_text(value: Any) -> str:
    function = object.__getattribute__(value, "__dict__").get("function") if hasattr(value, "__dict__") else None
    name = real_class(value).__name__
    if name in ("Call", "Partial") and callable(function):
        name = f"{'bind' if name == 'Call' else 'partial'}:{_text(function)}"
    pairs = zip(spec_for(value).names, values_of(value), strict=True)
    return f"{name}({', '.join(f'{n}={_text(v)}' for n, v in pairs if v is not UNSET)})"


__all__ = ["label"]
