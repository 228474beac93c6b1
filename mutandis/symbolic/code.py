"""From symbolic trees to readable Python code that rebuilds them."""

from __future__ import annotations

import builtins
import inspect
import keyword
import math
import operator
import sys
import types
from collections.abc import Iterable, Mapping
from typing import Any

from mutandis.errors import SchemaError, SettingError
from mutandis.symbolic.classes.copying import Unavailable
from mutandis.symbolic.compare import equal
from mutandis.symbolic.paths import Key, Path
from mutandis.symbolic.record import UNSET, get_edits, is_symbolic, real_class, spec_for, values_of
from mutandis.symbolic.serial.names import name_of
from mutandis.symbolic.traverse import children, edited
from mutandis.symbolic.undecided import REQUIRED, Undecided

_WIDTH = 96
_MAX_TENSOR = 1000
"""Tensors with more elements are data, not code."""

_SIGNS: dict[Any, str] = {
    operator.add: "+", operator.sub: "-", operator.mul: "*", operator.truediv: "/", operator.floordiv: "//",
    operator.mod: "%", operator.pow: "**",
}  # fmt: skip

_SPACES = {"torch.nn": "mu.nn", "torch.optim": "mu.optim", "torch.optim.lr_scheduler": "mu.optim.lr_scheduler",
           "torchvision.transforms": "mu.transforms"}  # fmt: skip


def to_python(x: Any, *, name: str = "program") -> str:
    """Writes Python code that rebuilds a symbolic tree.

    Args:
        x: A symbolic object, an undecided value, or a list, tuple or dict of them.
        name: The variable that holds the tree when the code has run.

    Returns:
        Imports, one assignment for each shared node, and the assignment of `name`.

    Raises:
        SchemaError: something in the tree cannot be written as code; the message names the path.
        SettingError: `name` is not a variable name.
    """
    if not name.isidentifier() or keyword.iskeyword(name) or name in ("mu", "torch", "math"):
        raise SettingError("cannot use a variable name", at="name", got=name,
                           expected="an identifier other than mu, torch and math", fix="name='program'")  # fmt: skip
    writer = _CodeWriter(x, name)
    text = writer.value(x, Path())
    lines = [*sorted(writer.imports), "", *writer.assignments, f"{name} = {text}"]
    return "\n".join(lines) + "\n"


