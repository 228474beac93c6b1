"""Data for the weights and data for the policy: two parts of one set, as loaders that go on bit for bit."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Subset

from mutandis.algorithms.base import need_int
from mutandis.errors import SettingError
from mutandis.flows.oneshot.teams.team import Team
from mutandis.hyper import Rng


def split(
    data: Dataset[Any], *, batch_size: int = 64, valid_batch_size: int | None = None, share: float = 0.5, seed: int = 0,
    **options: Any,
) -> tuple[DataLoader[Any], DataLoader[Any]]:  # fmt: skip
    """Splits a data set at random into a part that trains the weights and one that teaches the policy.

        train, valid = mu.flows.split(dataset, batch_size=64, num_workers=2)
        mu.one_shot(shared, algorithm, train=train, valid=valid, epochs=50, checkpoint="run.pt")

    By default two halves (Liu et al. 2019, arXiv 1806.09055, Sec. 3.1). Both loaders shuffle every epoch with
    generators of their own, which a checkpoint of `one_shot` keeps. Where torch.distributed was started each process
    gets its share of both parts, equally many batches on all.

    Args:
        data: A data set with a length.
        batch_size: Examples in a batch of the first part, on each process.
        valid_batch_size: Likewise for the second part; by default as many.
        share: How much of the data the first part is, in (0, 1).
        seed: Says which, and how they are shuffled.
        **options: Further arguments of both loaders, such as `num_workers`.

    Returns:
        The loaders of both parts.

    Raises:
        SettingError: a number is out of its range, a part is empty, or the data have no length.
    """
    count = len(data) if hasattr(data, "__len__") else None
    first = 0 if count is None or not 0.0 < share < 1.0 else round(share * count)
    if count is None or not 0 < first < count:
        raise SettingError("cannot split data", at="split", got=f"{count} examples and a share of {share}",
                           expected="data with a length, and a share in (0, 1) that leaves both parts something",
                           fix="pass a data set such as TensorDataset(x, y)")  # fmt: skip
    need_int("split.batch_size", batch_size, 1)
    if valid_batch_size is not None:
        need_int("split.valid_batch_size", valid_batch_size, 1)
    order = list(range(count))
    Rng(seed, "split").shuffle(order)
    sizes = (batch_size, valid_batch_size or batch_size)
    team = Team(torch.device("cpu"))
    made = []
    for part, size, name in zip((order[:first], order[first:]), sizes, ("train", "valid"), strict=True):
        number = Rng(seed, "split", name).getrandbits(62)
        made.append(_loader(Subset(data, part), size, number, team, options))
    return made[0], made[1]


def _loader(part: Subset[Any], size: int, seed: int, team: Team, options: dict[str, Any]) -> DataLoader[Any]:
    if team.is_alone:
        generator = torch.Generator().manual_seed(seed)
        return DataLoader(part, batch_size=size, shuffle=True, generator=generator, **options)
    sampler: Any = DistributedSampler(part, team.size, team.rank, shuffle=True, seed=seed % 2**31, drop_last=True)
    return DataLoader(part, batch_size=size, sampler=sampler, **options)


__all__ = ["split"]
