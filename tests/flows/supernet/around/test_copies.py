"""Copies of modules that share weights: averages and teachers."""

from __future__ import annotations

import copy

import pytest
import supernet_zoo as zoo
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn

import mutandis as mu
from mutandis.errors import LoweringError


@mu.symbolize
class Trainer:
    def __init__(self, model, rate=0.1):
        self.model, self.rate = model, rate
        self.optimizer = torch.optim.SGD(model.parameters(), rate, momentum=0.9)
        self.average = AveragedModel(model, avg_fn=get_ema_avg_fn(0.5))

    def step(self, x):
        self.optimizer.zero_grad()
        self.model(x).square().mean().backward()
        self.optimizer.step()
        self.average.update_parameters(self.model)


def model():
    width = mu.oneof([8, 4], name="width")
    layer = mu.oneof([mu.nn.Linear(width, width), mu.nn.Sequential(mu.nn.BatchNorm1d(width))], name="layer")
    return mu.nn.Sequential(mu.nn.Linear(4, width), layer, mu.nn.Linear(width, 1))


def shared_of(kind=Trainer):
    return mu.share_weights(kind(model()), zoo.features(3, 4), seed=1)


def dna(shared, width, layer):
    return shared.space.dna({"width": width, "layer": layer})


def by_hand(steps, x):
    """Returns the averages of whole weights, each moved only where a child has it."""
    shared = mu.share_weights(model(), x, seed=1)
    weights = dict(shared.module.named_parameters())
    optimizer = torch.optim.SGD(shared.module.parameters(), 0.1, momentum=0.9)
    shared.guard(optimizer)
    averages = {name: p.detach().clone() for name, p in weights.items()}
    for number, (width, layer) in enumerate(steps):
        live = shared.materialize(dna(shared, width, layer))
        optimizer.zero_grad()
        live(x).square().mean().backward()
        optimizer.step()
        for loan, cut in shared._live.loans():
            if not loan.is_buffer:
                name = shared._store.name(loan.key)
                box = tuple(slice(None) if axis is None else slice(axis[0], sum(axis)) for axis in cut)
                now = weights[name].detach()[box]
                averages[name][box] = now if number == 0 else averages[name][box] * 0.5 + now * 0.5
    return averages


STEPS = [(0, 0), (1, 1), (1, 0), (0, 1), (1, 1)]


def test_an_average_is_that_of_the_whole_weights_and_moves_where_a_child_has_them():
    shared, x = shared_of(), zoo.features(3, 4)
    for width, layer in STEPS:
        trainer = shared.materialize(dna(shared, width, layer))
        trainer.step(x)
        assert [tuple(p.shape) for p in trainer.average.module.parameters()] == [
            tuple(p.shape) for p in trainer.model.parameters()]  # fmt: skip
    averages = by_hand(STEPS, x)
    (whole,) = shared._owned._copies._tensors.values()
    found = {shared._store.name(key): tensor for key, tensor in whole["module"].items()}
    for name, expected in averages.items():
        assert torch.allclose(found[f"model.{name}"], expected, atol=1e-12), name
    assert int(trainer.average.n_averaged) == len(STEPS)


def test_the_average_is_one_object_and_runs_as_the_child_that_stands_there():
    shared, x = shared_of(), zoo.features(3, 4)
    first = shared.materialize(dna(shared, 0, 0))
    first.step(x)
    second = shared.materialize(dna(shared, 1, 1))
    assert second.average is first.average and isinstance(second.average.module[1], nn.Sequential)
    second.step(x)
    assert torch.allclose(second.average.eval()(x), nn.Sequential(*second.average.module)(x))
    assert second.average(x).shape == (3, 1)
    assert not any(p is q for p in second.average.parameters() for q in shared.module.parameters())


def test_a_copy_goes_on_exactly():
    shared, x = shared_of(), zoo.features(3, 4)
    for width, layer in STEPS:
        shared.materialize(dna(shared, width, layer)).step(x)
    other = copy.deepcopy(shared)
    for width, layer in [*STEPS, *STEPS]:
        trainers = [s.materialize(dna(s, width, layer)) for s in (shared, other)]
        for trainer in trainers:
            trainer.step(x)
        assert int(trainers[0].average.n_averaged) == int(trainers[1].average.n_averaged)
        for a, b in zip(*(t.average.parameters() for t in trainers), strict=True):
            assert torch.equal(a, b) and a is not b


