"""What modules say about themselves."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import nn

import mutandis as mu
from mutandis.flows.supernet.lowering.facts import (
    RECORD,
    facts_of,
    have_changed,
    join,
    own_attributes,
    state_buffers,
    tree_of,
)


def facts(module):
    return facts_of(tree_of({"": module}))


class Plain(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value


class Config:
    def __init__(self, width):
        self.width = width


def divided_by(n):
    return lambda x: x / n


@pytest.mark.parametrize(
    ("value", "change"),
    [
        ([1], lambda v: v.append(2)),
        ({"a": [1]}, lambda v: v["a"].append(2)),
        ({1}, lambda v: v.add(2)),
        (Config(3), lambda v: setattr(v, "width", 4)),
        (torch.zeros(2), lambda v: v.add_(1)),
    ],
    ids=["list", "nested", "set", "object", "tensor"],
)
def test_what_changes_inside_of_an_attribute_is_seen(value, change):
    tree = tree_of({"": nn.Sequential(nn.Conv2d(1, 1, 3), Plain(value))})
    known = facts_of(tree)
    assert not have_changed(tree, known)
    change(value)
    assert have_changed(tree, known)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 2),
        (1, 1.0),
        (True, 1),
        ("a", "b"),
        ([1, [2]], [1, [3]]),
        ((1,), [1]),
        ({"a": 1}, {"a": 2}),
        ({1, 2}, {1, 3}),
        (Config(1), Config(2)),
        (torch.zeros(2), torch.zeros(3)),
        (torch.zeros(2), torch.ones(2)),
        (functools.partial(int, 1), functools.partial(int, "1")),
        (nn.ReLU, nn.Tanh),
        (torch.relu, torch.tanh),
        (torch.float32, torch.float64),
        (divided_by(1), divided_by(2)),
        (divided_by(1), lambda x: x * 1),
        (mu.nn.Linear(1, 2), mu.nn.Linear(1, 3)),
        (Config(1).__init__, Config(2).__init__),
    ],
)
def test_values_that_differ_are_told_apart_and_equal_ones_are_not(one, other):
    first, second = facts(Plain(one))[""], facts(Plain(other))[""]
    modules = isinstance(one, nn.Module)
    assert (facts(Plain(one)) != facts(Plain(other))) if modules else first.attributes != second.attributes
    assert first == facts(Plain(one))[""]


def test_a_class_of_another_name_and_other_layers_are_told():
    found = facts(nn.Sequential(nn.Linear(1, 2), nn.ReLU()))
    assert found[""].kind[1] == "Sequential" and found[""].layers == (("0", "0"), ("1", "1"))
    assert list(found) == ["", "0", "1"]


def test_a_layer_at_two_places_stands_at_the_first():
    layer = nn.Linear(2, 2)
    assert facts(nn.Sequential(layer, nn.Sequential(layer)))["1"].layers == (("0", "0"),)


def test_tied_weights_say_whose_they_are():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    net[1].weight = net[0].weight
    assert facts(net)["1"].tensors[0] == ("parameter", "weight", (2, 2), "torch.float32", True, "0.weight")


def test_attributes_that_hold_modules_tensors_and_weights_are_named():
    net = nn.Sequential(nn.Linear(2, 2))
    net.held = [net[0]]
    net.constant = torch.ones(2)
    net.alias = [net[0].weight]
    found = facts(net)[""]
    assert found.ties == ("0",) and found.held == {"constant", "alias"} and found.aliases == ("alias",)


def test_the_flat_weights_of_a_recurrent_layer_are_no_aliases():
    assert facts(nn.LSTM(2, 2))[""].aliases == ()


def test_running_statistics_count_by_shape_and_other_buffers_by_content():
    norm = nn.BatchNorm1d(2)
    before = facts(norm)
    norm.running_mean.add_(1)
    assert facts(norm) == before
    norm.register_buffer("mask", torch.zeros(2))
    with_mask = facts(norm)
    norm.mask.add_(1)
    assert facts(norm) != with_mask
    assert state_buffers(norm) == {"running_mean", "running_var", "num_batches_tracked"}


def test_arguments_of_symbolic_modules_are_facts_and_weights_are_not():
    layer = mu.nn.Linear(2, 3)
    before = facts(layer)
    layer.weight.data.zero_()
    assert facts(layer) == before and RECORD in before[""].attributes
    assert facts(nn.Linear(2, 3))[""].attributes.keys() == before[""].attributes.keys() - {RECORD}


def test_a_ring_of_objects_ends():
    config = Config(1)
    config.me = config
    assert facts(Plain(config)) == facts(Plain(config))


def test_bookkeeping_is_no_attribute():
    assert dict(own_attributes(nn.Linear(2, 3))) == {"in_features": 2, "out_features": 3}
    assert join("", "a") == "a" and join("a", "b") == "a.b"
