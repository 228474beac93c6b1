"""Where the modules of a program stand, and what is around them."""

from __future__ import annotations

import pytest
import supernet_zoo as zoo
import torch
from torch import nn

import mutandis as mu
from mutandis.errors import LoweringError
from mutandis.flows.supernet import Mixture, lowering_report
from mutandis.flows.supernet.lowering.roots import LiveCall, Roots, is_module_like


def build(width) -> nn.Linear:
    return nn.Linear(2, width)


def silent(width):
    return nn.Linear(2, width)


@pytest.mark.parametrize(
    ("program", "paths"),
    [
        (mu.nn.Linear(2, mu.oneof([1, 2])), ("",)),
        ({"net": mu.nn.Linear(2, mu.oneof([1, 2])), "lr": 0.1}, ("['net']",)),
        ([mu.nn.Linear(2, 1), {"b": mu.oneof([mu.nn.ReLU(), mu.nn.Tanh()])}], ("[0]", "[1]['b']")),
        (mu.bind(build, mu.oneof([1, 2])), ("",)),
        ({"f": mu.bind(dict, net=mu.bind(nn.Linear, 2, mu.oneof([1, 2])))}, ("['f'].net",)),
    ],
)
def test_the_outermost_modules_are_found(program, paths):
    assert Roots(mu.space(program)).paths == paths


def test_a_module_at_two_places_is_one():
    net = mu.nn.Linear(2, mu.oneof([1, 2]))
    roots = Roots(mu.space([net, {"again": net}]))
    assert roots.paths == ("[0]",)
    live = nn.ReLU()
    assert roots.wrap((0,), [live]) == [live, {"again": live}]


def test_decisions_keep_their_values_inside_and_outside():
    width = mu.oneof([1, 2, 3])
    program = {"lr": mu.oneof([0.1, 0.2]), "net": mu.nn.Linear(2, width), "double": width * 2}
    roots = Roots(mu.space(program))
    assert roots.slots == {1}
    assert roots.build((1, 2))[0].out_features == 3
    live = nn.ReLU()
    assert roots.wrap((1, 2), [live]) == {"lr": 0.2, "net": live, "double": 6}


def test_a_call_is_answered_by_a_call():
    live = nn.ReLU()
    made = Roots(mu.space(mu.bind(build, mu.oneof([1, 2])))).wrap((0,), [live])
    assert isinstance(made, LiveCall) and made() is live


def test_names_have_no_dots_inside_a_step():
    assert Roots(mu.space({"a.b": [mu.nn.Linear(1, mu.oneof([1, 2]))]})).names() == ("a_b.0",)


def test_what_becomes_a_module_is_known_without_building_it():
    assert is_module_like(mu.bind(build, 1)) and not is_module_like(mu.bind(silent, 1))
    assert is_module_like(mu.oneof([mu.nn.ReLU(), nn.Tanh()])) and not is_module_like(mu.oneof([mu.nn.ReLU(), 1]))
    assert not is_module_like(mu.partial(nn.Linear, 2)) and not is_module_like(torch.ones(1))


def test_a_function_that_does_not_say_what_it_returns_is_refused():
    with pytest.raises(LoweringError) as error:
        Roots(mu.space(mu.bind(silent, mu.oneof([1, 2]))))
    assert "fix:      annotate what a function returns (-> nn.Module), or put @mu.symbolize above" in str(error.value)


def test_a_module_below_a_choice_outside_of_modules_is_refused():
    with pytest.raises(LoweringError, match="below a choice outside of modules"):
        Roots(mu.space({"x": mu.oneof([{"net": mu.nn.Linear(1, 1)}, 3])}))


def halves():
    """Two encoders side by side and a decoder of both, in a dict; the width of the first is a decision."""
    width = mu.oneof([4, 2], name="width")
    encoders = [mu.nn.Conv2d(3, width, 1), mu.nn.Sequential(mu.nn.Conv2d(3, 2, 1), mu.nn.BatchNorm2d(2))]
    return {"encoders": encoders, "decoder": mu.nn.Conv2d(width + 2, 2, 1), "rate": mu.floatv(0.1, 0.2, name="rate")}


def run_halves(program, x):
    return program["decoder"](torch.cat([encoder(x) for encoder in program["encoders"]], 1)) * program["rate"]


