"""Which widths a layer behind a sequence of layers depends on, at which depth."""

from __future__ import annotations

import pytest
import torch
import toy_sizes as toy

import mutandis as mu
from mutandis.errors import LoweringError
from mutandis.flows.supernet import Mixture
from mutandis.flows.supernet.mixing.extents import Extent, differing, equal


def extents(path):
    """Returns the axes of a module of the network whose every layer decides, with the indices of its decisions."""
    shared = toy.shared_of("layers")
    dna = shared.space.dna({p.path: p.num_candidates - 1 for p in shared.points})
    live = shared.materialize(dna)
    home = shared._live.home_of(live.get_submodule(path))
    depth = shared.space.point("stage 0 depth").index
    named = {p.name: p.index for p in shared.points}
    return shared._sizes._planner._extents.of(home, depth), named, depth


def test_what_is_read_is_as_wide_as_the_last_layer_that_runs():
    found, named, depth = extents("stages.1.0.first")
    cases = found["weight", 1].cases
    first, second = named["stage 0 block 0 width"], named["stage 0 block 1 width"]
    assert cases == {0: ((first,), {(0,): (0, 2), (1,): None}), 1: ((second,), {(0,): (0, 2), (1,): None})}
    assert found["weight", 1].at(0) == cases[0] and depth not in (first, second)


def test_what_is_made_does_not_depend_on_the_depth():
    found, named, _ = extents("stages.1.0.first")
    hidden = named["stage 1 block 0 hidden"]
    assert found["weight", 0].cases == {None: ((hidden,), {(0,): (0, 4), (1,): None})}
    assert found["weight", 0].at(1) == found["weight", 0].cases[None]
    assert set(found) == {("weight", 0), ("weight", 1)}


def test_a_table_is_made_once(monkeypatch):
    found, _, _ = extents("stages.1.0.short.conv")
    shared = toy.shared_of("layers")
    monkeypatch.setattr(shared._sizes._planner._extents, "_found", None)
    assert extents("stages.1.0.short.conv")[0] is found


def test_cuts_are_compared_axis_by_axis():
    places = torch.tensor([0, 2])
    assert equal(None, None) and equal((0, 2), (0, 2)) and equal(places, places.clone())
    assert not equal(places, (0, 2)) and not equal(None, (0, 2)) and not equal(places, torch.tensor([0, 1]))
    assert differing(((0, 2), None, places), ((0, 3), None, (0, 2))) == [0, 2]


def test_widths_that_decide_nothing_at_a_depth_are_left_out():
    assert Extent({None: ((), {(): None})}).at(7) == ((), {(): None})


def test_too_many_sizes_at_one_depth_are_refused(monkeypatch):
    monkeypatch.setattr("mutandis.flows.supernet.mixing.extents.MOST_JOINT", 1)
    shared = mu.share_weights(toy.layers(), toy.images().float())
    chosen = {p.path: Mixture(torch.ones(p.num_candidates)) for p in shared.points}
    with pytest.raises(LoweringError, match="sizes of one layer at each depth"), shared.select(
            shared.space.random(0), chosen):  # fmt: skip
        pass
