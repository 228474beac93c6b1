"""Putting a live program together from parts of real children."""

from __future__ import annotations

import pytest
import supernet_zoo as zoo
import torch

import mutandis as mu
from mutandis.flows.supernet import Gate
from mutandis.flows.supernet.assembly import MissingPart
from mutandis.flows.supernet.selections import Choice
from mutandis.models.nats import topology_program


@pytest.fixture(scope="module")
def transformer():
    return mu.share_weights(*zoo.programs()["transformer"])


def dna(shared, **values):
    return shared.space.dna({"width": 2, "heads": 0, "depth": 2, "hidden": 1} | values)


def test_a_layer_that_changes_is_another_object_and_the_rest_are_the_same(transformer):
    live = transformer.materialize(dna(transformer))
    first, attention = live.layers[0], live.layers[0].attention
    other = transformer.materialize(dna(transformer, heads=1))
    assert other is live and live.layers[0] is first and live.layers[0].attention is not attention
    assert transformer.materialize(dna(transformer)).layers[0].attention is attention


def test_a_part_that_was_used_at_other_values_is_put_together_again(transformer):
    """The same block stands in lists of several depths; what it was last used for must not show."""
    for values in ({"depth": 0, "width": 0}, {"depth": 1, "width": 2}, {"depth": 0, "width": 0}):
        live = transformer.materialize(dna(transformer, **values))
        assert {layer.norm.normalized_shape[0] for layer in live.layers} == {8 if values["width"] == 0 else 16}
        live(zoo.tokens())


def test_views_are_made_once_and_share_the_memory_of_the_whole(transformer):
    small = dna(transformer, width=0)
    weight = transformer.materialize(small).layers[0].mlp[1].weight
    transformer.materialize(dna(transformer))
    assert transformer.materialize(small).layers[0].mlp[1].weight is weight
    whole = dict(transformer.module.named_parameters())["layers.0.mlp.1.weight"]
    assert weight.shape == (20, 8) and weight.data_ptr() == whole.data_ptr() and weight.grad_fn is not None
    assert transformer.materialize(dna(transformer)).layers[0].mlp[1].weight is whole


def test_a_switch_to_what_was_never_built_says_so(transformer):
    transformer.materialize(dna(transformer, depth=0))
    parts = transformer._live._tables["layers"]
    kept = dict(parts)
    parts.clear()
    try:
        with pytest.raises(MissingPart):
            transformer._live.switch(dna(transformer).values)
    finally:
        parts.update(kept)
    assert len(transformer.materialize(dna(transformer)).layers) == 3


def test_a_part_that_is_missing_costs_one_build():
    shared = mu.share_weights(
        mu.nn.Sequential(
            mu.nn.Linear(3, (w := mu.intv(1, 40))), mu.nn.Linear(w, (v := mu.intv(1, 40))), mu.nn.Linear(v, 1)
        ),
        positions="leading",
    )
    chosen = shared.space.dna({p.key: n for p, n in zip(shared.points, (23, 29), strict=True)})
    before = shared.num_builds
    live = shared.materialize(chosen)
    assert shared.num_builds == before + 1 and live[1].weight.shape == (29, 23)
    assert shared.materialize(chosen) is live and shared.num_builds == before + 1
    assert shared.verify(chosen, zoo.features(2, 3)).error < 1e-9


def test_a_module_that_keeps_a_hold_on_its_layers_goes_with_them():
    @mu.symbolize
    class Holder(torch.nn.Module):
        def __init__(self, width):
            super().__init__()
            self.first = torch.nn.Linear(3, width)
            self.last = torch.nn.Linear(width, 2)
            self.order = [self.first, self.last]

        def forward(self, x):
            for layer in self.order:
                x = layer(x)
            return x

    shared = mu.share_weights(Holder(mu.oneof([4, 2])), zoo.features(5, 3))
    for choice in shared.space.enumerate():
        live = shared.materialize(choice)
        assert live.order[0] is live.first
        assert shared.verify(choice, zoo.features(5, 3)).error < 1e-9


