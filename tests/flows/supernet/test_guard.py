"""An optimizer leaves alone what no child has used."""

from __future__ import annotations

import copy

import pytest
import supernet_zoo as zoo
import torch

import mutandis as mu
from mutandis.errors import SettingError

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


def test_what_was_used_before_a_step_that_is_left_out_is_forgotten():
    width = mu.oneof([2, 4], name="width")
    shared = mu.share_weights(mu.nn.Sequential(mu.nn.Linear(2, width), mu.nn.Linear(width, 1)), torch.zeros(1, 2))
    optimizer = torch.optim.SGD(shared.module.parameters(), 0.1, momentum=0.9, weight_decay=0.1)
    guard = shared.guard(optimizer)

    def backward(index):
        optimizer.zero_grad()
        shared.materialize(shared.space.dna({"width": index}))(torch.ones(3, 2)).sum().backward()

    backward(1)
    optimizer.step()
    wide = shared.module.get_parameter("0.weight").detach().clone()
    backward(1)
    guard.forget()  # As where a loss was not finite.
    backward(0)
    optimizer.step()
    assert torch.equal(shared.module.get_parameter("0.weight")[2:], wide[2:])
    assert not torch.equal(shared.module.get_parameter("0.weight")[:2], wide[:2])


class Flat(torch.optim.Optimizer):
    """Momentum as kernels write it that go through memory without minding strides."""

    def __init__(self, parameters):
        super().__init__(parameters, {"lr": 0.05})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    state = self.state[parameter]
                    buffer = state.setdefault("buffer", torch.zeros_like(parameter))
                    assert parameter.is_contiguous() and parameter.grad.is_contiguous() and buffer.is_contiguous()
                    buffer.mul_(0.9).add_(parameter.grad)
                    parameter.sub_(buffer, alpha=group["lr"])


