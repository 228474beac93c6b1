"""Batch-norm statistics of one child, measured again."""

from __future__ import annotations

import supernet_zoo as zoo
import torch
from torch.nn import functional as F

import mutandis as mu


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


def test_without_batches_the_statistics_are_those_of_a_new_layer():
    shared, _ = trained()
    dna = shared.space.dna({"first": 0, "second": 0})
    assert shared.calibrate(dna, []) == 0
    norm = shared.materialize(dna).norm
    assert bool(norm.running_mean.eq(0).all()) and bool(norm.running_var.eq(1).all())
