"""Residual networks: their published sizes, and the rules of their shortcuts."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

import mutandis as mu
from mutandis.errors import SettingError
from mutandis.models.resnet import CifarResNet, full_widths
from mutandis.models.resnet.networks import Padding, Projection, ResidualBlock, make_shortcut


def count(net):
    return sum(parameter.numel() for parameter in net.parameters())


def unpruned(depth, shortcut):
    return CifarResNet(full_widths(depth), [(depth - 2) // 6] * 3, shortcut=shortcut)


# He et al. 2016, Table 6: 0.27M, 0.46M, 0.85M, 1.7M. Their shortcuts have no parameters.
@pytest.mark.parametrize(("depth", "params"), [(20, 269_722), (32, 464_154), (56, 853_018), (110, 1_727_962)])
def test_a_network_has_its_published_number_of_parameters(depth, params):
    assert count(unpruned(depth, "padding")) == params


def test_projections_have_two_pointwise_convolutions():
    assert count(unpruned(20, "projection")) - count(unpruned(20, "padding")) == 16 * 32 + 32 * 64


@pytest.mark.parametrize("shortcut", ["padding", "projection"])
def test_widths_of_all_kinds_run(shortcut):
    net = CifarResNet([4, 3, 5, 5, 4, 6, 8, 9, 6, 7, 7, 2, 10], [2, 1, 2], 5, 1, shortcut)
    assert net(torch.zeros(2, 1, 8, 8)).shape == (2, 5)
    assert [len(blocks) for blocks in net.stages] == [2, 1, 2]
    assert net.stages[2][0].first.in_channels == 8  # The second stage has ended after its first block.
    assert net.classifier.in_features == 10


def test_a_block_adds_what_came_in_to_what_it_makes():
    block = ResidualBlock(3, 2, 3, 1, "projection").eval()
    torch.nn.init.zeros_(block.second.weight)
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(block(x), torch.relu(x))


def test_a_block_activates_between_its_convolutions_and_behind_the_sum():
    block = ResidualBlock(3, 4, 5, 2, "projection").eval()
    x = torch.randn(2, 3, 4, 4)
    hidden = F.relu(F.conv2d(x, block.first.weight, stride=2, padding=1) / (1 + 1e-5) ** 0.5)
    expected = block.short(x) + F.conv2d(hidden, block.second.weight, padding=1) / (1 + 1e-5) ** 0.5
    assert torch.allclose(block(x), F.relu(expected), atol=1e-6)


def test_only_the_first_block_of_the_later_stages_halves_the_image():
    net = unpruned(20, "projection")
    strides = [[block.first.stride[0] for block in blocks] for blocks in net.stages]
    assert strides == [[1, 1, 1], [2, 1, 1], [2, 1, 1]]
    assert all(block.second.stride == (1, 1) for blocks in net.stages for block in blocks)


@pytest.mark.parametrize("rule", ["padding", "projection"])
def test_equal_widths_need_no_shortcut(rule):
    assert type(make_shortcut(4, 4, 1, rule)) is torch.nn.Identity


def test_projections_may_stand_where_widths_agree_too():
    short = make_shortcut(4, 4, 1, "always")
    assert type(short) is Projection and count(short) == 16 + 8
    # The first of a stage has no norm; the others are one pointwise convolution and its norm each.
    more = sum(2 * (c * c + 2 * c) for c in (16, 32, 64)) + 16 * 16 + 2 * 16
    assert count(unpruned(20, "always")) - count(unpruned(20, "projection")) == more


def test_padding_keeps_the_leading_channels_and_adds_zeros_behind_them():
    x = torch.randn(1, 3, 4, 4)
    y = Padding(5, 2)(x)
    assert y.shape == (1, 5, 2, 2)
    assert torch.equal(y[:, :3], x[:, :, ::2, ::2])
    assert not y[:, 3:].any()
    assert torch.equal(Padding(2, 1)(x), x[:, :2])


def test_a_projection_that_halves_the_image_is_a_mean_and_a_convolution_without_norm():
    short = Projection(3, 5, 2)
    x = torch.randn(1, 3, 4, 4)
    expected = F.conv2d(F.avg_pool2d(x, 2), short.conv.weight)
    assert torch.equal(short(x), expected)
    assert count(short) == 15


def test_a_projection_that_keeps_the_image_is_normalised():
    short = Projection(3, 5, 1)
    y = short(torch.randn(4, 3, 4, 4))
    assert torch.allclose(y.mean((0, 2, 3)), torch.zeros(5), atol=1e-5)
    assert count(short) == 15 + 10


def test_convolutions_start_with_the_variance_of_their_outputs():
    torch.manual_seed(0)
    weight = unpruned(20, "projection").stages[2][0].first.weight  # From 32 channels to 64.
    assert float(weight.detach().std()) == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)


@pytest.mark.parametrize("widths", [[], [4], [4] * 5, [4] * 8])
def test_other_numbers_of_widths_are_refused(widths):
    with pytest.raises(SettingError) as error:
        CifarResNet(widths, [1, 1, 1])
    assert str(error.value) == (
        "cannot build a CifarResNet\n"
        "  at:       widths\n"
        f"  got:      '{len(widths)} widths' (str)\n"
        "  expected: 1 + 6 n, for three stages of n blocks\n"
        "  fix:      give one for the stem and two for each block, as full_widths(20) does"
    )


@pytest.mark.parametrize("depths", [[3, 3, 4], [0, 3, 3], [3, 3], [3, 3, 3, 3]])
def test_depths_without_blocks_are_refused(depths):
    with pytest.raises(SettingError) as error:
        CifarResNet(full_widths(20), depths)
    assert str(error.value) == (
        "cannot build a CifarResNet\n"
        "  at:       depths\n"
        f"  got:      {depths} (list)\n"
        "  expected: three numbers in [1, 3]\n"
        "  fix:      say how many blocks of each stage run"
    )


def test_an_unknown_rule_is_refused():
    with pytest.raises(SettingError) as error:
        CifarResNet(full_widths(20), [3, 3, 3], shortcut="pad")
    assert str(error.value) == (
        "cannot build a CifarResNet\n"
        "  at:       shortcut\n"
        "  got:      'pad' (str)\n"
        "  expected: one of padding, projection, always\n"
        "  fix:      leave it out"
    )


def test_a_wider_layer_keeps_the_weights_of_all_others():
    net = CifarResNet([4] * 7, [1, 1, 1])
    before = net.stages[2][0].second.weight
    net.rebind({"widths[1]": 6})
    assert net.stages[0][0].first.out_channels == 6
    assert net.stages[2][0].second.weight is before


def test_a_network_is_saved_and_read():
    net = CifarResNet(full_widths(20), [1, 2, 3], shortcut="padding")
    assert mu.equal(mu.from_json(mu.to_json(net)), net)
