"""Records travel through deepcopy and pickle, and never make a class copy worse than it did."""

from __future__ import annotations

import copy
import io
import pickle
import threading

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

import mutandis as mu
from mutandis.symbolic.record import holders_of


@mu.symbolize
class Net(nn.Module):
    def __init__(self, width, source=None):
        super().__init__()
        self.layer = nn.Linear(2, width)
        self.body = source if isinstance(source, nn.Module) else None

    def forward(self, x):
        return self.layer(x)


def test_deepcopy_keeps_weights_and_arguments():
    net = Net(3)
    again = copy.deepcopy(net)
    assert torch.equal(again.layer.weight, net.layer.weight)
    assert mu.arguments(again) == {"width": 3, "source": None}


def test_the_copied_child_knows_the_copied_holder():
    root = Net(3, Net(4))
    for again in (copy.deepcopy(root), pickle.loads(pickle.dumps(root))):
        child = mu.arguments(again)["source"]
        assert child is again.body
        assert holders_of(child) == [again]
        assert holders_of(root.body) == [root]


def test_a_shallow_copy_has_no_part_in_the_originals_holders():
    child = Net(4)
    root = Net(3, child)
    again = copy.copy(child)
    assert holders_of(again) == []
    assert holders_of(child) == [root]


def test_locks_and_generators_among_arguments_do_not_hinder_copies():
    net = Net(3, threading.Lock())
    assert torch.equal(AveragedModel(net).module.layer.weight, net.layer.weight)
    assert isinstance(pickle.loads(pickle.dumps(net)), Net)
    assert mu.arguments(copy.deepcopy(net))["source"] is mu.arguments(net)["source"]


def test_an_argument_lost_in_pickling_says_so():
    again = pickle.loads(pickle.dumps(Net(3, lambda: 1)))
    assert "unavailable since unpickling" in repr(mu.arguments(again)["source"])


def test_torch_save_keeps_weights_and_record():
    net, file = Net(3), io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    again = torch.load(file, weights_only=False)
    assert torch.equal(again.layer.weight, net.layer.weight)
    assert mu.arguments(again) == {"width": 3, "source": None}


def test_state_dict_has_no_symbolic_entry():
    assert list(Net(3).state_dict()) == ["layer.weight", "layer.bias"]
