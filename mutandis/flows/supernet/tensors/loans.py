"""Which shared tensor stands for which of a child's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from mutandis.flows.supernet.lowering.children import Child


@dataclass(frozen=True, slots=True)
class Key:
    """The name of a shared tensor.

    Attributes:
        path: Path of its module.
        name: Name of the parameter or buffer.
        variant: (decision, pick, candidate) triples of the choices it belongs to.
        kind: Class of the module.
        kernel: Size of the kernel, where kernels of several sizes have weights of their own; or that a matrix makes.
    """

    path: str
    name: str
    variant: tuple[tuple[int, int, Any], ...]
    kind: str
    kernel: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Loan:
    """A tensor of a child and what it is of the shared ones.

    Attributes:
        path: Path of the module that uses it.
        name: Name of the parameter or buffer there.
        key: The shared tensor.
        shape: What the child has.
        is_buffer: Whether it is a running statistic.
        requires_grad: Whether it is trained.
        dtype: Its type in the child.
    """

    path: str
    name: str
    key: Key
    shape: tuple[int, ...]
    is_buffer: bool
    requires_grad: bool
    dtype: str


def tensor_of(child: Child, loan: Loan) -> torch.Tensor:
    """Returns a child's own tensor."""
    module = child.tree[loan.path]
    found = (module._buffers if loan.is_buffer else module._parameters)[loan.name]
    assert found is not None
    return found.detach()


__all__ = ["Key", "Loan", "tensor_of"]
