"""Weights by path and overlapping shape."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import mutandis as mu
from mutandis.errors import SettingError


@mu.symbolize
class Net(nn.Module):
    def __init__(self, width, extra=False):
        super().__init__()
        self.a = nn.Linear(2, width)
        self.norm = nn.BatchNorm1d(width)
        if extra:
            self.b = nn.Linear(width, 1)


def test_equal_shapes_are_copied_and_others_in_their_overlap():
    old, new = Net(3), Net(5, extra=True)
    old.norm.running_mean.fill_(7.0)
    before = new.a.weight.clone()
    state = {name: t.clone() for name, t in old.state_dict().items()}
    report = mu.inherit(new, old)
    assert torch.equal(new.a.weight[:3], old.a.weight) and torch.equal(new.a.weight[3:], before[3:])
    assert new.norm.running_mean.tolist() == [7.0] * 3 + [0.0] * 2
    assert report.copied == ("norm.num_batches_tracked",)
    assert ("a.weight", (3, 2), (5, 2)) in [(i.name, i.old_shape, i.new_shape) for i in report.partial]
    assert report.missing == ("b.weight", "b.bias") and report.unused == ()
    assert all(torch.equal(state[name], t) for name, t in old.state_dict().items())
    assert "in part: a.weight: (3, 2) -> (5, 2)" in str(report)


def test_a_smaller_module_takes_the_leading_part():
    old, new = Net(5, extra=True), Net(3)
    report = mu.inherit(new, old)
    assert torch.equal(new.a.weight, old.a.weight[:3])
    assert report.unused == ("b.weight", "b.bias")


def test_a_clone_inherits_everything():
    old = Net(4)
    new = old.clone()
    assert len(mu.inherit(new, old).copied) == 7
    assert torch.equal(new.a.weight, old.a.weight) and new.a.weight is not old.a.weight
    assert new.a.weight.requires_grad


@pytest.mark.parametrize("bad", [3, Net(mu.REQUIRED)])
def test_what_is_no_built_module_is_refused(bad):
    with pytest.raises(SettingError, match="cannot inherit weights"):
        mu.inherit(bad, Net(2))
    with pytest.raises(SettingError, match="cannot inherit weights"):
        mu.inherit(Net(2), bad)
