"""Modules, parameters and other objects that a program makes and that share no weights."""

from __future__ import annotations

import copy
import pickle

import pytest
import supernet_zoo as zoo
import torch
from torch import nn

import mutandis as mu
from mutandis.errors import LoweringError


class Counter:
    def __init__(self, limit):
        self.limit, self.seen, self.lines = limit, 0, []

    def state_dict(self):
        return {"seen": self.seen, "lines": self.lines}

    def load_state_dict(self, state):
        self.seen, self.lines = state["seen"], list(state["lines"])


class Warmup:
    """A schedule as people write it: it has counters, and no state that it tells."""

    def __init__(self, optimizer, rate, steps):
        self.optimizer, self.rate, self.steps, self.count = optimizer, rate, steps, 0

    def step(self):
        self.count += 1
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * min(1.0, self.count / self.steps)


@mu.symbolize
class Trainer:
    def __init__(self, model, limit=3, smooth=0.1, size=2, steps=4):
        self.model = model
        self.head = nn.Linear(4, size)
        self.temperature = nn.Parameter(torch.ones(1))
        self.loss = nn.CrossEntropyLoss(weight=torch.full((2,), 1.0 + smooth), label_smoothing=smooth)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=8.0 * limit, growth_interval=1)
        self.counter = Counter(limit)
        everything = [*model.parameters(), *self.head.parameters(), self.temperature]
        self.optimizer = torch.optim.Adam(everything, 0.1)
        self.warmup = Warmup(self.optimizer, 0.1, steps)

    def step(self, x, y):
        self.counter.seen += 1
        self.counter.lines.append(len(x))
        self.optimizer.zero_grad()
        loss = self.loss(self.head(self.model(x)) * self.temperature, y)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.warmup.step()


def shared_of(**settings):
    layer = mu.oneof([mu.nn.Linear(4, 4), mu.nn.Tanh()], name="layer")
    return mu.share_weights(Trainer(mu.nn.Sequential(mu.nn.Linear(4, 4), layer), **settings))


def batch():
    return zoo.features(6, 4).float(), torch.arange(6) % 2


def test_the_first_one_is_kept_with_what_it_has_learnt_and_counted():
    shared = shared_of()
    first = shared.materialize(shared.space.dna({"layer": 0}))
    first.step(*batch())
    second = shared.materialize(shared.space.dna({"layer": 1}))
    second.step(*batch())
    assert second is not first
    for name in ("head", "temperature", "loss", "scaler", "counter", "optimizer", "warmup"):
        assert getattr(second, name) is getattr(first, name)
    assert second.counter.seen == 2 and second.scaler.get_scale() == 24.0 * 4 and second.warmup.count == 2
    assert second.warmup.optimizer is second.optimizer and second.optimizer.param_groups[0]["lr"] == 0.05
    held = {id(p) for p in second.optimizer.param_groups[0]["params"]}
    assert held == {id(p) for p in [*shared.module.parameters(), *second.head.parameters(), second.temperature]}
    assert float(second.optimizer.state[second.temperature]["step"]) == 2


def test_settings_that_are_decisions_follow_them_and_what_was_counted_stays():
    shared = shared_of(limit=mu.oneof([3, 5], name="limit"), smooth=mu.oneof([0.1, 0.3], name="smooth"),
                       steps=mu.oneof([4, 8], name="steps"))  # fmt: skip
    pick = lambda **more: shared.materialize(  # noqa: E731
        shared.space.dna({"layer": 0, "limit": 0, "smooth": 0, "steps": 0, **more}))  # fmt: skip
    trainer = pick()
    trainer.step(*batch())
    trainer.counter.limit = 99  # By hand.
    trainer = pick(smooth=1, steps=1)
    assert trainer.loss.label_smoothing == 0.3 and trainer.loss.weight.tolist() == pytest.approx([1.3, 1.3])
    assert trainer.warmup.steps == 8 and trainer.warmup.count == 1
    assert trainer.counter.limit == 99 and trainer.counter.lines == [6]
    trainer = pick(limit=1)
    assert trainer.counter.limit == 5 and trainer.counter.seen == 1 and trainer.warmup.steps == 4
    assert trainer.scaler.get_scale() == 48.0


