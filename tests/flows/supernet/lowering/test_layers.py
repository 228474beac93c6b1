"""Axes of layers' tensors, and the layers that labels know."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mutandis.flows.supernet.lowering.layers import Full, channel_axis, input_axis, is_depthwise, is_layer


class Gain(nn.Module):
    """Whose weight has one axis, as that of a norm somebody wrote."""


class ChannelsFirst(nn.LayerNorm):
    def forward(self, x):
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


def test_sizes_are_read_from_the_shapes_of_shared_tensors():
    full = Full()
    full.note("a", nn.Linear(2, 3), "weight", (7, 5))
    full.note("b", nn.Conv2d(4, 6, 1, groups=2), "weight", (12, 2, 1, 1))
    full.note("c", nn.ConvTranspose1d(4, 6, 1), "weight", (8, 12, 1))
    full.note("d", nn.BatchNorm1d(4), "running_mean", (9,))
    full.note("f", nn.LSTMCell(4, 3), "weight_ih", (12, 6))
    full.note("g", Gain(), "weight", (9,))
    full.note("e", nn.Conv2d(4, 4, 1, groups=4), "weight", (8, 1, 1, 1))
    assert full.inputs == {"a": 5, "b": 8, "c": 8, "d": 9, "e": 8, "f": 6}
    assert full.outputs == {"a": 7, "b": 12, "c": 12, "e": 8}
    assert is_depthwise(nn.Conv2d(4, 4, 1, groups=4)) and not is_depthwise(nn.Conv2d(4, 8, 1, groups=4))
    assert [input_axis(m) for m in (nn.Linear(1, 1), nn.LayerNorm(2), nn.ConvTranspose2d(1, 1, 1))] == [1, 0, 0]


@pytest.mark.parametrize(
    ("module", "is_known"),
    [(nn.LayerNorm(2), True), (ChannelsFirst(2), False), (nn.GRUCell(2, 2), True), (nn.Bilinear(2, 2, 2), False)],
)
def test_a_layer_with_a_forward_of_its_own_says_itself_where_channels_are(module, is_known):
    assert is_layer(module) is is_known


def test_channels_stand_before_space_in_convolutions_and_last_in_products():
    x = torch.zeros(2, 3, 4, 5)
    assert [channel_axis(m, x) for m in (nn.Conv2d(3, 3, 1), nn.Linear(5, 5), nn.BatchNorm2d(3))] == [1, 3, 1]