class _CodeWriter:
    """Writes the expressions of one tree, and collects the imports and variables that they need."""

    def __init__(self, root: Any, name: str) -> None:
        self.imports: set[str] = set()
        self.assignments: list[str] = []
        self._shared = _shared_nodes(root)
        self._variables: dict[int, str] = {}
        self._imported: dict[str, str] = {}
        self._taken = {name, "mu", "torch", "math", "numpy", *dir(builtins), *keyword.kwlist}

    def value(self, x: Any, path: Path) -> str:
        """Returns the expression of any value; a shared node is a variable."""
        if id(x) not in self._shared:
            return self._expression(x, path)
        if id(x) not in self._variables:
            text = self._expression(x, path)
            variable = self._fresh(_variable_name(x, path))
            self._variables[id(x)] = variable
            self.assignments.append(f"{variable} = {text}")
        return self._variables[id(x)]

    def _expression(self, x: Any, path: Path) -> str:
        kind = type(x)
        if kind is float:
            return repr(x) if math.isfinite(x) else f"float({str(x)!r})"
        if kind in (int, str, bool, type(None), bytes, range, type(Ellipsis)):
            return "..." if x is Ellipsis else repr(x)
        if kind is complex:
            return f"complex({self.value(x.real, path)}, {self.value(x.imag, path)})"
        if kind in (list, tuple):
            items = [self.value(item, path / index) for index, item in enumerate(x)]
            return _joined("[" if kind is list else "(", items, "]" if kind is list else ")",
                           lonely="," if kind is tuple else "")  # fmt: skip
        if kind is dict:
            return self._dict(x, path)
        if isinstance(x, Undecided):
            return self._undecided(x, path)
        if is_symbolic(x):
            return self._symbolic(x, path)
        return self._leaf(x, kind, path)

    def _dict(self, x: dict[Any, Any], path: Path) -> str:
        pairs = [f"{self.value(key, path)}: {self.value(item, path / Key(key))}" for key, item in x.items()]
        return _joined("{", pairs, "}")

    def _undecided(self, x: Undecided, path: Path) -> str:
        self.imports.add("import mutandis as mu")
        if x is REQUIRED:
            return "mu.REQUIRED"
        if isinstance(x, Unavailable):
            raise _refusal(x, path)
        settings = x._mu_settings_()
        word = type(x).__name__.lower()
        if word == "derived" and "function" in settings:
            return self._derived(settings, path)
        parameters = _factory(x, word, settings)
        if parameters is not None:
            return _joined(f"mu.{word}(", self._settings(settings, parameters, path), ")")
        head = self._named(type(x), path)
        if hasattr(type(x), "_mu_revive_"):
            return f"{head}._mu_revive_({self._dict(settings, path)})"
        return _joined(f"{head}(", [f"{key}={self.value(item, path / key)}" for key, item in settings.items()], ")")

    def _derived(self, settings: dict[str, Any], path: Path) -> str:
        operands = [self.value(item, path / "args" / index) for index, item in enumerate(settings["args"])]
        sign = _SIGNS.get(settings["function"])
        if sign is not None and len(operands) == 2:
            return " ".join((_grouped(operands[0]), sign, _grouped(operands[1])))
        function = self.value(settings["function"], path / "function")
        named = self._keywords(settings.get("kwargs", {}), path / "kwargs")
        return _joined("mu.derive(", [function, *operands, *named], ")")

    def _settings(self, settings: dict[str, Any], parameters: Mapping[str, inspect.Parameter], path: Path) -> list[str]:
        parts = []
        for key, item in settings.items():
            parameter = parameters[key]
            if parameter.default is not parameter.empty and equal(item, parameter.default):
                continue
            text = self.value(item, path / key)
            parts.append(text if parameter.default is parameter.empty else f"{key}={text}")
        return parts

    def _symbolic(self, x: Any, path: Path) -> str:
        kind = type(x)
        parts: list[str] = []
        if getattr(kind, "_mu_has_own_spec_", False):
            self.imports.add("import mutandis as mu")
            head = "mu.bind" if getattr(kind, "_mu_is_call_", False) else "mu.partial"
            parts.append(self.value(x.function, path / "function"))
        else:
            head = self._named(real_class(x), path)
        text = _joined(f"{head}(", parts + self._arguments(x, path), ")")
        edits = get_edits(x)
        if not edits:
            return text
        self.imports.add("import mutandis as mu")
        pairs = [f"{where!r}: {self.value(item, path + Path.parse(where))}" for where, item in edits.items()]
        return _joined("mu.rebind(", [text, _joined("{", pairs, "}")], ")")

    def _arguments(self, x: Any, path: Path) -> list[str]:
        spec = spec_for(x)
        values = dict(zip(spec.names, values_of(x), strict=True))
        has_rest = bool(spec.var_positional and values[spec.var_positional] not in (UNSET, ()))
        parts = []
        by_name = False
        for parameter in spec.signature.parameters.values():
            value = values[parameter.name]
            if value is UNSET:
                by_name = True
                continue
            if parameter.kind is parameter.VAR_POSITIONAL:
                parts += [self.value(item, path / parameter.name / index) for index, item in enumerate(value)]
                by_name = True
            elif parameter.kind is parameter.VAR_KEYWORD:
                parts += self._keywords(value, path)
            elif parameter.kind is parameter.POSITIONAL_ONLY or (
                    has_rest and parameter.kind is not parameter.KEYWORD_ONLY):  # fmt: skip
                parts.append(self.value(value, path / parameter.name))
            elif parameter.default is not parameter.empty and equal(value, parameter.default):
                by_name = True
            else:
                by_name = by_name or parameter.default is not parameter.empty or bool(
                    parameter.kind is parameter.KEYWORD_ONLY)  # fmt: skip
                text = self.value(value, path / parameter.name)
                parts.append(f"{parameter.name}={text}" if by_name else text)
        return parts

    def _keywords(self, value: dict[str, Any], path: Path) -> list[str]:
        if all(key.isidentifier() and not keyword.iskeyword(key) for key in value):
            return [f"{key}={self.value(item, path / key)}" for key, item in value.items()]
        return [f"**{self._dict(value, path)}"]

    def _leaf(self, x: Any, kind: type, path: Path) -> str:
        if kind in (set, frozenset):
            items = [self.value(item, path) for item in sorted(x, key=repr)]
            inner = _joined("{", items, "}") if items else ""
            return f"{kind.__name__}({inner})" if kind is frozenset or not items else inner
        if kind is slice:
            return f"slice({', '.join(self.value(item, path) for item in (x.start, x.stop, x.step))})"
        if isinstance(x, tuple) and hasattr(x, "_fields"):
            items = [self.value(item, path / index) for index, item in enumerate(x)]
            return _joined(f"{self._named(kind, path)}(", items, ")")
        torch = sys.modules.get("torch")
        if torch is not None and isinstance(x, (torch.dtype, torch.device, torch.Size, torch.Tensor)):
            return self._torch(x, torch, path)
        numpy = sys.modules.get("numpy")
        if numpy is not None and isinstance(x, (numpy.ndarray, numpy.generic)):
            return self._array(x, path)
        if isinstance(x, type) or (callable(x) and not hasattr(x, "state_dict") and hasattr(x, "__qualname__")):
            return self._named(x, path)
        raise _refusal(x, path)

    def _torch(self, x: Any, torch: Any, path: Path) -> str:
        self.imports.add("import torch")
        if isinstance(x, torch.dtype):
            return str(x)
        if isinstance(x, torch.device):
            return f"torch.device({str(x)!r})"
        if isinstance(x, torch.Size):
            return f"torch.Size({list(x)!r})"
        if type(x) not in (torch.Tensor, torch.nn.Parameter) or x.numel() > _MAX_TENSOR or x.is_meta:
            raise _refusal(x, path)
        numbers = self._expression(x.detach().cpu().tolist(), path)
        grad = ", requires_grad=True" if x.requires_grad and type(x) is torch.Tensor else ""
        text = f"torch.tensor({numbers}, dtype={x.dtype}{grad})"
        if x.numel() == 0 and x.dim() > 1:
            text = f"torch.empty({tuple(x.shape)!r}, dtype={x.dtype}{grad})"
        if type(x) is torch.nn.Parameter:
            return f"torch.nn.Parameter({text}{'' if x.requires_grad else ', requires_grad=False'})"
        return text

    def _array(self, x: Any, path: Path) -> str:
        if x.size > _MAX_TENSOR or x.dtype.kind not in "biufcSU" or type(x).__module__ != "numpy":
            raise _refusal(x, path)
        self.imports.add("import numpy")
        text = f"numpy.array({self._expression(x.tolist(), path)}, dtype={x.dtype.str!r})"
        if x.size == 0:
            text = f"numpy.empty({x.shape!r}, dtype={x.dtype.str!r})"
        return f"{text}[()]" if x.ndim == 0 and type(x).__name__ != "ndarray" else text

    def _named(self, obj: Any, path: Path) -> str:
        """Returns the expression of a class or function, and imports what it needs."""
        name = name_of(obj, path)
        symbolic = name.startswith("mu:")
        module, _, qualname = name.removeprefix("mu:").partition(":")
        if symbolic:
            self.imports.add("import mutandis as mu")
            if module in _SPACES:
                return f"{_SPACES[module]}.{qualname}"
            return f"mu.symbolize({self._imported_name(module, qualname)})"
        return self._imported_name(module, qualname)

    def _imported_name(self, module: str, qualname: str) -> str:
        if module == "builtins":
            return qualname
        root = module.partition(".")[0]
        if root in ("torch", "torchvision", "math", "operator"):
            self.imports.add("import torch" if root == "torch" else f"import {module}")
            return f"{module}.{qualname}"
        top, dot, rest = qualname.partition(".")
        key = f"{module}:{top}"
        if key not in self._imported:
            local = self._fresh(top)
            self._imported[key] = local
            self.imports.add(f"from {module} import {top}" + (f" as {local}" if local != top else ""))
        return self._imported[key] + dot + rest

    def _fresh(self, wanted: str) -> str:
        name, count = wanted, 2
        while name in self._taken:
            name, count = f"{wanted}_{count}", count + 1
        self._taken.add(name)
        return name


