"""Schedules of rates: one clock for all children, and the rates of each as if it had been alone all along."""

from __future__ import annotations

import copy
import functools

import pytest
import supernet_zoo as zoo
import torch
from torch.optim import lr_scheduler as lr

import mutandis as mu
from mutandis.errors import LoweringError
from mutandis.flows.supernet.around.schedules import born, clock, inner


def warmed(optimizer):
    """A warm-up, then a cosine."""
    parts = [lr.LinearLR(optimizer, 0.1, total_iters=5), lr.CosineAnnealingLR(optimizer, 30, eta_min=1e-3)]
    return lr.SequentialLR(optimizer, parts, [5])


class Doubled(lr.LRScheduler):
    """A schedule of one's own, whose next rates hang on the last ones."""

    def get_lr(self):
        return [group["lr"] * (0.9 if self.last_epoch else 1.0) for group in self.optimizer.param_groups]


SCHEDULES = {
    "lambda": lambda o: lr.LambdaLR(o, lambda t: 1 / (1 + t)),
    "multiplicative": lambda o: lr.MultiplicativeLR(o, lambda t: 0.95),
    "step": lambda o: lr.StepLR(o, 7, 0.5),
    "multi step": lambda o: lr.MultiStepLR(o, [3, 11], 0.3),
    "constant": lambda o: lr.ConstantLR(o, 0.25, 9),
    "linear": lambda o: lr.LinearLR(o, 0.1, total_iters=40),
    "exponential": lambda o: lr.ExponentialLR(o, 0.97),
    "polynomial": lambda o: lr.PolynomialLR(o, 120, 0.9),
    "cosine": lambda o: lr.CosineAnnealingLR(o, 50, eta_min=1e-4),
    "restarts": lambda o: lr.CosineAnnealingWarmRestarts(o, 6, 2),
    "one cycle": lambda o: lr.OneCycleLR(o, o.param_groups[0]["lr"] * 2, total_steps=130),
    "cyclic": lambda o: lr.CyclicLR(o, o.param_groups[0]["lr"] / 4, o.param_groups[0]["lr"], 8),
    "sequential": warmed,
    "chained": lambda o: lr.ChainedScheduler([lr.ConstantLR(o, 0.1, 3), lr.ExponentialLR(o, 0.9)]),
    "one's own": Doubled,
}


@mu.symbolize
class Trainer:
    def __init__(self, model, rate, make, kind=torch.optim.SGD, **settings):
        self.model = model
        self.optimizer = kind(model.parameters(), rate, momentum=0.9)
        self.schedule = make(self.optimizer, **settings)

    def step(self, x, *told):
        self.optimizer.zero_grad()
        self.model(x).square().mean().backward()
        self.optimizer.step()
        self.schedule.step(*told)


def shared_of(make, rate=None, **settings):
    model = mu.nn.Sequential(mu.nn.Linear(4, mu.oneof([8, 4], name="width")))
    rate = mu.floatv(0.01, 1.0, name="rate") if rate is None else rate
    return mu.share_weights(Trainer(model, rate, make, **settings), positions="leading")


def alone(make, rate, steps, **settings):
    """Returns what drives an optimizer whose schedule was stepped so often."""
    weight = torch.nn.Parameter(torch.ones(1))
    weight.grad = torch.zeros(1)
    optimizer = torch.optim.SGD([weight], rate, momentum=0.9)
    schedule = make(optimizer, **settings)
    for _ in range(steps):
        optimizer.step()
        schedule.step()
    return optimizer, schedule


@pytest.mark.parametrize("name", SCHEDULES)
def test_rates_of_each_child_are_those_of_a_run_that_was_it_all_along(name):
    shared = shared_of(SCHEDULES[name])
    first = None
    for time in range(75 if name in ("step", "lambda", "cosine", "one cycle", "sequential") else 25):
        rate = (0.4, 0.1, 0.1, 0.7)[time % 4]
        trainer = shared.materialize(shared.space.dna({"width": time % 2, "rate": rate}))
        first = trainer.schedule if first is None else first
        assert trainer.schedule is first and trainer.schedule.optimizer is trainer.optimizer
        expected, schedule = alone(SCHEDULES[name], rate, time)
        given, wanted = trainer.optimizer.param_groups[0], expected.param_groups[0]
        numbers = [name for name, value in wanted.items() if isinstance(value, float)]
        assert given.keys() == wanted.keys() and {"lr", "initial_lr", "momentum"} <= set(numbers)
        assert [given[name] for name in numbers] == pytest.approx([wanted[name] for name in numbers], rel=1e-12)
        assert trainer.schedule.get_last_lr() == pytest.approx(schedule.get_last_lr(), rel=1e-12)
        assert clock(trainer.schedule) == clock(schedule)
        trainer.step(zoo.features(3, 4))


