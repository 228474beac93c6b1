"""Import names of classes and functions: how JSON, code and fingerprints call them, and the way back.

A name reads `module:qualname`. Reading a name never walks modules and never imports what the file asks for: it
looks into the registry of what was symbolized, into fixed tables of torch, `math` and builtins, and into what
the caller allows. That something is imported is no protection: `torch.os.system`.

A name that starts with `mu:` is the symbolic version of somebody else's class or function.
"""

from __future__ import annotations

import importlib
import sys
import threading
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mutandis.errors import SchemaError, closest
from mutandis.symbolic.undecided import Undecided

Allow = Mapping[str, Any] | Iterable[Any] | Callable[..., Any] | str
"""What a caller allows to be named: `{"pkg:f": f}`, or functions, classes and import names."""

_KNOWN: dict[str, Any] = {}
_TABLES: dict[str, dict[str, Any]] = {}
_INDEX: dict[int, tuple[Any, str]] = {}
_LOCK = threading.RLock()

_BUILTINS = ("abs", "bool", "bytes", "complex", "dict", "divmod", "float", "frozenset", "int", "len", "list",
             "max", "min", "pow", "range", "reversed", "round", "set", "slice", "sorted", "str", "sum", "tuple",
             "object")  # fmt: skip
_NOT_OPERATORS = frozenset({"call", "methodcaller", "attrgetter", "itemgetter"})
_NOT_TENSOR_FUNCTIONS = frozenset({"from_file"})
_NOT_MODELS = frozenset({"get_model", "get_model_builder", "get_model_weights", "get_weight", "list_models",
                         "WeightsEnum", "Weights"})  # fmt: skip
_FUNCTIONAL_HOMES = frozenset({"torch.nn.functional", "torch._C._nn", "torch._jit_internal", None, "torch"})
_NOT_FUNCTIONAL = frozenset({"boolean_dispatch", "handle_torch_function", "has_torch_function",
                             "has_torch_function_unary", "has_torch_function_variadic"})  # fmt: skip

_ROOMS = ("hyper", "algorithms", "models")


def register(obj: Any) -> None:
    """Makes a symbolic class or function known by its import name; the latest of a name wins."""
    name = written_name(obj)
    if name is None or "<" in name:  # What lives inside a function has no import name.
        return
    with _LOCK:
        _KNOWN[("mu:" if "_mu_wraps_" in getattr(obj, "__dict__", ()) else "") + name] = obj


def written_name(obj: Any) -> str | None:
    """Returns `module:qualname` as the object itself tells it, or None."""
    if isinstance(obj, type) and "_mu_wraps_" in obj.__dict__:
        obj = obj.__dict__["_mu_wraps_"]
    module, name = getattr(obj, "__module__", None), getattr(obj, "__qualname__", None)
    return f"{module}:{name}" if isinstance(module, str) and isinstance(name, str) else None


def _tensor_functions() -> dict[str, Any]:
    torch = importlib.import_module("torch")
    table = vars(torch)
    listed = [*dir(torch._C._VariableFunctions), *torch.functional.__all__]
    return {n: table[n] for n in listed if n[0] != "_" and n in table and n not in _NOT_TENSOR_FUNCTIONS
            and not isinstance(table[n], type)}  # fmt: skip


def _functional() -> dict[str, Any]:
    table = vars(importlib.import_module("torch.nn.functional"))
    return {n: f for n, f in table.items() if n[0] != "_" and n not in _NOT_FUNCTIONAL
            and isinstance(f, (types.FunctionType, types.BuiltinFunctionType))
            and getattr(f, "__module__", None) in _FUNCTIONAL_HOMES}  # fmt: skip


def _functions(module: str, unwanted: frozenset[str] = frozenset()) -> dict[str, Any]:
    table = vars(importlib.import_module(module))
    kinds = (types.FunctionType, types.BuiltinFunctionType)
    return {n: f for n, f in table.items() if n[0] != "_" and n not in unwanted and isinstance(f, kinds)
            and str(getattr(f, "__module__", None)).lstrip("_") == module}  # fmt: skip


def _classes(module: str, base: str, root: str) -> dict[str, Any]:
    parent = getattr(importlib.import_module(base.partition(":")[0]), base.partition(":")[2])
    table = vars(importlib.import_module(module))
    return {n: c for n, c in table.items() if n[0] != "_" and isinstance(c, type) and issubclass(c, parent)
            and c.__module__.partition(".")[0] == root}  # fmt: skip


