"""Where the modules of a program stand, and what is around them."""

from __future__ import annotations

import copy

import pytest
import supernet_zoo as zoo
import torch
from torch import nn

import mutandis as mu
from mutandis.errors import LoweringError, SettingError
from mutandis.flows import lowering_report
from mutandis.flows.supernet import Mixture
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


def test_a_trainer_that_makes_its_module_itself_is_refused():
    @mu.symbolize
    class Maker:
        def __init__(self, width):
            self.net = nn.Linear(2, width)

    with pytest.raises(LoweringError) as error:
        Roots(mu.space(Maker(mu.oneof([1, 2]))))
    assert str(error.value).endswith(
        "fix:      let it take its module as an argument, such as Trainer(Net(...)), instead of making it"
    )


def kinds():
    """A choice outside of modules between a net of some width and one with a choice of its own, and a number for it."""
    width = mu.oneof([4, 8], name="width")
    wide = mu.nn.Sequential(mu.nn.Linear(4, width), mu.nn.ReLU(), mu.nn.Linear(width, 2))
    layers = [mu.nn.Linear(4, 2), mu.nn.Sequential(mu.nn.Linear(4, 3), mu.nn.Linear(3, 2))]
    chosen = mu.nn.Sequential(mu.oneof(layers, name="layer"))
    return {"kind": mu.oneof([{"net": wide, "scale": 1.0}, {"net": chosen, "scale": width}], name="kind")}


def run_kind(program, x):
    return program["kind"]["net"](x) * program["kind"]["scale"]


def test_modules_below_a_choice_outside_of_modules_share_weights_and_are_exact():
    x = zoo.features(3, 4)
    shared = mu.share_weights(kinds(), x, run=run_kind)
    assert {name.partition("net")[0] for name in shared.module.state_dict()} == {
        "kind.candidates.0.", "kind.candidates.1."}  # fmt: skip
    for dna in shared.space.bare().enumerate():
        found = shared.verify(dna, x)
        assert found.error < 1e-12 and found.positions == "proven"
        live = shared.materialize(dna)
        assert shared.dna == dna
        assert torch.equal(run_kind(shared.export(dna), x), run_kind(live, x))
        shared.module.zero_grad()
        run_kind(live, x).sum().backward()
        used = {name[16] for name, p in shared.module.named_parameters() if p.grad is not None}
        assert used == {str(dna["kind"])}
    assert copy.deepcopy(shared).dna == shared.dna


def test_weights_of_an_inner_choice_are_those_of_its_arms_only():
    shared = mu.share_weights(kinds(), positions="leading")
    names = [name for name in shared.module.state_dict() if name.startswith("kind.candidates.1.")]
    assert {name.partition("[")[2] for name in names} == {"2=0]", "2=1]"}


def test_several_of_some_modules_outside_of_modules_are_listed():
    program = {"nets": mu.manyof(2, [mu.nn.Linear(4, 2), mu.nn.Linear(4, 2, bias=False), mu.nn.Linear(4, 2)])}
    run = lambda made, x: sum(net(x) for net in made["nets"])  # noqa: E731
    shared = mu.share_weights(program, zoo.features(3, 4), run=run)
    for dna in shared.space.bare().enumerate():
        assert shared.verify(dna, zoo.features(3, 4)).error < 1e-12
    first, second = (shared.materialize(shared.space.dna({"['nets']": picks}))["nets"] for picks in ((0, 2), (2, 0)))
    assert first[0] is second[1] and first[1] is second[0] and first[0].weight is not first[1].weight


def test_a_module_that_a_function_of_the_program_computes_with_is_refused():
    program = {"net": mu.derive(lambda net: net, mu.nn.Linear(1, mu.oneof([1, 2])))}
    with pytest.raises(LoweringError) as error:
        Roots(mu.space(program))
    text = str(error.value)
    assert text.startswith("cannot share the weights of a module that is an argument of a computed value\n  at: ")
    assert text.endswith(
        "  expected: a module that the program holds as it is\n"
        "  fix:      put the choice among modules where the computed value stands, or search it with trials (where=)"
    )


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
    assert lowering_report(halves(), batch=zoo.images()).refusal.args == error.value.args
    assert lowering_report(halves(), batch=zoo.images(), run=run_halves).is_possible
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


def test_a_live_call_that_is_given_a_batch_says_how_it_is_called():
    child = mu.share_weights(mu.bind(build, mu.oneof([1, 2])), torch.ones(1, 2)).materialize
    live = copy.copy(child(mu.space(mu.bind(build, mu.oneof([1, 2]))).random(0)))
    assert repr(live) == "LiveCall of Linear"
    with pytest.raises(SettingError) as error:
        live(torch.ones(1, 2))
    assert str(error.value) == (
        "cannot run a call that returns a module on a batch\n"
        "  at:       child(x)\n"
        "  got:      ['Tensor'] (list)\n"
        "  expected: no arguments\n"
        "  fix:      write child()(x), as with children that are really built, or shared.module(x)"
    )
    with pytest.raises(
        AttributeError, match=r"a call that returns a Linear has no 'eval'; child\(\)\.eval is the module's"
    ):
        live.eval()
    with pytest.raises(AttributeError, match=r"has no 'evla'$"):
        live.evla()
