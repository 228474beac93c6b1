"""Which candidates have weights, and which norms are searched."""

from __future__ import annotations

import pytest
import torch
from supernet_zoo import Deep
from toy_shared import cells

import mutandis as mu
from mutandis.flows.oneshot.inventory import Inventory
from mutandis.flows.oneshot.running import storage_of


@pytest.fixture(scope="module")
def shared():
    return cells()


def test_operations_without_weights_are_known(shared):
    free = Inventory(shared).free  # none, skip and pool; the convolutions have weights.
    assert list(free.values()) == [frozenset({0, 1, 4})] * 6


def test_norms_that_only_some_children_have_are_searched(shared):
    norms = Inventory(shared).norms
    names = {name for name, p in shared.module.named_parameters() if storage_of(p) in norms}
    # Three cells of six edges, two convolutions each with a norm of two parameters.
    assert len(names) == 3 * 6 * 2 * 2
    assert all("edges" in name and ".2." in name for name in names)


def test_the_share_counts_the_likeliest_candidates(shared):
    inventory = Inventory(shared)
    sure = {path: [0.1, 0.6, 0.1, 0.1, 0.1] for path in inventory.free}
    assert inventory.free_share(sure) == 1.0
    sure[next(iter(sure))] = [0.0, 0.3, 0.0, 0.7, 0.0]
    assert inventory.free_share(sure) == pytest.approx(5 / 6)
    assert inventory.free_share({}) is None


def test_choices_that_say_nothing_are_left_out():
    width = mu.oneof([2, 4])
    layers = [mu.nn.Linear(2, width), mu.oneof([mu.nn.ReLU(), mu.nn.Tanh()]),
              mu.oneof([mu.nn.Linear(width, 2), mu.nn.Linear(width, 2, bias=False)])]  # fmt: skip
    assert Inventory(mu.share_weights(mu.nn.Sequential(*layers), torch.zeros(1, 2))).free == {}


def test_a_small_depth_is_no_operation_without_weights():
    shared = mu.share_weights(Deep(mu.oneof([1, 2, 3])), torch.zeros(1, 4))
    assert Inventory(shared).free == {}


def test_choices_below_choices_are_seen():
    inner = mu.oneof([mu.nn.Identity(), mu.nn.Linear(2, 2)], name="inner")
    outer = mu.oneof([mu.nn.Linear(2, 2), mu.nn.Sequential(mu.nn.Linear(2, 2), inner)], name="outer")
    shared = mu.share_weights(mu.nn.Sequential(outer), torch.zeros(1, 2))
    assert list(Inventory(shared).free.values()) == [frozenset({0})]
