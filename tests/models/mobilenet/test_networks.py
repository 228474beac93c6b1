"""MobileNetV2, held against torchvision's."""

from __future__ import annotations

import pytest
import torch

import mutandis as mu
from mutandis.errors import SettingError
from mutandis.models.mobilenet import Bottleneck, MobileNetV2, Stage, mobilenet_v2


def count(net):
    return sum(parameter.numel() for parameter in net.parameters())


def test_the_network_has_the_published_size():
    """Sandler et al. 2018, Table 4: 3.4 million parameters and 300 million MAdds."""
    net = mobilenet_v2()
    assert count(net) == 3_504_872
    assert mu.flows.measure(net, "flops", torch.zeros(1, 3, 224, 224)) / 2 == 300_774_272


def test_the_network_is_that_of_torchvision():
    vision = pytest.importorskip("mutandis.symbolic.modules.vision").import_torchvision()
    theirs, ours = vision.models.mobilenet_v2(), mobilenet_v2()
    state = dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True))
    ours.load_state_dict(state)
    x = 30 * torch.randn(2, 3, 64, 64)  # Large enough for the caps of the activations.
    assert torch.equal(ours.eval()(x), theirs.eval()(x))
    assert torch.equal(ours.train().stem(x), theirs.train().features[0](x))


def test_initial_weights_are_as_wide_as_those_of_torchvision():
    torch.manual_seed(0)
    net = mobilenet_v2()
    conv = net.head[0].weight
    assert conv.std().item() == pytest.approx((2 / conv.shape[0]) ** 0.5, rel=0.02)
    assert net.classifier[1].weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert not net.classifier[1].bias.any()


@pytest.mark.parametrize("kernel_size", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_bottleneck_divides_the_size_by_its_stride(kernel_size, stride):
    layer = Bottleneck(kernel_size, 3)(4, 6, stride, is_residual=False)
    assert layer(torch.randn(2, 4, 8, 8)).shape == (2, 6, 8 // stride, 8 // stride)
    # Pointwise 4 to 12, depthwise, pointwise to 6; a scale and a shift behind each.
    assert count(layer) == 4 * 12 + 24 + 12 * kernel_size**2 + 24 + 12 * 6 + 12


def test_without_expansion_there_is_no_first_convolution():
    assert count(Bottleneck(3, 1)(4, 6, 1, is_residual=False)) == 4 * 9 + 8 + 4 * 6 + 12


def test_all_but_the_first_bottleneck_of_a_stage_add_their_input():
    stage = Stage(4, [Bottleneck(3, 2), Bottleneck(5, 2), Bottleneck(3, 3)], 2)(4)
    assert [layer.is_residual for layer in stage] == [False, True, True]
    x = torch.randn(2, 4, 4, 4)
    residual = stage[1].eval()
    assert torch.equal(residual(x), x + residual.layers(x))
    assert stage(torch.randn(2, 4, 8, 8)).shape == (2, 4, 4, 4)


def test_small_images_of_one_channel_are_fine():
    net = mobilenet_v2(stages=[(1, 8, 1, 1), (6, 8, 2, 2)], stem_filters=8, head_filters=16, num_classes=10,
                       in_channels=1, stem_stride=1)  # fmt: skip
    assert net(torch.randn(2, 1, 8, 8)).shape == (2, 10)
    assert net.head(net.stages[1](net.stages[0](net.stem(torch.randn(2, 1, 8, 8))))).shape == (2, 16, 4, 4)


@pytest.mark.parametrize("stages", [[], [Stage(8, [])]])
def test_a_network_without_bottlenecks_is_refused(stages):
    with pytest.raises(SettingError, match="cannot build a MobileNetV2") as error:
        MobileNetV2(stages)
    assert "expected: at least one stage, and a bottleneck in each" in str(error.value)


def test_the_rate_of_dropout_is_set():
    assert mobilenet_v2(dropout=0.3).classifier[0].p == 0.3


def test_a_network_is_saved_and_read():
    net = mobilenet_v2(stages=[(1, 8, 1, 1), (6, 16, 2, 2)], num_classes=10)
    assert mu.equal(mu.from_json(mu.to_json(net)), net)
