"""An optimizer leaves alone what no child has used."""

from __future__ import annotations

import copy

import pytest
import supernet_zoo as zoo
import torch

import mutandis as mu

OPTIMIZERS = {
    "SGD": lambda p: torch.optim.SGD(p, 0.05, weight_decay=0.1),
    "momentum": lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, nesterov=True, weight_decay=0.1),
    "Adam": lambda p: torch.optim.Adam(p, 0.01, weight_decay=0.1),
    "AdamW": lambda p: torch.optim.AdamW(p, 0.01, amsgrad=True, foreach=True),
    "fused AdamW": lambda p: torch.optim.AdamW(p, 0.01, fused=True),
    "RMSprop": lambda p: torch.optim.RMSprop(p, 0.01, momentum=0.9),
    "Adagrad": lambda p: torch.optim.Adagrad(p, 0.1, initial_accumulator_value=0.1, weight_decay=0.1),
    "NAdam": lambda p: torch.optim.NAdam(p, 0.01),
    "Rprop": lambda p: torch.optim.Rprop(p, 0.01),
    "Adamax": lambda p: torch.optim.Adamax(p, 0.01, weight_decay=0.1),
}


@pytest.fixture
def widths():
    return mu.share_weights(
        mu.nn.Sequential(mu.nn.Linear(4, (w := mu.oneof([4, 8, 6]))), mu.nn.Tanh(), mu.nn.Linear(w, 3)),
        zoo.features(5, 4),
    )


def dna(shared, index):
    return shared.space.dna({shared.points[0].path: index})


def step(shared, optimizer, *indices, **settings):
    optimizer.zero_grad(**settings)
    for index in indices:
        shared.materialize(dna(shared, index))(zoo.features(5, 4)).square().mean().backward()
    optimizer.step()


def snapshot(shared, optimizer):
    weights = {name: tensor.clone() for name, tensor in shared.module.state_dict().items()}
    states = {
        name: {k: v.clone() for k, v in optimizer.state.get(p, {}).items() if getattr(v, "shape", None) == p.shape}
        for name, p in shared.module.named_parameters()
    }
    return weights, states


def outside(name, tensor, size):
    """Returns the places that children of a width and of smaller ones do not use."""
    return tensor[:, size:] if name == "2.weight" else tensor[:0] if name == "2.bias" else tensor[size:]


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("warm", [True, False], ids=["with states", "without states"])
def test_unused_channels_and_their_states_stay_bit_for_bit(widths, name, warm):
    optimizer = OPTIMIZERS[name](widths.module.parameters())
    widths.guard(optimizer)
    if warm:
        for _ in range(3):
            step(widths, optimizer, 1)
    weights, states = snapshot(widths, optimizer)
    for _ in range(10):
        step(widths, optimizer, 0)
    after, states_after = snapshot(widths, optimizer)
    for key, before in weights.items():
        assert torch.equal(outside(key, before, 4), outside(key, after[key], 4))
        for state, value in states[key].items():
            assert torch.equal(outside(key, value, 4), outside(key, states_after[key][state], 4))
    assert not torch.equal(weights["0.weight"][:4], after["0.weight"][:4])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_used_channels_are_stepped_as_a_child_alone_would_be(widths, name):
    child = widths.export(dna(widths, 0))
    optimizer, alone = OPTIMIZERS[name](widths.module.parameters()), OPTIMIZERS[name](child.parameters())
    widths.guard(optimizer)
    for _ in range(5):
        step(widths, optimizer, 0)
        alone.zero_grad()
        child(zoo.features(5, 4)).square().mean().backward()
        alone.step()
    live = widths.materialize(dna(widths, 0))
    assert all(
        torch.allclose(a, b, rtol=1e-5, atol=1e-7) for a, b in zip(live.parameters(), child.parameters(), strict=True)
    )


def test_states_that_begin_while_a_part_is_used_begin_elsewhere_as_if_they_had_not(widths):
    optimizer = OPTIMIZERS["momentum"](widths.module.parameters())
    widths.guard(optimizer)
    step(widths, optimizer, 0)
    buffer = optimizer.state[dict(widths.module.named_parameters())["0.weight"]]["momentum_buffer"]
    assert bool(buffer[:4].ne(0).any()) and bool(buffer[4:].eq(0).all())


def test_two_children_in_one_step_move_what_either_has_used(widths):
    optimizer = OPTIMIZERS["momentum"](widths.module.parameters())
    widths.guard(optimizer)
    for _ in range(2):
        step(widths, optimizer, 1)
    before, _ = snapshot(widths, optimizer)
    step(widths, optimizer, 0, 2)
    after = widths.module.state_dict()
    moved = (before["0.weight"] != after["0.weight"]).any(1)
    assert moved.tolist() == [True] * 6 + [False] * 2


def test_a_child_that_is_only_evaluated_moves_nothing(widths):
    optimizer = OPTIMIZERS["momentum"](widths.module.parameters())
    widths.guard(optimizer)
    step(widths, optimizer, 1)
    before, _ = snapshot(widths, optimizer)
    with torch.no_grad():
        widths.materialize(dna(widths, 1))(zoo.features(5, 4))
    step(widths, optimizer, 0)
    assert torch.equal(before["0.weight"][4:], widths.module.state_dict()["0.weight"][4:])


def test_zeros_that_were_left_in_arms_move_nothing():
    shared = mu.share_weights(mu.nn.Sequential(mu.nn.Linear(4, 4), mu.oneof([mu.nn.Linear(4, 4), mu.nn.Linear(4, 4)])))
    optimizer = OPTIMIZERS["momentum"](shared.module.parameters())
    shared.guard(optimizer)
    step(shared, optimizer, 0, set_to_none=False)
    step(shared, optimizer, 1, set_to_none=False)
    before = copy.deepcopy(shared.module.state_dict())
    step(shared, optimizer, 1, set_to_none=False)
    after = shared.module.state_dict()
    assert {name for name in before if not torch.equal(before[name], after[name])} == {
        "0.weight", "0.bias", "1.weight[0=1]", "1.bias[0=1]"}  # fmt: skip


def test_gathered_places_are_guarded_too():
    shared = mu.share_weights(*zoo.programs()["concat"])
    optimizer = OPTIMIZERS["momentum"](shared.module.parameters())
    shared.guard(optimizer)
    batch = zoo.images()
    for index in (0, 0, 1, 1):
        before = shared.module.state_dict()["out.weight"].clone()
        optimizer.zero_grad()
        shared.materialize(shared.space.dna({"first": index, "second": 1}))(batch).square().mean().backward()
        optimizer.step()
    moved = (before != shared.module.state_dict()["out.weight"]).flatten(2).any(2).any(0)
    assert moved.tolist() == [True, True, False, False, True, True, True]


def test_without_the_guard_zeros_flow(widths):
    optimizer = OPTIMIZERS["momentum"](widths.module.parameters())
    guard = widths.guard(optimizer)
    step(widths, optimizer, 1)
    guard.remove()
    before, _ = snapshot(widths, optimizer)
    step(widths, optimizer, 0)
    assert not torch.equal(before["0.weight"][4:], widths.module.state_dict()["0.weight"][4:])
