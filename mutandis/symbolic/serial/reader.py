"""From JSON data to symbolic trees; the schema is described in serial.py.

Nothing here trusts the data: every tag, name and number is checked before it is used.
"""

from __future__ import annotations

import base64
import enum
import importlib
import math
import pathlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from mutandis.errors import SchemaError, closest
from mutandis.symbolic.building import add_edits
from mutandis.symbolic.calls import Call, Partial, revive
from mutandis.symbolic.paths import Key
from mutandis.symbolic.record import UNSET, Spec, spec_of
from mutandis.symbolic.serial.names import find, find_plain, find_symbolic, refused
from mutandis.symbolic.serial.writer import Where, path_of
from mutandis.symbolic.undecided import REQUIRED, Undecided

_AS_IS = frozenset({int, str, bool, type(None), float})
_NUMPY_KINDS = "biufcmMSU"


class Reader:
    """Reads one tree; remembers nodes by id, so that shared nodes are built once.

    Args:
        allow: Names that may be used beside the registered ones.
    """

    def __init__(self, allow: Mapping[str, Any]) -> None:
        self._allow = allow
        self._built: dict[int, Any] = {}
        self._classes: dict[str, tuple[type, Spec, bool]] = {}

    def value(self, data: Any, where: Where) -> Any:
        """Returns the value that data describes.

        Args:
            data: Parsed JSON.
            where: Its place in the tree.

        Returns:
            The value.

        Raises:
            SchemaError: the data is not of the schema, or names what may not be named.
        """
        kind = type(data)
        if kind in _AS_IS:
            if kind is float and not math.isfinite(data):
                raise _malformed(data, where, "finite numbers; nan and inf are tagged")
            return data
        if kind is list:
            if _AS_IS.issuperset(map(type, data)) and float not in map(type, data):
                return data[:]
            return [self.value(item, (where, index)) for index, item in enumerate(data)]
        if kind is not dict:
            raise _malformed(data, where, "JSON data")
        tag = data.get("$", self)
        if tag is self:
            return {key: self.value(item, (where, Key(key))) for key, item in data.items()}
        read = _READERS.get(tag) if type(tag) is str else None
        if read is None:
            raise SchemaError("cannot read a tagged value", at=path_of(where), got=tag,
                              expected=f"one of the tags {', '.join(_READERS)}",
                              fix="write the file with mu.save; pickles are never read")  # fmt: skip
        try:
            made = read(self, data, where)
        except (KeyError, ValueError, TypeError, OverflowError) as error:
            if isinstance(error, SchemaError) or getattr(error, "__notes__", None):
                raise
            raise _malformed(data, where, f"a whole {tag!r} value; {type(error).__name__}: {error}") from error
        if "id" in data and tag != "ref":
            self._built[data["id"]] = made
        return made

    def object(self, data: dict[str, Any], where: Where) -> Any:
        """Builds a symbolic object."""
        name = data["class"]
        info = self._classes.get(name) if type(name) is str else None
        if info is None:
            cls = find_symbolic(name, self._allow, path_of(where))
            spec = spec_of(cls)
            if spec is None or getattr(cls, "_mu_has_own_spec_", False):
                raise refused(name, path_of(where))
            simple = spec.var_positional is None and spec.var_keyword is None and all(
                p.kind is p.POSITIONAL_OR_KEYWORD for p in spec.signature.parameters.values())  # fmt: skip
            info = self._classes[name] = (cls, spec, simple)
        cls, spec, simple = info
        given = data["args"]
        if simple and spec.names == tuple(given):
            args = [item if type(item) in _AS_IS and item is not math.nan else self.value(item, (where, argument))
                    for argument, item in given.items()]  # fmt: skip
            kwargs: dict[str, Any] = {}
        else:
            args, kwargs = spec.split(self.arguments(spec, given, where, required=True))
        try:
            made = cls(*args, **kwargs)
        except Exception as error:
            error.add_note(f"while reading {path_of(where)} from JSON" if where else "while reading JSON")
            raise
        self._edit(made, data, where)
        return made

    def arguments(self, spec: Spec, given: Any, where: Where, *, required: bool) -> list[Any]:
        """Returns argument values in parameter order; parameters that the data lacks get their defaults."""
        if not isinstance(given, dict):
            raise _malformed(given, where, "arguments by name")
        unknown = [name for name in given if spec.position(name) is None]
        if unknown:
            raise SchemaError("cannot use an argument from JSON", at=path_of((where, unknown[0])), got=unknown[0],
                              expected=f"one of {', '.join(spec.names) or 'no arguments'}"
                                       f"{closest(unknown[0], spec.names)}",
                              fix="the class has changed since the file was written: rename the argument")  # fmt: skip
        values = []
        for name, parameter in spec.signature.parameters.items():
            if name in given:
                values.append(self.value(given[name], (where, name)))
            elif not required:
                values.append(UNSET)
            elif parameter.kind is parameter.VAR_POSITIONAL:
                values.append(())
            elif parameter.kind is parameter.VAR_KEYWORD:
                values.append({})
            elif parameter.default is not parameter.empty:
                values.append(parameter.default)
            else:
                raise SchemaError("cannot build an object from JSON", at=path_of((where, name)),
                                  expected=f"a value for the argument {name!r}",
                                  fix="add it to the file, or give the parameter a default")  # fmt: skip
        return values

    def call(self, data: dict[str, Any], where: Where) -> Any:
        """Builds a symbolic call or partial call, without running it."""
        function = self.value(data["function"], (where, "function"))
        if not callable(function):
            raise _malformed(data["function"], where, "a callable")
        made = revive(Call if data["$"] == "call" else Partial, function, False)
        spec = made._mu_own_spec_
        values = self.arguments(spec, data["args"], where, required=data["$"] == "call")
        made._mu_setup_(function, spec, tuple(values))
        self._edit(made, data, where)
        return made

    def _edit(self, made: Any, data: dict[str, Any], where: Where) -> None:
        if "edits" in data:
            edits = {path: self.value(item, (where, path)) for path, item in data["edits"].items()}
            try:
                add_edits(made, edits)
            except Exception as error:
                error.add_note(f"while reading edits of {path_of(where)} from JSON")
                raise

    def undecided(self, data: dict[str, Any], where: Where) -> Any:
        """Builds a hyper value."""
        cls = find(data["class"], self._allow, path_of(where))
        if not (isinstance(cls, type) and issubclass(cls, Undecided)):
            raise refused(data["class"], path_of(where))
        settings = {str(key): self.value(item, (where, key)) for key, item in data["settings"].items()}
        revive_value = getattr(cls, "_mu_revive_", None)
        try:
            return revive_value(settings) if revive_value is not None else cls(**settings)
        except Exception as error:
            error.add_note(f"while reading {path_of(where)} from JSON")
            raise

    def ref(self, data: dict[str, Any], where: Where) -> Any:
        """Returns a node that was built at its first place."""
        if data["id"] not in self._built:
            raise _malformed(data, where, "the id of a node that stands earlier in the file")
        return self._built[data["id"]]

    def items(self, data: dict[str, Any], where: Where) -> list[Any]:
        """Returns the elements of a tagged container."""
        if not isinstance(data["items"], list):
            raise _malformed(data, where, "a list of items")
        return [self.value(item, (where, index)) for index, item in enumerate(data["items"])]

    def pairs(self, data: dict[str, Any], where: Where) -> list[tuple[Any, Any]]:
        """Returns the items of a tagged mapping."""
        found = []
        for key, item in data["items"]:
            made = self.value(key, where)
            found.append((made, self.value(item, (where, Key(made)))))
        return found

    def name(self, data: dict[str, Any], where: Where) -> Any:
        """Returns a class or function."""
        return find(data["name"], self._allow, path_of(where))

    def named_tuple(self, data: dict[str, Any], where: Where) -> Any:
        """Builds a NamedTuple by `tuple.__new__`, so that no code of the class runs."""
        name = data["class"]
        cls = self._allow.get(name) or find_plain(name, tuple, path_of(where))
        items = self.items(data, where)
        if not hasattr(cls, "_fields") or len(cls._fields) != len(items):
            raise _malformed(data, where, f"as many items as {name} has fields")
        return tuple.__new__(cls, items)

    def member(self, data: dict[str, Any], where: Where) -> Any:
        """Returns a member of an Enum."""
        cls = self._allow.get(data["class"]) or find_plain(data["class"], enum.Enum, path_of(where))
        return cls.__members__[data["name"]]


