"""The program around the live modules."""

from __future__ import annotations

import pickle

import supernet_zoo as zoo
import torch
from torch import nn

import mutandis as mu
from mutandis.flows.supernet.around.owned import whole


@mu.symbolize
class Trainer:
    built = 0

    def __init__(self, model, rate, optimizers=1):
        type(self).built += 1
        self.model, self.rate = model, rate
        layers = list(model)
        self.optimizers = [torch.optim.SGD(layer.parameters(), rate, momentum=0.9) for layer in (layers[0], layers[2])]
        self.schedules = {str(i): torch.optim.lr_scheduler.ExponentialLR(o, 0.5) for i, o in enumerate(self.optimizers)}

    def step(self, x):
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        self.model(x).square().mean().backward()
        for optimizer in self.optimizers:
            optimizer.step()
        for schedule in self.schedules.values():
            schedule.step()


def shared_of():
    width = mu.oneof([8, 4], name="width")
    model = mu.nn.Sequential(mu.nn.Linear(4, width), mu.nn.ReLU(), mu.nn.Linear(width, 1))
    return mu.share_weights(Trainer(model, mu.floatv(0.01, 1.0, name="rate")), zoo.features(3, 4))


def dna(shared, width, rate):
    return shared.space.dna({"width": width, "rate": rate})


def test_optimizers_and_schedules_in_containers_are_kept_each_at_its_place():
    shared = shared_of()
    first = shared.materialize(dna(shared, 0, 0.4))
    first.step(zoo.features(3, 4))
    second = shared.materialize(dna(shared, 1, 0.2))
    assert second is not first and second.optimizers == first.optimizers and second.schedules == first.schedules
    assert [o.param_groups[0]["lr"] for o in second.optimizers] == [0.1, 0.1]
    assert [len(o.param_groups[0]["params"]) for o in second.optimizers] == [2, 2]
    assert [s.optimizer for s in second.schedules.values()] == second.optimizers


def test_channels_that_were_not_used_do_not_drift():
    shared, x = shared_of(), zoo.features(3, 4)
    shared.materialize(dna(shared, 0, 0.4)).step(x)
    before = shared.module.get_parameter("model.0.weight").detach().clone()
    for _ in range(3):
        shared.materialize(dna(shared, 1, 0.4)).step(x)
    after = shared.module.get_parameter("model.0.weight")
    assert torch.equal(after[4:], before[4:]) and not torch.equal(after[:4], before[:4])


def test_a_run_that_was_pickled_goes_on_exactly():
    shared, x = shared_of(), zoo.features(3, 4)
    for width, rate in ((0, 0.4), (1, 0.2), (0, 0.2)):
        shared.materialize(dna(shared, width, rate)).step(x)
    other = pickle.loads(pickle.dumps(shared))
    for width, rate in ((0, 0.2), (1, 0.3), (0, 0.4)):
        for one in (shared, other):
            one.materialize(dna(one, width, rate)).step(x)
    for a, b in zip(shared.module.parameters(), other.module.parameters(), strict=True):
        assert torch.equal(a, b)


@mu.symbolize
class Chosen:
    def __init__(self, model, make):
        self.model = model
        self.optimizer = make(model.parameters(), lr=0.1)

    def step(self, x):
        self.optimizer.zero_grad()
        self.model(x).square().mean().backward()
        self.optimizer.step()


def test_a_run_with_optimizers_of_several_classes_that_was_pickled_goes_on_exactly():
    momentum = mu.floatv(0.1, 0.9, name="momentum")
    kinds = [mu.partial(torch.optim.SGD, momentum=momentum), torch.optim.AdamW]
    layers = mu.oneof([mu.nn.Linear(4, 4), mu.nn.Linear(4, 4), mu.nn.Tanh()], name="layer")
    shared = mu.share_weights(Chosen(mu.nn.Sequential(layers, mu.nn.Linear(4, 1)), mu.oneof(kinds, name="kind")))
    x = zoo.features(3, 4).float()

    def step(made, layer, kind, momentum):
        values = {"layer": layer, "kind": kind} | ({} if kind else {"momentum": momentum})
        made.materialize(made.space.dna(values)).step(x)

    for layer, kind, value in ((0, 0, 0.5), (1, 0, 0.9), (2, 1, 0.0), (1, 1, 0.0)):
        step(shared, layer, kind, value)
    other = pickle.loads(pickle.dumps(shared))
    for layer, kind, value in ((1, 1, 0.0), (0, 1, 0.0), (1, 0, 0.3), (2, 0, 0.3), (0, 0, 0.6), (0, 1, 0.0)):
        for made in (shared, other):
            step(made, layer, kind, value)
        for a, b in zip(shared.module.parameters(), other.module.parameters(), strict=True):
            assert torch.equal(a, b)


def test_looks_at_other_children_leave_alone_what_is_kept():
    shared, x = shared_of(), zoo.features(3, 4)
    trainer = shared.materialize(dna(shared, 0, 0.4))
    trainer.step(x)
    settings = [dict(o.param_groups[0]) for o in trainer.optimizers]
    shared.verify(dna(shared, 1, 0.1), x)
    shared.export(dna(shared, 1, 0.1)).step(x)
    assert shared.cost(dna(shared, 1, 0.1), lambda child: child.rate) == 0.1
    assert shared.cost(dna(shared, 1, 0.1), lambda child: child.model[0].out_features) == 4
    assert [dict(o.param_groups[0]) for o in trainer.optimizers] == settings
    assert shared.dna == dna(shared, 0, 0.4) and trainer.model[0].out_features == 8


def test_a_program_that_makes_nothing_is_only_built_around_the_modules():
    @mu.symbolize
    class Plain:
        def __init__(self, model, rate):
            self.model, self.rate, self.seen = model, rate, []

    layers = mu.nn.Sequential(mu.oneof([mu.nn.Linear(2, 1), mu.nn.Tanh()], name="width"))
    shared = mu.share_weights(Plain(layers, mu.floatv(0.1, 1.0, name="rate")))
    first = shared.materialize(dna(shared, 0, 0.5))
    first.seen.append(1)
    second = shared.materialize(dna(shared, 1, 0.7))
    assert second.seen == [] and second.rate == 0.7 and first.rate == 0.5


def test_modules_hold_whole_tensors_only_for_a_while():
    width = mu.oneof([8, 4], name="width")
    arms = mu.oneof([mu.nn.Linear(width, width), mu.nn.Tanh()], name="arm")
    shared = mu.share_weights(mu.nn.Sequential(mu.nn.Linear(4, width), arms, nn.Flatten(), mu.nn.Linear(width, 1)),
                              zoo.features(3, 4))  # fmt: skip
    live = shared.materialize(shared.space.dna({"width": 1, "arm": 0}))
    views = list(live.parameters())
    with whole(shared._live, shared._store):
        assert [tuple(p.shape) for p in live.parameters()] == [(8, 4), (8,), (8, 8), (8,), (1, 8), (1,)]
        assert all(p.is_leaf for p in live.parameters())
    assert all(a is b for a, b in zip(views, live.parameters(), strict=True))
