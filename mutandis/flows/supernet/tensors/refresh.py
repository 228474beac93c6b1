"""Tensors of a layer that must be made anew before each of its forward passes."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from mutandis.flows.supernet.cuts import Cut, region
from mutandis.flows.supernet.late import copy_error
from mutandis.flows.supernet.store import Store
from mutandis.flows.supernet.tensors.loans import Loan


class Refresh:
    """Renews the gathered and the transformed tensors of a layer before each of its forward passes.

    Args:
        store: The shared tensors.
        entries: Those of the layer that are gathered or transformed.
    """

    def __init__(self, store: Store, entries: list[tuple[Loan, Cut]]) -> None:
        self._store = store
        self._entries = entries

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise copy_error()

    def __call__(self, module: nn.Module, inputs: Any) -> None:
        """Puts them into the layer."""
        self._store.renew_gathered(self._entries)
        for loan, cut in self._entries:
            put(module, loan, self._store.lend(loan.key, cut))

    def write_back(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """Puts gathered running statistics, which the pass has changed, where they belong."""
        if not module.training:
            return
        for loan, cut in self._entries:
            buffer = module._buffers.get(loan.name)
            if loan.is_buffer and buffer is not None:
                shared = self._store.tensor(loan.key)
                shared[region(cut, shared.shape, shared.device)] = buffer


def put(module: nn.Module, loan: Loan, tensor: torch.Tensor) -> None:
    """Makes a tensor the parameter or buffer of a module, a view too."""
    table: Any = module._buffers if loan.is_buffer else module._parameters
    dict.__setitem__(table, loan.name, tensor)


__all__ = ["Refresh", "put"]
