"""Which places of a shared tensor belong together: proven by labels that flow through the user's own forward.

A child that uses a part of a weight can be exact and still wrong: behind a concatenation, or a packed projection that
is split again, its columns are not the leading ones of a larger child. So both are run on one batch, with the output
of every layer that has weights replaced by labels, a number per element that depends on the layer and the element's
index alone. Whatever code stands between (activations, pooling, views, concatenation, shuffles) then gives each input
channel of the next layer a signature that says where it comes from. Equal signatures belong together. Nothing has to
be known about that code, and where it mixes channels no signature agrees and the position is unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from mutandis.flows.supernet.cuts import blocks_index
from mutandis.flows.supernet.lowering.children import Child, made_late
from mutandis.flows.supernet.lowering.facts import join, state_buffers
from mutandis.flows.supernet.lowering.functional import Functions, Owners, Read, cut_places, tensors_in, unshown
from mutandis.flows.supernet.lowering.labels import Desk, Unread, has_known_shape, label
from mutandis.flows.supernet.lowering.layers import (
    NORMS,
    Full,
    Name,
    channel_axis,
    input_axis,
    input_tensors,
    is_depthwise,
    is_grouped,
    is_layer,
)

_BLOCKS = (2, 3, 4)
_CLOSE = 1e-9
_FEWEST = 4  # Three numbers may lie on a line by chance of the code; four random ones do not.


class Labels:
    """One pass of labels through a child.

    Args:
        child: A child that was built for this; its layers are taken apart.
        batch: Positional arguments of its module, floats in float64.
        full: Sizes of the shared tensors, for `blocks`.
        blocks: Layers whose outputs consist of several blocks, by path.
        desk: What passes through other children have found that holds here too.
        watched: Parameters that code reads by itself; signatures then keep the graph of what hangs on them.

    Attributes:
        child: The child.
        signatures: One number per input channel of each layer, by path.
        outputs: Number of output channels by path of the layer.
        reads: Which signatures are those of weights that code reads by itself, by name.
        own: Shapes of parameters that code reads by itself.
        watched: The parameters that were watched.
        sources: Where some are watched, the outputs of layers that are cut.
        returned: What the child returned.
        failure: What the pass raised.
        failed_at: In which module.
    """

    def __init__(self, child: Child, batch: tuple[Any, ...], full: Full | None = None,
                 blocks: Mapping[str, int] | None = None, desk: Desk | None = None,
                 watched: Collection[Name] = ()) -> None:  # fmt: skip
        self._desk = desk or Desk()
        self._full = full or Full()
        self._blocks = blocks or {}
        self._calls: dict[str, int] = {}
        self.child = child
        self.signatures: dict[str, torch.Tensor] = {}
        self.outputs: dict[str, int] = {}
        self.failure: Exception | None = None
        self.failed_at = ""
        self._names = {id(tensor): f"{join(path, name)} itself" for path, module in child.tree.items()
                       for name, tensor in module._parameters.items()}  # fmt: skip
        self._owners = Owners(child.tree, is_layer)
        self._cut = cut_places(child.tree, self._full.shapes) if watched else set()
        self.sources: list[torch.Tensor] = []
        self.watched: dict[Name, torch.Tensor] = {}
        for path, name in watched:
            parameter = child.tree[path]._parameters[name]
            assert parameter is not None  # It has a shape in another pass.
            self.watched[path, name] = parameter
        tables = [(m.__dict__, m._parameters) for m in child.tree.values()
                  if isinstance(m, (*NORMS, nn.Embedding)) or has_known_shape(m)]  # fmt: skip
        for attributes, _ in tables:
            attributes["_parameters"] = {}
        for path, module in child.tree.items():
            self._install(path, module)
        for root in child.roots.values():
            root.double().eval().requires_grad_(requires_grad=False)
        for tensor in self.watched.values():
            tensor.requires_grad_()
        for attributes, table in tables:
            attributes["_parameters"] = Unread(table, self._draw)
        self.reads: dict[str, Read] = {}
        functions = Functions(self._owners, self.note, self.follow, self._product)
        self.returned: Any = None
        self._owners.is_watching = True
        try:
            with torch.set_grad_enabled(bool(watched)), torch.random.fork_rng(devices=[]), functions:
                torch.default_generator.manual_seed(0)
                self.returned = child.run(batch)
        except Exception as error:
            self.failure, self.failed_at = error, child.place_of(error)
            error.__traceback__ = None  # It holds the child.
        self.failure = made_late(child.roots, child.tree) or self.failure
        self._owners.is_watching = False
        self.own = self._owners.own
        for attributes, table in tables:
            attributes["_parameters"] = table
        child.drop_weights()  # Only what layers there are is asked for afterwards.

    def _install(self, path: str, module: nn.Module) -> None:
        for name, value in module.__dict__.items():
            if type(value) is float:  # Factors that depend on a size say nothing about positions.
                module.__dict__[name] = 0.5
        forward = self._forward(path, module) if is_layer(module) else None
        if forward is not None:
            module.__dict__["forward"] = self._owners.during(module, forward)
        state = state_buffers(module)
        for parameter in module._parameters.values():
            self._draw(parameter)
        for name, buffer in module._buffers.items():
            if name not in state and buffer is not None and buffer.is_floating_point():
                buffer.data = label(f"{join(path, name)} itself", tuple(buffer.shape))

    def _draw(self, parameter: torch.Tensor | None) -> None:
        """Labels a parameter, the first time it is asked for."""
        name = self._names.pop(id(parameter), None)
        self._owners.read(parameter)
        if parameter is not None and name is not None and parameter.is_floating_point():
            parameter.data = label(name, tuple(parameter.shape))

    def _forward(self, path: str, module: nn.Module) -> Callable[..., Any] | None:
        plain, shaped = module.forward, self._desk.output
        if isinstance(module, NORMS):
            return lambda x: (self.note(path, x, channel_axis(module, x)), x)[1]
        if is_depthwise(module):
            return lambda x, *rest: self._depthwise(path, module, x, shaped(module, plain, x, *rest))
        if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)):
            return lambda x, *rest: self._produced(path, module, x, shaped(module, plain, x, *rest))
        if isinstance(module, nn.Embedding):
            return lambda x: self._labelled(path, plain(x), -1, 1)
        if isinstance(module, nn.RNNBase):
            return lambda x, *rest: self._recurrent(path, module, x, rest, plain(x, *rest))
        if isinstance(module, nn.RNNCellBase):
            return lambda x, *rest: self._cell(path, x, rest, plain(x, *rest))
        if isinstance(module, nn.MultiheadAttention):
            return lambda x, *rest, **named: self._attended(path, x, plain(x, *rest, **named))
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

    def follow(self, read: Read, x: torch.Tensor, axis: int) -> None:
        """Notes a tensor that an axis of a weight runs over."""
        self.reads[str(read)] = read
        self.note(str(read), x, axis)

    def _product(self, owner: Name, y: torch.Tensor, axis: int) -> torch.Tensor:
        """Returns labels for a product with a weight that code reads by itself."""
        path, name = owner
        is_of_layer = name == "weight" and isinstance(self.child.tree[path], (nn.Linear, nn.modules.conv._ConvNd))
        where = path if is_of_layer else f"{path}.{name}"
        return self._labelled(where, y, axis, self._blocks.get(where, 1))

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

    def _attended(self, path: str, x: torch.Tensor, result: Any) -> Any:
        self.note(path, x, -1)
        return (self._labelled(path, result[0], -1, 1), *result[1:])

    def _recurrent(self, path: str, module: nn.RNNBase, x: Any, given: Any, result: Any) -> Any:
        """Notes inputs and states, and labels outputs and last states, each with labels of its own."""
        self.note(path, x.data if isinstance(x, PackedSequence) else x, -1)
        self._states(Read(path, "weight_hh_l0", 1), given)
        y, last = result
        plain = y.data if isinstance(y, PackedSequence) else y
        made: Any = self._labelled(path, plain, -1, 2 if module.bidirectional else 1, apart=True)
        if isinstance(y, PackedSequence):
            made = PackedSequence(made, *y[1:])
        states = [self._labelled(f"{path} {i}", h, -1, 1) for i, h in enumerate(_tuple(last))]
        return made, tuple(states) if isinstance(last, tuple) else states[0]

    def _cell(self, path: str, x: torch.Tensor, given: Any, result: Any) -> Any:
        self.note(path, x, -1)
        self._states(Read(path, "weight_hh", 1), given)
        states = [self._labelled(f"{path} {i}", h, -1, 1) for i, h in enumerate(_tuple(result))]
        return tuple(states) if isinstance(result, tuple) else states[0]

    def _states(self, read: Read, given: Any) -> None:
        """Notes what a recurrent layer starts from; it must have the order of its own states."""
        for h in _tuple(given[0]) if given and given[0] is not None else ():
            self.follow(read, h, -1)

    def _labelled(self, path: str, y: torch.Tensor, axis: int, blocks: int, *, apart: bool = False) -> torch.Tensor:
        """Returns labels of the shape of an output.

        Args:
            path: The layer.
            y: Its output.
            axis: The axis of its channels.
            blocks: How many blocks the channels consist of.
            apart: Whether blocks are told apart by name, whatever their full size is.
        """
        made = self._fresh(path, y, axis, blocks, apart)
        if path.partition(" ")[0] not in self._cut:
            return made
        self.sources.append(made.requires_grad_())
        return made.clone()  # Activations may work in place.

    def _fresh(self, path: str, y: torch.Tensor, axis: int, blocks: int, apart: bool) -> torch.Tensor:
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


def _tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


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
        hopeless: Layers for which it is not worth a look whether blocks explain them.

    Attributes:
        unknown: Layers of which it is not known.
        failure: What the pass raised.
        failed_at: In which module.
    """

    def __init__(self, build: Callable[[], Child], batch: tuple[Any, ...], full: Full,
                 references: Callable[[], Iterable[Labels]], desk: Desk | None = None,
                 hopeless: Collection[str] = ()) -> None:  # fmt: skip
        self._build, self._batch, self._full, self._references = build, batch, full, references
        self._desk = desk or Desk()
        self._labels = Labels(build(), batch, full, desk=self._desk)
        self._blocks: dict[str, int] = {}
        self._matched, self.unknown = self._match(self._labels)
        self.failure, self.failed_at = self._labels.failure, self._labels.failed_at
        if self.failure is None and not set(self.unknown) <= set(hopeless):
            self._try_blocks()
        if not self.unknown and self.failure is None:
            self.unknown = self._unshown()

    def _match(self, labels: Labels) -> tuple[dict[str, torch.Tensor], list[str]]:
        if labels.failure is not None:
            return {}, sorted(self._full.inputs) or [""]
        cut = {p for p, s in labels.signatures.items() if len(s) < self._size(labels.reads, p)}
        attention = {p for p in labels.signatures if p.endswith(" query")}
        found: dict[str, torch.Tensor] = {}
        references = list(self._references()) if cut or attention else []
        for reference in references:
            for path in cut - found.keys():
                known = reference.signatures.get(path)
                if known is not None and len(known) == self._size(labels.reads, path):
                    index = match(labels.signatures[path], known)
                    if index is not None:
                        found[path] = index
        apart = {path for path in attention if not _agree(labels, references, path)}
        shifted = {p for p in found if not torch.equal(found[p], torch.arange(len(found[p])))}
        stuck = {p for p in shifted - labels.reads.keys() if is_grouped(labels.child.tree[p])}
        stuck |= {p for p in shifted & labels.reads.keys() if labels.reads[p].name.startswith("weight_hh")}
        unknown = (cut - found.keys()) | apart | stuck
        return found, sorted({labels.reads[p].path if p in labels.reads else p for p in unknown})

    def _size(self, reads: Mapping[str, Read], name: str) -> int:
        """Returns how many channels the shared weight has where a signature was noted; 0 where it is none."""
        if name not in reads:
            return self._full.inputs.get(name, 0)
        read = reads[name]
        return self._full.shapes.get((read.path, read.name), (0,) * (read.axis + 1))[read.axis]

    def _unshown(self) -> list[str]:
        """Returns the modules whose own parameters are cut, and read by code that shows nobody where they stand."""
        labels = self._labels
        followed = {(read.path, read.name) for read in labels.reads.values()}
        cut = {name for name, shape in labels.own.items() if self._full.shapes.get(name, shape) != shape} - followed
        if not cut:
            return []
        again = Labels(self._build(), self._batch, self._full, self._blocks, self._desk, watched=cut)
        if again.failure is not None:
            return sorted({path for path, _ in cut})
        shown = [again.signatures[name] for name in self._matched]
        everything = [*again.signatures.values(), *tensors_in(again.returned)]
        return sorted({path for path, _ in unshown(again.watched, shown, everything, again.sources)})

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
            read = self._labels.reads.get(path)
            if read is not None:
                made.setdefault((read.path, read.name), {})[read.axis] = index
                continue
            module = self._labels.child.tree[path]
            for name in input_tensors(module):
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


__all__ = ["Finder", "Labels", "match"]