def test_a_shape_that_hangs_on_the_child_is_refused():
    shared = shared_of(size=mu.oneof([2, 3], name="size"))
    shared.materialize(shared.space.dna({"layer": 0, "size": 0}))
    with pytest.raises(LoweringError) as error:
        shared.materialize(shared.space.dna({"layer": 0, "size": 1}))
    assert str(error.value) == (
        "cannot keep what a program makes when it is built: children have it in different shapes\n"
        "  at:       head\n  got:      {'bias': (3,), 'weight': (3, 4)} (dict)\n"
        "  expected: {'weight': (2, 4), 'bias': (2,)}, as of the first child\n"
        "  fix:      make it an argument of the program, so that its weights are shared too"
    )


def test_a_copy_goes_on_exactly():
    shared = shared_of()
    shared.materialize(shared.space.dna({"layer": 1})).step(*batch())
    shared.materialize(shared.space.dna({"layer": 0})).step(*batch())
    other = copy.deepcopy(shared)
    for layer in (1, 0, 0, 1):
        trainers = [s.materialize(s.space.dna({"layer": layer})) for s in (shared, other)]
        for trainer in trainers:
            trainer.step(*batch())
        assert trainers[0].warmup.count == trainers[1].warmup.count
        assert trainers[0].counter is not trainers[1].counter
        assert trainers[0].counter.state_dict() == trainers[1].counter.state_dict()
        assert trainers[0].scaler.state_dict() == trainers[1].scaler.state_dict()
        for one, two in zip(trainers[0].optimizer.param_groups[0]["params"],
                            trainers[1].optimizer.param_groups[0]["params"], strict=True):  # fmt: skip
            assert torch.equal(one, two) and one is not two
            states = [t.optimizer.state.get(p, {}) for t, p in zip(trainers, (one, two), strict=True)]
            assert states[0].keys() == states[1].keys() and all(torch.equal(states[0][k], states[1][k])
                                                                for k in states[0])  # fmt: skip


class Around(nn.Module):
    def __init__(self, model, has_scale=True):
        super().__init__()
        self.model = model
        if has_scale:
            self.scale = nn.Parameter(torch.ones(1))
            self.register_buffer("count", torch.zeros(1))

    def forward(self, x):
        return self.model(x) * (self.scale if hasattr(self, "scale") else 2.0)


class Watcher:
    def __init__(self, net):
        self.net, self.seen = net, 0

    def state_dict(self):
        return {"seen": self.seen}

    def load_state_dict(self, state):
        self.seen = state["seen"]


@mu.symbolize
class Wrapped:
    def __init__(self, model):
        self.model, self.net, self.plain = model, Around(model), Around(model, has_scale=False)
        self.compiled = torch.compile(model, backend="eager")
        self.optimizer = torch.optim.SGD(self.net.parameters(), 0.1)
        self.watcher = Watcher(self.net)


@mu.symbolize
class WrappedOnce(Wrapped):
    def on_rebind(self, changes):
        pass


@pytest.mark.parametrize("kind", [Wrapped, WrappedOnce])
def test_a_module_around_one_that_shares_weights_runs_that_of_the_child_and_keeps_its_own_tensors(kind):
    width = mu.oneof([4, 2], name="width")
    layers = mu.nn.Sequential(mu.nn.Linear(4, width), mu.nn.Linear(width, 1))
    shared = mu.share_weights(kind(layers), positions="leading")
    x = torch.ones(2, 4)
    first = shared.materialize(shared.space.dna({"width": 0}))
    scale = first.net.scale
    with torch.no_grad():
        scale.fill_(3.0)
        first.net.count.fill_(5.0)
    second = shared.materialize(shared.space.dna({"width": 1}))
    assert second.net.scale is scale and float(second.net.count) == 5.0
    assert second.net.model is second.plain.model is second.model is not None and second.model[0].out_features == 2
    assert torch.equal(second.net(x), second.model(x) * 3.0) and torch.equal(second.plain(x), second.model(x) * 2.0)
    if kind is Wrapped:
        assert second.compiled._orig_mod is second.model and second.watcher.net is second.net
    shared.materialize(shared.space.dna({"width": 0}))
    other = pickle.loads(pickle.dumps(shared)).materialize(shared.space.dna({"width": 1}))
    assert other.net.scale.item() == 3.0 and other.net.model is other.model
    second = shared.materialize(shared.space.dna({"width": 1}))
    held = {id(p) for p in second.optimizer.param_groups[0]["params"]}
    assert held == {id(scale), *map(id, shared.module.parameters())}
    assert not any(p is scale for p in shared.export(shared.space.dna({"width": 1})).net.parameters())
