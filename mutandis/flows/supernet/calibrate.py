"""Batch-norm statistics of one child: those of a shared net are a mixture of all its children, and of no use.

See Yu and Huang 2019 (arXiv 1903.05134, Sec. 3.2, "post-statistics") and Cai et al. 2020 (arXiv 1908.09791).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

import torch
from torch import nn

from mutandis.errors import SettingError
from mutandis.flows.supernet.cuts import Cut, region
from mutandis.flows.supernet.lowering.children import Child
from mutandis.flows.supernet.store import Store
from mutandis.flows.supernet.tensors.loans import Loan

_Norm = nn.modules.batchnorm._NormBase
NORMS = (_Norm, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
"""Layers with scales and shifts."""


def calibrate(
    roots: Sequence[nn.Module], program: Any, loans: Sequence[tuple[Loan, Cut]], store: Store, batches: Iterable[Any],
    most: int | None, run: Callable[[Any, Any], Any] | None,
) -> int:  # fmt: skip
    """Replaces the running statistics of a child by the averages over some batches.

    Args:
        roots: The child's modules, switched.
        program: The child.
        loans: What it shares.
        store: The shared tensors.
        batches: Inputs, or sequences that begin with the input.
        most: How many batches are used at most.
        run: Runs the only module, or the program of several, on a batch; by default `module(x)`.

    Returns:
        How many batches were used.

    Raises:
        SettingError: there is no batch, or a tensor in place of batches.
    """
    given = _need_batches(batches, most)
    everything = [m for root in roots for m in root.modules()]
    norms = [m for m in everything if isinstance(m, _Norm) and m.running_mean is not None]
    modes = [(m, m.training) for m in everything]
    subject: Any = roots[0] if len(roots) == 1 else program
    momenta = [m.momentum for m in norms]
    _reset(loans, store)
    for root in roots:
        root.eval()
    for norm in norms:
        norm.train()
        norm.momentum = None  # A cumulative average: all batches count the same.
    count = 0
    try:
        with torch.no_grad():
            for batch in given:
                if run is not None:
                    run(subject, batch)
                else:
                    subject(batch[0] if isinstance(batch, (list, tuple)) else batch)
                count += 1
    finally:
        for norm, momentum in zip(norms, momenta):
            norm.momentum = momentum
        for m, mode in modes:
            m.training = mode
    return count


def _need_batches(batches: Iterable[Any], most: int | None) -> Iterator[Any]:
    """Returns the batches, of which there is one; without it statistics would be lost, and no others come."""
    if isinstance(batches, torch.Tensor):
        raise SettingError("cannot calibrate norms", at="batches", got=f"a tensor of shape {tuple(batches.shape)}",
                           expected="batches", fix="pass [x] for a single batch")  # fmt: skip
    given = islice(batches, most)
    first = list(islice(given, 1))
    if not first:
        raise SettingError("cannot calibrate norms", at="batches", got=batches, expected="at least one batch",
                           fix="pass a loader or a list of inputs, not an iterator that is used up")  # fmt: skip
    return chain(first, given)


def _reset(loans: Sequence[tuple[Loan, Cut]], store: Store) -> None:
    for loan, cut in loans:
        if loan.name in ("running_mean", "running_var", "num_batches_tracked") and loan.is_buffer:
            shared = store.tensor(loan.key)
            shared[region(cut, shared.shape, shared.device)] = 1 if loan.name == "running_var" else 0


def fix_scales(child: Child, loans: Sequence[tuple[Loan, Cut]], store: Store) -> None:
    """Leaves the scales and shifts of norms that belong to a choice at 1 and 0 from now on.

    Args:
        child: A child that has the norms.
        loans: What it shares.
        store: The shared tensors.
    """
    for loan, _ in loans:
        if loan.key.variant and not loan.is_buffer and isinstance(child.tree[loan.path], NORMS):
            tensor = store.tensor(loan.key).requires_grad_(False)
            tensor.fill_(1.0 if loan.name == "weight" else 0.0)


__all__ = ["NORMS", "calibrate", "fix_scales"]
