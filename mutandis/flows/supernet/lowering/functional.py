"""Weights that code reads by itself, such as `F.linear(x, self.weight)`, under labels (see `positions.py`).

A product of an input and a weight is followed like a layer: the input's channels are noted, the output gets labels. So
are norms, which keep channels apart, and attention. A weight that other code reads is real labels there. What hangs on
it must then come to a layer whose places are proven, else nothing has shown where the weight stands.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from mutandis.flows.supernet.lowering.layers import Name

_CONVS: dict[Any, int] = {F.conv1d: 1, F.conv2d: 2, F.conv3d: 3}
_TIMES = frozenset({torch.matmul, torch.mm, torch.Tensor.matmul, torch.Tensor.__matmul__, torch.Tensor.mm})
_NORMS: dict[Any, tuple[int, int]] = {  # Where the weight stands among the arguments, and the axis of channels.
    F.layer_norm: (2, -1), F.rms_norm: (2, -1), F.group_norm: (2, 1), F.batch_norm: (3, 1), F.instance_norm: (3, 1),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Read:
    """An axis of a parameter that code runs over.

    Attributes:
        path: Of the module that has it.
        name: Of the parameter.
        axis: The axis.
    """

    path: str
    name: str
    axis: int

    def __str__(self) -> str:
        return f"{self.path}.{self.name} axis {self.axis}"


class Owners:
    """Whose parameters code reads, layers that labels replace aside.

    Args:
        tree: Modules by path.
        is_replaced: Whether labels take the place of what a module computes.

    Attributes:
        own: Shapes of parameters that code reads by itself.
        is_watching: Whether a pass goes on, so that what is read is noted.
    """

    def __init__(self, tree: Mapping[str, nn.Module], is_replaced: Callable[[nn.Module], bool]) -> None:
        self._names: dict[int, Name] = {}
        self._busy: list[frozenset[int]] = []
        self.is_watching = False
        self.own: dict[Name, tuple[int, ...]] = {}
        self._inside: dict[int, frozenset[int]] = {}
        below: set[int] = set()
        for path, module in tree.items():
            if is_replaced(module):
                below.update(map(id, module.modules()))
                self._inside[id(module)] = _parameters(module)
            for name, parameter in dict.items(module._parameters):
                if parameter is not None:
                    self._names[id(parameter)] = (path, name)
                    if id(module) not in below:
                        self.own[path, name] = tuple(parameter.shape)

    def read(self, parameter: torch.Tensor | None) -> None:
        """Takes note that somebody has asked for a parameter, unless it was the layer that has it."""
        name = self.name(parameter)
        if name is not None and parameter is not None and self.is_watching:
            self.own[name] = tuple(parameter.shape)

    @property
    def is_busy(self) -> bool:
        """Whether a layer is running, which sees to its own channels."""
        return bool(self._busy)

    def during(self, module: nn.Module, run: Callable[..., Any]) -> Callable[..., Any]:
        """Returns a function that runs while the parameters of a module are its own affair."""
        inside, signature = self._inside[id(module)], inspect.signature(module.forward)

        def running(*args: Any, **named: Any) -> Any:
            self._busy.append(inside)
            try:
                given = signature.bind(*args, **named)
                return run(*given.args, **given.kwargs)  # By position, however the code writes it.
            finally:
                self._busy.pop()

        return running

    def name(self, tensor: Any) -> Name | None:
        """Returns whose parameter a tensor is; None for others, and for those of a layer that runs."""
        is_busy = any(id(tensor) in inside for inside in self._busy)
        return None if is_busy else self._names.get(id(tensor))

    def factor(self, tensor: Any) -> tuple[Name, bool] | None:
        """Returns whose parameter a matrix is, and whether it is transposed."""
        if not isinstance(tensor, torch.Tensor):
            return None
        found, base = self.name(tensor), tensor._base
        if found is not None:
            return found, False
        found = self.name(base)
        if found is None or base is None or tensor.dim() != 2 or base.dim() != 2:
            return None
        same = tensor.shape == base.shape and tensor.stride() == base.stride()
        turned = tensor.shape == base.t().shape and tensor.stride() == base.t().stride()
        return (found, turned and not same) if same or turned else None


def _parameters(module: nn.Module) -> frozenset[int]:
    """Returns the ids of all parameters of a module, without asking it for one."""
    return frozenset(id(p) for m in module.modules() for p in dict.values(m._parameters) if p is not None)


class Functions(TorchFunctionMode):
    """Follows labels through products with weights, norms and attention, wherever they are called.

    Args:
        owners: Whose parameters are read.
        note: Called with a name, a tensor and the axis of its channels.
        follow: Likewise, with a weight and which of its axes runs over these channels.
        produced: Called with whose weight it was, the output and the axis of its channels; returns labels.
    """

    def __init__(self, owners: Owners, note: Callable[[str, torch.Tensor, int], torch.Tensor],
                 follow: Callable[[Read, torch.Tensor, int], None],
                 produced: Callable[[Name, torch.Tensor, int], torch.Tensor]) -> None:  # fmt: skip
        super().__init__()
        self._owners, self._note, self._follow, self._produced = owners, note, follow, produced
        self._count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        if func is F.scaled_dot_product_attention and len(args) >= 3:
            return self._attention(*args[:3])
        if func in _NORMS and not self._owners.is_busy:
            return self._norm(func, args, named)
        found = self._product(func, args, named)
        if found is None:
            return func(*args, **named)
        x, axis, read, axis_out = found
        y = func(*args, **named)
        self._follow(read, x, axis)
        return self._produced((read.path, read.name), y, axis_out)

    def _norm(self, func: Any, args: Any, named: Any) -> torch.Tensor:
        """Notes the input at weight and bias, and returns it: norms keep channels in their order."""
        first, axis = _NORMS[func]
        x: torch.Tensor = args[0] if args else named["input"]
        for place, word in ((first, "weight"), (first + 1, "bias")):
            owner = self._owners.name(args[place] if len(args) > place else named.get(word))
            if owner is not None:
                self._follow(Read(*owner, 0), x, axis)
        return x

    def _product(self, func: Any, args: Any, named: Any) -> tuple[torch.Tensor, int, Read, int] | None:
        """Returns the input, the axis of its channels, the weight's axis over them, and the axis of the output's."""
        rank = _CONVS.get(func)
        if func is F.linear or rank is not None:
            given = (*args, *(named[word] for word in ("input", "weight") if word in named))[:2]
            groups = args[6] if len(args) > 6 else named.get("groups", 1)
            found = self._owners.factor(given[1]) if len(given) == 2 and (rank is None or groups == 1) else None
            if found is None:
                return None
            axis = -1 if rank is None else given[0].dim() - rank - 1
            return given[0], axis, Read(*found[0], 0 if found[1] else 1), axis
        if func is torch.addmm or func in _TIMES:
            x, weight = args[1:3] if func is torch.addmm else args[:2]
            found = self._owners.factor(weight)
            if found is None or weight.dim() != 2:
                return None
            return x, -1, Read(*found[0], 1 if found[1] else 0), -1
        return None

    def _attention(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Lets the values through, and notes queries and keys, which must agree in their order."""
        self._count += 1
        merged = [t.transpose(-2, -3).flatten(-2) if t.dim() > 3 else t for t in (query, key)]
        for name, t in zip(("query", "key"), merged):
            self._note(f"attention {self._count} {name}", t, -1)
        if query.shape[-2] == value.shape[-2]:
            return value
        return value.mean(-2, keepdim=True).expand(*value.shape[:-2], query.shape[-2], value.shape[-1])


