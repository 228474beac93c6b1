"""Edits of layers that a module builds inside `__init__`."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

import mutandis as mu
from mutandis.errors import PathError, SettingError
from mutandis.symbolic.record import get_edits, is_abstract
from mutandis.symbolic.undecided import Undecided


@mu.symbolize
class Net(nn.Module):
    def __init__(self, depth=4, p=0.1):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(3, 3) for _ in range(depth))
        self.first = self.layers[0]
        self.plain = [self.layers[0]]
        self.named = nn.ModuleDict({"one": mu.nn.Dropout(p)})

    def forward(self, x):
        return self.layers[-1](x)


def test_an_edit_takes_effect_under_every_name_and_stands_under_the_first():
    net = Net()
    net.rebind({"first": mu.nn.Identity()})
    assert list(get_edits(net)) == ["layers[0]"]
    assert net.first is net.layers[0] is net.plain[0]
    assert isinstance(net.first, nn.Identity)


class Listed(nn.Module):
    """Keeps its layers in a plain list and a tuple beside the registry, and calls them from there."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.Tanh())
        self.plain = [self.first, (self.second, self.second[0])]


def test_edits_of_several_layers_reach_the_lists_that_hold_them():
    edits = {"first": mu.nn.Identity(), "second[0]": mu.nn.Linear(2, 3), "second[1]": mu.nn.ReLU()}
    made = mu.symbolize(Listed)().rebind(edits)
    assert isinstance(made.plain[0], nn.Identity) and made.plain[0] is made.first
    assert made.plain[1] == (made.second, made.second[0]) and made.second[0].out_features == 3
    assert isinstance(made.second[1], nn.ReLU)


def test_an_edit_lives_through_rebuilds_sleeps_and_comes_back():
    net = Net(4)
    edit = mu.nn.Linear(3, 3, bias=False)
    net.rebind({"layers[3]": edit})
    weight = net.layers[1].weight
    assert net.layers[3] is edit
    report = mu.rebind(net, depth=2, report=True)
    assert len(net.layers) == 2 and report.dormant == ("layers[3]",)
    net.rebind(depth=4)
    assert net.layers[3] is edit and net.layers[1].weight is weight


def test_an_edit_keeps_the_weights_of_the_other_layers_and_the_mode():
    net = Net().eval()
    weights = [layer.weight for layer in net.layers]
    net.rebind({"layers[1]": mu.nn.Conv1d(3, 3, 1)})
    assert net.layers[0].weight is weights[0] and net.layers[2].weight is weights[2]
    assert not net.layers[1].training


def test_unknown_layers_are_refused_and_nothing_is_added():
    net = Net()
    with pytest.raises(PathError, match="layers, first, named"):
        net.rebind({"layer": nn.Identity()})
    with pytest.raises(PathError):
        net.rebind({"layers[9]": nn.Identity()})
    assert get_edits(net) == {} and "layer" not in net._modules


def test_a_value_that_is_no_layer_is_refused_and_nothing_changes():
    net = Net()
    with pytest.raises(SettingError, match="cannot put a value in the place of a layer"):
        net.rebind({"layers[0]": 3})
    assert isinstance(net.layers[0], nn.Linear) and get_edits(net) == {}


def test_arguments_of_symbolic_layers_inside_are_reached():
    net = Net()
    layer = net.named["one"]
    net.rebind({"named['one'].p": 0.7})
    assert net.named["one"] is layer and layer.p == 0.7
    net.rebind(depth=2)
    assert net.named["one"].p == 0.7
    net.rebind(lambda k, v: 0.2 if k == "p" and v == 0.7 else v)
    assert net.named["one"].p == 0.2
    assert net.named["one"] is layer


def test_rules_edit_layers_inside_and_do_not_go_into_what_they_replaced():
    net = Net(2)
    seen = []

    def rule(k, v, parent):
        seen.append(k)
        return mu.nn.Identity() if isinstance(v, nn.ModuleDict) else v

    net.rebind(rule)
    assert isinstance(net.named, nn.Identity)
    assert seen == ["", "depth", "p", "layers", 0, 1, "named"]
    assert list(get_edits(net)) == ["named"]


def test_deleting_an_edit_brings_the_layer_of_init_back():
    net = Net()
    net.rebind({"layers[1]": mu.nn.Identity()})
    net.rebind({"layers[1]": mu.DELETE})
    assert type(net.layers[1]) is nn.Linear and get_edits(net) == {}
    with pytest.raises(SettingError, match="cannot delete here"):
        net.rebind({"layers[1]": mu.DELETE})


class Choice(Undecided):
    pass


def test_an_undecided_edit_makes_the_module_wait_and_weights_survive():
    net = Net()
    weight = net.layers[0].weight
    net.rebind({"layers[2]": Choice()})
    assert is_abstract(net)
    net.rebind({"layers[1]": Choice()})
    with pytest.raises(PathError):
        net.rebind({"layers[9]": Choice()})
    net.rebind({"layers[1]": mu.nn.Identity(), "layers[2]": mu.nn.Identity()})
    assert not is_abstract(net)
    assert net.layers[0].weight is weight
    assert isinstance(net.layers[2], nn.Identity)


def test_layers_of_a_module_that_was_never_built_are_unknown():
    with pytest.raises(PathError, match="whose layers are unknown while it is undecided"):
        Net(Choice()).rebind({"layers[0]": nn.Identity()})


def test_clones_and_copies_carry_edits():
    net = Net().rebind({"layers[1]": mu.nn.Linear(3, 3, bias=False)})
    for again in (net.clone(), copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert again.layers[1].bias is None and again.layers[1] is not net.layers[1]
        again.rebind(p=0.5)
        assert again.layers[1].bias is None


def test_a_layer_of_an_argument_is_edited_in_the_argument():
    @mu.symbolize
    class Holder(nn.Module):
        def __init__(self, body):
            super().__init__()
            self.body = body

    holder = Holder(Net())
    holder.rebind({"body.layers[1]": mu.nn.Identity()})
    assert get_edits(holder) == {} and list(get_edits(holder.body)) == ["layers[1]"]
    assert isinstance(holder.body.layers[1], nn.Identity)


def test_an_optimizer_holds_the_parameters_of_an_edit():
    @mu.symbolize
    class Trainer:
        def __init__(self, model, optimizer):
            self.model, self.optimizer = model, optimizer

    net = Net(2)
    trainer = Trainer(net, mu.optim.SGD(net.parameters(), lr=0.1))
    trainer.rebind({"model.layers[1]": mu.nn.Conv1d(3, 3, 1)})
    held = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in net.parameters()}
    assert torch.is_tensor(net.layers[1].weight)
