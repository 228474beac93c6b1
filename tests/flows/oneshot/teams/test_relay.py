"""What a policy learns from when the pass ran on a share of the data, or with a scaled loss."""

from __future__ import annotations

import math

import pytest
import torch

from mutandis.algorithms.oneshot.selections import Gate, Index, Mixture, Selections, Subset, Value
from mutandis.flows.oneshot.teams.relay import Relay
from mutandis.flows.oneshot.teams.team import Team

ALONE = Team(torch.device("cpu"))


def drawn():
    """Selections of all kinds, and the leaf that they hang on."""
    leaf = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64, requires_grad=True)
    gate = torch.tensor([0.0, 1.0], dtype=torch.float64, requires_grad=True)
    soft = torch.softmax(leaf, 0)
    made = {0: Mixture(soft), 1: Gate(1, gate), 2: Subset((2,), soft[2:], soft.sum()), 3: Value(leaf[0]),
            4: Index(1), 5: Value(3), 6: Subset((0,), torch.ones(1, dtype=torch.float64))}  # fmt: skip
    return Selections(7, made), leaf, gate


def loss_of(selections):
    mixture, gate, subset, value = (selections[i] for i in range(4))
    total = (mixture.weights * torch.tensor([1.0, 2.0, 4.0])).sum() ** 2 + 3.0 * gate.gate[1]
    return total + subset.weights[0] * 5.0 + subset.offset + value.value**2


@pytest.mark.parametrize("scale", [1.0, 1024.0])
def test_the_policy_gets_the_gradients_and_the_value_of_the_pass(scale):
    chosen, leaf, gate = drawn()
    wanted = torch.autograd.grad(loss_of(chosen), [leaf, gate])
    chosen, leaf, gate = drawn()
    relay = Relay(chosen)
    loss = loss_of(relay.copies)
    told = relay.loss(loss.item(), relay.gradients(loss * scale), ALONE, scale)
    assert told.item() == loss.item()
    assert all(torch.allclose(a, b) for a, b in zip(torch.autograd.grad(told, [leaf, gate]), wanted, strict=True))


def test_nothing_of_the_pass_reaches_the_policy_otherwise():
    chosen, leaf, gate = drawn()
    relay = Relay(chosen)
    loss_of(relay.copies).backward()
    assert leaf.grad is None and gate.grad is None
    assert relay.copies.number == 7 and relay.copies[4] is chosen[4] and relay.copies[5] is chosen[5]
    assert relay.copies[6].weights is chosen[6].weights


def test_other_tensors_are_relayed_too():
    chosen, _, _ = drawn()
    weight, fixed = torch.tensor(2.0, requires_grad=True), torch.tensor(3.0)
    relay = Relay(chosen, [weight, fixed])
    assert relay.others[1] is fixed
    loss = loss_of(relay.copies) * relay.others[0] ** 2
    told = relay.loss(loss.item(), relay.gradients(loss), ALONE)
    assert torch.autograd.grad(told, weight)[0].item() == pytest.approx(2 * 2.0 * loss_of(chosen).item())


def test_parts_that_the_loss_does_not_see_have_no_gradient():
    chosen, leaf, gate = drawn()
    relay = Relay(chosen)
    loss = relay.copies[1].gate[1] * 2.0
    told = relay.loss(2.0, relay.gradients(loss), ALONE)
    assert torch.autograd.grad(told, [gate, leaf], allow_unused=True)[1] is None
    none = relay.loss(2.0, relay.gradients(torch.tensor(2.0)), ALONE)
    assert not none.requires_grad and none.item() == 2.0


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_a_gradient_that_overflowed_teaches_nothing(bad):
    chosen, _, _ = drawn()
    relay = Relay(chosen)
    gradients = [torch.full_like(leaf, bad) for leaf in relay.leaves]
    told = relay.loss(1.0, gradients, ALONE)
    assert math.isnan(told.item()) and not told.requires_grad
