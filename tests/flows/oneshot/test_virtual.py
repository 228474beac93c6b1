"""Losses at other weights, and what stays as it is."""

from __future__ import annotations

import pytest
import torch
from toy_shared import NAMES, Curve, cells, images, squared, toy_batches, toy_program

import mutandis as mu
from mutandis.algorithms.oneshot.mixtures import DARTS
from mutandis.algorithms.oneshot.selections import Index, Mixture, Selections
from mutandis.errors import LoweringError
from mutandis.flows.oneshot.recipe import sgd
from mutandis.flows.oneshot.virtual import VirtualStep


def virtual_of(shared, loss, batches):
    weights = list(shared.module.parameters())
    optimizer = sgd(weights)
    return VirtualStep(shared, loss, dict(zip(("train", "valid"), batches, strict=True)), weights, optimizer, sgd)


def test_a_loss_at_the_present_weights_is_the_loss():
    shared = mu.share_weights(toy_program())
    batches = toy_batches(2, 0)
    virtual = virtual_of(shared, squared, batches)
    chosen = Selections(0, {0: Index(1), 1: Index(0)})
    child = shared.materialize(shared.space.dna({"curve 0": 1, "curve 1": 0}))
    for name, batch in zip(("train", "valid"), batches, strict=True):
        assert torch.equal(virtual.loss(chosen, name, virtual.weights()), squared(child, batch))


def test_a_step_is_that_of_the_optimizer_with_its_momentum():
    shared = mu.share_weights(toy_program())
    virtual = virtual_of(shared, squared, toy_batches(2, 0))
    optimizer, weights = virtual._optimizer, virtual._weights
    for weight in weights:
        weight.grad = torch.full_like(weight, 0.5)
    optimizer.step()
    slopes = [None if i == 0 else torch.full_like(w, 0.25) for i, w in enumerate(weights)]
    ahead = virtual.stepped(slopes)
    before = [w.detach().clone() for w in weights]
    for weight, slope in zip(weights, slopes, strict=True):
        weight.grad = slope
    optimizer.step()
    assert all(torch.equal(a, w.detach()) for a, w in zip(ahead, weights, strict=True))
    assert torch.equal(ahead[0], before[0]) and not torch.equal(ahead[1], before[1])


def test_the_gradient_a_step_ahead_is_the_derivative_of_a_loop_by_hand():
    shared = mu.share_weights(toy_program())
    train, valid = toy_batches(2, 3)
    search = DARTS(order=2, learning_rate=0.1, weight_decay=0.0).start_shared(shared.space.bare(), seed=0)
    weights = list(shared.module.parameters())
    make = lambda given: torch.optim.SGD(given, lr=0.1)  # noqa: E731
    virtual = VirtualStep(shared, squared, {"train": train, "valid": valid}, weights, make(weights), make)
    chosen = search.policy()
    found = search._rule.virtual(search._waiting[chosen.number].view, virtual)

    tables = [table.clone().requires_grad_() for table in search.policy_tables.tables]
    scales = [torch.ones(4, dtype=torch.float64, requires_grad=True) for _ in range(2)]

    def loss(tables, scales, batch):
        x, y = batch[0].double(), batch[1].double()
        total = 0
        for i in range(2):
            curves = torch.stack([Curve(name, False)(x[:, i]) for name in NAMES])
            total = total + (torch.softmax(tables[i], 0) * scales[i]) @ curves
        return (total - y).square().mean()

    slopes = torch.autograd.grad(loss(tables, scales, train), scales, create_graph=True)
    ahead = [scale - 0.1 * slope for scale, slope in zip(scales, slopes, strict=True)]
    wanted = torch.autograd.grad(loss(tables, ahead, valid), tables)
    for got, right in zip(found, wanted, strict=True):
        assert torch.allclose(got, right, rtol=1e-3, atol=1e-3)


def test_weights_buffers_gradients_and_random_numbers_stay():
    shared = cells()
    loss = lambda child, batch: torch.nn.functional.cross_entropy(child(batch[0]), batch[1])  # noqa: E731
    virtual = virtual_of(shared, loss, images(2, 0))
    before = {name: tensor.clone() for name, tensor in shared.module.state_dict().items()}
    state = torch.random.get_rng_state()
    weights = torch.full((5,), 0.2, dtype=torch.float64, requires_grad=True)
    virtual.loss(Selections(0, {i: Mixture(weights) for i in range(6)}), "train", virtual.weights()).backward()
    assert weights.grad is not None
    assert all(torch.equal(tensor, before[name]) for name, tensor in shared.module.state_dict().items())
    assert all(p.grad is None for p in shared.module.parameters())
    assert torch.equal(torch.random.get_rng_state(), state)


def test_all_passes_of_a_step_use_the_same_random_numbers():
    shared = mu.share_weights(mu.nn.Sequential(mu.nn.Dropout(0.5), mu.oneof([mu.nn.Linear(2, 2), mu.nn.Tanh()])))
    virtual = virtual_of(shared, lambda child, x: child(x).sum(), [torch.ones(9, 2)] * 2)
    first, second = (virtual.loss(Selections(0, {0: Index(0)}), "train", virtual.weights()) for _ in range(2))
    assert torch.equal(first, second)


def test_parts_of_weights_are_refused():
    program = mu.nn.Sequential(mu.nn.Linear(2, mu.oneof([2, 4], name="width")))
    shared = mu.share_weights(program, torch.zeros(1, 2))
    virtual = virtual_of(shared, lambda child, x: child(x).sum(), [torch.ones(3, 2)] * 2)
    with pytest.raises(LoweringError) as caught:
        virtual.loss(Selections(0, {0: Index(0)}), "train", virtual.weights())
    assert str(caught.value) == (
        "cannot look a step ahead\n"
        "  at:       parameter weight\n"
        "  got:      'a part of a shared weight, (2, 2)' (str)\n"
        "  expected: whole weights, which choices among layers have\n"
        "  fix:      use a first-order algorithm, such as DARTS(order=1)"
    )
