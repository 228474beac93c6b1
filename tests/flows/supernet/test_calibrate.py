"""Batch-norm statistics of one child, measured again."""

from __future__ import annotations

import pytest
import supernet_zoo as zoo
import torch
from torch.nn import functional as F

import mutandis as mu
from mutandis.errors import SettingError


def trained():
    shared = mu.share_weights(*zoo.programs()["concat"])
    optimizer = torch.optim.SGD(shared.module.parameters(), 0.05)
    x = zoo.images(16)
    for index in (0, 1, 2, 0, 1) * 4:
        optimizer.zero_grad()
        live = shared.materialize(shared.space.dna({"first": index, "second": index % 2}))
        (live(x) - x.mean()).square().mean().backward()
        optimizer.step()
    return shared, x


def test_statistics_are_the_averages_over_the_batches():
    shared, x = trained()
    dna = shared.space.dna({"first": 1, "second": 1})
    assert shared.calibrate(dna, [(part, "labels") for part in x.split(4)], most=3) == 3
    norm = shared.materialize(dna).norm
    with torch.no_grad():
        live = shared.materialize(dna)
        inputs = [torch.cat([live.a(part), live.b(part)], 1) for part in x.split(4)[:3]]
    mean = torch.stack([i.mean((0, 2, 3)) for i in inputs]).mean(0)
    var = torch.stack([i.transpose(0, 1).flatten(1).var(1) for i in inputs]).mean(0)
    assert torch.allclose(norm.running_mean, mean, atol=1e-6) and torch.allclose(norm.running_var, var, atol=1e-6)
    assert int(norm.num_batches_tracked) == 3


def test_a_calibrated_child_gives_in_eval_mode_what_batch_statistics_give():
    shared, x = trained()
    dna = shared.space.dna({"first": 2, "second": 0})
    live = shared.materialize(dna)
    mixed = live.eval()(x)
    shared.calibrate(dna, [x])
    live.norm.train()
    expected = live(x)
    shared.calibrate(dna, [x])
    live.eval()
    assert F.mse_loss(live(x), expected) < 1e-4 * F.mse_loss(mixed, expected)


def test_modes_and_momenta_are_as_before():
    shared, x = trained()
    dna = shared.space.dna({"first": 0, "second": 0})
    live = shared.materialize(dna).train()
    live.a.eval()
    seen = []
    shared.calibrate(
        dna, [x], run=lambda module, batch: seen.append((module.a.training, module.norm.training, module(batch)))
    )
    assert seen[0][:2] == (False, True)
    assert live.norm.momentum == 0.1 and live.training and not live.a.training


def test_other_children_keep_their_statistics_where_they_share_none():
    shared, x = trained()
    before = shared.module.state_dict()["norm.running_mean"].clone()
    shared.calibrate(shared.space.dna({"first": 1, "second": 0}), [x])
    changed = (before != shared.module.state_dict()["norm.running_mean"]).tolist()
    assert changed == [True, True, False, False, True, True, False]


@pytest.mark.parametrize(
    ("batches", "got", "expected", "fix"),
    [
        ([], "[] (list)", "at least one batch", "pass a loader or a list of inputs, not an iterator that is used up"),
        (torch.ones(2, 3), "'a tensor of shape (2, 3)' (str)", "batches", "pass [x] for a single batch"),
    ],
    ids=["none", "tensor"],
)
def test_without_batches_the_statistics_stay_and_the_remedy_is_told(batches, got, expected, fix):
    shared, _ = trained()
    dna = shared.space.dna({"first": 0, "second": 0})
    before = shared.materialize(dna).norm.running_mean.clone()
    assert bool(before.ne(0).any())
    with pytest.raises(SettingError) as error:
        shared.calibrate(dna, batches)
    assert str(error.value) == (
        f"cannot calibrate norms\n  at:       batches\n  got:      {got}\n  expected: {expected}\n  fix:      {fix}"
    )
    assert torch.equal(shared.materialize(dna).norm.running_mean, before)


def test_calibration_and_momentum_have_their_known_answers():
    choice = mu.oneof([mu.nn.BatchNorm1d(1, affine=False), mu.nn.Identity()], name="choice")
    batches = [torch.tensor([[0.0], [2.0]]), torch.tensor([[4.0], [6.0]])]
    shared = mu.share_weights(mu.nn.Sequential(choice, mu.nn.Linear(1, 1)), batches[0])
    dna = shared.space.dna({"choice": 0})
    shared.calibrate(dna, batches)
    child = shared.export(dna)
    assert (child[0].running_mean.item(), child[0].running_var.item()) == (3.0, 2.0)  # Unbiased, all alike.
    plain = torch.nn.BatchNorm1d(1, affine=False, momentum=0.1)
    for batch in batches:
        plain(batch)
    found = (plain.running_mean.item(), plain.running_var.item())
    assert found == pytest.approx((0.59, 1.19), abs=1e-6)  # What it would be without: the start counts most.


def scaled(norms="no_affine", norm=None):
    """A norm outside of a choice, and one in a candidate."""
    inner = mu.nn.Sequential(mu.nn.Linear(4, 4), norm or mu.nn.BatchNorm1d(4))
    program = mu.nn.Sequential(
        mu.nn.BatchNorm1d(4), mu.oneof([inner, mu.nn.Identity()], name="layer"), mu.nn.Linear(4, 1)
    )
    return program, mu.share_weights(program, zoo.features(6, 4), norms=norms)


def step_on(shared):
    optimizer = torch.optim.SGD(shared.module.parameters(), 0.5, momentum=0.9, weight_decay=0.1)
    shared.guard(optimizer)
    for _ in range(3):
        optimizer.zero_grad()
        shared.materialize(shared.space.dna({"layer": 0}))(zoo.features(6, 4)).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("norm", [None, mu.nn.LayerNorm(4), mu.nn.GroupNorm(2, 4)])
def test_scales_of_norms_in_candidates_are_left_alone(norm):
    _, shared = scaled(norm=norm)
    fixed = [name for name, p in shared.module.named_parameters() if not p.requires_grad]
    assert len(fixed) == 2 and all(name.startswith("1.1.") for name in fixed)
    step_on(shared)
    child = shared.export(shared.space.dna({"layer": 0}))
    assert torch.equal(child[1][1].weight, torch.ones(4)) and torch.equal(child[1][1].bias, torch.zeros(4))
    assert child[1][1].weight.requires_grad  # It is the user's again.
    assert not torch.equal(child[0].weight, torch.ones(4))


def test_scales_are_trained_unless_it_is_asked_otherwise():
    _, shared = scaled("given")
    assert all(p.requires_grad for p in shared.module.parameters())
    step_on(shared)
    assert not torch.equal(shared.export(shared.space.dna({"layer": 0}))[1][1].weight, torch.ones(4))


def test_a_program_with_fixed_scales_passes_the_comparison_with_real_children():
    program, shared = scaled()
    for dna in shared.space.enumerate():
        assert shared.verify(dna, zoo.features(6, 4)).error < 1e-6
    assert mu.space(program).materialize(shared.space.dna({"layer": 0}))[1][1].weight.requires_grad
