"""What a built module tree says about itself, as values that can be compared: classes, layers, tensors, attributes.

Two children that agree in a fact can share the part of the live program that the fact is about.
"""

from __future__ import annotations

import functools
import hashlib
import types
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from mutandis.symbolic.record import LEAVES, is_symbolic, real_class, values_of

_BOOKKEEPING = frozenset({"training", "_parameters", "_buffers", "_modules", "_mu_", "_apply", "_is_full_backward_hook",
                          "_non_persistent_buffers_set", "_backward_pre_hooks", "_backward_hooks"})  # fmt: skip
_OWN_BOOKKEEPING: dict[type, frozenset[str]] = {
    nn.RNNBase: frozenset({"_flat_weights", "_flat_weight_refs"}),  # Renewed by every forward.
}
_STATE: dict[type, frozenset[str]] = {
    nn.modules.batchnorm._NormBase: frozenset({"running_mean", "running_var", "num_batches_tracked"}),
    nn.utils.parametrizations._SpectralNorm: frozenset({"_u", "_v"}),
}
"""Buffers that training changes, by class; they are shared like weights. Others are computed by `__init__`."""

_DEEPEST = 12
_CLASSES = 256  # That are remembered; parametrised layers each have one of their own.

RECORD = "_mu_"
"""The name under which the arguments of a symbolic module stand among its attributes."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What one module says about itself.

    Attributes:
        kind: Module and qualified name of its class.
        layers: Registered names with the path of what stands there, or None.
        tensors: Kind, name, shape, dtype and more of each parameter and buffer.
        attributes: Digest of every other attribute; under `RECORD` the arguments of a symbolic module.
        held: Names of attributes that hold a module or a tensor.
        ties: Paths of the modules that attributes hold.
        aliases: Names of attributes that hold a parameter of the tree.
    """

    kind: tuple[str, str]
    layers: tuple[tuple[str, str | None], ...]
    tensors: tuple[tuple[Any, ...], ...]
    attributes: Mapping[str, Hashable]
    held: frozenset[str]
    ties: tuple[str, ...]
    aliases: tuple[str, ...]


def join(path: str, name: str) -> str:
    """Returns the path of what a module registers under a name."""
    return f"{path}.{name}" if path else name


