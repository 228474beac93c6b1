"""Objects of a program that take changes in place."""

from __future__ import annotations

import pytest
import supernet_zoo as zoo
import torch
from torch import nn

import mutandis as mu
from mutandis.flows.supernet.around.standing import compared
from mutandis.symbolic.paths import Path


@mu.symbolize
class Setting:
    def __init__(self, size, note="n"):
        self.size, self.note = size, note


@mu.symbolize
class Trainer:
    """Keeps its counters, and what it was told."""

    built = 0

    def __init__(self, model, rate, setting, *, extra=None, **more):
        type(self).built += 1
        self.model, self.rate, self.setting, self.more = model, rate, setting, more
        self.nets = [model]
        self.optimizer = torch.optim.SGD(model.parameters(), rate, momentum=0.9)
        self.schedule = torch.optim.lr_scheduler.StepLR(self.optimizer, 100)
        self.steps, self.told = 0, []

    def on_rebind(self, changes):
        self.told.append(changes)
        if "rate" in changes:
            self.rate = changes["rate"][1]
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate

    def step(self, x):
        self.steps += 1
        self.optimizer.zero_grad()
        self.model(x).square().mean().backward()
        self.optimizer.step()
        self.schedule.step()


def model():
    width = mu.oneof([8, 4], name="width")
    layer = mu.oneof([mu.nn.Linear(width, width), mu.nn.Tanh()], name="layer")
    return mu.nn.Sequential(mu.nn.Linear(4, width), layer, mu.nn.Linear(width, 1))


def program(kind=Trainer, **more):
    return kind(model(), mu.floatv(0.01, 1.0, name="rate"), Setting(mu.oneof([1, 2], name="size")), **more)


def dna(shared, width=0, layer=0, rate=0.1, size=0, **more):
    return shared.space.dna({"width": width, "layer": layer, "rate": rate, "size": size, **more})


@pytest.fixture
def shared():
    made = mu.share_weights(program(), zoo.features(3, 4))
    made.materialize(dna(made))
    Trainer.built = 0
    return made


def test_one_object_stands_in_all_children_and_keeps_its_state(shared):
    first = shared.materialize(dna(shared))
    first.step(zoo.features(3, 4))
    second = shared.materialize(dna(shared, 1, 1, 0.2, 1))
    second.step(zoo.features(3, 4))
    assert second is first and first.steps == 2 and Trainer.built == 0
    assert first.schedule.last_epoch == 2 and first.optimizer.param_groups[0]["lr"] == 0.2


def test_it_is_told_what_changed_at_and_below_it(shared):
    trainer = shared.materialize(dna(shared))
    shared.materialize(dna(shared))
    assert trainer.told == []
    shared.materialize(dna(shared, 0, 0, 0.2, 1))
    assert trainer.told.pop() == {"rate": (0.1, 0.2), "setting.size": (1, 2)}
    old = trainer.model
    shared.materialize(dna(shared, 1, 0, 0.2, 1))
    told = trainer.told.pop()
    assert told.pop("model", (old, trainer.model)) == (old, trainer.model)
    assert {path: told[path] for path in told if path.endswith("out_features")} == {
        "model.args[0].out_features": (8, 4), "model.args[1].out_features": (8, 4)}  # fmt: skip
    shared.materialize(dna(shared, 1, 1, 0.2, 1))
    (path, (before, after)), *rest = [item for item in trainer.told.pop().items() if item[0] != "model"]
    assert path == "model.args[1]" and not rest
    assert isinstance(before, nn.Linear) and isinstance(after, nn.Tanh)


def test_it_holds_the_modules_and_the_arguments_of_the_child(shared):
    for seed in range(5):
        child = shared.space.random(seed)
        trainer = shared.materialize(child)
        assert trainer.model is shared._live.roots[0] is trainer.nets[0]
        assert mu.arguments(trainer)["model"] is trainer.model
        assert trainer.setting is mu.arguments(trainer)["setting"] and trainer.setting.size == (1, 2)[child["size"]]
        assert trainer.rate == child["rate"] == mu.arguments(trainer)["rate"]
        assert shared.verify(child, zoo.features(3, 4)).error < 1e-12


def test_its_optimizer_holds_the_weights_of_all_children_and_leaves_alone_what_was_not_used(shared):
    x = zoo.features(3, 4)
    trainer = shared.materialize(dna(shared))
    assert len(trainer.optimizer.param_groups[0]["params"]) == 6
    trainer.step(x)
    before = {name: p.detach().clone() for name, p in shared.module.named_parameters()}
    shared.materialize(dna(shared, 1, 1)).step(x)
    after = dict(shared.module.named_parameters())
    assert torch.equal(after["model.0.weight"][4:], before["model.0.weight"][4:])
    assert not torch.equal(after["model.0.weight"][:4], before["model.0.weight"][:4])
    layer = next(name for name in after if name.startswith("model.1.weight"))
    assert torch.equal(after[layer], before[layer])


