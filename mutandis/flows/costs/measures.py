"""What a child costs, measured on the child itself: operations, parameters, memory, time.

Operations are those of `torch.utils.flop_counter`: a multiplication and an addition count as two, so that they are
twice the multiply-accumulates (MACs) that papers often call FLOPs; only matrix products, convolutions and attention
count.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mutandis.errors import SettingError, closest
from mutandis.symbolic.traverse import walk

Forward = Callable[[Any, Any], Any]
"""Runs a child on a batch."""


def call(child: Any, batch: Any) -> Any:
    """Returns what a child makes of a batch: `child(batch)`, or `child(*batch)` for a tuple."""
    child = module_of(child)
    return child(*batch) if isinstance(batch, tuple) else child(batch)


def module_of(child: Any) -> Any:
    """Returns the module that a call stands for, such as `mu.bind(resnet18)`; all else as it is."""
    preview = getattr(child, "_mu_preview_", None)
    module = None if preview is None else preview()
    return child if module is None else module


def modules_of(child: Any) -> list[nn.Module]:
    """Returns the outermost modules of a child: itself, or those in its tree."""
    child = module_of(child)
    if isinstance(child, nn.Module):
        return [child]
    found = {id(value): value for _, value, _ in walk(child, layers=False) if isinstance(value, nn.Module)}
    inside = {id(module) for value in found.values() for module in value.modules() if module is not value}
    return [module for key, module in found.items() if key not in inside]


def parameters_of(child: Any) -> list[Tensor]:
    """Returns the parameters of a child, each once."""
    found = {id(p): p for module in modules_of(child) for p in module.parameters()}
    return list(found.values())


def params(child: Any, batch: Any = None, forward: Forward = call) -> float:
    """Returns the number of parameters; the batch is not used."""
    return float(sum(p.numel() for p in parameters_of(child)))


def flops(child: Any, batch: Any, forward: Forward = call) -> float:
    """Returns the operations of a pass over a batch, in evaluation; see the head of this module."""
    with evaluating(child), torch.no_grad(), _unfused(), FlopCounterMode(display=False) as counter:
        forward(child, batch)
    return float(counter.get_total_flops())


@contextmanager
def _unfused() -> Iterator[None]:
    """Runs attention and recurrent layers as the products they consist of: fused, a counter sees nothing of them."""
    fast, mkldnn = torch.backends.mha.get_fastpath_enabled(), torch._C._get_mkldnn_enabled()  # type: ignore[no-untyped-call, attr-defined]
    try:
        torch.backends.mha.set_fastpath_enabled(False)  # type: ignore[no-untyped-call]
        torch._C._set_mkldnn_enabled(False)  # type: ignore[attr-defined]
        with torch.backends.cudnn.flags(enabled=False), sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)  # type: ignore[no-untyped-call]
        torch._C._set_mkldnn_enabled(mkldnn)  # type: ignore[attr-defined]


def memory_bytes(child: Any, batch: Any, forward: Forward = call) -> float:
    """Returns the bytes of weights and of what a training pass saves for its backward pass.

    Gradients and the state of the optimizer come on top. A tensor that is saved several times counts once.
    """
    weights = {_storage(p): p for p in parameters_of(child)}
    # A shared buffer is larger than the part that a child has of it.
    buffers = {_storage(b): b.numel() * b.element_size() for module in modules_of(child) for b in module.buffers()}
    saved: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        if _storage(tensor) not in weights:
            saved[_storage(tensor)] = tensor
        return tensor

    with quiet(child), torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = forward(child, batch)  # Kept until the end: what it saves must not share an address with later ones.
    total = sum(p.numel() * p.element_size() for p in weights.values())
    total += sum(buffers.get(key, tensor.untyped_storage().nbytes()) for key, tensor in saved.items())
    del result
    return float(total)


def latency_ms(child: Any, batch: Any, forward: Forward = call, *, warmup: int = 3, repeats: int = 15) -> float:
    """Returns the median time of a pass over a batch in evaluation, in milliseconds, on the device of the child.

    Args:
        child: The child.
        batch: The batch, on the same device.
        forward: Runs the child on the batch.
        warmup: How many passes come first, unmeasured.
        repeats: How many are measured.
    """
    is_cuda = any(p.is_cuda for p in parameters_of(child))
    times = []
    with evaluating(child), torch.no_grad():
        for number in range(warmup + repeats):
            start = time.perf_counter()
            forward(child, batch)
            if is_cuda:
                torch.cuda.synchronize()
            if number >= warmup:
                times.append(1000.0 * (time.perf_counter() - start))
    return statistics.median(times)


MEASURES: dict[str, Callable[..., float]] = {
    "flops": flops, "latency_ms": latency_ms, "memory_bytes": memory_bytes, "params": params,
}  # fmt: skip
"""The measures by name."""


def measure(child: Any, what: str, batch: Any = None, *, forward: Forward = call) -> float:
    """Measures what a child costs.

        mu.flows.measure(net, "flops", torch.zeros(1, 3, 32, 32))

    Args:
        child: A program that is, or holds, modules. Its mode and buffers are as before afterwards.
        what: `flops` (two per multiply-accumulate), `params`, `memory_bytes` (weights and what a training pass
            saves), or `latency_ms` (median of 15 warm passes, on the device of the child).
        batch: What the child is called with, a tuple for several arguments; not needed for `params`.
        forward: Runs the child on the batch, where it is not called.

    Raises:
        SettingError: there is no such measure, or no batch.
    """
    return need_measure(what, batch)(child, batch, forward)


def need_measure(what: str, batch: Any) -> Callable[..., float]:
    """Returns a measure by name.

    Raises:
        SettingError: there is no such measure, or no batch.
    """
    if what not in MEASURES:
        raise SettingError("cannot measure a cost", at="what", got=what,
                           expected=f"one of {', '.join(MEASURES)}{closest(what, MEASURES)}",
                           fix="use one of these names, or a function of the child")  # fmt: skip
    if batch is None and what != "params":
        raise SettingError("cannot measure a cost", at="batch", got=None, expected=f"a batch, for {what}",
                           fix="pass what the child is called with, such as torch.zeros(1, 3, 32, 32)")  # fmt: skip
    return MEASURES[what]


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr() if tensor.device.type != "meta" else id(tensor.untyped_storage())


@contextmanager
def evaluating(child: Any) -> Iterator[None]:
    """Puts the modules of a child in evaluation, and each back in its own mode."""
    modes = [(m, m.training) for module in modules_of(child) for m in module.modules()]
    for module in modules_of(child):
        module.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def quiet(child: Any) -> Iterator[None]:
    """Puts the modules of a child in training, and modes, buffers and random numbers back as they were."""
    modes = [(m, m.training) for module in modules_of(child) for m in module.modules()]
    before = [(b, b.detach().clone()) for module in modules_of(child) for b in module.buffers()]
    with torch.random.fork_rng():
        for module in modules_of(child):
            module.train()
        try:
            yield
        finally:
            for module, mode in modes:
                module.training = mode
            with torch.no_grad():
                for buffer, value in before:
                    buffer.copy_(value)


__all__ = ["MEASURES", "Forward", "call", "evaluating", "flops", "latency_ms", "measure", "memory_bytes", "modules_of",
           "need_measure", "parameters_of", "params", "quiet"]  # fmt: skip
