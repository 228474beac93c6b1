"""Optimizers that a program makes when it is built: one for all children, with the settings of each."""

from __future__ import annotations

import pytest
import supernet_zoo as zoo
import torch
from torch import nn

import mutandis as mu
from mutandis.errors import LoweringError


@mu.symbolize
class Trainer:
    """Makes an optimizer of two groups, as people write it."""

    def __init__(self, model, rate, kind="SGD", **settings):
        self.model, self.rate = model, rate
        weights = [p for name, p in model.named_parameters() if name.endswith("weight")]
        others = [p for name, p in model.named_parameters() if not name.endswith("weight")]
        groups = [{"params": weights, "weight_decay": 0.1}, {"params": others}]
        self.optimizer = getattr(torch.optim, kind)(groups, lr=rate, **settings)

    def step(self, x):
        self.optimizer.zero_grad()
        self.model(x).square().mean().backward()
        self.optimizer.step()
        return self


def model():
    width = mu.oneof([8, 4], name="width")
    arms = mu.oneof([mu.nn.Linear(width, width), mu.nn.Tanh()], name="arm")
    return mu.nn.Sequential(mu.nn.Linear(4, width), arms, mu.nn.Linear(width, 1))


def program(**settings):
    return Trainer(model(), mu.floatv(0.01, 0.1, name="rate"), **settings)


def dna(shared, width, arm, rate=0.05, **more):
    return shared.space.dna({"width": width, "arm": arm, "rate": rate, **more})


@pytest.mark.parametrize("kind", ["SGD", "AdamW", "RMSprop"])
def test_one_optimizer_holds_the_whole_weights_of_all_children_in_the_groups_of_the_program(kind):
    shared = mu.share_weights(program(kind=kind), zoo.features(3, 4))
    small = shared.materialize(dna(shared, 1, 1))
    assert isinstance(small.model[1], nn.Tanh) and small.model[0].weight.shape == (4, 4)
    large = shared.materialize(dna(shared, 0, 0))
    assert small.optimizer is large.optimizer and small is not large and type(large.optimizer).__name__ == kind
    tensors = dict(shared.module.named_parameters())
    for group, end, decay in zip(small.optimizer.param_groups, ("weight", "bias"), (0.1, None), strict=True):
        expected = {id(p) for name, p in tensors.items() if name.partition("[")[0].endswith(end)}
        assert {id(p) for p in group["params"]} == expected and len(group["params"]) == 3
        assert decay is None or group["weight_decay"] == decay


