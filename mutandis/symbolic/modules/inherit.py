"""`mu.inherit`: weights of one module for another, by path and overlapping shape.

The overlap rule is that of weight inheritance in evolutionary search (Real et al. 2017; Net2Net, Chen et al.
2016, without its widening permutation): of two tensors of one name the leading slice that both have is copied.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from mutandis.errors import SettingError
from mutandis.symbolic.abstract import is_abstract_type
from mutandis.symbolic.transactions.report import Reinitialised


@dataclass(frozen=True)
class InheritReport:
    """What `inherit` did.

    Attributes:
        copied: Names of tensors that were taken over whole.
        partial: Tensors of which the overlapping slice was taken over, with both shapes.
        missing: Names of tensors of the new module that the old one does not have, or of another rank.
        unused: Names of tensors of the old module that the new one does not have.
    """

    copied: tuple[str, ...]
    partial: tuple[Reinitialised, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"inherit: {len(self.copied)} copied, {len(self.partial)} in part, {len(self.missing)} missing"]
        lines += [f"  in part: {item}" for item in self.partial]
        lines += [f"  missing: {name}" for name in self.missing]
        lines += [f"  unused:  {name}" for name in self.unused]
        return "\n".join(lines)


def inherit(new: Any, old: Any) -> InheritReport:
    """Copies weights and buffers of `old` into `new` where their names agree and their shapes overlap.

    Args:
        new: The module that is written to.
        old: The module that gives; it is never changed.

    Returns:
        What was copied whole, in part, and not at all.

    Raises:
        SettingError: one of them is no built module.
    """
    for role, module in (("new", new), ("old", old)):
        if is_abstract_type(type(module)) or not isinstance(module, nn.Module):
            raise SettingError(
                "cannot inherit weights",
                at=role,
                got=module,
                expected="a torch.nn.Module that has been built",
                fix="decide its arguments first; give the module itself, not its trainer",
            )
    targets, sources = _tensors(new), _tensors(old)
    copied: list[str] = []
    partial: list[Reinitialised] = []
    missing: list[str] = []
    with torch.no_grad():
        for name, target in targets.items():
            source = sources.get(name)
            if source is None or source.dim() != target.dim() or _is_lazy(source) or _is_lazy(target):
                missing.append(name)
                continue
            if source is not target:
                overlap = tuple(slice(0, min(a, b)) for a, b in zip(target.shape, source.shape, strict=True))
                target[overlap].copy_(source[overlap])
            if source.shape == target.shape:
                copied.append(name)
            else:
                partial.append(Reinitialised(name, tuple(source.shape), tuple(target.shape)))
    unused = tuple(name for name in sources if name not in targets)
    return InheritReport(tuple(copied), tuple(partial), tuple(missing), unused)


def _tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _is_lazy(tensor: torch.Tensor) -> bool:
    return isinstance(tensor, (nn.UninitializedParameter, nn.UninitializedBuffer))