@pytest.mark.parametrize("name", ["step", "polynomial", "linear", "constant", "exponential", "multi step", "cyclic"])
def test_a_clock_that_shows_a_late_time_is_set_at_once(name, monkeypatch):
    shared = shared_of(SCHEDULES[name])
    trainer = shared.materialize(shared.space.dna({"width": 0, "rate": 0.4}))
    for _ in range(100):
        trainer.step(zoo.features(3, 4))
    steps = []
    kind = type(trainer.schedule)
    plain = kind.step
    monkeypatch.setattr(kind, "step", lambda self, *rest: (steps.append(1), plain(self, *rest))[1])
    trainer = shared.materialize(shared.space.dna({"width": 0, "rate": 0.1}))
    assert len(steps) <= 2  # That of its __init__, and the last one.
    for time in (100, 101):
        expected, schedule = alone(SCHEDULES[name], 0.1, time)
        assert trainer.schedule._step_count == schedule._step_count
        assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(expected.param_groups[0]["lr"], rel=1e-12)
        trainer.step(zoo.features(3, 4))


def test_children_of_one_rate_do_not_touch_the_schedule(monkeypatch):
    shared = shared_of(SCHEDULES["step"], rate=0.4)
    trainer = shared.materialize(shared.space.dna({"width": 0}))
    for _ in range(9):
        trainer.step(zoo.features(3, 4))
    trainer.optimizer.param_groups[0]["lr"] = 0.123  # By hand: no switch undoes it.
    trainer = shared.materialize(shared.space.dna({"width": 1}))
    assert trainer.optimizer.param_groups[0]["lr"] == 0.123 and trainer.schedule.last_epoch == 9


