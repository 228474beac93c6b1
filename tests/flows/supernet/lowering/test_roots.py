"""Where the modules of a program stand, and what is around them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import mutandis as mu
from mutandis.errors import LoweringError
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


def test_an_optimizer_that_is_made_when_the_program_is_built_is_refused():
    @mu.symbolize
    class Trainer:
        def __init__(self, model, rate):
            self.optimizer = torch.optim.SGD(model.parameters(), rate)

    roots = Roots(mu.space({"x": Trainer(mu.nn.Linear(1, 1), mu.floatv(0.1, 1.0))}))
    with pytest.raises(LoweringError, match="an optimizer that a program makes when it is built") as error:
        roots.wrap((0.5,), [nn.Linear(1, 1)])
    assert error.value.at == "['x'].optimizer"
