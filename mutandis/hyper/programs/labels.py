"""Labels of candidates: short, JSON-able, equal in every process."""

from __future__ import annotations

import hashlib
import re
import types
from typing import Any

from mutandis.hyper.arithmetic import Derived
from mutandis.symbolic.describe import is_default
from mutandis.symbolic.record import UNSET, is_symbolic, real_class, spec_for, values_of
from mutandis.symbolic.undecided import Undecided

_LONGEST = 72
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
        return _undecided_text(value)
    if isinstance(value, (list, tuple)):
        inside = ", ".join(map(_text, value))
        return f"[{inside}]" if isinstance(value, list) else f"({inside})"
    if isinstance(value, (set, frozenset)) and value:
        inside = "{" + ", ".join(sorted(map(_text, value))) + "}"  # The order of a set is another in every process.
        return inside if isinstance(value, set) else f"frozenset({inside})"
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


def _undecided_text(value: Undecided) -> str:
    """Returns a hyper value inside a candidate in brief: what it offers is told by its own point."""
    settings = value._mu_settings_()
    if isinstance(settings.get("name"), str):
        return str(settings["name"])
    if isinstance(value, Derived):
        return value.formula(_text)
    word, count = getattr(type(value), "_word", type(value).__name__), getattr(type(value), "_num_positional", 0)
    if "candidates" in settings:
        return f"{word}(...)"
    return f"{word}({', '.join(map(_text, list(settings.values())[:count]))})"


def _symbolic_text(value: Any) -> str:
    head, shown = real_class(value).__name__, []
    function = object.__getattribute__(value, "__dict__").get("function") if hasattr(value, "__dict__") else None
    if head in ("Call", "Partial") and callable(function):
        head = "bind" if head == "Call" else "partial"
        shown.append(getattr(function, "__qualname__", None) or _text(function))
    parameters, leading = spec_for(value).signature.parameters, True
    for name, given in zip(spec_for(value).names, values_of(value), strict=True):
        parameter = parameters[name]
        if given is UNSET or is_default(parameter, given):
            leading = False
        elif parameter.kind is parameter.VAR_POSITIONAL and leading:
            shown.extend(map(_text, given))
        elif parameter.kind is parameter.VAR_KEYWORD and isinstance(given, dict):
            shown.extend(f"{key}={_text(v)}" for key, v in given.items())
        else:
            named = not leading or parameter.default is not parameter.empty or parameter.kind is parameter.KEYWORD_ONLY
            shown.append(f"{name}={_text(given)}" if named else _text(given))
    return f"{head}({', '.join(shown)})"


__all__ = ["label"]