def test_matrices_of_kernels_stand_in_the_group_of_their_kernel_and_are_trained():
    size = mu.oneof([1, 5, 3], name="size")
    net = mu.nn.Sequential(mu.nn.Conv1d(2, 3, size, padding=size // 2), mu.nn.Flatten(), mu.nn.Linear(12, 1))
    x = torch.randn(6, 2, 4, generator=torch.Generator().manual_seed(0))
    program = Trainer(net, 0.1, mu.oneof(["SGD", "Adam"], name="kind"))
    shared = mu.share_weights(program, x, kernels="transform", run=lambda t, x: t.model(x))
    tensors = {id(p): name for name, p in shared.module.named_parameters()}
    for index in (1, 0, 2):
        made = shared.materialize(shared.space.dna({"size": index, "kind": index % 2})).step(x)
        groups = [[tensors[id(p)] for p in group["params"]] for group in made.optimizer.param_groups]
        names = (["0.weight", "2.weight", "0.weight<to 3>", "0.weight<to 1>"], ["0.bias", "2.bias"])
        assert groups == [[f"model.{name}" for name in group] for group in names]
    state = shared.module.state_dict()
    assert not torch.equal(state["model.0.weight<to 3>"][1], torch.eye(3)[1])
    assert not torch.equal(state["model.0.weight<to 1>"], torch.eye(1))


def test_the_first_child_stands_there_after_others_were_asked_for_their_groups():
    shared = mu.share_weights(program(), positions="leading")  # Without a batch nothing was run before.
    small = shared.materialize(dna(shared, 1, 1))
    assert isinstance(small.model[1], nn.Tanh) and small.model[0].weight.shape == (4, 4)
    assert shared.dna == dna(shared, 1, 1) and len(small.optimizer.param_groups[0]["params"]) == 3


def test_settings_that_are_decisions_follow_them_and_others_stay_as_a_loop_has_set_them():
    shared = mu.share_weights(program(momentum=mu.oneof([0.9, 0.5], name="momentum")), zoo.features(3, 4))
    first = shared.materialize(dna(shared, 1, 1, momentum=0)).optimizer
    first.param_groups[0]["weight_decay"] = 0.7
    first.param_groups[1]["momentum"] = 0.1
    shared.materialize(dna(shared, 1, 0, rate=0.02, momentum=0))
    assert [(g["lr"], g["momentum"], g["weight_decay"]) for g in first.param_groups] == [
        (0.02, 0.9, 0.7), (0.02, 0.1, 0)]  # fmt: skip
    shared.materialize(dna(shared, 1, 0, rate=0.03, momentum=1))
    assert [(g["lr"], g["momentum"]) for g in first.param_groups] == [(0.03, 0.5), (0.03, 0.5)]


def test_steps_are_those_of_an_optimizer_that_was_made_by_hand_over_all_weights():
    x = zoo.features(3, 4)
    runs = []
    for is_owned in (True, False):
        shared = mu.share_weights(program(momentum=0.9) if is_owned else model(), x, seed=3)
        children = [(1, 1, 0.05), (0, 0, 0.05), (1, 0, 0.02), (1, 0, 0.02), (0, 1, 0.1)]
        tensors = dict(shared.module.named_parameters())
        if not is_owned:
            ends = [[p for n, p in tensors.items() if n.partition("[")[0].endswith(e)] for e in ("weight", "bias")]
            optimizer = torch.optim.SGD([{"params": ends[0], "weight_decay": 0.1}, {"params": ends[1]}], 0.05, 0.9)
            shared.guard(optimizer)
        for width, arm, rate in children:
            if is_owned:
                shared.materialize(dna(shared, width, arm, rate)).step(x)
            else:
                live = shared.materialize(shared.space.dna({"width": width, "arm": arm}))
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.zero_grad()
                live(x).square().mean().backward()
                optimizer.step()
        runs.append({name.removeprefix("model."): p.detach().clone() for name, p in tensors.items()})
    names = {name.replace("[1=", "[").replace("[2=", "[") for name in runs[0]}
    assert len(names) == 6
    for (_, mine), (_, theirs) in zip(sorted(runs[0].items()), sorted(runs[1].items()), strict=True):
        assert torch.equal(mine, theirs)


def test_channels_that_no_child_used_stay_as_they_are_also_after_a_verification():
    x = zoo.features(3, 4)
    shared = mu.share_weights(program(momentum=0.9), x)
    small = dna(shared, 1, 1)
    before = {name: p.detach().clone() for name, p in shared.module.named_parameters()}
    shared.materialize(dna(shared, 0, 0))
    shared.verify(dna(shared, 0, 0), x)
    for _ in range(3):
        shared.materialize(small).step(x)
    after = dict(shared.module.named_parameters())
    assert torch.equal(after["model.0.weight"][4:], before["model.0.weight"][4:])
    assert not torch.equal(after["model.0.weight"][:4], before["model.0.weight"][:4])
    assert torch.equal(after["model.1.weight[1=0]" if "model.1.weight[1=0]" in after else next(
        name for name in after if name.startswith("model.1.weight"))], next(
        value for name, value in before.items() if name.startswith("model.1.weight")))  # fmt: skip


def test_a_verification_between_a_backward_pass_and_a_step_changes_nothing():
    x = zoo.features(3, 4)
    shared = mu.share_weights(program(momentum=0.9), x)
    trainer = shared.materialize(dna(shared, 1, 1))
    before = dict(shared.module.named_parameters())["model.0.weight"].detach().clone()
    trainer.model(x).square().sum().backward()
    shared.verify(dna(shared, 0, 0), x)
    trainer.optimizer.step()
    after = dict(shared.module.named_parameters())["model.0.weight"]
    assert torch.equal(after[4:], before[4:]) and not torch.equal(after[:4], before[:4])


def test_every_child_is_exact_and_an_export_has_an_optimizer_of_its_own():
    x = zoo.features(3, 4)
    shared = mu.share_weights(program(), x)
    for seed in range(4):
        assert shared.verify(shared.space.random(seed), x).error < 1e-12
    child = shared.export(dna(shared, 1, 0))
    live = shared.materialize(dna(shared, 1, 0))
    assert child.optimizer is not live.optimizer and child.optimizer.param_groups[0]["params"][0].shape == (4, 4)
    before = live.model(x).detach()
    child.step(x)
    assert torch.equal(live.model(x), before) and not torch.equal(child.model(x), before)


def test_an_optimizer_of_another_class_is_another_one_and_each_keeps_its_state():
    shared = mu.share_weights(program(kind=mu.oneof(["SGD", "Adam"], name="kind")), zoo.features(3, 4))
    made = [shared.materialize(dna(shared, 0, 0, kind=k)).optimizer for k in (0, 1, 0, 1)]
    assert made[0] is made[2] and made[1] is made[3] and made[0] is not made[1]
    assert [len(g["params"]) for g in made[1].param_groups] == [3, 3]


def test_choices_are_mixed_while_an_optimizer_is_held():
    from mutandis.flows.supernet import Mixture

    x = zoo.features(3, 4)
    shared = mu.share_weights(program(), x)
    shared.materialize(dna(shared, 1, 1))
    weights = torch.tensor([0.5, 0.5], requires_grad=True)
    with shared.select(dna(shared, 1, 1), {"arm": Mixture(weights)}) as live:
        live.step(x)
    assert weights.grad is not None and len(live.optimizer.param_groups[0]["params"]) == 3


def test_an_algorithm_searches_rates_and_layers_of_a_program_that_trains_itself():
    x = zoo.features(3, 4)
    shared = mu.share_weights(program(momentum=0.9), x)
    losses = []
    for trainer, feedback in mu.sample(shared, mu.algorithms.RegularizedEvolution(8, 4), trials=40):
        loss = float(trainer.step(x).model(x).detach().square().mean())
        losses.append(loss)
        feedback(-loss)
    assert min(losses[-10:]) < 0.2 * max(losses[:10])


@mu.symbolize
class Rare(nn.Module):
    """Has a layer that only one in hundreds of children has."""

    def __init__(self, a, b, c):
        super().__init__()
        self.first = nn.Linear(4, 2)
        self.rare = nn.Linear(2, 2) if (a, b, c) == (3, 2, 1) else nn.Identity()

    def forward(self, x):
        return self.rare(self.first(x))


def test_weights_that_come_to_light_later_are_trained_and_guarded_too():
    numbers = [mu.intv(1, 9, name=name) for name in "abc"]
    trained = Trainer(Rare(*numbers), mu.floatv(0.01, 0.1, name="rate"), momentum=0.9)
    shared = mu.share_weights(trained, check="always")
    usual, rare = ({"a": 3, "b": 2, "c": c, "rate": 0.05} for c in (2, 1))
    first = shared.materialize(shared.space.dna(usual)).optimizer
    assert [len(g["params"]) for g in first.param_groups] == [1, 1]
    trainer = shared.materialize(shared.space.dna(rare))
    assert trainer.optimizer is first and [len(g["params"]) for g in first.param_groups] == [2, 2]
    before = trainer.model.rare.weight.detach().clone()
    trainer.step(zoo.features(3, 4))
    assert not torch.equal(trainer.model.rare.weight, before)
    after = trainer.model.rare.weight.detach().clone()
    trainer = shared.materialize(shared.space.dna(usual))
    first.zero_grad(set_to_none=False)
    trainer.model(zoo.features(3, 4)).square().sum().backward()
    first.step()
    assert torch.equal(dict(shared.module.named_parameters())["model.rare.weight"], after)


@mu.symbolize
class Regrouped:
    def __init__(self, model, rate):
        first, *others = model.parameters()
        groups = [{"params": [first]}, {"params": others}] if rate > 0.05 else [{"params": [first, *others]}]
        self.optimizer = torch.optim.SGD(groups, rate)


@mu.symbolize
class Moved:
    def __init__(self, model, rate):
        first, second, *others = model.parameters()
        moved = [first, second] if rate > 0.05 else [second, first]
        self.optimizer = torch.optim.SGD([{"params": moved[:1]}, {"params": [*moved[1:], *others]}], rate)


@mu.symbolize
class Extra:
    """Trains a tensor that nothing but its optimizer holds."""

    def __init__(self, model, rate):
        self.optimizer = torch.optim.SGD([*model.parameters(), nn.Parameter(torch.zeros(3))], rate)


@pytest.mark.parametrize(("kind", "place", "expected"), [
    (Extra, "optimizer", "parameters of modules, or such that an attribute holds"),
    (Regrouped, "optimizer", "1, as of the first child"),
    (Moved, "optimizer", "one group for it"),
])  # fmt: skip
def test_what_cannot_outlive_a_switch_is_refused(kind, place, expected):
    shared = mu.share_weights(kind(mu.nn.Sequential(mu.nn.Linear(4, 2)), mu.floatv(0.01, 0.1, name="rate")))
    if place == "optimizer":
        shared.materialize(shared.space.dna({"rate": 0.02}))
    with pytest.raises(LoweringError) as error:
        shared.materialize(shared.space.dna({"rate": 0.1}))
    assert error.value.at == place and f"expected: {expected}\n" in str(error.value)
    assert str(error.value).startswith(
        "cannot share weights with an optimizer that a program makes when it is built\n"
    ) and str(error.value).endswith(
        "fix:      make it once, of shared.module.parameters(), or inside the method that trains"
    )


@mu.symbolize
class Itself(nn.Module):
    """Makes its own optimizer, or a list of such."""

    def __init__(self, width, is_listed):
        super().__init__()
        self.inner = nn.Linear(4, width)
        made = torch.optim.SGD(self.inner.parameters(), 0.1)
        self.optimizer = [made] if is_listed else made


@pytest.mark.parametrize("is_listed", [False, True])
def test_an_optimizer_that_a_module_makes_is_refused(is_listed):
    program = mu.nn.Sequential(Itself(mu.oneof([2, 4]), is_listed))
    with pytest.raises(LoweringError) as error:
        mu.share_weights(program, zoo.features(3, 4), positions="leading")
    assert str(error.value) == (
        "cannot share the weights of a module that makes an optimizer of them when it is built\n"
        "  at:       0.optimizer\n"
        "  expected: modules that hold weights, and an object around them that trains them\n"
        "  fix:      make it in a method, or in a class around the module, which takes that as an argument"
    )