def _shared_nodes(root: Any) -> set[int]:
    """Returns the ids of nodes that stand at several places."""
    seen: set[int] = set()
    shared: set[int] = set()
    stack = [root]
    while stack:
        node = stack.pop()
        kind = type(node)
        if is_symbolic(node) or isinstance(node, Undecided) or kind.__module__ in ("torch", "numpy") or (
                hasattr(node, "requires_grad")):  # fmt: skip
            if kind.__name__ in ("dtype", "device") or node is REQUIRED:
                continue
            if id(node) in seen:
                shared.add(id(node))
                continue
            seen.add(id(node))
        stack.extend(child for _, child in children(node))
        stack.extend(child for _, child in edited(node))
        if isinstance(node, Undecided):
            stack.extend(value for name, value in node._mu_settings_().items() if name not in dict(node._mu_items_()))
    return shared


def _factory(x: Undecided, word: str, settings: dict[str, Any]) -> Mapping[str, inspect.Parameter] | None:
    """Returns the parameters of the public function that makes a hyper value, such as `mu.oneof`; None without one."""
    public = sys.modules.get("mutandis")
    if public is None or type(x).__module__.partition(".")[0] != "mutandis" or word not in dir(public):
        return None
    function = getattr(public, word)
    if not isinstance(function, types.FunctionType):
        return None
    parameters = inspect.signature(function).parameters
    required = [name for name, parameter in parameters.items() if parameter.default is parameter.empty]
    fits = set(settings) <= set(parameters) and list(settings)[: len(required)] == required
    return parameters if fits else None


