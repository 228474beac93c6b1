"""What a run leaves behind."""

from __future__ import annotations

import json

import torch
from toy_shared import BEST, toy_program

import mutandis as mu
from mutandis.flows.oneshot.result import Epoch, Memory, OneShotResult


def test_the_child_is_free_standing_and_has_the_shared_weights():
    shared = mu.share_weights(toy_program())
    with torch.no_grad():
        for number, parameter in enumerate(shared.module.parameters()):
            parameter.fill_(number)
    dna = shared.space.dna({"curve 0": BEST[0], "curve 1": BEST[1]})
    result = OneShotResult(dna, {}, (), Memory(0), shared, None)
    child, live = result.child(), shared.materialize(dna)
    assert [c.name for c in child.curves] == ["sin", "square"]
    assert all(torch.equal(a, b) and a is not b for a, b in zip(child.parameters(), live.parameters(), strict=True))


def test_an_epoch_survives_json_and_is_equal_whatever_time_it_took():
    first = Epoch(1, 0.5, None, 0.025, 0, {"a": 0.1}, {"a": "conv"}, 0.5, 3.0)
    second = Epoch(**{**json.loads(json.dumps(first.to_json())), "seconds": 9.0})
    assert first == second
    assert first != Epoch(1, 0.6, None, 0.025, 0, {"a": 0.1}, {"a": "conv"}, 0.5, 3.0)