def _bytes(data: dict[str, Any]) -> bytes:
    return base64.b64decode(data["data"], validate=True)


def _float(reader: Reader, data: dict[str, Any], where: Where) -> float:
    return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[data["value"]]


def _array(reader: Reader, data: dict[str, Any], where: Where) -> Any:
    numpy = importlib.import_module("numpy")
    dtype = _numpy_dtype(reader, {"name": data["dtype"]}, where)
    flat = numpy.frombuffer(_bytes(data), dtype=dtype)
    return flat.reshape(data["shape"]).copy() if data["$"] == "array" else flat[0]


def _numpy_dtype(reader: Reader, data: dict[str, Any], where: Where) -> Any:
    dtype = importlib.import_module("numpy").dtype(str(data["name"]))
    if dtype.kind not in _NUMPY_KINDS:
        raise _malformed(data, where, "a dtype of numbers or text")
    return dtype


def _tensor(reader: Reader, data: dict[str, Any], where: Where) -> Any:
    torch = importlib.import_module("torch")
    dtype = _dtype(reader, {"name": data["dtype"]}, where)
    raw = bytearray(_bytes(data))
    shape = [int(size) for size in data["shape"]]
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(raw):
        raise _malformed(data, where, f"as many bytes as a {dtype} tensor of this shape has")
    flat = torch.frombuffer(raw, dtype=torch.uint8).view(dtype) if raw else torch.empty(0, dtype=dtype)
    made = flat.reshape(shape).clone()
    wants = bool(data.get("requires_grad", False))
    if data.get("parameter"):
        return torch.nn.Parameter(made, requires_grad=wants)
    return made.requires_grad_() if wants else made


