"""Hooks that mix, for as long as they are there."""

from __future__ import annotations

import copy

import pytest
import torch
import toy_sizes as toy
from torch import nn

from mutandis.errors import LoweringError
from mutandis.flows.supernet import Mixture, Subset
from mutandis.flows.supernet.mixing.hooks import mixing
from mutandis.flows.supernet.mixing.plans import Plan
from mutandis.flows.supernet.mixing.weighing import Weighing


def masked(layer):
    rows = torch.tensor([[True, False, False], [True, True, True]])
    return [(layer, Plan(weighings=[Weighing("weight", (1,), (7,), rows, is_read=True)]))]


def test_a_layer_reads_masked_channels_while_the_hooks_are_there():
    layer, x = nn.Linear(3, 2).double(), torch.randn(4, 3, dtype=torch.float64)
    weight = layer.weight
    with mixing(masked(layer), {7: Mixture(toy.leaf(0.25, 0.75))}):
        found = layer(input=x)
        assert layer.weight is weight
    assert torch.allclose(found, layer(x * torch.tensor([1.0, 0.75, 0.75])))
    assert not layer._forward_hooks and not layer._forward_pre_hooks


def test_the_hooks_go_with_an_error():
    layer = nn.Linear(3, 2).double()
    with pytest.raises(KeyError), mixing(masked(layer), {7: Mixture(toy.leaf(0.25, 0.75))}):
        raise KeyError
    assert not layer._forward_hooks and not layer._forward_pre_hooks


def test_offsets_of_a_width_are_added_to_what_is_read():
    layer, x = nn.Linear(3, 2).double(), torch.randn(4, 3, dtype=torch.float64)
    offset = torch.zeros((), dtype=torch.float64, requires_grad=True)
    with mixing(masked(layer), {7: Subset((0, 1), toy.leaf(0.0, 1.0), offset)}):
        found = layer(x)
    found.sum().backward()
    assert torch.allclose(found, layer(x))
    assert float(offset.grad) == pytest.approx(4 * float(layer.weight.detach().sum()))


def test_depths_from_none_on_are_mixed_with_their_offset():
    layers = nn.Sequential(nn.Linear(2, 2), nn.Tanh()).double()
    x, offset = torch.randn(3, 2, dtype=torch.float64), torch.zeros((), dtype=torch.float64, requires_grad=True)
    plan, weights = Plan(depths=(0,), lengths=(0, 2, 1)), toy.leaf(0.5, 0.3, 0.2)
    with mixing([(layers, plan)], {0: Subset((0, 2, 1), weights, offset)}):
        found = layers(x)
    expected = 0.5 * x + 0.3 * layers(x) + 0.2 * layers[0](x)
    assert torch.allclose(found, expected)
    found.sum().backward()
    assert float(offset.grad) == 6.0
    assert weights.grad.tolist() == pytest.approx([float(t.detach().sum()) for t in (x, layers(x), layers[0](x))])


def test_depths_of_different_shapes_are_refused():
    layers = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))
    plan = Plan(depths=(0,), lengths=(1, 2))
    with pytest.raises(LoweringError) as caught, mixing([(layers, plan)], {0: Mixture(torch.ones(2))}):
        layers(torch.ones(1, 2))
    assert str(caught.value) == (
        "cannot mix several depths\n"
        "  at:       module Sequential\n"
        "  got:      [(1, 3), (1, 4)] (list)\n"
        "  expected: one tensor of one shape after each of the depths\n"
        "  fix:      let only layers that keep the shape depend on the depth"
    )


@pytest.mark.parametrize("plan", [Plan(depths=(7,), lengths=(0, 1)), None])
def test_what_mixes_is_not_copied(plan):
    layer = nn.Sequential(nn.Linear(3, 3)).double()
    plans = masked(layer[0]) if plan is None else [(layer, plan)]
    with mixing(plans, {7: Mixture(toy.leaf(0.25, 0.75))}), pytest.raises(LoweringError, match="cannot copy the live"):
        copy.deepcopy(layer)
