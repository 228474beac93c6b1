"""Labels, and what passes of labels through many children share."""

from __future__ import annotations

import pytest
import supernet_zoo as zoo
import torch
from torch import nn

import mutandis as mu
from mutandis.flows.supernet.lowering.children import Builder
from mutandis.flows.supernet.lowering.labels import Desk, Unread, has_known_shape, label
from mutandis.flows.supernet.lowering.positions import Labels


@pytest.mark.parametrize("shapes", [[(4, 5), (2, 5)], [(2, 5), (4, 5)], [(2, 5), (4, 3)], [(3,), (3,)]])
def test_labels_of_a_desk_are_those_of_the_function(shapes):
    desk = Desk()
    for shape in shapes:
        assert torch.equal(desk.label("a", shape), label("a", shape))
        assert not torch.equal(desk.label("b", shape), label("a", shape))


def test_labels_of_a_desk_may_be_changed_in_place():
    desk = Desk()
    desk.label("a", (3, 4)).zero_()
    part = desk.label("a", (3, 2))
    assert torch.equal(part, label("a", (3, 2))) and part.is_contiguous()


def test_more_labels_than_a_desk_keeps_are_made_each_time(monkeypatch):
    monkeypatch.setattr("mutandis.flows.supernet.lowering.labels._MOST", 4)
    desk = Desk()
    for name in "abca":
        assert torch.equal(desk.label(name, (3,)), label(name, (3,)))
    assert len(desk._labels) == 1


LAYERS = {
    "linear": (nn.Linear(3, 5), (2, 4, 3)),
    "conv": (nn.Conv2d(4, 6, 3, stride=2, padding=1, dilation=2, groups=2), (2, 4, 9, 8)),
    "one dimension": (nn.Conv1d(4, 6, 3), (4, 9)),
    "same": (nn.Conv2d(2, 2, 3, padding="same"), (1, 2, 5, 5)),
    "circular": (nn.Conv3d(1, 2, 3, padding=1, padding_mode="circular"), (1, 1, 4, 4, 4)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_the_shape_of_an_output_is_that_of_the_layer_and_computed_once(name):
    (layer, shape), desk = LAYERS[name], Desk()
    layer, x = layer.double(), torch.ones(shape, dtype=torch.float64)
    for _ in range(2):
        made = desk.output(layer, layer.forward, x)
        assert made.shape == layer(x).shape and not any(made.stride())  # Nothing was computed.
    assert desk.num_shapes == 1


def test_layers_of_other_settings_and_inputs_have_shapes_of_their_own():
    desk, x = Desk(), torch.ones(1, 2, 8, 8, dtype=torch.float64)
    layers = [nn.Conv2d(2, 2, 3, **more).double() for more in ({}, {"stride": 2}, {"padding": 1}, {"dilation": 2})]
    for given in (x, x[..., :6]):
        assert all(desk.output(layer, layer.forward, given).shape == layer(given).shape for layer in layers)
    assert desk.num_shapes == 8


@pytest.mark.parametrize("x", [torch.ones(2, 5, dtype=torch.float64), torch.ones(2, 3), torch.ones(2, 3).long()])
def test_what_a_layer_refuses_it_refuses_itself(x):
    layer = nn.Linear(3, 4).double()
    with pytest.raises(RuntimeError) as expected:
        layer(x)
    with pytest.raises(RuntimeError) as error:
        Desk().output(layer, layer.forward, x)
    assert str(error.value) == str(expected.value)


def test_layers_with_a_forward_of_their_own_run_it():
    class Twice(nn.Linear):
        def forward(self, x):
            return torch.cat([super().forward(x)] * 2, -1)

    layer, x = Twice(3, 4), torch.ones(2, 3)
    assert not has_known_shape(layer) and has_known_shape(nn.Linear(3, 4)) and not has_known_shape(nn.ReLU())
    assert not has_known_shape(nn.ConvTranspose1d(1, 1, 1))
    assert not has_known_shape(nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)))
    assert Desk().output(layer, layer.forward, x).shape == (2, 8)
    changed = nn.Linear(3, 4).double()
    changed.forward = lambda x: x[:, :1]
    assert Desk().output(changed, changed.forward, x.double()).shape == (2, 1)


def test_unread_parameters_are_told_however_they_are_read():
    read = []
    table = Unread({"weight": 1, "bias": None}, read.append)
    assert "weight" in table and len(table) == 2 and list(table) == ["weight", "bias"] and not read
    assert (table["weight"], table.get("bias", 5), table.get("none", 7)) == (1, None, 7)
    assert table.items() == [("weight", 1), ("bias", None)] and table.values() == [1, None]
    assert read == [1, None, None, 1, None, 1, None]


def test_a_weight_that_other_code_reads_is_labelled():
    @mu.symbolize
    class Reading(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.first = nn.Linear(4, width)
            self.last = nn.Linear(width, 2)

        def forward(self, x):
            return self.last(self.first(x) * 0 + self.first.weight.sum(1))

    space = mu.space(Reading(mu.oneof([4, 6])))
    seen = [Labels(Builder(space, 0).build((i,)), (zoo.features(3, 4).double(),)) for i in range(2)]
    small, large = (labels.signatures["last"] for labels in seen)
    assert small.std() > 1e-3 and torch.allclose(small, large[:4], rtol=1e-12)
    weights = label("first.weight itself", (6, 4)).sum(1)
    assert torch.allclose(large, weights * label("signature", (3,)).sum(), rtol=1e-9)
    assert all(type(m._parameters) is dict for m in seen[0].child.tree.values())