def _torchvision(module: str) -> dict[str, Any]:
    from mutandis.symbolic.modules.vision import import_torchvision

    import_torchvision()
    table = vars(importlib.import_module(module))
    return {n: f for n, f in table.items() if n[0] != "_" and n not in _NOT_MODELS
            and isinstance(f, (type, types.FunctionType)) and f.__module__.startswith(module)}  # fmt: skip


def _builtins() -> dict[str, Any]:
    table = vars(importlib.import_module("builtins"))
    return {name: table[name] for name in _BUILTINS}


_LOADERS: dict[str, Callable[[], dict[str, Any]]] = {
    "builtins": _builtins,
    "math": lambda: _functions("math"),
    "operator": lambda: _functions("operator", _NOT_OPERATORS),
    "torch": _tensor_functions,
    "torch.nn.functional": _functional,
    "torch.nn.init": lambda: _functions("torch.nn.init"),
    "torch.nn": lambda: {**_classes("torch.nn", "torch.nn:Module", "torch"),
                         **_classes("torch.nn", "torch:Tensor", "torch")},
    "torch.optim": lambda: _classes("torch.optim", "torch.optim:Optimizer", "torch"),
    "torch.optim.lr_scheduler": lambda: _classes("torch.optim.lr_scheduler",
                                                 "torch.optim.lr_scheduler:LRScheduler", "torch"),
    "torchvision.transforms": lambda: _torchvision("torchvision.transforms"),
    "torchvision.models": lambda: _torchvision("torchvision.models"),
}  # fmt: skip


def _table(module: str) -> dict[str, Any]:
    """Returns the fixed table of a module, made once; its objects can be looked up by identity from then on."""
    with _LOCK:
        if module not in _TABLES:
            table = _LOADERS[module]()
            for name, obj in table.items():
                _INDEX.setdefault(id(obj), (obj, f"{module}:{name}"))
            _TABLES[module] = table
        return _TABLES[module]


def public_name(obj: Any) -> str | None:
    """Returns the name of an object in the fixed tables, or None; by identity: `torch.relu` is not `F.relu`."""
    for module in _LOADERS:
        if module not in _TABLES and module in sys.modules:
            _table(module)
    found = _INDEX.get(id(obj))
    return found[1] if found is not None and found[0] is obj else None


def name_of(obj: Any, at: object = None) -> str:
    """Returns the import name of a class or function.

    Args:
        obj: The class or function.
        at: Where it stands, for the error.

    Returns:
        Such as `torch:relu`, `mypackage.models:Net` or `mu:torch.nn:Conv2d`.

    Raises:
        SchemaError: it has no import name: a lambda, a bound method, something local to a function.
    """
    if isinstance(obj, type) and "_mu_wraps_" in obj.__dict__:
        return f"mu:{name_of(obj.__dict__['_mu_wraps_'], at)}"
    public = public_name(obj)
    if public is not None:
        return public
    original = getattr(obj, "_mu_function_", None)
    if original is not None:
        public = public_name(original)
        if public is not None:
            return f"mu:{public}"
    name = written_name(obj)
    reason = _nameless(obj, name)
    if name is None or reason is not None:
        raise SchemaError(
            "cannot name a function or class",
            at=at,
            got=obj,
            expected=f"something that can be imported by name; {reason}",
            fix="define it at the top level of a module, decorate it with @mu.symbolize, and pass that",
        )
    return name


def _nameless(obj: Any, name: str | None) -> str | None:
    if name is None:
        return "this has no name of its own"
    if "<lambda>" in name:
        return "a lambda has no name"
    if "<locals>" in name:
        return "this is local to a function"
    if isinstance(obj, types.MethodType) or not isinstance(
        getattr(obj, "__self__", None), (types.ModuleType, type(None))
    ):
        return "a bound method belongs to an object"
    if _KNOWN.get(name) is obj or (_KNOWN.get(name) is not None and isinstance(obj, type)):
        return None
    if _lookup(sys.modules.get(name.partition(":")[0]), name.partition(":")[2]) is not obj:
        return f"{name} is something else, or nothing"
    return None


def _lookup(module: Any, qualname: str) -> Any:
    """Returns what a qualified name means inside one module, through classes only and without running code."""
    holder = module
    for step in qualname.split("."):
        if holder is not module and not isinstance(holder, type):
            return None
        holder = vars(holder).get(step) if holder is not None else None
        if isinstance(holder, (staticmethod, classmethod)):
            holder = holder.__func__ if isinstance(holder, staticmethod) else None
    return None if isinstance(holder, types.ModuleType) else holder