def test_buffers_that_init_computes_are_the_childs_own(transformer):
    for width in (0, 1, 2):
        live = transformer.materialize(dna(transformer, width=width))
        size = live.wave.numel()
        assert torch.equal(live.wave, torch.sin(torch.arange(size) / size))


def test_parts_that_are_forgotten_are_built_again(monkeypatch):
    monkeypatch.setattr("mutandis.flows.supernet.assembly._MOST", 2)
    program = mu.nn.Sequential(mu.nn.Linear(3, (w := mu.intv(1, 6))), mu.nn.Linear(w, 2))
    shared = mu.share_weights(program, positions="leading")
    for width in (1, 2, 3, 4, 5, 6, 1, 6, 3):
        choice = shared.space.dna({shared.points[0].path: width})
        assert shared.materialize(choice)[0].out_features == width
        assert shared.verify(choice, zoo.features(2, 3)).error < 1e-9
    assert max(len(table) for table in shared._live._tables.values()) <= 2


@pytest.fixture
def cells():
    return mu.share_weights(topology_program(channels=2, cells_per_stage=1))


def gates(shared, dna):
    return {p.key: Gate(k, torch.ones((), requires_grad=True)) for p, k in zip(shared.points, dna.values, strict=True)}


@pytest.mark.parametrize("seeds", [(0, 0), (0, 1), (1, 0)])
def test_after_a_selection_the_program_is_the_child_whichever_was_seen_before(cells, seeds):
    before, own = map(cells.space.random, seeds)
    cells.materialize(before)
    for _ in range(2):
        with cells.select(own, gates(cells, own)) as live:
            assert sum(isinstance(m, Choice) for m in live.modules()) == 18
    assert not any(isinstance(m, Choice) for m in live.modules()) and cells.dna == own
    assert cells.verify(own, zoo.images(size=8)).error == 0.0
    assert cells.verify(before, zoo.images(size=8)).error == 0.0


def test_a_program_that_is_switched_inside_of_a_selection_stands_where_that_ends(cells):
    own, other = map(cells.space.random, (0, 1))
    with cells.select(own, gates(cells, own)):
        live = cells.materialize(other)
        assert any(isinstance(m, Choice) for m in live.modules())
    assert not any(isinstance(m, Choice) for m in live.modules()) and cells.dna == own
    assert cells.verify(own, zoo.images(size=8)).error == 0.0


def test_a_mode_that_is_set_inside_of_a_selection_lasts(cells):
    own = cells.space.random(0)
    with cells.select(own, gates(cells, own)) as live:
        live.eval()
    assert not any(module.training for module in cells.materialize(own).modules())
    with cells.select(own, gates(cells, own)) as live:
        assert not any(module.training for module in live.modules())
        live.train()
    assert all(module.training for module in live.modules())


def test_a_gate_on_another_arm_than_that_of_the_dna_runs_that_arm(cells):
    own, other = cells.space.dna(dict.fromkeys(keys(cells), 3)), cells.space.dna(dict.fromkeys(keys(cells), 2))
    x = zoo.images(size=8)
    expected = cells.materialize(other)(x)
    for _ in range(2):
        for dna, arms in ((other, other), (own, other)):  # What stood there before must not show.
            with cells.select(dna, gates(cells, arms)) as live:
                assert torch.equal(live(x), expected)


def test_an_arm_whose_mode_was_changed_between_selections_is_in_that_of_the_program_again(cells):
    own = cells.space.dna(dict.fromkeys(keys(cells), 3))
    for _ in range(2):
        with cells.select(own, gates(cells, own)) as live:
            assert all(module.training for module in live.modules())
        next(m for m in live.modules() if type(m).__name__ == "ReluConvNorm").eval()


def keys(shared):
    return [point.key for point in shared.points]
