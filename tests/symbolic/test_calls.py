"""Symbolic calls: bind, partial, and symbolized functions."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

import mutandis as mu
from mutandis.errors import AbstractError, SymbolicError
from mutandis.symbolic.record import is_abstract

RUNS = []


@mu.symbolize
def build(width, *, bias=True) -> nn.Module:
    """Builds a layer."""
    RUNS.append(width)
    return nn.Linear(2, width, bias=bias)


@mu.symbolize
class Trainer:
    def __init__(self, model, optimizer=None):
        self.model, self.optimizer = model, optimizer


def test_a_symbolized_function_runs_as_before():
    assert build(3).out_features == 3
    assert build.__name__ == "build"
    assert build.__doc__ == "Builds a layer."


def test_a_call_with_an_undecided_argument_does_not_run():
    count = len(RUNS)
    call = build(mu.REQUIRED)
    assert is_abstract(call)
    assert len(RUNS) == count
    assert mu.arguments(call) == {"width": mu.REQUIRED, "bias": True}
    with pytest.raises(AbstractError):
        call()


def test_undecided_values_are_found_inside_containers():
    @mu.symbolize
    def run(options):
        return options

    assert is_abstract(run({"a": [mu.REQUIRED]}))
    assert run({"a": [1]}) == {"a": [1]}


def test_bind_runs_when_called():
    call = mu.bind(pow, 2, 3)
    assert not is_abstract(call)
    assert call() == 8
    assert mu.clone(call)() == 8


def test_an_undecided_call_becomes_concrete_in_a_clone():
    call = mu.bind(build, mu.REQUIRED)
    assert mu.clone(call, width=5)().out_features == 5


def test_a_call_as_argument_is_evaluated_when_its_holder_is_built():
    call = mu.bind(build, 4)
    trainer = Trainer(call)
    assert isinstance(trainer.model, nn.Linear)
    assert mu.arguments(trainer)["model"] is call


def test_one_call_at_two_places_gives_one_result():
    call = mu.bind(build, 4)
    trainer = Trainer([call, call])
    assert trainer.model[0] is trainer.model[1]
    again = mu.clone(trainer)
    assert again.model[0] is again.model[1]
    assert again.model[0] is not trainer.model[0]


def test_partial_takes_further_arguments():
    make = mu.partial(torch.optim.SGD, lr=0.5, momentum=0.9)
    net = nn.Linear(1, 1)
    optimizer = make(net.parameters())
    assert optimizer.defaults["lr"] == 0.5
    assert make(net.parameters(), lr=0.1).defaults["lr"] == 0.1
    assert mu.arguments(make) == {"lr": 0.5, "momentum": 0.9}


def test_partial_is_passed_on_as_it_is():
    make = mu.partial(torch.optim.SGD, lr=0.5)
    assert Trainer(None, make).optimizer is make


def test_partial_of_positional_arguments_and_varargs():
    assert mu.partial(divmod, 7)(2) == (3, 1)

    def collect(a, b, *rest, flag=None):
        return a, b, rest, flag

    assert mu.partial(collect, 1)(2, 3, 4, flag=5) == (1, 2, (3, 4), 5)
    assert mu.partial(collect, b=9)(1) == (1, 9, (), None)


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v)), mu.clone])
def test_calls_and_partials_survive_copies(copier):
    assert copier(mu.bind(pow, 2, 5))() == 32
    assert mu.arguments(copier(mu.partial(torch.optim.SGD, lr=0.5))) == {"lr": 0.5}
    assert is_abstract(copier(mu.bind(build, mu.REQUIRED)))


def test_wrong_arguments_fail_at_once():
    with pytest.raises(TypeError, match="unexpected keyword argument 'wdith'"):
        mu.bind(build, 3, wdith=3)


def test_a_result_instead_of_a_function_is_refused():
    with pytest.raises(SymbolicError, match=r"write mu.bind\(f, x\) instead of mu.bind\(f\(x\)\)"):
        mu.bind(3)


def test_an_error_in_the_function_keeps_its_type_and_gets_a_note():
    def broken():
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine") as caught:
        mu.bind(broken)()
    assert "while building broken" in caught.value.__notes__


def test_repr_reads_as_code():
    assert repr(mu.partial(torch.optim.SGD, lr=0.5)) == "mu.partial(SGD, lr=0.5)"


def test_layers_of_a_module_a_call_would_build_can_be_queried():
    call = mu.bind(nn.Sequential, nn.Conv2d(1, 1, 1), nn.ReLU())
    assert isinstance(mu.symbolic.get(call, "args[0]"), nn.Conv2d)
    assert list(mu.query(mu.bind(build, 3), nn.Linear)) == []  # The call itself stands for the layer.


def test_an_undecided_call_shows_its_function():
    assert repr(mu.bind(dict, a=mu.REQUIRED)) == "mu.bind(dict, a=mu.REQUIRED)"