def cut_places(tree: Mapping[str, nn.Module], shapes: Mapping[Name, tuple[int, ...]]) -> set[str]:
    """Returns the paths of modules, and of parameters, of which a child has less than is shared."""
    found: set[str] = set()
    for (path, name), shape in shapes.items():
        parameter = dict.get(tree[path]._parameters, name) if path in tree else None
        if parameter is not None and tuple(parameter.shape) != shape:
            found |= {path, f"{path}.{name}"}
    return found


def unshown(parameters: Mapping[Name, torch.Tensor], shown: Iterable[torch.Tensor], everything: Iterable[torch.Tensor],
            sources: Sequence[torch.Tensor]) -> set[Name]:  # fmt: skip
    """Returns parameters that meet outputs of cut layers, where nothing shows that they stand alike.

    Args:
        parameters: By name.
        shown: What proves where parameters that it hangs on stand, with its graph.
        everything: All that may hang on them.
        sources: Outputs of layers that are cut; what meets none of them is aligned by its shape.
    """
    of = list(parameters.values())
    proven, meets = [False] * len(of), [False] * len(of)
    for tensor in shown:
        proven = [known or hangs for known, hangs in zip(proven, _hangs(tensor, of), strict=True)]
    for tensor in everything:
        hangs = _hangs(tensor, [*of, *sources])
        if any(hangs[len(of) :]):
            meets = [known or here for known, here in zip(meets, hangs)]
    return {
        name for name, is_proven, has_met in zip(parameters, proven, meets, strict=True) if has_met and not is_proven
    }


def _hangs(tensor: torch.Tensor, on: Sequence[torch.Tensor]) -> list[bool]:
    if not tensor.requires_grad or not on:
        return [False] * len(on)
    with torch.enable_grad():
        found = torch.autograd.grad(tensor.sum(), list(on), allow_unused=True, retain_graph=True)
    return [gradient is not None for gradient in found]


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """Yields the tensors in nested lists, tuples, dicts and attributes of an output."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)


__all__ = ["Functions", "Owners", "Read", "cut_places", "tensors_in", "unshown"]
