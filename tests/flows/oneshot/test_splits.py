"""Two parts of one data set."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DistributedSampler, TensorDataset
from toy_shared import squared, toy_program

import mutandis as mu
from mutandis.errors import SettingError
from mutandis.flows import split
from mutandis.flows.oneshot import splits

DATA = TensorDataset(torch.arange(10))


def values(loader):
    return torch.cat([batch for (batch,) in loader]).tolist()


def test_the_parts_are_halves_without_a_common_example():
    train, valid = split(DATA, batch_size=2)
    first, second = values(train), values(valid)
    assert len(first) == len(second) == 5 and sorted(first + second) == list(range(10))


@pytest.mark.parametrize(("share", "count"), [(0.5, 5), (0.8, 8), (0.1, 1)])
def test_the_share_says_how_large_the_first_part_is(share, count):
    assert len(values(split(DATA, share=share)[0])) == count


def test_batches_have_the_sizes_that_were_asked_for():
    train, valid = split(DATA, batch_size=2, valid_batch_size=5, drop_last=True)
    assert [len(batch) for (batch,) in train] == [2, 2] and [len(batch) for (batch,) in valid] == [5]


def test_the_seed_says_which_and_in_which_order_and_each_epoch_is_another():
    first, second, other = (values(split(DATA, seed=seed)[0]) for seed in (1, 1, 2))
    assert first == second != other
    train, _ = split(DATA, seed=1)
    orders = [values(train) for _ in range(4)]
    assert len({tuple(order) for order in orders}) > 1 and len({frozenset(order) for order in orders}) == 1


def test_global_random_numbers_are_left_alone_and_generators_are_kept():
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    train, valid = split(DATA)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert isinstance(train.generator, torch.Generator)
    assert train.generator.initial_seed() != valid.generator.initial_seed()


def test_processes_get_equal_shares(monkeypatch):
    found = []
    for rank in range(2):

        class Pair(splits.Team):
            def __init__(self, device, rank=rank):
                super().__init__(device)
                self.size, self.rank = 2, rank

        monkeypatch.setattr(splits, "Team", Pair)
        train, valid = split(DATA, batch_size=1, seed=3)
        assert isinstance(train.sampler, DistributedSampler)
        found.append((values(train), values(valid)))
    (first, first_valid), (second, second_valid) = found
    assert len(first) == len(second) == 2 and not set(first) & set(second)
    assert not (set(first) | set(second)) & (set(first_valid) | set(second_valid))


def test_workers_that_load_change_nothing():
    # In one epoch; they look further ahead than a run does, which shows in how the next one is shuffled.
    data = TensorDataset(torch.randn(24, 2, generator=torch.Generator().manual_seed(0)), torch.randn(24))

    def history(workers):
        train, valid = split(data, batch_size=4, seed=1, num_workers=workers)
        shared = mu.share_weights(toy_program())
        return mu.one_shot(shared, mu.algorithms.DARTS(), train=train, valid=valid, epochs=1, loss=squared).history

    assert history(0) == history(2)


@pytest.mark.parametrize(("data", "share"), [(DATA, 0.0), (DATA, 1.0), (DATA, 0.01), (iter([1]), 0.5)])
def test_parts_without_examples_are_refused(data, share):
    with pytest.raises(SettingError, match="cannot split data\n  at:       split"):
        split(data, share=share)
    with pytest.raises(SettingError, match=r"split\.batch_size"):
        split(DATA, batch_size=0)