def test_an_export_is_a_new_object_of_its_own(shared):
    trainer = shared.materialize(dna(shared))
    trainer.step(zoo.features(3, 4))
    child = shared.export(dna(shared, 1, 1, 0.3))
    assert child is not trainer and child.steps == 0 and child.rate == 0.3 and child.told == []
    assert trainer.steps == 1 and trainer.told == []


@mu.symbolize
class Refusing(Trainer):
    def on_rebind(self, changes):
        return False if "rate" in changes else super().on_rebind(changes)


def test_it_is_built_anew_where_it_does_not_take_a_change():
    shared = mu.share_weights(program(Refusing), zoo.features(3, 4))
    first = shared.materialize(dna(shared))
    first.step(zoo.features(3, 4))
    assert shared.materialize(dna(shared, size=1)) is first
    second = shared.materialize(dna(shared, rate=0.3))
    assert second is not first and second.steps == 0 and second.rate == 0.3
    assert second.optimizer is first.optimizer and second.optimizer.param_groups[0]["lr"] == 0.3
    assert second.schedule is first.schedule and second.schedule.last_epoch == 1


@mu.symbolize
class Failing(Trainer):
    def on_rebind(self, changes):
        if changes["rate"][1] > 0.5:
            raise RuntimeError("too fast")
        super().on_rebind(changes)


def test_an_error_passes_through_and_the_change_is_told_again():
    shared = mu.share_weights(program(Failing), zoo.features(3, 4))
    trainer = shared.materialize(dna(shared))
    with pytest.raises(RuntimeError, match="too fast"):
        shared.materialize(dna(shared, rate=0.6))
    assert mu.arguments(trainer)["rate"] == 0.1
    shared.materialize(dna(shared, rate=0.2))
    assert trainer.told == [{"rate": (0.1, 0.2)}]


@mu.symbolize
class Logger:
    def __init__(self, level, model=None):
        self.level, self.model, self.lines = level, model, 0

    def on_rebind(self, changes):
        self.level = changes.get("level", (0, self.level))[1]


@mu.symbolize
class Outer:
    def __init__(self, model, rate, logger):
        self.model, self.rate, self.logger = model, rate, logger


def test_an_object_inside_of_a_program_that_is_built_anew_stands_there_too():
    net = model()
    level = mu.intv(1, 3, name="level")
    shared = mu.share_weights(Outer(net, mu.floatv(0.1, 1.0, name="rate"), Logger(level, net)), zoo.features(3, 4),
                              run=lambda outer, x: outer.model(x))  # fmt: skip
    first = shared.materialize(shared.space.dna({"width": 0, "layer": 0, "rate": 0.5, "level": 1}))
    first.logger.lines = 7
    second = shared.materialize(shared.space.dna({"width": 1, "layer": 1, "rate": 0.7, "level": 3}))
    assert second is not first and second.rate == 0.7
    assert second.logger is first.logger and second.logger.lines == 7 and second.logger.level == 3
    assert second.logger.model is second.model and mu.arguments(second)["logger"] is second.logger


def test_what_stands_below_a_choice_waits_until_it_is_chosen_again():
    choice = mu.oneof([Logger(mu.intv(1, 3, name="level")), None], name="log")
    shared = mu.share_weights({"net": model(), "log": choice}, zoo.features(3, 4))
    values = {"width": 0, "layer": 0}
    first = shared.materialize(shared.space.dna({**values, "log": 0, "level": 1}))["log"]
    assert shared.materialize(shared.space.dna({**values, "log": 1}))["log"] is None
    second = shared.materialize(shared.space.dna({**values, "log": 0, "level": 2}))["log"]
    assert second is first and first.level == 2


def test_arguments_are_compared_by_what_they_hold():
    old = {"a": [Setting(1), 2], "b": Setting(3)}
    new = {"a": [Setting(4), 2], "b": None}
    changes, pairs = compared(old, new, Path(("x",)))
    assert changes == {"x['a'][0].size": (1, 4), "x['b']": (old["b"], None)}
    assert pairs == {id(old["a"][0]): new["a"][0], id(old["b"]): None}
    assert compared([1, 2], [1, 2], Path()) == ({}, {})
    assert compared([1, 2], [1], Path(("x",))) == ({"x": ([1, 2], [1])}, {})
