"""What people and PyTorch do to modules, done to programs with shared weights: it works, or it is refused by name."""

from __future__ import annotations

import copy
import functools
import pickle

import pytest
import supernet_zoo as zoo
import torch
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

import mutandis as mu
from mutandis.errors import LoweringError
from mutandis.flows.supernet import Mixture, Subset
from mutandis.flows.supernet.choices import weighing
from mutandis.models.nats import topology_program


@mu.symbolize
class Masked(nn.Module):
    """A causal mask that the constructor computes, layers that a slice takes, and a helper with a memory."""

    def __init__(self, length, depth):
        super().__init__()
        self.place = nn.Parameter(torch.randn(length, 4))
        self.register_buffer("mask", torch.tril(torch.ones(length, length)))
        self.layers = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)][:depth])
        self.scale = halved(length, 2)

    def forward(self, x):
        x = self.mask @ (x[:, : len(self.mask)] + self.place) / self.scale
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return x


@functools.lru_cache
def halved(number, by):
    return number // by


@mu.symbolize
class Normed(nn.Module):
    """Parametrised layers, of which one is an arm."""

    def __init__(self, width, arm):
        super().__init__()
        self.first = parametrizations.spectral_norm(nn.Linear(4, width))
        self.arm = arm
        self.last = parametrizations.weight_norm(nn.Linear(width, 2))

    def forward(self, x):
        return self.last(self.arm(torch.tanh(self.first(x))))


