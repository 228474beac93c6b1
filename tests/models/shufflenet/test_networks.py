"""The blocks of ShuffleNetV2, counted against the tables of the released code."""

from __future__ import annotations

import pytest
import torch

import mutandis as mu
from mutandis.errors import SettingError
from mutandis.models.shufflenet import ShuffleBlock, ShuffleNetV2, XceptionBlock

# Multiply-accumulates of the four blocks, from the table of flops in the released code of DSNAS (network.py): of the
# first block of each stage at the size before it, and of each later one.
MACS = [
    (16, 64, 2, 112, (13_396_992, 15_805_440, 19_418_112, 13_146_112)),
    (64, 64, 1, 56, (7_325_696, 8_931_328, 11_339_776, 12_343_296)),
    (64, 160, 2, 56, (26_304_768, 28_111_104, 30_820_608, 20_296_192)),
    (160, 160, 1, 28, (10_599_680, 11_603_200, 13_108_480, 16_746_240)),
    (160, 320, 2, 28, (30_670_080, 31_673_600, 33_178_880, 21_199_360)),
    (320, 320, 1, 14, (10_317_440, 10_819_200, 11_571_840, 15_899_520)),
    (320, 640, 2, 14, (30_387_840, 30_889_600, 31_642_240, 20_634_880)),
    (640, 640, 1, 7, (10_176_320, 10_427_200, 10_803_520, 15_476_160)),
]


def block(kind, channels, out_channels, stride):
    if kind == 3:
        return XceptionBlock(channels, out_channels, stride)
    return ShuffleBlock(channels, out_channels, (3, 5, 7)[kind], stride)


@pytest.mark.parametrize("kind", range(4))
@pytest.mark.parametrize(("channels", "out_channels", "stride", "size", "macs"), MACS)
def test_a_block_costs_what_the_released_table_says(channels, out_channels, stride, size, macs, kind):
    made = block(kind, channels, out_channels, stride)
    x = torch.zeros(1, channels, size, size)
    assert mu.flows.measure(made, "flops", x) == 2 * macs[kind]
    assert made(x).shape == (1, out_channels, size // stride, size // stride)


@pytest.mark.parametrize("kind", range(4))
def test_every_other_channel_passes_a_block_unchanged(kind):
    x = torch.randn(2, 8, 4, 4)
    made = block(kind, 8, 8, 1)
    assert torch.equal(made(x)[:, :4], x[:, 0::2])
    assert torch.equal(made.eval()(x)[:, 4:], made.branch(x[:, 1::2]))


@pytest.mark.parametrize("kind", range(4))
def test_two_blocks_in_a_row_mix_both_halves(kind):
    net = torch.nn.Sequential(block(kind, 8, 8, 1), block(kind, 8, 8, 1)).eval()
    x = torch.randn(1, 8, 4, 4, requires_grad=True)
    net(x)[:, 4:].sum().backward()  # Of the half that the second block has changed:
    reached = x.grad.abs().sum((0, 2, 3)) > 0
    assert reached[1::2].all()  # what the first has changed,
    assert reached[2::4].all()  # and every other channel that it let through.


@pytest.mark.parametrize("kind", range(4))
def test_a_block_that_halves_puts_all_channels_through_both_branches(kind):
    made = block(kind, 4, 10, 2).eval()
    x = torch.randn(1, 4, 6, 6)
    y = made(x)
    assert torch.equal(y[:, :4], made.shortcut(x))
    assert torch.equal(y[:, 4:], made.branch(x))


def test_depthwise_convolutions_have_no_activation_behind_them():
    kinds = [type(layer).__name__ for layer in ShuffleBlock(8, 8).branch]
    assert kinds == ["Conv2d", "BatchNorm2d", "ReLU", "Conv2d", "BatchNorm2d", "Conv2d", "BatchNorm2d", "ReLU"]
    groups = [layer.groups for layer in XceptionBlock(8, 8).branch if isinstance(layer, torch.nn.Conv2d)]
    assert groups == [4, 1, 4, 1, 4, 1]


def test_a_network_is_a_stem_blocks_and_a_classifier():
    net = ShuffleNetV2([ShuffleBlock(4, 8, 5, 2), XceptionBlock(8, 8)], 8, 5, 1, 4, 16, 1)
    assert net(torch.zeros(2, 1, 8, 8)).shape == (2, 5)
    assert net.classifier.bias is None
    assert net.dropout.p == 0.1


def test_what_is_classified_is_dropped_out_in_training():
    net = ShuffleNetV2([ShuffleBlock(4, 8, 3, 2)], 8, 5, 1, 4, 16, 1, dropout=1.0)
    x = torch.randn(2, 1, 8, 8)
    assert not net(x).any()
    assert net.eval()(x).any()


@pytest.mark.parametrize(
    ("make", "got", "name"),
    [
        (lambda: ShuffleBlock(8, 16), "8 to 16 channels with stride 1", "ShuffleBlock"),
        (lambda: ShuffleBlock(7, 7), "7 to 7 channels with stride 1", "ShuffleBlock"),
        (lambda: XceptionBlock(8, 8, 2), "8 to 8 channels with stride 2", "XceptionBlock"),
        (lambda: XceptionBlock(8, 16, 3), "8 to 16 channels with stride 3", "XceptionBlock"),
    ],
)
def test_channels_that_cannot_be_split_are_refused(make, got, name):
    with pytest.raises(SettingError) as error:
        make()
    assert str(error.value) == (
        f"cannot build a {name}\n"
        f"  at:       {name}.channels\n"
        f"  got:      '{got}' (str)\n"
        "  expected: an even number that is kept with stride 1, or fewer than out_channels with 2\n"
        "  fix:      halve the image where the number of channels grows"
    )


def test_another_kernel_size_is_refused():
    with pytest.raises(SettingError) as error:
        ShuffleBlock(8, 8, 4)
    assert str(error.value) == (
        "cannot build a ShuffleBlock\n"
        "  at:       ShuffleBlock.kernel_size\n"
        "  got:      4 (int)\n"
        "  expected: one of 3, 5, 7\n"
        "  fix:      use one of these"
    )
