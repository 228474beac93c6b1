"""Nothing is believed of a program but what its children show."""

from __future__ import annotations

import pytest
import torch
import toy_sizes as toy
from torch import nn
from torch.nn import functional as F

import mutandis as mu
from mutandis.errors import LoweringError
from mutandis.flows.supernet import Mixture
from mutandis.flows.supernet.mixing.proof import difference, noting


@mu.symbolize
class Between(nn.Module):
    """A width between two layers, and code of many kinds on it."""

    def __init__(self, width, what):
        super().__init__()
        self.width, self.what = width, what
        self.first, self.norm, self.last = nn.Linear(4, width), nn.BatchNorm1d(width), nn.Linear(width, 2)
        self.zero = nn.Linear(2, 2)
        nn.init.zeros_(self.zero.weight)

    def forward(self, x):
        y = getattr(self, self.what)(F.relu(self.norm(self.first(x))))
        y = F.linear(y, self.last.weight, self.last.bias) if self.what == "by_function" else self.last(y)
        return self.zero(y)

    @staticmethod
    def plain(y):
        return y * 2 + y.sin()

    def scaled(self, y):
        return y / self.width

    @staticmethod
    def softmax(y):
        return y.softmax(1)

    @staticmethod
    def averaged(y):
        return y - y.mean(1, keepdim=True)

    @staticmethod
    def by_function(y):
        return y

    def branching(self, y):
        return y.sin() if self.width > 4 else y

    @staticmethod
    def dropped(y):
        return F.dropout(y, 0.5, training=False)


def between(what):
    program = Between(mu.oneof([6, 2, 5], name="width"), what)
    return mu.share_weights(program, torch.randn(5, 4, generator=torch.Generator().manual_seed(0)), positions="leading")


@pytest.mark.parametrize("what", ["scaled", "softmax", "averaged", "by_function", "branching"])
def test_code_that_does_not_treat_each_channel_alone_is_refused_though_a_layer_of_zeros_hides_it(what):
    shared = between(what)
    with pytest.raises(LoweringError) as caught, shared.select(
            shared.space.random(0), {"width": Mixture(torch.ones(3))}):  # fmt: skip
        pass
    assert str(caught.value).startswith(
        "cannot mix the sizes of a decision\n  at:       width, "
        + ("module zero" if what == "by_function" else "module last")
    )
    assert "  expected: code between two layers of this size that treats each channel alone" in str(caught.value)


@pytest.mark.parametrize("what", ["plain", "dropped"])
def test_other_code_is_not(what):
    shared = between(what)
    with shared.select(shared.space.random(0), {"width": Mixture(torch.ones(3))}) as live:
        assert live.first.out_features == 6


def test_nothing_of_the_proof_is_left():
    shared = between("plain")
    shared.materialize(shared.space.dna({"width": 1})).eval()
    before = {name: tensor.clone() for name, tensor in shared.module.state_dict().items()}
    state = torch.random.get_rng_state()
    with shared.select(shared.space.dna({"width": 1}), {"width": Mixture(torch.ones(3))}) as live:
        assert not any(module.training for module in live.modules())
        assert not any(m._forward_hooks for m in live.modules() if m is not live.last)
    assert torch.equal(torch.random.get_rng_state(), state) and shared.dna.values == (1,)
    after = shared.module.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert {tensor.dtype for tensor in after.values()} == {torch.float32, torch.int64}


def test_what_is_proven_is_not_proven_again(monkeypatch):
    shared = between("plain")
    runs = []
    proof = shared._sizes._proof
    monkeypatch.setattr(proof, "run", lambda *given: runs.append(given))
    for _ in range(2):
        with shared.select(shared.space.random(0), {"width": Mixture(torch.ones(3))}):
            pass
    ((_, orders, _),) = runs
    assert orders == {0: [0, 2, 1]}


class Later(nn.Module):
    """An operation that spoils the width; it is another candidate than the first."""

    def __init__(self, width):
        super().__init__()
        self.norm = nn.GroupNorm(1, width)

    def forward(self, x):
        return self.norm(x)


def test_an_arm_that_is_not_the_first_is_seen_too():
    width = mu.oneof([4, 8], name="width")
    choice = mu.oneof([mu.nn.Identity(), mu.symbolize(Later)(width)], name="operation")
    shared = mu.share_weights(toy.Arms(width, choice), toy.images().float())
    with pytest.raises(LoweringError, match="width, module operation"), shared.select(
            shared.space.dna({"width": 0, "operation": 0}), {"width": Mixture(torch.ones(2))}):  # fmt: skip
        pass


def test_a_number_that_no_layer_reads_is_refused():
    rate = mu.oneof([0.1, 0.5], name="rate")
    shared = mu.share_weights(mu.nn.Sequential(mu.nn.Linear(3, 2), mu.nn.Dropout(rate)), torch.ones(2, 3))
    with pytest.raises(LoweringError) as caught, shared.select(
            shared.space.random(0), {"rate": Mixture(torch.ones(2))}):  # fmt: skip
        pass
    assert str(caught.value) == (
        "cannot mix the sizes of a decision\n"
        "  at:       rate\n"
        "  got:      'one of [0.1, 0.5]' (str)\n"
        "  expected: the size of something that a layer of torch reads: input channels or features, a kernel, or how "
        "many layers an nn.Sequential has\n"
        "  fix:      use an algorithm that runs one size at a time, such as TuNAS() or ENAS()"
    )


def test_the_first_module_that_differs_is_told():
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    child, mixed = {}, {}
    with noting(net, child):
        net(torch.ones(1, 2))
    with noting(net, mixed), torch.no_grad():
        net[1].bias.add_(1)
        net(torch.ones(1, 2))
    assert list(child) == ["0", "1", ""] and difference(child, child) is None
    assert difference(child, mixed) == "module 1"
    assert difference({"": [torch.ones(2)]}, {"": [torch.ones(3)]}) == "what the module returns"
    wide = {"0": [torch.ones(1, 5)], "": [torch.zeros(1, 2)]}
    assert difference({"0": [torch.ones(1, 3)], "": [torch.ones(1, 2)]}, wide) == "what the module returns"


def test_sizes_are_mixed_in_a_program_of_several_modules():
    width = mu.oneof([4, 2], name="width")
    program = {"first": mu.nn.Linear(3, width), "last": mu.nn.Linear(width, 2)}
    run = lambda made, x: made["last"](made["first"](x).relu())  # noqa: E731
    x = torch.randn(5, 3)
    shared = mu.share_weights(program, x, run=run)
    small = run(shared.export(shared.space.dna({"width": 1})), x)
    with shared.select(shared.space.dna({"width": 0}), {"width": Mixture(torch.tensor([0.0, 1.0]))}) as live:
        assert torch.allclose(run(live, x), small, atol=1e-6)


def test_a_size_that_is_read_outside_of_modules_too_is_refused():
    width = mu.oneof([4, 2], name="width")
    program = {"first": mu.nn.Linear(3, width), "last": mu.nn.Linear(width, 2), "scale": width * 1.0}
    run = lambda made, x: made["last"](made["first"](x).relu()) * made["scale"]  # noqa: E731
    shared = mu.share_weights(program, torch.randn(5, 3), run=run)
    dna = shared.space.dna({"width": 0})
    with (
        pytest.raises(LoweringError, match="at:       width, what the module returns"),
        shared.select(dna, {"width": Mixture(torch.tensor([0.5, 0.5]))}),
    ):
        pass
