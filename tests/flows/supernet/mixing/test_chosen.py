"""What selections are for."""

from __future__ import annotations

import pytest
import torch

import mutandis as mu
from mutandis.errors import DecisionError, LoweringError
from mutandis.flows.supernet import Gate, Mixture, Subset
from mutandis.flows.supernet.mixing.chosen import chosen_of


def test_selections_are_sorted_by_what_they_are_for():
    width = mu.oneof([4, 2], name="width")
    inner = mu.nn.Linear(4, mu.oneof([3, 2], name="inner"))
    shared = mu.share_weights({"net": mu.nn.Sequential(mu.nn.Linear(4, width), mu.nn.Linear(width, 4), mu.oneof(
        [mu.nn.Tanh(), mu.nn.Sequential(inner)], name="layer"))}, positions="leading")  # fmt: skip
    dna = shared.space.dna({"width": 0, "layer": 0})
    arms, sizes = Mixture(torch.ones(2)), Mixture(torch.ones(2))
    given = {"layer": arms, "width": sizes, "inner": 1}
    chosen = chosen_of(shared.space, shared._known, shared._builder.roots.slots, dna, given)
    index = {point.name: point.index for point in shared.points}
    assert chosen.arms == {index["layer"]: arms} and chosen.numbers == {index["width"]: sizes}
    assert chosen.below == {index["inner"]: 1}
    with pytest.raises(DecisionError, match="cannot decide twice"):
        chosen_of(shared.space, shared._known, shared._builder.roots.slots, dna, {"width": 1})


def test_several_arms_outside_of_modules_are_refused():
    shared = mu.share_weights({"net": mu.nn.Linear(4, 2), "loss": mu.oneof(["a", "b"], name="loss")})
    dna = shared.space.random(0)
    with (
        pytest.raises(LoweringError) as error,
        shared.select(dna, {"loss": Mixture(torch.ones(2))}),
    ):
        pass
    assert str(error.value) == (
        "cannot run several arms of a choice at once\n  at:       ['loss']\n"
        "  got:      'a choice outside of modules' (str)\n"
        "  expected: arms that are layers, whose outputs can be added up\n"
        "  fix:      decide it in the DNA, or use an algorithm that takes one candidate at a time, such as ENAS(), "
        "TuNAS(op_warmup=0.0) or RegularizedEvolution()"
    )


@pytest.mark.parametrize("make", [
    lambda: mu.nn.Sequential(mu.oneof([mu.nn.Linear(4, 2)], name="one")),
    lambda: mu.nn.Sequential(mu.nn.Linear(4, mu.oneof([2], name="one"))),
    lambda: mu.nn.Sequential(mu.nn.Conv2d(1, 1, 3, padding_mode=mu.oneof(["zeros"], name="one")), mu.nn.Linear(4, 2)),
    lambda: {"net": mu.nn.Linear(4, 2), "loss": mu.oneof(["a"], name="one")},
], ids=["layer", "number", "setting", "outside"])  # fmt: skip
@pytest.mark.parametrize("selection", [Mixture(torch.ones(1)), Gate(0, torch.ones(())), Subset((0,), torch.ones(1))])
def test_the_only_candidate_is_simply_the_child(make, selection):
    shared = mu.share_weights(make())
    dna = shared.space.random(0)
    plain = shared.materialize(dna)
    with shared.select(dna, {"one": selection}) as live:
        assert live is plain or live == plain
    with pytest.raises(DecisionError), shared.select(dna, {"one": Mixture(torch.ones(2))}):
        pass