def _grouped(text: str) -> str:
    """Returns an operand, in parentheses when it holds an operator itself."""
    simple = text.isidentifier() or text.replace(".", "", 1).isdigit()
    return text if simple else f"({text})"


def _variable_name(x: Any, path: Path) -> str:
    """Returns a name for a shared node: its own, that of the argument it is, or that of its class."""
    chosen = x._mu_settings_().get("name") if isinstance(x, Undecided) else None
    names = [chosen, path.name, _kind(x).__name__.lower()]
    fit = (name for name in names if isinstance(name, str) and name.isidentifier() and not keyword.iskeyword(name))
    return next(fit, "shared")


def _kind(x: Any) -> type:
    return real_class(x) if is_symbolic(x) else type(x)


def _joined(head: str, parts: Iterable[str], tail: str, *, lonely: str = "") -> str:
    items = list(parts)
    line = head + ", ".join(items) + (lonely if len(items) == 1 else "") + tail
    if not items or (len(line) <= _WIDTH and "\n" not in line):
        return line
    body = "".join("    " + item.replace("\n", "\n    ") + ",\n" for item in items)
    return f"{head}\n{body}{tail}"


def _refusal(x: Any, path: Path) -> SchemaError:
    return SchemaError(
        "cannot write a value as code",
        at=path,
        got=x,
        expected=f"plain data, a symbolic object, a tensor of at most {_MAX_TENSOR} elements, or an import name",
        fix="save it apart, and pass it where the program is built; or make it by mu.bind",
    )
