"""The operations of DARTS' cells."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import mutandis as mu
from mutandis.errors import SettingError
from mutandis.models.darts import OPERATIONS, Operation
from mutandis.models.darts.operations import FactorizedReduce

# Of C = 6: a separable convolution is (k^2 C + C^2 + 2 C) twice, a dilated one the same once.
PARAMETERS = {
    "none": 0, "max_pool_3x3": 0, "avg_pool_3x3": 0, "skip_connect": 0, "sep_conv_3x3": 2 * (54 + 36 + 12),
    "sep_conv_5x5": 2 * (150 + 36 + 12), "dil_conv_3x3": 54 + 36 + 12, "dil_conv_5x5": 150 + 36 + 12,
}  # fmt: skip


def count(layer):
    return sum(parameter.numel() for parameter in layer.parameters())


@pytest.mark.parametrize("is_search", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_keeps_channels_and_divides_the_size_by_its_stride(name, stride, is_search):
    layer = Operation(name)(6, stride, is_search=is_search)
    assert layer(torch.randn(2, 6, 8, 8)).shape == (2, 6, 8 // stride, 8 // stride)


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_has_the_published_number_of_parameters(name):
    assert count(Operation(name)(6, 1)) == PARAMETERS[name]
    assert count(Operation(name)(6, 2)) == (36 + 12 if name == "skip_connect" else PARAMETERS[name])


@pytest.mark.parametrize("name", OPERATIONS)
def test_norms_of_a_search_have_no_scale_and_pooling_has_a_norm(name):
    norms = [m for m in Operation(name)(6, 2, is_search=True).modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == {"none": 0, "sep_conv_3x3": 2, "sep_conv_5x5": 2}.get(name, 1)
    assert not any(norm.affine for norm in norms)


def test_none_gives_zeros_that_hang_on_the_input():
    x = torch.randn(1, 2, 4, 4, requires_grad=True)
    y = Operation("none")(2, 2)(x)
    assert torch.equal(y, torch.zeros(1, 2, 2, 2))
    assert y.requires_grad


@pytest.mark.parametrize("name", ["sep_conv_3x3", "dil_conv_3x3"])
def test_a_convolution_reads_what_is_above_zero(name):
    layer = Operation(name)(2, 1, is_search=True).eval()
    x = torch.randn(1, 2, 5, 5)
    assert torch.equal(layer(x), layer(x.clamp(min=0)))
    assert not torch.equal(layer(x), layer(x.clamp(max=0)))


def test_padding_does_not_count_in_an_average():
    assert torch.equal(Operation("avg_pool_3x3")(1, 1)(torch.ones(1, 1, 4, 4)), torch.ones(1, 1, 4, 4))


def test_a_dilated_convolution_reads_two_places_away():
    layer = Operation("dil_conv_3x3")(1, 1).eval()
    for conv in (layer[1], layer[2]):
        nn.init.ones_(conv.weight)
    x = torch.zeros(1, 1, 7, 7)
    x[0, 0, 3, 3] = 1
    seen = layer(x)[0, 0].nonzero()
    assert set(seen.flatten().tolist()) == {1, 3, 5}


def test_a_factorised_reduction_reads_even_and_odd_places():
    layer = FactorizedReduce(1, 2, affine=False).eval()
    for conv in (layer.even, layer.odd):
        nn.init.ones_(conv.weight)
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    x[0, 0, 0, 0] = -3.0  # Below zero nothing goes on.
    y = layer(x) * (1 + 1e-5) ** 0.5
    assert torch.allclose(y, torch.tensor([[[[0.0, 2.0], [8.0, 10.0]], [[5.0, 7.0], [13.0, 15.0]]]]))


def test_another_name_is_refused():
    with pytest.raises(SettingError) as error:
        Operation("sep_conv_7x7")
    assert str(error.value) == (
        "cannot make an operation\n"
        "  at:       Operation.name\n"
        "  got:      'sep_conv_7x7' (str)\n"
        f"  expected: one of {', '.join(OPERATIONS)}"
        "; did you mean 'sep_conv_5x5' or 'sep_conv_3x3' or 'dil_conv_5x5'?\n"
        "  fix:      use one of these names"
    )


def test_an_operation_is_saved_and_read():
    assert mu.equal(mu.from_json(mu.to_json(Operation("dil_conv_5x5"))), Operation("dil_conv_5x5"))