def test_places_are_proven_through_all_modules_of_a_program():
    shared = mu.share_weights(halves(), zoo.images(), run=run_halves)
    small = shared.space.dna({"width": 1, "rate": 0.15})
    live = shared.materialize(small)
    shared.module.zero_grad()
    run_halves(live, zoo.images()).square().sum().backward()
    used = dict(shared.module.named_parameters())["decoder.weight"].grad.abs().sum((0, 2, 3)).ne(0)
    assert used.tolist() == [True, True, False, False, True, True]
    for seed in range(3):
        found = shared.verify(shared.space.random(seed), zoo.images())
        assert found.positions == "proven" and found.error < 1e-12 and found.tensors == len(shared.module.state_dict())
    exported = shared.export(small)
    assert torch.equal(run_halves(exported, zoo.images()), run_halves(shared.materialize(small), zoo.images()))
    assert shared.report().unproven == ()


def test_a_wrong_weight_in_any_module_is_seen():
    shared = mu.share_weights(halves(), zoo.images(), run=run_halves)
    dna = shared.space.dna({"width": 1, "rate": 0.15})
    entry = next(e for e in shared._live._tables["decoder"].values() if e.module.in_channels == 4)
    entry.module.padding = (1, 1)
    with pytest.raises(LoweringError, match="decoder"):
        shared.verify(dna, zoo.images())


def test_modes_and_statistics_of_all_modules_are_minded():
    shared = mu.share_weights(halves(), zoo.images(), run=run_halves)
    dna = shared.space.random(0)
    live = shared.materialize(dna)
    live["decoder"].eval()
    live["encoders"][1].eval()
    live["encoders"][0].eval()
    assert not any(m.training for m in shared.materialize(shared.space.random(1))["encoders"][1].modules())
    shared.verify(dna, zoo.images())
    assert not shared.materialize(dna)["decoder"].training
    batches = [zoo.images() + 3.0, zoo.images() - 1.0]
    assert shared.calibrate(dna, batches, run=run_halves) == 2
    norm, first = live["encoders"][1][1], live["encoders"][1][0]
    wanted = torch.stack([first(x).mean((0, 2, 3)) for x in batches]).mean(0)
    assert torch.allclose(norm.running_mean, wanted, atol=1e-5) and norm.momentum == 0.1


def test_several_modules_and_a_batch_need_a_function_that_runs_them():
    with pytest.raises(LoweringError) as error:
        mu.share_weights(halves(), zoo.images())
    assert str(error.value) == (
        "cannot tell how a batch goes through a program of several modules\n"
        "  at:       ['encoders'][0], ['encoders'][1], ['decoder']\n"
        "  expected: a function of the program and the batch\n"
        "  fix:      pass run=lambda program, x: ..., which calls them one after the other"
    )
    assert lowering_report(halves(), zoo.images()).refusal.args == error.value.args
    assert lowering_report(halves(), zoo.images(), run=run_halves).is_possible
    shared = mu.share_weights(halves(), positions="leading")
    for do in (lambda: shared.calibrate(shared.space.random(0), [zoo.images()]),
               lambda: shared.verify(shared.space.random(0), zoo.images())):  # fmt: skip
        with pytest.raises(LoweringError, match="several modules"):
            do()


def test_a_module_in_a_program_is_run_as_the_program_runs_it():
    @mu.symbolize
    class Pair(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.a, self.b, self.last = nn.Linear(4, width), nn.Linear(4, width), nn.Linear(2 * width, 1)

        def forward(self, x, *, other):
            return self.last(torch.cat([self.a(x), self.b(other)], 1))

    shared = mu.share_weights(Pair(mu.oneof([4, 2])), (zoo.features(3, 4), zoo.features(3, 4)),
                              run=lambda module, x, y: module(x, other=y))  # fmt: skip
    shared.module.zero_grad()
    shared.materialize(shared.space.dna({"width": 1}))(zoo.features(3, 4), other=zoo.features(3, 4)).sum().backward()
    used = dict(shared.module.named_parameters())["last.weight"].grad[0].ne(0)
    assert used.tolist() == [True, True, False, False] * 2


def test_mixed_sizes_and_choices_go_through_all_modules():
    program = halves()
    program["decoder"] = mu.oneof([program["decoder"], mu.nn.Conv2d(mu.arguments(program["decoder"])["in_channels"], 2,
                                                                     3, padding=1)], name="decoder")  # fmt: skip
    shared = mu.share_weights(program, zoo.images(), run=run_halves)
    dna = shared.space.dna({"width": 0, "rate": 0.15, "decoder": 0})
    weights = torch.tensor([0.5, 0.5], requires_grad=True)
    both = [shared.space.dna({"width": 0, "rate": 0.15, "decoder": k}) for k in (0, 1)]
    parts = [run_halves(shared.materialize(child), zoo.images()) for child in both]
    with shared.select(dna, {"decoder": Mixture(weights)}) as live:
        assert torch.allclose(run_halves(live, zoo.images()), (parts[0] + parts[1]) / 2, atol=1e-6)
