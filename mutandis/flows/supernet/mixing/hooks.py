"""The hooks that mix sizes while a selection holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from mutandis.errors import LoweringError
from mutandis.flows.supernet.choices.weighing import weighted_sum
from mutandis.flows.supernet.late import copy_error
from mutandis.flows.supernet.lowering.layers import channel_axis
from mutandis.flows.supernet.mixing.behind import Behind, channels_axis
from mutandis.flows.supernet.mixing.branches import Branch
from mutandis.flows.supernet.mixing.plans import Plan
from mutandis.flows.supernet.mixing.weighing import Made, Weighing, joint, mode_of, offset_of
from mutandis.flows.supernet.selections import MASK, Selection

_Norm = nn.modules.batchnorm._NormBase


@contextmanager
def mixing(plans: Sequence[tuple[nn.Module, Plan]], selections: Mapping[int, Selection],
           *, is_proof: bool = False) -> Iterator[None]:  # fmt: skip
    """Lets modules mix sizes for a while.

    Args:
        plans: Modules of the live program and what they do.
        selections: By index of the decision.
        is_proof: Whether norms train in arms, and nothing else; by default arms do what the layer in their place does.
    """
    handles: list[Any] = []
    made: Made = {}
    aligned: set[Behind] = set()
    behind = [each for _, plan in plans for each in plan.behind]
    try:
        for module, plan in plans:
            if plan.weighings or plan.behind:
                hook = _Weigh(plan, selections, made, aligned)
                handles.append(module.register_forward_pre_hook(hook))
                handles.append(module.register_forward_hook(hook.put_back, always_call=True))
            if plan.depths:
                reading = [each for each in behind if plan.depths == (each.depth,)]
                handles += _Depths(plan, selections, reading, aligned).install(module)
            if plan.branch is not None:
                kinds = _Kinds(plan.branch, selections, is_proof)
                handles.append(module.register_forward_hook(kinds, with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Weigh:
    """Puts weights that mix sizes in the place of those of the largest, for one forward pass.

    Where the input is smaller than the weight, a mask is put on that instead, which is the same.
    """

    def __init__(self, plan: Plan, selections: Mapping[int, Selection], made: Made, aligned: set[Behind]) -> None:
        self._weighings, self._selections, self._made = plan.weighings, selections, made
        self._behind, self._aligned = plan.behind, aligned
        decisions = {i for weighing in plan.weighings for i in weighing.decisions}
        self._offsets = [o for i in sorted(decisions) if (o := offset_of(selections[i])) is not None]
        self._before: list[tuple[str, Any]] = []

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise copy_error()

    def __call__(self, module: nn.Module, inputs: Any) -> Any:
        table: dict[str, Any] = module._parameters
        for each in self._behind:
            self._before.append((each.name, table[each.name]))
            dict.__setitem__(table, each.name, self._weight_behind(each, module, table[each.name]))
        for weighing in self._weighings:
            weight = table[weighing.name]
            if self._is_smaller(module, inputs, weighing, weight):
                x = inputs[0]
                axis = channel_axis(module, x)
                shape = [size if i == axis else 1 for i, size in enumerate(x.shape)]
                inputs = (x * weighing.mask(x, self._selections, self._made).reshape(shape), *inputs[1:])
            else:
                self._before.append((weighing.name, weight))
                dict.__setitem__(table, weighing.name, weighing.apply(weight, self._selections, self._made))
        return (sum(self._offsets, inputs[0]), *inputs[1:]) if self._offsets and inputs else inputs

    def _weight_behind(self, each: Behind, module: nn.Module, weight: torch.Tensor) -> torch.Tensor:
        """Returns a weight that reads a sum of depths, or, behind anything else, one that is masked."""
        if each in self._aligned:
            return each.lend()
        if each.is_larger or any(mode_of(self._selections[i]) != MASK for i in each.decisions):
            raise _several_depths(f"module {type(module).__name__}", f"{each.cases[-1].rows.shape[1]} input channels",
                                  "a layer that reads what an nn.Sequential of this depth returns, and nothing beside "
                                  "it")  # fmt: skip
        shape = [size if i == each.axis else 1 for i, size in enumerate(weight.shape)]
        return weight * each.mask(weight, self._selections).reshape(shape)

    def _is_smaller(self, module: nn.Module, inputs: Any, weighing: Weighing, weight: torch.Tensor) -> bool:
        return (
            isinstance(module, (nn.Linear, nn.modules.conv._ConvNd))
            and weighing.is_read
            and weighing.is_mask(self._selections)
            and bool(inputs)
            and isinstance(inputs[0], torch.Tensor)
            and inputs[0].numel() < weight.numel()
        )

    def put_back(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """Puts the weights of the largest size back, in case of an error too."""
        table: dict[str, Any] = module._parameters
        while self._before:
            name, weight = self._before.pop()
            dict.__setitem__(table, name, weight)


class _Depths:
    """Mixes what comes out after several numbers of layers (Dong and Yang 2019, arXiv 1905.09717, Sec. 3.2)."""

    def __init__(self, plan: Plan, selections: Mapping[int, Selection], behind: Sequence[Behind],
                 aligned: set[Behind]) -> None:  # fmt: skip
        self._plan, self._selections, self._behind, self._aligned = plan, selections, behind, aligned
        self._outputs: dict[int, Any] = {}

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise copy_error()

    def install(self, module: nn.Module) -> list[Any]:
        """Puts the hooks on a sequence of layers, and returns their handles."""
        layers = list(module._modules.values())
        handles = [module.register_forward_pre_hook(self._begin), module.register_forward_hook(self._mix)]
        for length in sorted(set(self._plan.lengths) - {0}):
            layer = layers[length - 1]
            assert layer is not None  # A sequence that ran has no gaps.
            handles.append(layer.register_forward_hook(self._noting(length)))
        return handles

    def _begin(self, module: nn.Module, inputs: Any) -> None:
        self._outputs = {0: inputs[0]}

    def _noting(self, length: int) -> Any:
        def note(module: nn.Module, inputs: Any, output: Any) -> None:
            self._outputs[length] = output

        return note

    def _mix(self, module: nn.Module, inputs: Any, output: Any) -> torch.Tensor:
        parts = [self._outputs[length] for length in self._plan.lengths]
        self._outputs = {}
        if self._behind and all(isinstance(part, torch.Tensor) for part in parts):
            parts = self._aligned_parts(list(module._modules.values()), parts)
        last = parts[-1]
        if not all(isinstance(part, torch.Tensor) and part.shape == last.shape for part in parts):
            got = [tuple(part.shape) if isinstance(part, torch.Tensor) else type(part).__name__ for part in parts]
            raise _several_depths(f"module {type(module).__name__}", got,
                                  "one tensor of one shape after each of the depths")  # fmt: skip
        factors = joint([self._selections[i] for i in self._plan.depths], last)
        offsets = [offset for i in self._plan.depths if (offset := offset_of(self._selections[i])) is not None]
        weighed: Sequence[Any] = [f * part for f, part in zip(factors, parts, strict=True)]
        total: torch.Tensor = sum([*weighed[1:], *offsets], weighed[0])
        return total

    def _aligned_parts(self, layers: Sequence[Any], parts: list[torch.Tensor]) -> list[torch.Tensor]:
        """Brings outputs to one width, if it is they that layers behind the sequence read."""
        axes = [channels_axis(layers[max(n - 1, 0)], y) for n, y in zip(self._plan.lengths, parts, strict=True)]
        channels = [y.shape[axis] for y, axis in zip(parts, axes, strict=True)]
        blocks = {each: block for each in self._behind if (block := each.block(channels))}
        self._aligned.update(blocks)
        if not blocks:
            return parts
        each, block = min(blocks.items(), key=lambda pair: pair[1])
        pairs = zip(parts, axes, strict=True)
        return [each.aligned(number, y, axis, block, self._selections) for number, (y, axis) in enumerate(pairs)]


class _Kinds:
    """Adds what layers of other kinds make of the same input."""

    def __init__(self, branch: Branch, selections: Mapping[int, Selection], is_proof: bool) -> None:
        self._branch, self._is_proof = branch, is_proof
        self._selections = [selections[i] for i in branch.decisions]
        for arm in branch.arms:
            arm.stand()

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise copy_error()

    def __call__(self, module: nn.Module, inputs: Any, named: Any, output: Any) -> torch.Tensor:
        outputs = [output]
        for arm in self._branch.arms:
            for layer in arm.module.modules():
                layer.training = isinstance(layer, _Norm) if self._is_proof else module.training
            outputs.append(_like(arm.module(*inputs, **named), output))
        chances = joint(self._selections, output)
        weights = [chances[places.to(chances.device)].sum() for places in self._branch.places]
        offsets = [o for selection in self._selections if (o := offset_of(selection)) is not None]
        return weighted_sum(outputs, weights, sum(offsets[1:], offsets[0]) if offsets else None)


def _like(y: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    """Returns the leading channels of what an arm makes, and zeros behind them, as many as another arm has."""
    for axis, (size, full) in enumerate(zip(y.shape, output.shape)):
        if size > full:
            y = y.narrow(axis, 0, full)
        elif size < full:
            empty = y.new_zeros([full - size if i == axis else n for i, n in enumerate(y.shape)])
            y = torch.cat([y, empty], axis)
    return y


def _several_depths(at: str, got: Any, expected: str) -> LoweringError:
    return LoweringError("cannot mix several depths", at=at, got=got, expected=expected,
                         fix="let only layers that keep the shape depend on the depth")  # fmt: skip


__all__ = ["mixing"]
