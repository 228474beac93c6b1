"""The hooks that mix sizes while a selection holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from mutandis.errors import LoweringError
from mutandis.flows.supernet.late import copy_error
from mutandis.flows.supernet.lowering.positions import channel_axis
from mutandis.flows.supernet.mixing.plans import Plan
from mutandis.flows.supernet.mixing.weighing import Made, Weighing, joint, offset_of
from mutandis.flows.supernet.selections import Selection


@contextmanager
def mixing(plans: Sequence[tuple[nn.Module, Plan]], selections: Mapping[int, Selection]) -> Iterator[None]:
    """Lets modules mix sizes for a while.

    Args:
        plans: Modules of the live program and what they do.
        selections: By index of the decision.
    """
    handles: list[Any] = []
    made: Made = {}
    try:
        for module, plan in plans:
            if plan.weighings:
                hook = _Weigh(plan.weighings, selections, made)
                handles.append(module.register_forward_pre_hook(hook))
                handles.append(module.register_forward_hook(hook.put_back, always_call=True))
            if plan.depths:
                handles += _Depths(plan, selections).install(module)
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Weigh:
    """Puts weights that mix sizes in the place of those of the largest, for one forward pass.

    Where the input is smaller than the weight, a mask is put on that instead, which is the same.
    """

    def __init__(self, weighings: Sequence[Weighing], selections: Mapping[int, Selection], made: Made) -> None:
        self._weighings, self._selections, self._made = weighings, selections, made
        decisions = {i for weighing in weighings for i in weighing.decisions}
        self._offsets = [o for i in sorted(decisions) if (o := offset_of(selections[i])) is not None]
        self._before: list[tuple[str, Any]] = []

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise copy_error()

    def __call__(self, module: nn.Module, inputs: Any) -> Any:
        table: dict[str, Any] = module._parameters
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

    def __init__(self, plan: Plan, selections: Mapping[int, Selection]) -> None:
        self._plan, self._selections = plan, selections
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
        last = parts[-1]
        if not all(isinstance(part, torch.Tensor) and part.shape == last.shape for part in parts):
            got = [tuple(part.shape) if isinstance(part, torch.Tensor) else type(part).__name__ for part in parts]
            raise LoweringError("cannot mix several depths", at=f"module {type(module).__name__}", got=got,
                                expected="one tensor of one shape after each of the depths",
                                fix="let only layers that keep the shape depend on the depth")  # fmt: skip
        factors = joint([self._selections[i] for i in self._plan.depths], last)
        offsets = [offset for i in self._plan.depths if (offset := offset_of(self._selections[i])) is not None]
        weighed: Sequence[Any] = [f * part for f, part in zip(factors, parts, strict=True)]
        total: torch.Tensor = sum([*weighed[1:], *offsets], weighed[0])
        return total


__all__ = ["mixing"]
