"""Children that are really built: without drawing weights, and with a record of who made what."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

import mutandis as mu
from mutandis.errors import LoweringError
from mutandis.flows.supernet.lowering.children import Builder, _NoInit, has_arms


class Conv:
    """A factory that is no module."""

    def __init__(self, kernel):
        self.kernel = kernel

    def __call__(self, width):
        return nn.Sequential(nn.Conv1d(width, width, self.kernel), nn.BatchNorm1d(width))


def two(width):
    return nn.Sequential(nn.Linear(width, width), nn.Linear(width, width))


@mu.symbolize
class Net(nn.Module):
    def __init__(self, op):
        super().__init__()
        self.stem = nn.Linear(2, 2)
        self.op = op if isinstance(op, nn.Module) else op(2)


def builder(program, seed=0):
    return Builder(mu.space(program), seed)


@pytest.mark.parametrize(
    "candidates",
    [
        [mu.nn.Linear(2, 2), mu.nn.ReLU()],
        [mu.symbolize(Conv)(1), mu.symbolize(Conv)(3)],
        [two, two],
        [mu.partial(nn.Linear, 2), mu.partial(nn.Linear, 2, bias=False)],
        [nn.BatchNorm1d, nn.LayerNorm],
        [nn.Linear(2, 2), nn.ReLU()],
    ],
    ids=["modules", "objects", "functions", "partials", "classes", "plain modules"],
)
def test_who_made_a_module_is_known_whatever_the_candidates_are(candidates):
    child = builder(Net(mu.oneof(candidates))).build((0,))
    made = {path for path, tags in child.owners.items() if tags == {(0, -1)}}
    assert made and all(path.startswith("op") for path in made)
    assert made >= {path for path, m in child.tree.items() if path.startswith("op") and m._parameters}


def test_picks_are_known_by_their_place():
    child = builder(mu.bind(_stack, mu.manyof(2, [mu.nn.Linear(2, 2), mu.nn.ReLU()]))).build(((1, 0),))
    assert child.owners == {"0": {(0, 0)}, "1": {(0, 1)}}


def _stack(layers) -> nn.Sequential:
    return nn.Sequential(*layers)


def test_initial_weights_are_drawn_from_the_seed():
    program = mu.nn.Sequential(mu.nn.Linear(50, 50), mu.oneof([mu.nn.ReLU(), mu.nn.Tanh()]))
    state = torch.random.get_rng_state()
    first, again = (builder(program).build((0,), init=True).tree["0"].weight.detach() for _ in range(2))
    assert torch.equal(first, again) and float(first.std()) > 0
    assert not torch.equal(first, builder(program, seed=1).build((0,), init=True).tree["0"].weight)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_without_initial_weights_parameters_are_not_filled_and_other_tensors_are():
    parameter, other = nn.Parameter(torch.zeros(9)), torch.zeros(9)
    with _NoInit():
        assert nn.init.uniform_(parameter) is parameter
        nn.init.trunc_normal_(parameter)
        nn.init.constant_(parameter, 3.0)
        nn.init.uniform_(other, 1.0, 2.0)
    assert bool(other.ge(1).all())
    assert bool(parameter.eq(0).all())


def test_buffers_are_computed_even_without_initial_weights():
    child = builder(mu.nn.Sequential(mu.nn.BatchNorm1d(3), mu.oneof([mu.nn.ReLU(), mu.nn.Tanh()]))).build((0,))
    assert torch.equal(child.tree["0"].running_var, torch.ones(3))


def test_a_stripped_child_has_no_weights_and_the_same_facts():
    child = builder(mu.nn.Sequential(mu.nn.BatchNorm1d(3), mu.oneof([mu.nn.ReLU(), mu.nn.Tanh()]))).build((0,))
    facts = child.facts
    child.strip()
    assert child.facts is facts and child.tree["0"].weight.numel() == child.tree["0"].running_mean.numel() == 0


def test_a_build_without_gradients_gives_weights_that_train():
    with torch.inference_mode():
        child = builder(mu.nn.Linear(2, mu.oneof([1, 2]))).build((0,), init=True)
    assert child.tree[""].weight.requires_grad and not child.tree[""].weight.is_inference()


def test_a_function_that_returns_something_else_than_it_says_is_refused():
    def lies(width) -> nn.Module:
        return width

    with pytest.raises(LoweringError, match="a call that returns no module"):
        builder(mu.bind(lies, mu.oneof([1, 2]))).build((0,))


def test_an_error_of_the_users_code_passes_through():
    class Broken(nn.Module):
        def __init__(self, width):
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        builder(mu.symbolize(Broken)(mu.oneof([1, 2]))).build((0,))


def test_modules_may_belong_to_candidates_unless_all_are_plain_values():
    width, arm = mu.oneof([4, 8]), mu.oneof([mu.nn.ReLU(), mu.nn.GELU()])
    plain = mu.space(
        mu.nn.Sequential(mu.nn.Linear(4, width, bias=mu.oneof([True, False])), mu.nn.Dropout(mu.floatv(0, 1)))
    )
    assert not has_arms(plain)
    assert has_arms(mu.space(mu.nn.Sequential(mu.nn.Linear(4, width), arm)))
    assert has_arms(SimpleNamespace(program=1, points=plain.points))  # Some stand where a walk does not come.


def test_a_call_is_built_without_initial_values_too(monkeypatch):
    filled = []
    monkeypatch.setattr(nn.Linear, "reset_parameters", lambda self: filled.append(nn.init.uniform_(self.weight, 5, 6)))
    program = mu.bind(_stack, [mu.nn.Linear(2, mu.oneof([2, 3]))])
    child = builder(program).build((0,))
    assert filled and not bool(child.tree["0"].weight.ge(5).all())


@pytest.mark.parametrize("layer", [nn.LazyLinear, nn.LazyBatchNorm1d])
def test_a_layer_without_sizes_is_refused(layer):
    with pytest.raises(LoweringError) as error:
        builder(mu.nn.Sequential(mu.nn.Linear(2, mu.oneof([1, 2])), _lazy(layer))).build((0,))
    assert str(error.value) == (
        "cannot share the weights of a layer whose sizes are not known when it is made\n"
        "  at:       module 1\n"
        f"  got:      '{layer.__name__}' (str)\n"
        "  expected: sizes given to __init__\n"
        "  fix:      write the layer with its input size, such as nn.Linear(in_features, out_features)"
    )


def _lazy(layer):
    return layer(3) if layer is nn.LazyLinear else layer()


@mu.symbolize
class Late(nn.Module):
    """Makes a layer when it first sees an input."""

    def __init__(self, width, op):
        super().__init__()
        self.width, self.op, self.layer = width, op, None
        self.out = nn.Linear(width, 2)

    def forward(self, x):
        if self.layer is None:
            self.layer = nn.Linear(x.shape[-1], self.width, dtype=x.dtype)
        return self.out(self.op(self.layer(x)))


@pytest.mark.parametrize("width", [2, mu.oneof([2, 3])], ids=["choice", "size"])
def test_a_layer_that_a_pass_makes_is_refused(width):
    program = Late(width, mu.oneof([mu.nn.ReLU(), mu.nn.Tanh()]))
    with pytest.raises(LoweringError) as error:
        mu.share_weights(program, torch.ones(2, 4))
    assert str(error.value) == (
        "cannot share the weights of a layer that is made while the program runs\n"
        "  at:       module layer\n"
        "  expected: layers that __init__ makes, so that an optimizer gets their weights\n"
        "  fix:      make it in __init__; an input size that it needs there can be an argument, and searched"
    )