def test_optimizers_of_others_get_parts_without_gaps(widths):
    optimizer = Flat(widths.module.parameters())
    widths.guard(optimizer)
    twin = mu.share_weights(*([widths.space.program, zoo.features(5, 4)]))
    twin.module.load_state_dict(widths.module.state_dict())
    other = torch.optim.SGD(twin.module.parameters(), 0.05, momentum=0.9)
    twin.guard(other)
    for index in (1, 0, 2, 0, 1):
        step(widths, optimizer, index)
        step(twin, other, index)
    for a, b in zip(widths.module.parameters(), twin.module.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_of_parts_is_the_step_of_what_is_set_aside(widths, name):
    """The two ways of the guard agree; of two children that are one part each, the union is no box."""
    twin = mu.share_weights(*([widths.space.program, zoo.features(5, 4)]))
    twin.module.load_state_dict(widths.module.state_dict())
    optimizers = [OPTIMIZERS[name](shared.module.parameters()) for shared in (widths, twin)]
    widths.guard(optimizers[0])
    guard = twin.guard(optimizers[1])
    guard._may_swap = lambda *given: False
    for index in (1, 0, 2, 0, 0, 1):
        for shared, optimizer in zip((widths, twin), optimizers, strict=True):
            step(shared, optimizer, index)
    a, b = (snapshot(shared, optimizer) for shared, optimizer in zip((widths, twin), optimizers, strict=True))
    assert all(torch.allclose(a[0][key], b[0][key], rtol=1e-5, atol=1e-7) for key in a[0])
    assert all(torch.allclose(value, b[1][key][state], rtol=1e-4, atol=1e-7)
               for key, states in a[1].items() for state, value in states.items())  # fmt: skip


def test_the_optimizer_holds_the_shared_weights_between_steps(widths):
    optimizer = OPTIMIZERS["Adam"](widths.module.parameters())
    widths.guard(optimizer)
    for index in (0, 0, 1):
        step(widths, optimizer, index)
    shared = list(widths.module.parameters())
    assert all(a is b for a, b in zip(optimizer.param_groups[0]["params"], shared, strict=True))
    assert set(optimizer.state) == set(shared)
    again = OPTIMIZERS["Adam"](widths.module.parameters())
    again.load_state_dict(optimizer.state_dict())
    assert again.state[shared[0]]["exp_avg"].shape == shared[0].shape


def test_a_step_that_fails_leaves_nothing_behind(widths):
    twin = mu.share_weights(*([widths.space.program, zoo.features(5, 4)]))
    twin.module.load_state_dict(widths.module.state_dict())
    for shared, fails in ((widths, True), (twin, False)):
        optimizer = OPTIMIZERS["momentum"](shared.module.parameters())
        shared.guard(optimizer)
        step(shared, optimizer, 0)
        if fails:
            optimizer.param_groups[0]["momentum"] = None
            with pytest.raises(TypeError):
                step(shared, optimizer, 0)
            optimizer.param_groups[0]["momentum"] = 0.9
        for index in (1, 1):
            shared.module.zero_grad()
            shared.materialize(dna(shared, index))(zoo.features(5, 4)).square().mean().backward()
            optimizer.step()
    for a, b in zip(widths.module.parameters(), twin.module.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-7)


def test_states_that_do_not_begin_at_zero_begin_everywhere_alike(widths):
    optimizer = OPTIMIZERS["Rprop"](widths.module.parameters())
    widths.guard(optimizer)
    step(widths, optimizer, 0)
    sizes = optimizer.state[widths.module.get_parameter("0.weight")]["step_size"]
    assert torch.equal(sizes[4:], torch.full((4, 4), 0.01))


def test_an_optimizer_without_states_steps_parts_from_its_second_step_on(widths, monkeypatch):
    optimizer = OPTIMIZERS["SGD"](widths.module.parameters())
    guard = widths.guard(optimizer)
    step(widths, optimizer, 0)
    monkeypatch.setattr(guard, "_set_aside", lambda *given: pytest.fail("set aside"))
    step(widths, optimizer, 0)


def test_weights_that_changed_under_a_backward_pass_are_noticed(widths):
    optimizer = OPTIMIZERS["momentum"](widths.module.parameters())
    widths.guard(optimizer)
    for _ in range(2):
        step(widths, optimizer, 0)
    loss = widths.materialize(dna(widths, 0))(zoo.features(5, 4)).square().mean()
    step(widths, optimizer, 0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_state_that_moved_is_found_where_it_is(widths):
    optimizer = OPTIMIZERS["momentum"](widths.module.parameters())
    widths.guard(optimizer)
    for _ in range(3):
        step(widths, optimizer, 0)
    saved = copy.deepcopy(optimizer.state_dict())
    step(widths, optimizer, 0)
    optimizer.load_state_dict(copy.deepcopy(saved))
    before, _ = snapshot(widths, optimizer)
    step(widths, optimizer, 0)
    child = widths.module.get_parameter("0.weight")
    buffer = optimizer.state[child]["momentum_buffer"]
    assert not torch.equal(buffer[:4], saved["state"][0]["momentum_buffer"][:4])
    assert torch.equal(buffer[4:], saved["state"][0]["momentum_buffer"][4:])
    assert not torch.equal(before["0.weight"][:4], child[:4])


@pytest.mark.parametrize("which", ["module", "others"])
def test_what_moves_no_shared_weight_is_refused(which):
    shared = mu.share_weights(mu.nn.Sequential(mu.oneof([mu.nn.Linear(2, 2), mu.nn.Identity()])))
    optimizer = torch.optim.SGD(torch.nn.Linear(2, 2).parameters(), lr=0.1)
    with pytest.raises(SettingError) as error:
        shared.guard(shared.module if which == "module" else optimizer)
    got, expected = {
        "module": ("SharedModule", "a torch.optim.Optimizer"),
        "others": ("SGD of other weights", "at least one of the shared weights"),
    }[which]
    assert str(error.value) == (
        f"cannot guard an optimizer\n  at:       guard\n  got:      {got!r} (str)\n  expected: {expected}\n"
        "  fix:      make it over shared.module.parameters(), after share_weights, and move the module before"
    )