def _dtype(reader: Reader, data: dict[str, Any], where: Where) -> Any:
    torch = importlib.import_module("torch")
    found = vars(torch).get(data["name"])
    if not isinstance(found, torch.dtype):
        raise _malformed(data, where, "the name of a torch dtype")
    return found


def _sequence(make: Callable[[list[Any]], Any]) -> Callable[[Reader, dict[str, Any], Where], Any]:
    return lambda reader, data, where: make(reader.items(data, where))


def _plain_range(items: list[Any]) -> range:
    return range(*items)


_READERS: dict[str, Callable[[Reader, dict[str, Any], Where], Any]] = {
    "object": Reader.object,
    "call": Reader.call,
    "partial": Reader.call,
    "undecided": Reader.undecided,
    "required": lambda reader, data, where: REQUIRED,
    "ref": Reader.ref,
    "name": Reader.name,
    "tuple": _sequence(tuple),
    "set": _sequence(set),
    "frozenset": _sequence(frozenset),
    "slice": _sequence(lambda items: slice(*items)),
    "range": _sequence(_plain_range),
    "namedtuple": Reader.named_tuple,
    "enum": Reader.member,
    "dict": lambda reader, data, where: dict(reader.pairs(data, where)),
    "ordered": lambda reader, data, where: OrderedDict(reader.pairs(data, where)),
    "float": _float,
    "complex": lambda reader, data, where: complex(float(data["real"]), float(data["imag"])),
    "bytes": lambda reader, data, where: _bytes(data),
    "bytearray": lambda reader, data, where: bytearray(_bytes(data)),
    "ellipsis": lambda reader, data, where: Ellipsis,
    "path": lambda reader, data, where: pathlib.Path(data["value"]),
    "array": _array,
    "scalar": _array,
    "numpy.dtype": _numpy_dtype,
    "tensor": _tensor,
    "dtype": _dtype,
    "device": lambda reader, data, where: importlib.import_module("torch").device(str(data["name"])),
    "size": lambda reader, data, where: importlib.import_module("torch").Size(data["items"]),
}


def _malformed(data: Any, where: Where, expected: str) -> SchemaError:
    return SchemaError("cannot read a value from JSON", at=path_of(where), got=data, expected=expected,
                       fix="write the file with mu.save, and do not edit tagged values by hand")  # fmt: skip
