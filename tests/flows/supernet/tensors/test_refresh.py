"""Tensors that are made anew before a forward pass."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mutandis.errors import LoweringError
from mutandis.flows.supernet.cuts import take
from mutandis.flows.supernet.tensors.refresh import Refresh, put

PLACES = torch.tensor([2, 0])


@pytest.fixture
def norm():
    """A norm over two channels of three, the last and the first."""
    shared = {"running_mean": torch.zeros(3), "weight": torch.tensor([1.0, 2.0, 3.0])}
    store = SimpleNamespace(tensor=shared.__getitem__, lend=lambda key, cut: take(shared[key], cut),
                            renew_gathered=lambda entries: None)  # fmt: skip
    loans = [SimpleNamespace(name=name, key=name, is_buffer=name != "weight") for name in shared]
    refresh = Refresh(store, [(loan, (PLACES,)) for loan in loans])
    made = nn.BatchNorm1d(2)
    made.register_forward_pre_hook(refresh)
    made.register_forward_hook(refresh.write_back)
    return SimpleNamespace(module=made, shared=shared, refresh=refresh)


def test_a_pass_sees_what_the_shared_tensor_holds_now(norm):
    norm.shared["weight"] += 1.0
    norm.module(torch.randn(8, 2))
    assert norm.module._parameters["weight"].tolist() == [4.0, 2.0]


def test_statistics_go_back_to_their_places_in_training_only(norm):
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    norm.module.eval()(x)
    assert norm.shared["running_mean"].tolist() == [0.0, 0.0, 0.0]
    norm.module.train()(x)
    assert torch.allclose(norm.shared["running_mean"], torch.tensor([0.3, 0.0, 0.2]))


def test_a_layer_with_such_tensors_is_not_copied(norm):
    with pytest.raises(LoweringError):
        copy.deepcopy(norm.refresh)


@pytest.mark.parametrize(("is_buffer", "name"), [(True, "running_mean"), (False, "weight")])
def test_any_tensor_may_stand_for_a_parameter_or_a_buffer(is_buffer, name):
    module, tensor = nn.BatchNorm1d(2), torch.ones(2) * 1.0
    put(module, SimpleNamespace(name=name, is_buffer=is_buffer), tensor)
    assert getattr(module, name) is tensor
