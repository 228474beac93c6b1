"""What an axis of a weight is, and which places of it a smaller size has."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mutandis.flows.supernet.mixing.axes import FIXED, KERNEL, MADE, READ, grouped, mask_of, places, role_of


@pytest.mark.parametrize(
    ("layer", "name", "roles"),
    [
        (nn.Linear(4, 6), "weight", [MADE, READ]),
        (nn.Linear(4, 6), "bias", [MADE]),
        (nn.Conv2d(4, 6, 3), "weight", [MADE, READ, KERNEL, KERNEL]),
        (nn.ConvTranspose1d(4, 6, 3), "weight", [READ, MADE, KERNEL]),
        (nn.Conv2d(4, 4, 3, groups=4), "weight", [MADE, MADE, KERNEL, KERNEL]),
        (nn.Conv2d(4, 8, 3, groups=2), "weight", [MADE, FIXED, KERNEL, KERNEL]),
        (nn.BatchNorm2d(4), "weight", [MADE]),
        (nn.GroupNorm(2, 4), "weight", [MADE]),
        (nn.LayerNorm(4), "weight", [FIXED]),
        (nn.RMSNorm(4), "weight", [FIXED]),
        (nn.LSTM(4, 6), "weight_ih_l0", [FIXED, READ]),
        (nn.LSTM(4, 6, bidirectional=True), "weight_ih_l0_reverse", [FIXED, READ]),
        (nn.GRU(4, 6, num_layers=2), "weight_ih_l1", [FIXED, FIXED]),
        (nn.GRUCell(4, 6), "weight_ih", [FIXED, READ]),
        (nn.GRUCell(4, 6), "weight_hh", [FIXED, FIXED]),
        (nn.MultiheadAttention(4, 2), "in_proj_weight", [FIXED, FIXED]),
        (nn.Bilinear(4, 2, 3), "weight", [FIXED] * 3),
        (nn.Embedding(5, 4), "weight", [MADE, MADE]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
)
def test_what_the_axes_of_layers_are(layer, name, roles):
    shape = getattr(layer, name).shape
    assert [role_of(layer, name, axis) for axis in range(len(shape))] == roles


def test_places_of_a_cut_are_listed_in_its_order():
    assert places(None, 3).tolist() == [0, 1, 2]
    assert places((1, 2), 5).tolist() == [1, 2]
    assert places(torch.tensor([3, 0]), 5).tolist() == [3, 0]


@pytest.mark.parametrize(
    ("small", "large", "mask"),
    [
        ((0, 2), None, [True, True, False, False, False]),
        ((0, 2), (0, 3), [True, True, False]),
        ((1, 1), (0, 3), [False, True, False]),
        (torch.tensor([0, 1, 4]), None, [True, True, False, False, True]),
        (torch.tensor([0, 4]), torch.tensor([0, 1, 4]), [True, False, True]),
        (None, None, [True] * 5),
    ],
)
def test_the_mask_of_a_smaller_cut(small, large, mask):
    assert mask_of(small, large, 5).tolist() == mask


@pytest.mark.parametrize(
    ("small", "large"), [((0, 4), (0, 3)), ((2, 2), (0, 3)), (torch.tensor([1, 0]), (0, 3)), (None, (0, 3))]
)
def test_places_that_the_larger_cut_has_not_or_in_another_order_have_no_mask(small, large):
    assert mask_of(small, large, 5) is None


def test_axes_that_share_a_decision_belong_together():
    assert grouped({1: {0}, 2: {3}, 3: {3}}) == [((1,), (0,)), ((2, 3), (3,))]
    assert grouped({1: {0, 2}, 2: {1}, 3: {2, 1}}) == [((1, 2, 3), (0, 1, 2))]