class Follower:
    """An average as people write it."""

    def __init__(self, net, rate):
        self.net, self.rate, self.count = copy.deepcopy(net).eval().requires_grad_(False), rate, 0

    @torch.no_grad()
    def update(self, net):
        self.count += 1
        for mine, theirs in zip(self.net.parameters(), net.parameters(), strict=True):
            mine.lerp_(theirs, self.rate)


@mu.symbolize
class Student:
    def __init__(self, model):
        self.model = model
        self.teacher = copy.deepcopy(model[0]).requires_grad_(False)
        self.follower = Follower(model, 0.5)
        self.optimizer = torch.optim.SGD(model.parameters(), 0.1)


@mu.symbolize
class Standing(Student):
    def on_rebind(self, changes):
        pass


@pytest.mark.parametrize("kind", [Student, Standing])
def test_copies_that_a_program_makes_itself_follow_too(kind):
    shared = shared_of(kind)
    first = shared.materialize(dna(shared, 0, 0))
    follower = first.follower
    with torch.no_grad():
        first.teacher.weight.fill_(7.0)
        first.model[0].weight.zero_()
    before = follower.net[0].weight.clone()
    follower.update(first.model)
    second = shared.materialize(dna(shared, 1, 1))
    assert second.follower is follower and follower.count == 1
    assert second.teacher.weight.shape == (4, 4) and bool((second.teacher.weight == 7.0).all())
    assert torch.equal(follower.net[0].weight, before[:4] / 2) and not follower.net.training
    assert not any(p.requires_grad for p in [*follower.net.parameters(), *second.teacher.parameters()])
    third = shared.materialize(dna(shared, 0, 0))
    assert torch.equal(third.follower.net[0].weight, before / 2) and third.teacher.weight.shape == (8, 4)


def test_a_copy_is_none_of_the_live_program():
    shared = shared_of()
    trainer = shared.materialize(dna(shared, 0, 0))
    with pytest.raises(LoweringError, match="cannot copy the live program"):
        copy.deepcopy(trainer.model)  # Only while the program is built.
    assert all("__deepcopy__" not in module.__dict__ for module in trainer.model.modules())
    assert shared.verify(dna(shared, 1, 1), zoo.features(3, 4)).error < 1e-12


@mu.symbolize
class Both:
    def __init__(self, model):
        self.model, self.twin = model, copy.deepcopy(model)
        self.optimizer = torch.optim.SGD([*model.parameters(), *self.twin.parameters()], 0.1)


def test_training_a_copy_is_refused():
    shared = shared_of(Both)
    with pytest.raises(LoweringError) as error:
        shared.materialize(dna(shared, 0, 0))
    assert str(error.value) == (
        "cannot train a copy of modules that share weights\n  at:       optimizer\n"
        "  got:      'an optimizer that holds parameters of the copy' (str)\n"
        "  expected: a copy that follows, such as an average\n"
        "  fix:      give the program a second module as an argument, whose weights are shared too"
    )


@mu.symbolize
class Joined(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.a, self.b, self.last = nn.Linear(4, width), nn.Linear(4, 4), nn.Linear(width + 4, 1)

    def forward(self, x):
        return self.last(torch.cat([self.a(x), self.b(x)], 1))


def test_a_copy_whose_places_are_gathered_is_refused():
    shared = mu.share_weights(Trainer(Joined(mu.oneof([4, 2], name="width"))), zoo.features(3, 4))
    shared.materialize(shared.space.dna({"width": 0}))
    with pytest.raises(LoweringError) as error:
        shared.materialize(shared.space.dna({"width": 1}))
    assert str(error.value) == (
        "cannot keep a copy of modules that share weights\n  at:       average\n"
        "  got:      'model.last.weight, whose places are gathered or computed' (str)\n"
        "  expected: tensors that are parts of shared ones, as leading channels and the centres of kernels are\n"
        "  fix:      make the copy of shared.module, outside of the program"
    )
