"""Which places of a shared tensor belong together: proven by labels that flow through the user's own forward.

A child that uses a part of a weight can be exact and still wrong: behind a concatenation, or a packed projection that
is split again, its columns are not the leading ones of a larger child. So both are run on one batch, with the output
of every layer that has weights replaced by labels, a number per element that depends on the layer and the element's
index alone. Whatever code stands between (activations, pooling, views, concatenation, shuffles) then gives each input
channel of the next layer a signature that says where it comes from. Equal signatures belong together. Nothing has to
be known about that code, and where it mixes channels no signature agrees and the position is unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from mutandis.flows.supernet.cuts import blocks_index
from mutandis.flows.supernet.lowering.children import Child
from mutandis.flows.supernet.lowering.facts import join, state_buffers
from mutandis.flows.supernet.lowering.labels import Desk, Unread, has_known_shape, label

_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
_BLOCKS = (2, 3, 4)
_CLOSE = 1e-9
_FEWEST = 4  # Three numbers may lie on a line by chance of the code; four random ones do not.
_INPUTS = {("weight", 0), ("weight", 1), ("running_mean", 0), ("in_proj_weight", 1), ("weight_ih_l0", 1)}


@dataclass(slots=True)
class Full:
    """Sizes of the shared tensors at the layers of a child.

    Attributes:
        inputs: Number of input channels of the shared weight, by path.
        outputs: Number of output channels.
    """

    inputs: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, int] = field(default_factory=dict)

    def note(self, path: str, module: nn.Module, name: str, shape: tuple[int, ...]) -> None:
        """Takes in the shape of a shared tensor of a layer."""
        axis = input_axis(module)
        if (name, axis) in _INPUTS:
            self.inputs[path] = shape[axis]
            if is_grouped(module):
                # Groups of a fixed size. With a fixed number of groups channels change their group with the size, and
                # no child has as many channels as this says: nothing is proven then, as it should be.
                conv: Any = module
                self.inputs[path] = shape[1] * (shape[0] // (conv.out_channels // conv.groups))
        if name == "weight" and isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)):
            self.outputs[path] = shape[1 if getattr(module, "transposed", False) else 0]


def is_grouped(module: nn.Module) -> bool:
    """Returns whether a convolution has several groups of more than one channel."""
    return isinstance(module, nn.modules.conv._ConvNd) and module.groups > 1 and not is_depthwise(module)


def is_depthwise(module: nn.Module) -> bool:
    """Returns whether each channel is convolved alone, so that the output keeps the order of the input."""
    groups = getattr(module, "groups", 1)
    return isinstance(module, nn.modules.conv._ConvNd) and 1 < groups == module.in_channels == module.out_channels


def input_axis(module: nn.Module) -> int:
    """Returns the axis of a layer's weight that runs over its input channels."""
    if isinstance(module, _NORMS) or is_depthwise(module) or getattr(module, "transposed", False):
        return 0
    return 1


