"""From symbolic trees to JSON data; the schema is described in serial.py."""

from __future__ import annotations

import base64
import enum
import math
import pathlib
import sys
import types
from collections import OrderedDict
from typing import Any

from mutandis.errors import SchemaError
from mutandis.symbolic.classes.copying import Unavailable
from mutandis.symbolic.paths import Key, Path
from mutandis.symbolic.record import UNSET, get_edits, is_symbolic, real_class, spec_for, values_of
from mutandis.symbolic.serial.names import name_of
from mutandis.symbolic.undecided import REQUIRED, Undecided

Where = tuple[Any, Any] | None
"""A place in the tree as a linked list (parent, step); cheap to extend, read only for messages."""

_AS_IS = frozenset({int, str, bool, type(None)})
_NUMPY_KINDS = "biufcmMSU"


def path_of(where: Where) -> Path:
    """Returns the path of a linked place."""
    steps = []
    while where is not None:
        where, step = where
        steps.append(step)
    return Path(reversed(steps))


class Writer:
    """Writes one tree; remembers what was written, so that shared nodes are written once."""

    def __init__(self) -> None:
        self._written: dict[int, tuple[Any, dict[str, Any]]] = {}
        self._classes: dict[type, tuple[str, tuple[str, ...]]] = {}
        self._count = 0

    def value(self, x: Any, where: Where) -> Any:
        """Returns the data of any value.

        Args:
            x: The value.
            where: Its place.

        Returns:
            What JSON can hold.

        Raises:
            SchemaError: the value has no data form.
        """
        kind = type(x)
        if kind in _AS_IS:
            return x
        if kind is float:
            return x if math.isfinite(x) else {"$": "float", "value": repr(x)}
        if kind is list:
            if _AS_IS.issuperset(map(type, x)):
                return x[:]
            return [self.value(item, (where, index)) for index, item in enumerate(x)]
        if kind is tuple:
            return {"$": "tuple", "items": self.items(x, where)}
        if kind is dict:
            return self._dict(x, where)
        known = self._written.get(id(x))
        if known is not None:
            data = known[1]
            if "id" not in data:
                data["id"] = self._count
                self._count += 1
            return {"$": "ref", "id": data["id"]}
        data, shared = self._tagged(x, kind, where)
        if shared:
            self._written[id(x)] = (x, data)  # `x` is kept alive, so that its id stays its own.
        return data

    def items(self, x: Any, where: Where) -> list[Any]:
        """Returns the data of the elements of a sequence."""
        return [self.value(item, (where, index)) for index, item in enumerate(x)]

    def _tagged(self, x: Any, kind: type, where: Where) -> tuple[dict[str, Any], bool]:
        if kind in self._classes or is_symbolic(x):
            return self._symbolic(x, kind, where), True
        if isinstance(x, Undecided):
            return self._undecided(x, where), True
        simple = _simple(x, kind)
        if simple is not None:
            return simple, False
        if kind is OrderedDict:
            return {"$": "ordered", "items": self._pairs(x, where)}, False
        if kind in (set, frozenset):
            ordered = sorted(x, key=lambda item: (type(item).__name__, repr(item)))
            return {"$": kind.__name__, "items": self.items(ordered, where)}, False
        if isinstance(x, tuple) and hasattr(x, "_fields"):
            return {"$": "namedtuple", "class": name_of(kind, path_of(where)), "items": self.items(x, where)}, False
        if kind is slice:
            return {"$": "slice", "items": self.items((x.start, x.stop, x.step), where)}, False
        if isinstance(x, enum.Enum):
            return {"$": "enum", "class": name_of(kind, path_of(where)), "name": x.name}, False
        foreign = _numpy(x, where) or _torch(x, kind, where)
        if foreign is not None:
            return foreign, foreign["$"] in ("tensor", "array")
        if isinstance(x, (type, types.FunctionType, types.BuiltinFunctionType, types.MethodType)) or (
                callable(x) and getattr(x, "__qualname__", None)):  # fmt: skip
            return {"$": "name", "name": name_of(x, path_of(where))}, False
        raise _refusal(x, where)

    def _dict(self, x: dict[Any, Any], where: Where) -> dict[str, Any]:
        if all(type(key) is str for key in x) and "$" not in x:
            return {key: self.value(item, (where, Key(key))) for key, item in x.items()}
        return {"$": "dict", "items": self._pairs(x, where)}

    def _pairs(self, x: dict[Any, Any], where: Where) -> list[Any]:
        return [[self.value(key, where), self.value(item, (where, Key(key)))] for key, item in x.items()]

    def _symbolic(self, x: Any, kind: type, where: Where) -> dict[str, Any]:
        if getattr(kind, "_mu_has_own_spec_", False):
            data = self._call(x, kind, where)
        else:
            info = self._classes.get(kind)
            if info is None:
                name = name_of(real_class(x), path_of(where))
                info = (name.removeprefix("mu:"), spec_for(x).names)
                self._classes[kind] = info
            args = {}
            for argument, item in zip(info[1], values_of(x), strict=True):
                args[argument] = item if type(item) in _AS_IS else self.value(item, (where, argument))
            data = {"$": "object", "class": info[0], "args": args}
        edits = get_edits(x)
        if edits:
            data["edits"] = {path: self.value(item, _extended(where, path)) for path, item in edits.items()}
        return data

    def _call(self, x: Any, kind: type, where: Where) -> dict[str, Any]:
        pairs = zip(spec_for(x).names, values_of(x), strict=True)
        args = {name: self.value(item, (where, name)) for name, item in pairs if item is not UNSET}
        word = "call" if getattr(kind, "_mu_is_call_", False) else "partial"
        return {"$": word, "function": self.value(x.function, (where, "function")), "args": args}

    def _undecided(self, x: Undecided, where: Where) -> dict[str, Any]:
        if x is REQUIRED:
            return {"$": "required"}
        if isinstance(x, Unavailable):
            raise _refusal(x, where)
        name = name_of(type(x), path_of(where))
        settings = {key: self.value(item, (where, key)) for key, item in x._mu_settings_().items()}
        return {"$": "undecided", "class": name, "settings": settings}


