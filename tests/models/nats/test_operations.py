"""The layers of NATS-Bench."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mutandis.errors import SettingError
from mutandis.models.nats import OPERATIONS, Operation
from mutandis.models.nats.operations import Pool, Reduction


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("out_channels", [4, 6])
def test_an_operation_keeps_the_image_and_sets_the_width(name, out_channels):
    assert Operation(name)(4, out_channels)(torch.randn(2, 4, 8, 8)).shape == (2, out_channels, 8, 8)


def test_no_connection_is_zero_and_keeps_the_graph():
    x = torch.randn(1, 2, 3, 3, requires_grad=True)
    made = Operation("none")(2)(x)
    made.sum().backward()
    assert not made.any()
    assert torch.equal(x.grad, torch.zeros_like(x))


def test_a_skip_connection_of_equal_width_is_the_identity():
    assert isinstance(Operation("skip_connect")(4), nn.Identity)


def test_pooling_leaves_the_padding_out():
    assert torch.allclose(Pool(1, 1)(torch.ones(1, 1, 4, 4)), torch.ones(1, 1, 4, 4))


def test_every_call_makes_a_fresh_layer():
    operation = Operation("nor_conv_3x3")
    assert operation(4)[1].weight is not operation(4)[1].weight


def test_a_reduction_halves_the_image():
    assert Reduction(4, 8)(torch.randn(2, 4, 8, 8)).shape == (2, 8, 4, 4)


def test_an_unknown_operation_is_refused():
    with pytest.raises(SettingError) as error:
        Operation("skip")
    assert str(error.value) == (
        "cannot make an operation\n"
        "  at:       Operation.name\n"
        "  got:      'skip' (str)\n"
        "  expected: one of none, skip_connect, nor_conv_1x1, nor_conv_3x3, avg_pool_3x3\n"
        "  fix:      use one of these names"
    )