def allowed(allow: Allow) -> dict[str, Any]:
    """Returns what a caller allows as a table of names.

    Raises:
        SchemaError: an entry is neither callable nor the import name of something.
    """
    if isinstance(allow, Mapping):
        return dict(allow)
    entries: Iterable[Any] = (allow,) if isinstance(allow, str) or callable(allow) else allow
    table: dict[str, Any] = {}
    for entry in entries:
        if isinstance(entry, str) and ":" in entry:  # The caller's own word, so importing is right.
            module, _, name = entry.partition(":")
            obj = _lookup(importlib.import_module(module), name)
            table[entry] = obj
        else:
            obj = entry
        if not callable(obj):
            raise SchemaError("cannot allow a name", at="allow", got=entry,
                              expected="a function, a class, or an import name such as 'package.module:name'",
                              fix="pass allow=[f] or allow={'package.module:f': f}")  # fmt: skip
        table.setdefault(written_name(obj) or repr(obj), obj)
    return table


def find(name: object, allow: Mapping[str, Any], at: object = None) -> Any:
    """Returns the class or function of a name, if it may be named.

    Args:
        name: What a file says.
        allow: What the caller allows beside the registry and the fixed tables.
        at: Where in the tree, for the error.

    Returns:
        The object.

    Raises:
        SchemaError: the name is not in the registry, the tables or `allow`.
    """
    if not isinstance(name, str) or ":" not in name:
        raise refused(name, at)
    if name in allow:
        return allow[name]
    if name.startswith("mu:"):
        return _symbolic_version(name, allow, at)
    found = _in_table(name)
    if found is not None:
        return found
    if name not in _KNOWN and name.startswith("mutandis."):
        found = _of_ours(name)
        if found is not None:
            return found
    if name in _KNOWN:
        return _KNOWN[name]
    raise refused(name, at)


def _of_ours(name: str) -> Any:
    """Loads the room of a name of this package; returns a kind of undecided value, which need not register."""
    module, _, qualname = name.partition(":")
    room = module.split(".")[1]
    if room not in _ROOMS:
        return None
    importlib.import_module(f"mutandis.{room}")
    found = _lookup(sys.modules.get(module), qualname)
    ours = isinstance(found, type) and issubclass(found, Undecided) and found.__module__ == module
    return found if ours else None


def _in_table(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return _table(module).get(attribute) if module in _LOADERS else None


def _symbolic_version(name: str, allow: Mapping[str, Any], at: object) -> Any:
    if name in _KNOWN:
        return _KNOWN[name]
    original = allow[name[3:]] if name[3:] in allow else _in_table(name[3:])
    if isinstance(original, type):
        from mutandis.symbolic.classes.wrap import wrapper_of

        return wrapper_of(original)
    if original is None:
        raise refused(name, at)
    known = _KNOWN.get(written_name(original) or "")
    if getattr(known, "_mu_function_", None) is original:
        return known
    from mutandis.symbolic.calls import symbolize_function

    return symbolize_function(original)


def find_symbolic(name: object, allow: Mapping[str, Any], at: object = None) -> type:
    """Returns the symbolic class of a name: the class itself, or the wrapper of somebody else's class.

    Raises:
        SchemaError: the name may not be used, or is not a symbolic class.
    """
    if isinstance(name, str) and name not in allow and "mu:" + name in _KNOWN:
        return _KNOWN["mu:" + name]  # type: ignore[no-any-return]
    found = find(name, allow, at)
    if isinstance(found, type) and getattr(found, "_mu_spec_", None) is None:
        from mutandis.symbolic.classes.wrap import wrapper_of

        found = wrapper_of(found)
    if not isinstance(found, type):
        raise refused(name, at)
    return found


def find_plain(name: object, base: type, at: object = None) -> Any:
    """Returns a NamedTuple or Enum class of a module that is imported already.

    Such classes are data: making a member runs no code of the class (see the reader), so they need not be
    registered.

    Raises:
        SchemaError: there is no such class.
    """
    module, _, qualname = str(name).partition(":")
    found = _lookup(sys.modules.get(module), qualname)
    if isinstance(found, type) and issubclass(found, base) and found.__module__ == module:
        return found
    raise refused(name, at)


def refused(name: object, at: object) -> SchemaError:
    """Returns the error for a name that may not be used."""
    with _LOCK:
        near = closest(str(name), _KNOWN)
    return SchemaError(
        "cannot use a name from JSON",
        at=at,
        got=name,
        expected="a symbolic class or function that is imported, or a public one of torch or math" + near,
        fix="import the module that defines it (decorated with @mu.symbolize), or pass allow=[...] to from_json",
    )
