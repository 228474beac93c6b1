"""Trees of text."""

from __future__ import annotations

import torch
from torch import nn

import mutandis as mu
from mutandis.symbolic.building import add_edits
from mutandis.symbolic.describe import describe


@mu.symbolize
class Trainer:
    def __init__(self, model, optimizer=None, epochs=3, tags=()):
        self.model = model


@mu.symbolize
class Net(nn.Module):
    def __init__(self, width, *layers, **options):
        super().__init__()
        self.layers = nn.ModuleList(layers)


def test_a_tree_is_drawn_with_what_differs_from_the_defaults():
    conv = mu.nn.Conv2d(3, 8, 3)
    trainer = Trainer(Net(4, conv, conv, scale=2), mu.partial(torch.optim.SGD, lr=0.1), tags=["a"])
    assert describe(trainer).splitlines() == [
        "Trainer",
        "  model = Net  (224 parameters)",
        "    width = 4",
        "    layers = tuple",
        "      [0] = Conv2d(in_channels=3, out_channels=8, kernel_size=3) #1  (224 parameters)",
        "      [1] = Conv2d #1 (see above)",
        "    scale = 2",
        "  optimizer = partial SGD(lr=0.1)",
        "  tags = ['a']",
    ]


def test_what_is_abstract_says_so():
    assert describe(Trainer(Net(mu.REQUIRED))).splitlines() == [
        "Trainer  (abstract)",
        "  model = Net  (abstract)",
        "    width = mu.REQUIRED",
    ]


def test_edits_are_listed():
    layer = mu.nn.TransformerEncoderLayer(4, 2, 8)
    add_edits(layer, {"dropout1": mu.nn.Dropout(0.7)})
    assert "  edit dropout1 = Dropout(p=0.7)" in describe(layer).splitlines()


def test_leaves_and_long_values_are_shortened():
    text = describe(Trainer("x" * 500, torch.zeros(1000)))
    assert max(map(len, text.splitlines())) <= 120


def test_a_lazy_module_does_not_know_its_parameters():
    assert describe(mu.nn.LazyLinear(3)).endswith("(parameters not known yet)")


def test_a_plain_value_is_its_repr():
    assert describe(3) == "3"
    assert describe({"a": [1]}) == "{'a': [1]}"


def test_computed_values_read_as_formulas():
    width = mu.oneof([16, 32], name="width")
    lines = describe(mu.nn.Linear(width, width * 2)).splitlines()
    assert lines == [
        "Linear  (abstract)",
        "  in_features = oneof([16, 32], name='width') #1",
        "  out_features = oneof([16, 32], name='width') * 2",
    ]
