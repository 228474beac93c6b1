"""The processes that train one set of shared weights together, each on its own share of the data.

Every process draws the same selections, since their search has the same seed and hears the same outcomes: losses,
rewards and gradients are means over the processes. Where torch.distributed was not started the team is this process
alone, and nothing is sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from mutandis.errors import LoweringError, SettingError


class Team:
    """The processes of the default group of torch.distributed.

    Args:
        device: Where tensors are exchanged: the device of the weights.

    Attributes:
        size: How many there are.
        rank: Which of them this one is, from 0.
    """

    def __init__(self, device: torch.device) -> None:
        is_started = dist.is_available() and dist.is_initialized()
        self.size = dist.get_world_size() if is_started else 1
        self.rank = dist.get_rank() if is_started else 0
        self._device = device

    @property
    def is_alone(self) -> bool:
        """Whether there is no other process."""
        return self.size == 1

    @property
    def is_leader(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def need_same(self, facts: Mapping[str, Any]) -> None:
        """Refuses to begin where a fact differs between processes; on all of them, so that none waits for ever.

        Raises:
            SettingError: it does.
        """
        everyone = self.gather(dict(facts))
        for rank, other in enumerate(everyone):
            for name, first in everyone[0].items():
                if other[name] != first:
                    raise SettingError(
                        "cannot train together", at=f"rank {rank}, {name}", got=other[name],
                        expected=f"{first!r}, as on rank 0",
                        fix="run the same program on every rank, each with as many batches as the others",
                    )  # fmt: skip

    def gather(self, value: Any) -> list[Any]:
        """Returns the values of all processes, in the order of their ranks."""
        if self.is_alone:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value)
        return found

    def sent(self, value: Any) -> Any:
        """Returns the value of rank 0."""
        if self.is_alone:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def copy_first(self, tensors: Iterable[Tensor]) -> None:
        """Gives tensors the values that they have on rank 0."""
        for tensor in () if self.is_alone else tensors:
            dist.broadcast(tensor.detach(), src=0)

    def mean(self, value: float) -> float:
        """Returns the mean over the processes; where it is not finite on one, it is not on any."""
        if self.is_alone:
            return value
        box = torch.tensor(value, dtype=torch.float64).to(self._device)
        dist.all_reduce(box)
        return float(box) / self.size

    def average(self, tensors: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Returns the means over the processes of tensors that may be missing, on all or on none of them.

        Raises:
            LoweringError: one is missing on some of the processes.
        """
        if self.is_alone:
            return list(tensors)
        there = torch.tensor([tensor is not None for tensor in tensors], dtype=torch.int32, device=self._device)
        total = there.clone()
        dist.all_reduce(total)
        if bool((total != there * self.size).any()):
            odd = int((total != there * self.size).nonzero()[0])
            raise LoweringError(
                "cannot average gradients",
                at=f"tensor {odd}",
                got=f"a gradient on {int(total[odd])} of {self.size} processes",
                expected="the same weights in use on every process",
                fix="let forward take the same path on every process, whatever the data are",
            )
        found: list[Tensor | None] = list(tensors)
        kinds: dict[torch.dtype, list[int]] = {}
        for place, tensor in enumerate(tensors):
            if tensor is not None:
                kinds.setdefault(tensor.dtype, []).append(place)
        for places in kinds.values():
            self._average_alike(found, places)
        return found

    def _average_alike(self, found: list[Tensor | None], places: Sequence[int]) -> None:
        """Replaces tensors of one type by their means, sent as one."""
        own = [tensor for tensor in (found[place] for place in places) if tensor is not None]
        flat = torch.cat([tensor.detach().reshape(-1) for tensor in own]).to(self._device)
        dist.all_reduce(flat)
        flat /= self.size
        parts = torch.split(flat, [tensor.numel() for tensor in own])
        for place, tensor, part in zip(places, own, parts, strict=True):
            found[place] = part.reshape(tensor.shape).to(tensor.device)

    def average_gradients(self, weights: Sequence[Tensor]) -> None:
        """Replaces the gradients of weights by their means over the processes."""
        if self.is_alone:
            return
        for weight, mean in zip(weights, self.average([weight.grad for weight in weights]), strict=True):
            if weight.grad is not None and mean is not None:
                weight.grad.copy_(mean)


def begin_epoch(batches: Iterable[Any], epoch: int) -> None:
    """Tells the sampler of a loader which epoch begins: a `DistributedSampler` shuffles by it."""
    for sampler in (getattr(batches, "sampler", None), getattr(batches, "batch_sampler", None)):
        tell = getattr(sampler, "set_epoch", None)
        if tell is not None:
            tell(epoch)


__all__ = ["Team", "begin_epoch"]
