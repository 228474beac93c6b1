"""How selections are measured on shared weights: loss, reward, and the worth of a DNA at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mutandis.algorithms.oneshot.selections import Selections
from mutandis.errors import SettingError
from mutandis.flows.oneshot.running import forked, layers_of, moved, running
from mutandis.flows.supernet import Shared
from mutandis.hyper import DNA

Loss = Callable[[Any, Any], Tensor]
"""The loss of a live program on a batch."""
Metric = Callable[[Any, Any], float]
"""What a live program is worth on a batch; larger is better."""
_LABELS = (torch.int64, torch.uint8)  # Those that cross-entropy takes for classes.
NORMS = ("any", "batch_no_affine", "batch_affine", "recalibrate")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")


class Measures:
    """Runs a shared program on batches.

    Args:
        shared: The shared program.
        loss: The loss; None is cross-entropy of `child(x)` on batches `(x, y)`.
        metric: The reward; None is accuracy where the loss is the default, and minus the loss elsewhere.
        norm: How norms of evaluated children work: `recalibrate` measures running statistics anew for each DNA,
            all others use the statistics of the batch.
        precision: In which type passes run where that is safe: `float32`, `bfloat16`, `float16`, or `auto`, which is
            bfloat16 on CUDA and float32 elsewhere.
    """

    def __init__(self, shared: Shared, loss: Loss | None, metric: Metric | None, norm: str,
                 precision: str) -> None:  # fmt: skip
        self._shared = shared
        self._given = loss
        self._loss = self._cross_entropy if loss is None else loss
        self._metric = metric or (self._accuracy if loss is None else self._minus_loss)
        self._norm = norm
        self._precision = precision

    @property
    def device(self) -> torch.device:
        """Where the shared weights are."""
        return next(self._shared.module.parameters()).device

    @property
    def precision(self) -> torch.dtype:
        """In which type passes run where that is safe."""
        auto = "bfloat16" if self.device.type == "cuda" else "float32"
        found: torch.dtype = getattr(torch, auto if self._precision == "auto" else self._precision)
        return found

    @contextmanager
    def _cast(self) -> Iterator[None]:
        if self.precision == torch.float32:
            yield
            return
        with torch.autocast(self.device.type, self.precision):
            yield

    def loss_of(self, child: Any, batch: Any) -> Tensor:
        """Returns the loss of a live program on a batch on its device, with its graph.

        Raises:
            SettingError: it is no scalar tensor.
        """
        with self._cast():
            loss = self._loss(child, batch)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            got = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else loss
            raise SettingError("cannot train on a loss", at="loss", got=got, expected="a tensor of one number",
                               fix="return the mean over the batch")  # fmt: skip
        return loss.reshape(())

    def reward(self, selections: Selections, batch: Any) -> float:
        """Returns what selections are worth on a batch; norms use its statistics."""
        with running(self._shared, selections) as child:
            return self._worth(child, batch, uses_batch=True)

    def worth(self, dna: DNA, batches: Sequence[Any], train: Iterable[Any], num_calibration: int) -> float:
        """Returns the mean worth of a DNA over batches.

        Args:
            dna: The DNA.
            batches: The batches.
            train: Batches for the running statistics, where norms need them.
            num_calibration: How many of these are used at most.
        """
        is_anew = self._norm == "recalibrate"
        if is_anew:
            self.calibrate(dna, train, num_calibration)
        child = self._shared.materialize(dna)
        values = [self._worth(child, batch, uses_batch=not is_anew) for batch in batches]
        return sum(values) / len(values)

    def calibrate(self, dna: DNA, train: Iterable[Any], count: int) -> None:
        """Measures the running statistics of a DNA anew."""
        child = self._shared.materialize(dna)
        run: Callable[[Any, Any], Any] | None = None
        if self._given is not None:
            run = lambda module, batch: self.loss_of(child, batch)  # noqa: E731
        batches = (moved(batch, self.device) for batch in islice(train, count))
        with forked(self.device):
            self._shared.calibrate(dna, batches, most=count, run=run)

    def _worth(self, child: Any, batch: Any, *, uses_batch: bool) -> float:
        with evaluating(child, uses_batch), torch.no_grad(), self._cast():
            return float(self._metric(child, batch))

    def _cross_entropy(self, child: Any, batch: Any) -> Tensor:
        x, y = _pair(batch)
        logits = self._shared.module(x)
        if isinstance(y, Tensor) and y.dtype not in _LABELS and y.shape != logits.shape:
            raise SettingError("cannot compare outputs with labels", at="batch[1]",
                               got=f"{str(y.dtype).removeprefix('torch.')} of shape {tuple(y.shape)}",
                               expected=f"classes as int64, or probabilities of shape {tuple(logits.shape)}",
                               fix="pass y.long() for classes, or loss= for another task")  # fmt: skip
        return F.cross_entropy(logits, y)

    def _accuracy(self, child: Any, batch: Any) -> float:
        x, y = _pair(batch)
        return float((self._shared.module(x).argmax(1) == y).float().mean())

    def _minus_loss(self, child: Any, batch: Any) -> float:
        return -float(self.loss_of(child, batch))


def _pair(batch: Any) -> tuple[Any, Any]:
    if not isinstance(batch, (list, tuple)) or len(batch) != 2:
        given = f"a {type(batch).__name__}" + (f" of {len(batch)}" if isinstance(batch, (list, tuple, dict)) else "")
        raise SettingError("cannot tell inputs from labels", at="batch", got=given, expected="a pair (x, y)",
                           fix="pass loss=lambda child, batch: ..., and metric= likewise")  # fmt: skip
    return batch[0], batch[1]


@contextmanager
def evaluating(child: Any, uses_batch: bool) -> Iterator[None]:
    """Puts the modules of a live program in evaluation, norms over batches aside where they use their statistics."""
    modes = [(layer, layer.training) for layer in layers_of(child)]
    for layer, _ in modes:
        layer.training = uses_batch and isinstance(layer, nn.modules.batchnorm._NormBase)
    try:
        yield
    finally:
        for layer, mode in modes:
            layer.training = mode


__all__ = ["NORMS", "PRECISIONS", "Loss", "Measures", "Metric", "evaluating"]