def tree_of(roots: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """Returns the modules below some roots by path, parents first; one with several names under the first."""
    found: dict[str, nn.Module] = {}
    seen: set[int] = set()
    for path, root in roots.items():
        _collect(path, root, found, seen)
    return found


def _collect(path: str, module: nn.Module, found: dict[str, nn.Module], seen: set[int]) -> None:
    if id(module) in seen:
        return
    seen.add(id(module))
    found[path] = module
    for name, layer in module._modules.items():
        if layer is not None:
            _collect(join(path, name), layer, found, seen)


def state_buffers(module: nn.Module) -> frozenset[str]:
    """Returns the names of buffers that training changes."""
    kind: Any = type(module)  # Whose hash mypy takes for that of its instances.
    return _state_of(kind)


@functools.lru_cache(maxsize=_CLASSES)
def _state_of(kind: type) -> frozenset[str]:
    return frozenset().union(*(names for cls, names in _STATE.items() if issubclass(kind, cls)))


def own_attributes(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yields the attributes of a module that are neither layers, nor tensors, nor torch's bookkeeping."""
    kind: Any = type(module)
    skipped = _skipped_of(kind)
    for name, value in module.__dict__.items():
        if name not in skipped and "_hooks" not in name:
            yield name, value


@functools.lru_cache(maxsize=_CLASSES)
def _skipped_of(kind: type) -> frozenset[str]:
    return _BOOKKEEPING.union(*(names for cls, names in _OWN_BOOKKEEPING.items() if issubclass(kind, cls)))


def facts_of(tree: Mapping[str, nn.Module]) -> dict[str, Facts]:
    """Returns the facts of every module of a tree."""
    writer = _Writer(tree)
    return {path: writer.facts(module) for path, module in tree.items()}


def have_changed(tree: Mapping[str, nn.Module], facts: Mapping[str, Facts]) -> bool:
    """Returns whether an attribute has other content than its facts say, though it is the same object.

    Args:
        tree: Modules by path, whose tables and attributes are as they were.
        facts: Of each.
    """
    writer = _Writer(tree)
    return any(
        type(value) not in LEAVES
        and not isinstance(value, nn.Module)
        and writer.digest(value, 0) != facts[path].attributes.get(name)
        for path, module in tree.items()
        for name, value in own_attributes(module)
    )


class _Writer:
    """Turns values into hashable digests; modules and parameters of the tree are named by their place."""

    def __init__(self, tree: Mapping[str, nn.Module]) -> None:
        self._path = {id(module): path for path, module in tree.items()}
        self._key: dict[int, str] = {}
        for path, module in tree.items():
            for name, tensor in (*module._parameters.items(), *module._buffers.items()):
                if tensor is not None:
                    self._key.setdefault(id(tensor), join(path, name))
        self._ties: list[str] = []
        self._holds = self._alias = False

    def facts(self, module: nn.Module) -> Facts:
        attributes: dict[str, Hashable] = {}
        held, aliases, ties = set(), [], []
        for name, value in own_attributes(module):
            self._ties, self._holds, self._alias = [], False, False
            attributes[name] = self.digest(value, 0)
            ties.extend(self._ties)
            if self._holds:
                held.add(name)
            if self._alias:
                aliases.append(name)
        if is_symbolic(module):
            attributes[RECORD] = self.digest(list(values_of(module)), 0)
        cls = real_class(module)
        return Facts(
            (cls.__module__, cls.__qualname__),
            tuple((name, None if m is None else self._path.get(id(m))) for name, m in module._modules.items()),
            tuple(self._tensors(module)),
            attributes,
            frozenset(held),
            tuple(ties),
            tuple(aliases),
        )

    def _tensors(self, module: nn.Module) -> Iterator[tuple[Any, ...]]:
        for name, parameter in module._parameters.items():
            if parameter is None:
                yield "parameter", name
            else:
                yield ("parameter", name, tuple(parameter.shape), str(parameter.dtype), parameter.requires_grad,
                       self._key[id(parameter)])  # fmt: skip
        state = state_buffers(module)
        for name, buffer in module._buffers.items():
            lasting = name not in module._non_persistent_buffers_set
            if not isinstance(buffer, torch.Tensor):
                yield "buffer", name, lasting
            elif name in state:
                yield "state", name, tuple(buffer.shape), str(buffer.dtype), lasting
            else:
                yield "buffer", name, lasting, self._content(buffer)

    def digest(self, value: Any, depth: int) -> Hashable:
        kind = type(value)
        if depth > _DEEPEST:
            return "deep"
        if kind is types.FunctionType:
            cells = [_content(cell) for cell in value.__closure__ or ()]
            return (
                "function",
                value.__code__,
                self.digest((cells, value.__defaults__, value.__kwdefaults__), depth + 1),
            )
        if kind in LEAVES:
            return kind.__name__, repr(value) if kind is not types.BuiltinFunctionType else value.__qualname__
        if isinstance(value, nn.Module):
            return self._module(value, depth)
        if isinstance(value, torch.Tensor):
            self._holds = True
            if isinstance(value, nn.Parameter):
                self._alias = self._alias or id(value) in self._key
                return "parameter", self._key.get(id(value), ""), tuple(value.shape)
            return "tensor", self._content(value)
        if isinstance(value, type):
            return "class", value.__module__, value.__qualname__
        if isinstance(value, types.MethodType):
            return "method", value.__func__.__qualname__, self.digest(value.__self__, depth + 1)
        return self._parts(value, depth)

    def _parts(self, value: Any, depth: int) -> Hashable:
        kind = type(value)
        name = f"{kind.__module__}.{kind.__qualname__}"
        if isinstance(value, functools.partial):
            return name, self.digest((value.func, value.args, value.keywords), depth + 1)
        if isinstance(value, (list, tuple)):
            return name, *(self.digest(item, depth + 1) for item in value)
        if isinstance(value, (set, frozenset)):
            return name, frozenset(self.digest(item, depth + 1) for item in value)
        if isinstance(value, Mapping):
            return name, *((self.digest(k, depth + 1), self.digest(v, depth + 1)) for k, v in value.items())
        if is_symbolic(value):
            cls = real_class(value)
            function = getattr(value, "function", None) if getattr(kind, "_mu_has_own_spec_", False) else None
            return cls.__qualname__, self.digest([function, *values_of(value)], depth + 1)
        if isinstance(getattr(value, "__dict__", None), dict):
            return name, *((key, self.digest(item, depth + 1)) for key, item in vars(value).items())
        return name, _shown(value)

    def _module(self, value: nn.Module, depth: int) -> Hashable:
        path = self._path.get(id(value))
        if path is not None:
            self._ties.append(path)
            return "module", path
        self._holds = True
        cls = real_class(value)
        if is_symbolic(value):
            return "stray module", cls.__qualname__, self.digest(list(values_of(value)), depth + 1)
        return "stray module", cls.__qualname__, repr(value)

    def _content(self, tensor: torch.Tensor) -> Hashable:
        flat = tensor.detach().cpu().contiguous()
        if flat.dtype == torch.bfloat16 or flat.is_quantized or flat.is_sparse:
            return tuple(flat.shape), str(flat.dtype)
        content = hashlib.blake2b(flat.numpy().tobytes(), digest_size=16).hexdigest()
        return tuple(flat.shape), str(flat.dtype), content


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # An empty cell.
        return None


def _shown(value: Any) -> str:
    text = repr(value)
    return "" if " at 0x" in text else text


__all__ = ["RECORD", "Facts", "facts_of", "have_changed", "join", "own_attributes", "state_buffers", "tree_of"]