@mu.symbolize
class Tied(nn.Module):
    """A weight that stands in a choice's neighbour too, and in front of it."""

    def __init__(self, arm, width):
        super().__init__()
        self.first, self.arm, self.last = nn.Linear(4, width, bias=False), arm, nn.Linear(width, 4, bias=False)
        self.second = nn.Linear(4, width, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.last(self.arm(self.first(x)) + self.second(x))


@mu.symbolize
class Hooked(nn.Module):
    """Hooks that the constructor puts on its layers."""

    def __init__(self, width, arm):
        super().__init__()
        self.first, self.arm, self.last = nn.Linear(4, width), arm, nn.Linear(width, 2)
        self.first.register_forward_hook(lambda module, inputs, output: output * 2)
        self.last.register_forward_pre_hook(lambda module, inputs: (inputs[0] + 1,))

    def forward(self, x):
        return self.last(self.arm(self.first(x)))


@mu.symbolize
class Saving(nn.Module):
    """Computes its arms again in the backward pass."""

    def __init__(self, arm):
        super().__init__()
        self.first, self.arm, self.last = nn.Conv2d(3, 4, 1), arm, nn.Conv2d(4, 2, 1)

    def forward(self, x):
        return self.last(checkpoint(self.arm, self.first(x), use_reentrant=False))


def arm(width):
    layers = [mu.nn.Linear(width, width), mu.nn.Sequential(mu.nn.ReLU(), mu.nn.Linear(width, width)), mu.nn.Tanh()]
    return mu.oneof(layers, name="arm")


PROGRAMS = {
    "mask and slice": lambda: (Masked(mu.oneof([4, 8, 6]), mu.oneof([1, 2, 3])), zoo.features(2, 8, 4)),
    "parametrised": lambda: (Normed(w := mu.oneof([4, 8]), arm(w)), zoo.features(3, 4)),
    "tied": lambda: (Tied(arm(w := mu.oneof([4, 8])), w), zoo.features(3, 4)),
    "hooks of the constructor": lambda: (Hooked(w := mu.oneof([4, 8]), arm(w)), zoo.features(3, 4)),
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_child_is_exact(name):
    program, batch = PROGRAMS[name]()
    shared = mu.share_weights(program, batch)
    for dna in shared.space.enumerate():
        found = shared.verify(dna, batch)
        assert found.error < 1e-9 and found.positions == "proven"
        live, child = shared.materialize(dna).eval(), shared.export(dna).eval()
        assert torch.allclose(live(batch), child(batch))
    assert type(halved(8, 2)) is int


def test_a_mask_is_the_child_s_own_and_not_a_part_of_a_larger_one():
    program, _ = PROGRAMS["mask and slice"]()
    shared = mu.share_weights(program, zoo.features(2, 8, 4))
    for index, length in enumerate((4, 8, 6)):
        live = shared.materialize(shared.space.dna({"length": index, "depth": 0}))
        assert torch.equal(live.mask, torch.ones(length, length).tril()) and len(live.layers) == 1
    assert "mask" not in shared.module.state_dict()


@pytest.mark.parametrize("name", ["parametrised", "tied", "hooks of the constructor"])
def test_arms_are_mixed_beside_what_people_do_to_layers(name):
    program, batch = PROGRAMS[name]()
    shared = mu.share_weights(program, batch)
    children = [shared.space.dna({"arm": k, "width": 1}) for k in range(3)]
    shared.module.eval()
    for index, dna in enumerate(children):
        alone = shared.materialize(dna).eval()(batch)
        with shared.select(children[0], {"arm": Mixture(torch.eye(3)[index].requires_grad_())}) as live:
            mixed = live.eval()(batch)
            mixed.sum().backward()
        assert torch.allclose(mixed, alone, atol=1e-6)


def test_hooks_that_are_put_on_a_live_layer_stay_on_it():
    program, batch = PROGRAMS["hooks of the constructor"]()
    shared = mu.share_weights(program, batch)
    dna, other = (shared.space.dna({"arm": k, "width": k}) for k in (0, 1))
    seen = []
    handle = shared.materialize(dna).arm.register_forward_hook(lambda *rest: seen.append(rest[0]))
    for child in (dna, other, dna):
        shared.materialize(child)(batch)
    assert len(seen) == 2 and seen[0] is shared.materialize(dna).arm
    handle.remove()
    shared.materialize(dna)(batch)
    assert len(seen) == 2


@pytest.mark.parametrize("name", ["residual", "arms", "transformer", "lstm"])
@pytest.mark.parametrize("do", [copy.deepcopy, pickle.dumps])
def test_a_copy_of_the_live_program_works_or_is_refused_by_name(name, do):
    shared = mu.share_weights(*zoo.programs()[name])
    refusals = []
    for seed in range(4):
        live = shared.materialize(shared.space.random(seed))
        try:
            do(live)
        except LoweringError as error:
            refusals.append(str(error))
    assert all("use shared.export(dna)" in text for text in refusals) and bool(refusals) == (name != "arms")
    do(shared.export(shared.space.random(0)))


def test_children_are_traced_by_torch_fx():
    shared = mu.share_weights(*zoo.programs()["residual"])
    batch = zoo.images()
    for dna in (shared.space.random(0), shared.space.random(1)):
        live = shared.materialize(dna).eval()
        assert torch.equal(torch.fx.symbolic_trace(live)(batch), live(batch))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # Dynamo looks at it.
@pytest.mark.parametrize("size", [0, 10**9])
def test_a_mixture_is_compiled(monkeypatch, size):
    monkeypatch.setattr(weighing, "SMALL", size)
    shared = mu.share_weights(*zoo.programs()["arms"])
    dna, batch = shared.space.random(0), zoo.images()
    key = shared.points[0].path
    gradients = []
    for is_compiled in (False, True):
        weights = torch.tensor([0.2, 0.3, 0.5], requires_grad=True)
        with shared.select(dna, {key: Mixture(weights)}) as live:
            live.eval()
            run = torch.compile(live, backend="eager") if is_compiled else live
            run(batch).square().sum().backward()
        gradients.append(weights.grad)
    assert torch.allclose(*gradients, rtol=1e-4)


@pytest.mark.parametrize("kind", ["gate", "mixture"])
def test_arms_that_are_computed_again_in_the_backward_pass_have_the_same_gradients(monkeypatch, kind):
    monkeypatch.setattr(weighing, "SMALL", 0)
    block = mu.nn.Sequential(mu.nn.Conv2d(4, 4, 1), mu.nn.BatchNorm2d(4))
    shared = mu.share_weights(Saving(mu.oneof([block, mu.nn.ReLU(), mu.nn.Conv2d(4, 4, 1)], name="arm")))
    shared.module.double()
    dna, batch = shared.space.dna({"arm": 0}), zoo.images().double()
    found = []
    for is_saving in (True, False):
        weights = torch.ones(1 if kind == "gate" else 3, dtype=torch.float64, requires_grad=True)
        chosen = Subset((0,), weights) if kind == "gate" else Mixture(weights)
        shared.module.zero_grad()
        with shared.select(dna, {"arm": chosen}) as live:
            y = live(batch) if is_saving else live.last(live.arm(live.first(batch)))
            y.square().sum().backward()
        found.append([weights.grad, *(p.grad.clone() for p in shared.module.parameters() if p.grad is not None)])
    assert all(torch.allclose(a, b) for a, b in zip(*found, strict=True))


def test_a_large_network_of_cells_leaves_what_is_not_chosen_without_gradients_and_builds_nothing():
    shared = mu.share_weights(topology_program(channels=2, cells_per_stage=5))
    dna = shared.space.dna({p.key: k for p, k in zip(shared.points, [3, 1, 2, 0, 4, 3], strict=True)})
    shared.materialize(dna)(zoo.images(size=8)).square().sum().backward()
    tensors = list(shared.module.parameters())
    missing = sum(p.grad is None for p in tensors)
    assert (len(tensors), missing) == (561, 405)
    before = shared.num_builds
    for seed in range(200):
        shared.materialize(shared.space.random(seed))
    assert shared.num_builds == before


def test_an_export_is_exported_and_called_as_a_function():
    shared = mu.share_weights(*zoo.programs()["residual"])
    child = shared.export(shared.space.random(0)).eval()
    batch = zoo.images()
    assert torch.allclose(torch.export.export(child, (batch,)).module()(batch), child(batch), atol=1e-6)
    tensors = {name: torch.zeros_like(p) for name, p in child.named_parameters()}
    assert not torch.func.functional_call(child, tensors, (batch,)).any()


def saved_numbers(module, batch):
    """How many numbers a pass keeps for its backward pass, each memory once."""
    seen = {}

    def pack(tensor):
        seen[tensor.data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = module(batch)  # Kept until the end, so that no address is used twice.
    return sum(seen.values()), output


@pytest.mark.parametrize("arch", [(3, 3, 3, 3, 3, 3), (3, 3, 2, 1, 3, 3), (4, 0, 1, 1, 2, 3), (2, 1, 1, 4, 3, 1)])
def test_straight_through_weights_keep_hardly_more_than_the_child(monkeypatch, arch):
    monkeypatch.setattr(weighing, "SMALL", 0)
    shared = mu.share_weights(topology_program(channels=8, cells_per_stage=1))
    dna, batch = shared.space.dna({p.key: k for p, k in zip(shared.points, arch, strict=True)}), zoo.images(4, size=16)
    child = saved_numbers(shared.materialize(dna), batch)[0]
    rows = torch.zeros(6, 5, dtype=torch.float64, requires_grad=True)
    soft = rows.softmax(1)
    hard = (torch.nn.functional.one_hot(torch.tensor(arch), 5) - soft.detach() + soft).unbind()
    given = {p.key: Subset((k,), row[k : k + 1]) for p, k, row in zip(shared.points, arch, hard, strict=True)}
    with shared.select(dna, given) as live:
        gated = saved_numbers(live, batch)[0]
    assert child <= gated <= 1.05 * child
