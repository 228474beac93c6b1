"""Parts that share the memory of a tensor, pass gradients on, and say so."""

from __future__ import annotations

import pytest
import torch

from mutandis.flows.supernet.cuts import region, take
from mutandis.flows.supernet.lending import lent, mark_changed

CUTS = {"rows": ((0, 2), None), "both": ((0, 2), (1, 2)), "all": (None, None)}


@pytest.fixture
def weight():
    return torch.nn.Parameter(torch.arange(12.0).reshape(3, 4))


@pytest.mark.parametrize("name", CUTS)
def test_a_part_has_the_memory_of_the_tensor_and_gives_it_its_gradient(weight, name):
    used, cut = {}, CUTS[name]
    (part,) = lent([(weight, cut, used)])
    assert torch.equal(part, take(weight, cut)) and part.requires_grad and not used
    (part * torch.arange(1.0, 1 + part.numel()).reshape(part.shape)).sum().backward()
    expected = torch.zeros(3, 4)
    expected[region(cut, (3, 4), weight.device)] = torch.arange(1.0, 1 + part.numel()).reshape(part.shape)
    assert torch.equal(weight.grad, expected) and list(used.values()) == [cut]


def test_a_part_is_current_and_watched_after_the_tensor_was_changed_in_place(weight):
    used = {}
    (part,) = lent([(weight, CUTS["both"], used)])
    for _ in range(3):
        with torch.no_grad():
            weight.add_(1)
        assert torch.equal(part, take(weight, CUTS["both"]))
        used.clear()
        part.sum().backward()
        assert len(used) == 1
    assert weight.grad.sum() == 12


def test_parts_through_which_no_gradient_comes_are_not_used(weight):
    other = torch.nn.Parameter(torch.ones(3))
    used, unused = {}, {}
    parts = lent([(weight, CUTS["both"], used), (other, ((0, 2),), unused)])
    parts[0].sum().backward()
    assert used and not unused and other.grad is None


def test_a_pass_through_values_from_before_a_change_fails(weight):
    (part,) = lent([(weight, CUTS["both"], {})])
    loss = part.square().sum()
    with torch.no_grad():
        weight.add_(1)
    mark_changed([part])
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_second_derivatives_pass(weight):
    (part,) = lent([(weight, CUTS["both"], {})])
    (first,) = torch.autograd.grad(part.pow(3).sum(), weight, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), weight)
    expected = torch.zeros(3, 4)
    expected[:2, 1:3] = 6 * weight.detach()[:2, 1:3]
    assert torch.equal(second, expected)


def test_tensors_of_other_strides_are_lent_too():
    weight = torch.nn.Parameter(torch.arange(12.0).reshape(4, 3).T)
    (part,) = lent([(weight, CUTS["both"], {})])
    part.sum().backward()
    assert torch.equal(part, weight[:2, 1:3]) and weight.grad.sum() == 4 and weight.grad[0, 1] == 1