class Labels:
    """One pass of labels through a child.

    Args:
        child: A child that was built for this; its layers are taken apart.
        batch: Positional arguments of its module, floats in float64.
        full: Sizes of the shared tensors, for `blocks`.
        blocks: Layers whose outputs consist of several blocks, by path.
        desk: What passes through other children have found that holds here too.

    Attributes:
        child: The child.
        signatures: One number per input channel of each layer, by path.
        outputs: Number of output channels by path of the layer.
        failure: What the pass raised.
    """

    def __init__(self, child: Child, batch: tuple[Any, ...], full: Full | None = None,
                 blocks: Mapping[str, int] | None = None, desk: Desk | None = None) -> None:  # fmt: skip
        self._desk = desk or Desk()
        self._full = full or Full()
        self._blocks = blocks or {}
        self._calls: dict[str, int] = {}
        self.child = child
        self.signatures: dict[str, torch.Tensor] = {}
        self.outputs: dict[str, int] = {}
        self.failure: Exception | None = None
        self._names = {id(tensor): f"{join(path, name)} itself" for path, module in child.tree.items()
                       for name, tensor in module._parameters.items()}  # fmt: skip
        tables = [
            (m.__dict__, m._parameters) for m in child.tree.values() if isinstance(m, _NORMS) or has_known_shape(m)
        ]
        for attributes, _ in tables:
            attributes["_parameters"] = {}
        for path, module in child.tree.items():
            self._install(path, module)
        for root in child.roots.values():
            root.double().eval()
        for attributes, table in tables:
            attributes["_parameters"] = Unread(table, self._draw)
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]), _Attention(self):
                torch.default_generator.manual_seed(0)
                child.run(batch)
        except Exception as error:
            self.failure = error
        for attributes, table in tables:
            attributes["_parameters"] = table
        child.drop_weights()  # Only what layers there are is asked for afterwards.

    def _install(self, path: str, module: nn.Module) -> None:
        for name, value in module.__dict__.items():
            if type(value) is float:  # Factors that depend on a size say nothing about positions.
                module.__dict__[name] = 0.5
        forward = self._forward(path, module)
        if forward is not None:
            module.__dict__["forward"] = forward
        state = state_buffers(module)
        for parameter in module._parameters.values():
            self._draw(parameter)
        for name, buffer in module._buffers.items():
            if name not in state and buffer is not None and buffer.is_floating_point():
                buffer.data = label(f"{join(path, name)} itself", tuple(buffer.shape))

    def _draw(self, parameter: torch.Tensor | None) -> None:
        """Labels a parameter, the first time it is asked for."""
        name = self._names.pop(id(parameter), None)
        if parameter is not None and name is not None and parameter.is_floating_point():
            parameter.data = label(name, tuple(parameter.shape))

    def _forward(self, path: str, module: nn.Module) -> Callable[..., Any] | None:
        plain, shaped = module.forward, self._desk.output
        if isinstance(module, _NORMS):
            return lambda x: (self.note(path, x, channel_axis(module, x)), x)[1]
        if is_depthwise(module):
            return lambda x, *rest: self._depthwise(path, module, x, shaped(module, plain, x, *rest))
        if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)):
            return lambda x, *rest: self._produced(path, module, x, shaped(module, plain, x, *rest))
        if isinstance(module, nn.Embedding):
            return lambda x: self._labelled(path, plain(x), -1, 1)
        if isinstance(module, nn.RNNBase):
            return lambda x, *rest: self._recurrent(path, module, x, plain(x, *rest))
        if isinstance(module, nn.MultiheadAttention):
            return lambda x, *rest, **named: self._recurrent(path, module, x, plain(x, *rest, **named))
        return None

    def note(self, path: str, x: torch.Tensor, axis: int) -> torch.Tensor:
        """Notes and returns the signatures of the channels of a tensor under a name."""
        rows = x.double().movedim(axis, 0).reshape(x.shape[axis], -1)
        signature = (rows * self._desk.label("signature", (rows.shape[1],))).sum(1)
        before = self.signatures.get(path)
        if before is not None and len(before) == len(signature):
            signature = signature + before * 0.37  # A layer that is called twice must agree in both.
        self.signatures[path] = signature
        return signature

    def _produced(self, path: str, module: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        self.note(path, x, channel_axis(module, x))
        return self._labelled(path, y, channel_axis(module, y), self._blocks.get(path, 1))

    def _depthwise(self, path: str, module: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        axis = channel_axis(module, y)
        signature = self.note(path, x, channel_axis(module, x))
        shape = [1] * y.dim()
        shape[axis] = -1
        rest = [1 if i == axis else size for i, size in enumerate(y.shape)]
        return signature.reshape(shape) * label(f"{path} depthwise", tuple(rest))

    def _recurrent(self, path: str, module: nn.Module, x: torch.Tensor, result: Any) -> Any:
        self.note(path, x, -1)
        y, *rest = result
        blocks = 2 if isinstance(module, nn.RNNBase) and module.bidirectional else 1
        made = self._labelled(path, y, -1, blocks, apart=True)
        return (made, *rest)

    def _labelled(self, path: str, y: torch.Tensor, axis: int, blocks: int, *, apart: bool = False) -> torch.Tensor:
        """Returns labels of the shape of an output.

        Args:
            path: The layer.
            y: Its output.
            axis: The axis of its channels.
            blocks: How many blocks the channels consist of.
            apart: Whether blocks are told apart by name, whatever their full size is.
        """
        call = self._calls[path] = self._calls.get(path, 0) + 1
        axis %= y.dim()
        size = y.shape[axis]
        self.outputs[path] = size
        if apart and blocks > 1:
            shape = [size // blocks if i == axis else n for i, n in enumerate(y.shape)]
            return torch.cat([label(f"{path} {call} block {b}", tuple(shape)) for b in range(blocks)], axis)
        if blocks == 1:
            return self._desk.label(f"{path} {call}", tuple(y.shape))
        index = blocks_index(blocks, size, self._full.outputs[path])
        return label(f"{path} {call}", tuple(y.shape), axis, index)


class _Attention(TorchFunctionMode):
    """Lets the values of an attention through, and notes its queries and keys, which must agree in their order."""

    def __init__(self, labels: Labels) -> None:
        super().__init__()
        self._labels = labels
        self._count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not F.scaled_dot_product_attention or len(args) < 3:
            return func(*args, **(kwargs or {}))
        query, key, value = args[:3]
        self._count += 1
        merged = [t.transpose(-2, -3).flatten(-2) if t.dim() > 3 else t for t in (query, key)]
        for name, t in zip(("query", "key"), merged):
            self._labels.note(f"attention {self._count} {name}", t, -1)
        if query.shape[-2] == value.shape[-2]:
            return value
        return value.mean(-2, keepdim=True).expand(*value.shape[:-2], query.shape[-2], value.shape[-1])


def channel_axis(module: nn.Module, x: torch.Tensor) -> int:
    """Returns the axis of a layer's input or output that its weights run over."""
    if isinstance(module, nn.modules.conv._ConvNd):
        return x.dim() - len(module.kernel_size) - 1
    last = isinstance(module, (nn.Linear, nn.LayerNorm, nn.RMSNorm))
    return x.dim() - 1 if last else min(1, x.dim() - 1)


def match(signature: torch.Tensor, known: torch.Tensor) -> torch.Tensor | None:
    """Returns where each of some signatures stands among others, or None if one stands nowhere."""
    if len(known) < len(signature):
        return None
    places, lead = torch.arange(len(signature)), known[: len(signature)]
    if bool(((signature - lead).abs() <= _CLOSE * (1 + lead.abs())).all()):
        return places  # As mostly; what follows costs the product of both numbers of channels.
    near = (signature[:, None] - known[None]).abs() <= _CLOSE * (1 + known.abs())
    if not bool(near.any(1).all()):
        return places if _is_affine(signature, lead) else None
    here = near[places, places]  # Equal channels, such as zeros, are taken where they stand.
    return torch.where(here, places, near.double().argmax(1))


def _is_affine(signature: torch.Tensor, known: torch.Tensor) -> bool:
    """Returns whether signatures are those of the leading channels but for one factor and one constant."""
    if len(signature) < _FEWEST:
        return False
    a, b = signature - signature.mean(), known - known.mean()
    factor = (a * b).sum() / (b * b).sum()
    return bool(((a - factor * b).abs() <= _CLOSE * (1 + a.abs().max())).all()) and float(factor) != 0.0


class Finder:
    """Finds where the tensors of one child stand.

    Args:
        build: Returns a fresh child of raw values.
        batch: Positional arguments of its module, floats in float64.
        full: Sizes of the shared tensors at its layers.
        references: Passes through larger children, made as they are asked for.
        desk: What passes through other children have found.

    Attributes:
        unknown: Layers of which it is not known.
        failure: What the pass raised.
    """

    def __init__(self, build: Callable[[], Child], batch: tuple[Any, ...], full: Full,
                 references: Callable[[], Iterable[Labels]], desk: Desk | None = None) -> None:  # fmt: skip
        self._build, self._batch, self._full, self._references = build, batch, full, references
        self._desk = desk or Desk()
        self._labels = Labels(build(), batch, full, desk=self._desk)
        self._blocks: dict[str, int] = {}
        self._matched, self.unknown = self._match(self._labels)
        self.failure = self._labels.failure
        if self.unknown and self.failure is None:
            self._try_blocks()

    def _match(self, labels: Labels) -> tuple[dict[str, torch.Tensor], list[str]]:
        if labels.failure is not None:
            return {}, sorted(self._full.inputs) or [""]
        cut = {p for p, s in labels.signatures.items() if len(s) < self._full.inputs.get(p, 0)}
        attention = {p for p in labels.signatures if p.endswith(" query")}
        found: dict[str, torch.Tensor] = {}
        references = list(self._references()) if cut or attention else []
        for reference in references:
            for path in cut - found.keys():
                known = reference.signatures.get(path)
                if known is not None and len(known) == self._full.inputs[path]:
                    index = match(labels.signatures[path], known)
                    if index is not None:
                        found[path] = index
        apart = {path for path in attention if not _agree(labels, references, path)}
        shifted = {p for p in found if not torch.equal(found[p], torch.arange(len(found[p])))}
        stuck = {p for p in shifted if is_grouped(labels.child.tree[p])}
        return found, sorted((cut - found.keys()) | apart | stuck)

    def _try_blocks(self) -> None:
        """Looks for layers whose outputs are several blocks, of each of which the child has the leading part."""
        for path, size in self._labels.outputs.items():
            full = self._full.outputs.get(path, size)
            for count in (n for n in _BLOCKS if size < full and size % n == 0 and full % n == 0):
                blocks = {**self._blocks, path: count}
                labels = Labels(self._build(), self._batch, self._full, blocks, self._desk)
                matched, unknown = self._match(labels)
                if len(unknown) < len(self.unknown):
                    self._labels, self._blocks, self._matched, self.unknown = labels, blocks, matched, unknown
            if not self.unknown:
                break

    def places(self) -> dict[tuple[str, str], dict[int, torch.Tensor]]:
        """Returns, by path and name, the places along axes where they are not the ones of the rule in `cuts.py`."""
        made: dict[tuple[str, str], dict[int, torch.Tensor]] = {}
        for path, index in self._matched.items():
            if torch.equal(index, torch.arange(len(index))):
                continue
            module = self._labels.child.tree[path]
            for name in _input_tensors(module):
                made.setdefault((path, name), {})[input_axis(module)] = index
        for path, count in self._blocks.items():
            axis = 1 if getattr(self._labels.child.tree[path], "transposed", False) else 0
            index = blocks_index(count, self._labels.outputs[path], self._full.outputs[path])
            made.setdefault((path, "weight"), {})[axis] = index
            made.setdefault((path, "bias"), {})[0] = index
        return made


def _agree(labels: Labels, references: list[Labels], query: str) -> bool:
    """Returns whether queries and keys of an attention come from places that also meet in a largest child."""
    names = (query, query.removesuffix("query") + "key")
    known = [r.signatures for r in references if all(name in r.signatures for name in names)]
    most = max((len(signatures[query]) for signatures in known), default=0)
    for signatures in known:
        if len(signatures[query]) == most:
            places = [match(labels.signatures[name], signatures[name]) for name in names]
            if places[0] is not None and places[1] is not None and torch.equal(places[0], places[1]):
                return True
    return False


def _input_tensors(module: nn.Module) -> tuple[str, ...]:
    if isinstance(module, nn.RNNBase):
        return "weight_ih_l0", "weight_ih_l0_reverse"
    if isinstance(module, nn.MultiheadAttention):
        return ("in_proj_weight",)
    if isinstance(module, _NORMS):
        return "weight", "bias", "running_mean", "running_var"
    return ("weight", "bias") if is_depthwise(module) else ("weight",)


__all__ = ["Finder", "Full", "Labels", "channel_axis", "input_axis", "is_depthwise", "label", "match"]
