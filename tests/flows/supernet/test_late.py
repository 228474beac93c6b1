"""Attributes and arguments that are computed when they are read."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

import mutandis as mu
from mutandis.errors import LoweringError
from mutandis.flows.supernet.late import LateBuffers, LateRecord


def module():
    made = nn.BatchNorm1d(2)
    asked = []
    made._buffers = LateBuffers(made._buffers, frozenset({"arch"}), lambda name: asked.append(name) or f"late {name}")
    return made, asked


def test_a_late_attribute_is_read_like_any_other_and_only_when_asked_for():
    made, asked = module()
    made(torch.ones(3, 2))
    assert asked == []
    assert made.arch == "late arch" and hasattr(made, "arch") and not hasattr(made, "other")
    assert "arch" in asked


def test_nothing_that_lists_buffers_sees_it():
    made, asked = module()
    assert list(made.state_dict()) == ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    assert "arch" not in dict(made.named_buffers())
    assert made.double().running_mean.dtype is torch.float64
    assert asked == []


def test_late_arguments_are_those_of_the_real_module():
    real, live = mu.nn.Linear(2, 3), mu.nn.Linear(5, 7)
    object.__setattr__(live, "_mu_", LateRecord(live, lambda: object.__getattribute__(real, "_mu_")))
    assert mu.arguments(live)["out_features"] == 3
    assert mu.to_json(live) == mu.to_json(real)


def test_late_edits_are_those_of_the_real_module():
    @mu.symbolize
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(2, 2)

    real, live = Net(), Net()
    real.rebind({"first": mu.nn.Linear(2, 2)})
    object.__setattr__(live, "_mu_", LateRecord(live, lambda: object.__getattribute__(real, "_mu_")))
    assert mu.diff(live, real) == mu.diff(real, real)


@pytest.mark.parametrize("do", [copy.deepcopy, pickle.dumps])
def test_neither_is_copied(do):
    made, _ = module()
    with pytest.raises(LoweringError, match="cannot copy the live program"):
        do(made)
    layer = mu.nn.Linear(2, 3)
    with pytest.raises(LoweringError, match="cannot copy the live program"):
        do(LateRecord(layer, tuple))