def _extended(where: Where, path: str) -> Where:
    for step in Path.parse(path):
        where = (where, step)
    return where


def _simple(x: Any, kind: type) -> dict[str, Any] | None:
    if kind is bytes or kind is bytearray:
        return {"$": kind.__name__, "data": base64.b64encode(x).decode()}
    if kind is complex:
        return {"$": "complex", "real": repr(x.real), "imag": repr(x.imag)}
    if x is Ellipsis:
        return {"$": "ellipsis"}
    if kind is range:
        return {"$": "range", "items": [x.start, x.stop, x.step]}
    if isinstance(x, pathlib.PurePath):
        return {"$": "path", "value": str(x)}
    return None


def _numpy(x: Any, where: Where) -> dict[str, Any] | None:
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(x, (numpy.ndarray, numpy.generic, numpy.dtype)):
        return None
    if isinstance(x, numpy.dtype) and x.kind in _NUMPY_KINDS:
        return {"$": "numpy.dtype", "name": x.str}
    if isinstance(x, numpy.dtype) or x.dtype.kind not in _NUMPY_KINDS or type(x).__module__ != "numpy":
        raise _refusal(x, where)
    data = base64.b64encode(x.tobytes()).decode()
    if isinstance(x, numpy.ndarray):
        return {"$": "array", "dtype": x.dtype.str, "shape": list(x.shape), "data": data}
    return {"$": "scalar", "dtype": x.dtype.str, "data": data}


def _torch(x: Any, kind: type, where: Where) -> dict[str, Any] | None:
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    if kind is torch.dtype:
        return {"$": "dtype", "name": str(x).removeprefix("torch.")}
    if kind is torch.device:
        return {"$": "device", "name": str(x)}
    if kind is torch.Size:
        return {"$": "size", "items": list(x)}
    if not isinstance(x, torch.Tensor):
        return None
    if kind not in (torch.Tensor, torch.nn.Parameter) or x.layout is not torch.strided or x.is_meta or x.is_quantized:
        raise _refusal(x, where)
    plain = x.detach().cpu().resolve_conj().resolve_neg().contiguous()
    raw = plain.reshape(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b""
    data: dict[str, Any] = {"$": "tensor", "dtype": str(x.dtype).removeprefix("torch."), "shape": list(x.shape),
            "data": base64.b64encode(raw).decode()}  # fmt: skip
    if x.requires_grad:
        data["requires_grad"] = True
    if kind is torch.nn.Parameter:
        data["parameter"] = True
    return data


def _refusal(x: Any, where: Where) -> SchemaError:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(x, torch.nn.Module):
        name = type(x).__name__
        fix = f"build it as a symbolic module: mu.nn.{name}(...), @mu.symbolize, or mu.bind({name}, ...)"
    elif callable(x):
        fix = "pass a function that is defined at the top level of a module, or mu.partial(f, ...)"
    else:
        fix = f"decorate {type(x).__name__} with @mu.symbolize, or make it by mu.bind({type(x).__name__}, ...)"
    return SchemaError(
        "cannot write a value as JSON",
        at=path_of(where),
        got=x,
        expected="a symbolic object, a hyper value, plain data, an array, a tensor, or something with an import name",
        fix=fix,
    )
