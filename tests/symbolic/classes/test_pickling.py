"""Instances of classes with their own state methods carry their record along."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

import mutandis as mu


@mu.symbolize
class Holder:
    def __init__(self, source):
        self.layer = source(1, 1, 1)


@mu.symbolize
class Slotted:
    __slots__ = ("__dict__", "x")

    def __init__(self, x):
        self.x = x

    def __getstate__(self):
        return (None, {"x": self.x})


@mu.symbolize
class Custom:
    def __init__(self, x):
        self.x = x
        self.cache = "not kept"

    def __getstate__(self):
        return {"x": self.x}


def test_a_class_with_its_own_state_methods_keeps_its_record():
    for again in (copy.copy(Custom(5)), copy.deepcopy(Custom(5)), pickle.loads(pickle.dumps(Custom(5)))):
        assert again.x == 5
        assert not hasattr(again, "cache")
        assert mu.arguments(again) == {"x": 5}


def test_a_wrapper_class_among_arguments_is_pickled_by_its_original():
    again = pickle.loads(pickle.dumps(Holder(mu.nn.Conv2d)))
    assert mu.arguments(again)["source"] is mu.nn.Conv2d


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_record_travels_with_every_protocol(protocol):
    again = pickle.loads(pickle.dumps(Custom(5), protocol))
    assert mu.arguments(again) == {"x": 5}
    assert mu.rebind(again, x=6).x == 6


def test_slots_and_dict_travel_together():
    again = copy.deepcopy(Slotted(5))
    assert (again.x, mu.arguments(again)) == (5, {"x": 5})


def test_a_wrapper_with_weights_travels_with_its_record():
    layer = mu.nn.Linear(2, 3)
    again = pickle.loads(pickle.dumps(layer))
    assert type(again) is mu.nn.Linear
    assert isinstance(again, nn.Linear)
    assert torch.equal(again.weight, layer.weight)
    assert mu.arguments(again)["out_features"] == 3
