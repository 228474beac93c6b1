"""The small residual network and its space."""

from __future__ import annotations

import pytest
import torch

import mutandis as mu
from mutandis.models import ConvBlock, ConvNet, searchable_convnet


@pytest.mark.parametrize("separable", [False, True])
@pytest.mark.parametrize("kernel_size", [3, 5])
def test_a_block_keeps_the_shape(kernel_size, separable):
    assert ConvBlock(4, kernel_size, separable)(torch.zeros(2, 4, 6, 6)).shape == (2, 4, 6, 6)


def test_a_net_returns_logits():
    net = ConvNet([4, 8], [[ConvBlock(4)], [ConvBlock(8), torch.nn.Identity()]], num_classes=3, in_channels=1)
    assert net(torch.zeros(2, 1, 8, 8)).shape == (2, 3)


def test_a_net_without_a_width_for_each_stage_is_refused():
    with pytest.raises(mu.errors.MutandisError) as error:
        ConvNet([4], [[], []])
    assert str(error.value) == (
        "cannot build a ConvNet\n"
        "  at:       widths\n"
        "  got:      [4] (list)\n"
        "  expected: one width for each of the 2 stages\n"
        "  fix:      give as many widths as stages, at least one"
    )


def test_the_size_of_the_space_is_the_product_over_the_stages():
    space = mu.space(searchable_convnet(num_stages=2, widths=(4, 8), depths=(1, 2), kernel_sizes=(3,)))
    assert space.size == (2 * (3 + 9)) ** 2


@pytest.mark.parametrize("seed", range(8))
def test_every_child_runs_and_encodes_to_its_dna(seed):
    space = mu.space(searchable_convnet(widths=(4, 6), num_classes=5, in_channels=1))
    dna = space.random(seed)
    child = space.materialize(dna)
    assert child(torch.zeros(2, 1, 8, 8)).shape == (2, 5)
    assert space.encode(child) == dna


def test_weights_survive_a_rebind_of_the_dropout():
    space = mu.space(searchable_convnet(in_channels=1))
    child = space.materialize(space.random(0))
    before = {name: (id(p), p.clone()) for name, p in child.named_parameters()}
    child.rebind(dropout=0.5)
    assert child.dropout.p == 0.5
    assert {name: id(p) for name, p in child.named_parameters()} == {name: i for name, (i, _) in before.items()}
    assert all(torch.equal(p, before[name][1]) for name, p in child.named_parameters())
