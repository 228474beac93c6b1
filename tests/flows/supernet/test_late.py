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


def choices():
    arms = [mu.nn.Linear(4, 4), mu.nn.Sequential(mu.nn.Linear(4, 4), mu.nn.BatchNorm1d(4))]
    return mu.nn.Sequential(mu.oneof(arms, name="arm"), mu.nn.Linear(4, mu.oneof([4, 2], name="width")))


def test_a_move_of_the_live_module_moves_all_shared_weights_and_keeps_the_views():
    shared = mu.share_weights(choices(), torch.randn(3, 4))
    live = shared.materialize(shared.space.dna({"arm": 1, "width": 1}))
    assert live.double() is live and live.to(torch.float64) is live
    assert {t.dtype for t in shared.module.state_dict().values()} == {torch.float64, torch.int64}
    assert live[1].weight.untyped_storage().data_ptr() == dict(
        shared.module.named_parameters())["1.weight"].untyped_storage().data_ptr()  # fmt: skip
    live(torch.randn(3, 4, dtype=torch.float64)).sum().backward()
    assert dict(shared.module.named_parameters())["1.weight"].grad.abs().sum() > 0


def test_a_move_to_where_the_weights_are_is_no_switch(monkeypatch):
    shared = mu.share_weights(choices(), torch.randn(3, 4))
    live = shared.materialize(shared.space.dna({"arm": 0, "width": 1}))
    before = list(live.parameters())
    assert live[0].to("cpu", torch.float32) is live[0] and live.cpu() is live
    assert all(a is b for a, b in zip(before, live.parameters(), strict=True))


def test_a_move_of_a_part_of_the_live_program_is_refused_before_anything_has_moved():
    shared = mu.share_weights(choices(), torch.randn(3, 4))
    live = shared.materialize(shared.space.dna({"arm": 0, "width": 1}))
    with pytest.raises(LoweringError) as error:
        live[1].double()
    assert str(error.value) == (
        "cannot move a part of the live program\n  at:       module 1\n  got:      'torch.float64 on cpu' (str)\n"
        "  expected: one place and type for all shared weights, of which its modules hold parts\n"
        "  fix:      move all of them: shared.module.to(...)"
    )
    assert live[1].weight.dtype == torch.float32


def test_a_copy_of_a_live_module_moves_alone():
    shared = mu.share_weights(choices(), torch.randn(3, 4))
    live = shared.materialize(shared.space.dna({"arm": 0, "width": 0}))
    for made in (copy.deepcopy(live[0]), pickle.loads(pickle.dumps(live[0]))):
        assert made.double().weight.dtype == torch.float64 and live[0].weight.dtype == torch.float32
