"""Which candidates can scale their own outputs, and that it is seen without a trace."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import mutandis as mu
from mutandis.flows.oneshot.fitting.scales import scaling_candidates
from mutandis.flows.oneshot.running import storage_of


@mu.symbolize
class Residual(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return x + self.inner(x)


def block(*layers):
    return mu.nn.Sequential(*layers)


CANDIDATES = {
    "identity": (lambda: mu.nn.Identity(), False),
    "no weights": (lambda: mu.nn.Softsign(), False),
    "linear": (lambda: mu.nn.Linear(4, 4), True),
    "linear and activation": (lambda: block(mu.nn.Linear(4, 4), mu.nn.ReLU()), True),
    "norm with a scale": (lambda: mu.nn.BatchNorm1d(4), True),
    "linear and a norm with a scale": (lambda: block(mu.nn.Linear(4, 4), mu.nn.BatchNorm1d(4)), True),
    "linear and a norm without one": (lambda: block(mu.nn.Linear(4, 4), mu.nn.BatchNorm1d(4, affine=False)), False),
    "layer norm without a scale": (
        lambda: block(mu.nn.Linear(4, 4), mu.nn.LayerNorm(4, elementwise_affine=False)), False),
    "residual around a norm": (
        lambda: Residual(block(mu.nn.Linear(4, 4), mu.nn.BatchNorm1d(4, affine=False))), False),
    "linear after a norm": (lambda: block(mu.nn.BatchNorm1d(4, affine=False), mu.nn.Linear(4, 4)), True),
}  # fmt: skip


def found(candidate, *, norms="given", trained=None):
    program = mu.nn.Sequential(mu.oneof([mu.nn.Tanh(), candidate], name="it"), mu.nn.Linear(4, 1))
    x = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
    shared = mu.share_weights(program, x, norms=norms)
    everything = {storage_of(p) for p in shared.module.parameters() if p.requires_grad}
    before = {name: tensor.clone() for name, tensor in shared.module.state_dict().items()}
    state = torch.random.get_rng_state()
    made = scaling_candidates(shared, lambda child: child(x), everything if trained is None else trained)
    assert all(torch.equal(tensor, before[name]) for name, tensor in shared.module.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(p.grad is None for p in shared.module.parameters())
    return bool(made)


@pytest.mark.parametrize("name", CANDIDATES)
def test_a_candidate_that_scales_its_own_output_is_known(name):
    make, expected = CANDIDATES[name]
    assert found(make()) == expected


def test_a_scale_that_is_not_trained_does_not_count():
    norm = block(mu.nn.Linear(4, 4), mu.nn.BatchNorm1d(4))
    assert not found(norm, norms="no_affine")
    assert not found(mu.nn.Linear(4, 4), trained=set())


def test_small_inputs_do_not_look_like_a_scale():
    norm = mu.nn.Sequential(mu.nn.Linear(4, 4), mu.nn.BatchNorm1d(4, affine=False))
    program = mu.nn.Sequential(mu.oneof([mu.nn.Identity(), norm], name="it"), mu.nn.Linear(4, 1))
    x = 1e-4 * torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
    shared = mu.share_weights(program, x)
    trained = {storage_of(p) for p in shared.module.parameters()}
    assert scaling_candidates(shared, lambda child: child(x), trained) == {}
    live = shared.materialize(shared.space.dna({"it": 1}))
    assert live[0][1].eps == 1e-5


def test_dropout_is_the_same_in_both_passes():
    assert not found(block(mu.nn.Dropout(0.9), mu.nn.Linear(4, 4), mu.nn.BatchNorm1d(4, affine=False)))


def test_candidates_are_told_by_choice_also_below_other_choices():
    inner = mu.oneof([mu.nn.ReLU(), mu.nn.Linear(4, 4)], name="inner")
    outer = mu.oneof([mu.nn.Identity(), mu.nn.Sequential(mu.nn.Tanh(), inner)], name="outer")
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    shared = mu.share_weights(mu.nn.Sequential(outer, mu.nn.Linear(4, 1)), x)
    trained = {storage_of(p) for p in shared.module.parameters()}
    made = scaling_candidates(shared, lambda child: child(x), trained)
    assert [shared.space.point(path).name for path in made] == ["inner"] and list(made.values()) == [(1,)]


def test_numbers_have_no_outputs_of_their_own():
    width = mu.oneof([2, 4], name="width")
    x = torch.zeros(3, 2)
    shared = mu.share_weights(mu.nn.Sequential(mu.nn.Linear(2, width), mu.nn.Linear(width, 1)), x)
    assert scaling_candidates(shared, lambda child: child(x), {storage_of(p) for p in shared.module.parameters()}) == {}