def test_settings_of_a_schedule_may_be_decisions():
    shared = shared_of(lr.StepLR, 0.5, step_size=mu.oneof([2, 4], name="size"), gamma=mu.floatv(0.1, 0.9, name="gamma"))
    for time in range(12):
        size, gamma = (time // 3) % 2, (0.5, 0.3)[time % 2]
        trainer = shared.materialize(shared.space.dna({"width": 0, "size": size, "gamma": gamma}))
        expected, _ = alone(lr.StepLR, 0.5, time, step_size=(2, 4)[size], gamma=gamma)
        assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(expected.param_groups[0]["lr"], rel=1e-12)
        trainer.step(zoo.features(3, 4))


def test_settings_that_a_schedule_moves_beside_the_rate_are_those_of_its_time():
    make = lambda o, most: lr.OneCycleLR(o, 0.5, total_steps=40, max_momentum=most)  # noqa: E731
    shared = shared_of(make, 0.5, most=mu.floatv(0.9, 0.99, name="most"))
    for time in range(20):
        most = (0.9, 0.99)[time % 2]
        trainer = shared.materialize(shared.space.dna({"width": 0, "most": most}))
        expected, _ = alone(make, 0.5, time, most=most)
        assert trainer.optimizer.param_groups[0]["momentum"] == pytest.approx(expected.param_groups[0]["momentum"])
        trainer.step(zoo.features(3, 4))


def test_a_schedule_of_another_class_goes_on_at_the_same_time():
    kinds = [SCHEDULES["step"], SCHEDULES["cosine"]]
    shared = shared_of(mu.oneof(kinds, name="make"), 0.5)
    made = []
    for time in range(12):
        pick = (time // 2) % 2
        trainer = shared.materialize(shared.space.dna({"width": 0, "make": pick}))
        expected, _ = alone(kinds[pick], 0.5, time)
        assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(expected.param_groups[0]["lr"], rel=1e-12)
        made.append(trainer.schedule)
        trainer.step(zoo.features(3, 4))
    assert len(set(map(id, made))) == 2 and made[0] is made[5]


def test_an_optimizer_of_another_class_is_driven_at_the_same_time():
    kinds = [torch.optim.SGD, torch.optim.RMSprop]
    shared = shared_of(SCHEDULES["exponential"], 0.5, kind=mu.oneof(kinds, name="kind"))
    for time in range(8):
        trainer = shared.materialize(shared.space.dna({"width": 0, "kind": (time // 2) % 2}))
        assert type(trainer.optimizer) is kinds[(time // 2) % 2] and trainer.schedule.optimizer is trainer.optimizer
        assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(0.5 * 0.97**time, rel=1e-12)
        trainer.step(zoo.features(3, 4))


def test_a_schedule_that_is_told_things_keeps_what_it_knows_and_scales_its_rates():
    shared = shared_of(lr.ReduceLROnPlateau, factor=mu.oneof([0.5, 0.1], name="factor"), patience=0, min_lr=0.001)
    dna = lambda rate, factor=0: shared.space.dna({"width": 0, "rate": rate, "factor": factor})  # noqa: E731
    trainer = shared.materialize(dna(0.4))
    trainer.step(zoo.features(3, 4), 1.0)
    trainer.step(zoo.features(3, 4), 2.0)  # Worse: halved.
    assert trainer.optimizer.param_groups[0]["lr"] == 0.2 and trainer.schedule.best == 1.0
    first, trainer = trainer.schedule, shared.materialize(dna(0.1, 1))
    assert trainer.schedule is first and first.best == 1.0 and first.last_epoch == 2 and first.factor == 0.1
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(0.05) and first.get_last_lr() == [0.05]
    trainer.step(zoo.features(3, 4), 3.0)
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(0.005)
    trainer = shared.materialize(dna(0.01, 1))
    assert trainer.optimizer.param_groups[0]["lr"] == 0.001  # Not below the smallest.


class Told(lr.LRScheduler):
    def step(self, loss=None):
        if loss is None and self._step_count:
            raise TypeError("step() missing 1 required positional argument: 'loss'")
        self._step_count, self.last_epoch = self._step_count + 1, self.last_epoch + 1


def test_a_clock_that_cannot_be_set_is_refused_where_it_has_to_be():
    shared = shared_of(Told)
    trainer = shared.materialize(shared.space.dna({"width": 0, "rate": 0.4}))
    trainer.step(zoo.features(3, 4), 1.0)
    assert shared.materialize(shared.space.dna({"width": 1, "rate": 0.4})).schedule is trainer.schedule
    with pytest.raises(LoweringError) as error:
        shared.materialize(shared.space.dna({"width": 1, "rate": 0.3}))
    assert str(error.value) == (
        "cannot set the clock of a schedule whose settings are decisions\n  at:       schedule\n"
        "  got:      'Told' (str)\n  expected: a schedule whose step() takes no arguments\n"
        "  fix:      keep what it is made from the same for all children, or let the class of the program define "
        "on_rebind"
    )


def test_parts_that_attributes_hold_too_are_those_of_the_kept_schedule():
    @mu.symbolize
    class Both(Trainer):
        def __init__(self, model, rate):
            super().__init__(model, rate, warmed)
            self.warmup, self.cosine = inner(self.schedule)

    shared = mu.share_weights(Both(mu.nn.Linear(4, 2), mu.floatv(0.1, 1.0, name="rate")))
    first = shared.materialize(shared.space.dna({"rate": 0.5}))
    parts = inner(first.schedule)
    for _ in range(7):
        first.step(zoo.features(3, 4))
    second = shared.materialize(shared.space.dna({"rate": 0.2}))
    assert inner(second.schedule) == parts == [second.warmup, second.cosine]
    assert all(part.optimizer is second.optimizer for part in parts)
    expected, _ = alone(warmed, 0.2, 7)
    assert second.optimizer.param_groups[0]["lr"] == pytest.approx(expected.param_groups[0]["lr"], rel=1e-12)


def test_a_copy_goes_on_exactly():
    shared = shared_of(warmed)
    for time in range(9):
        trainer = shared.materialize(shared.space.dna({"width": time % 2, "rate": (0.4, 0.1)[time % 2]}))
        trainer.step(zoo.features(3, 4))
    other = copy.deepcopy(shared)
    for time in range(9, 20):
        trainers = [s.materialize(s.space.dna({"width": time % 2, "rate": (0.4, 0.1)[time % 2]}))
                    for s in (shared, other)]  # fmt: skip
        for trainer in trainers:
            trainer.step(zoo.features(3, 4))
        groups = [{k: v for k, v in t.optimizer.param_groups[0].items() if k != "params"} for t in trainers]
        assert groups[0] == groups[1] and trainers[0].schedule is not trainers[1].schedule
    for a, b in zip(shared.module.parameters(), other.module.parameters(), strict=True):
        assert torch.equal(a, b)


def test_what_a_schedule_looks_like_when_it_is_made_tells_settings_apart():
    made = functools.partial(alone, lr.StepLR, steps=0, step_size=3)
    assert born(made(0.1)[1]) == born(made(0.1)[1]) != born(made(0.2)[1])
    assert born(alone(SCHEDULES["lambda"], 0.1, 0)[1]) == born(alone(SCHEDULES["lambda"], 0.1, 0)[1])
