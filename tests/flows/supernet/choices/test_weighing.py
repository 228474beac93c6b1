"""Weighted sums: gradients, second gradients, and what they keep."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional as F

from mutandis.flows.supernet.choices import weighing
from mutandis.flows.supernet.choices.weighing import weighted_sum

NORM = nn.BatchNorm2d(3).double()
CONV = nn.Conv2d(3, 3, 1).double()
ARMS = {
    "norm": NORM,
    "relu": F.relu,
    "pool": lambda x: F.avg_pool2d(x, 3, 1, 1),
    "zero": lambda x: x.mul(0.0),
    "convolution": CONV,
    "skip": lambda x: x,
    "skip of a sum": lambda x: torch.stack([F.relu(x), NORM(x)]).sum(0),
}


@pytest.fixture(autouse=True)
def _every_output_counts_as_large(monkeypatch):
    monkeypatch.setattr(weighing, "SMALL", 0)


def images(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*(shape or (3, 3, 4, 4)), dtype=dtype, generator=generator).requires_grad_()


def number(value, dtype=torch.float64):
    return torch.tensor(value, dtype=dtype, requires_grad=True)


@pytest.mark.parametrize("name", ARMS)
@pytest.mark.parametrize("weight", [1.0, 0.4, 0.0])
def test_gradients_of_one_output_are_those_of_finite_differences(name, weight):
    def run(x, weight, offset):
        return weighted_sum([ARMS[name](x * 1.0)], [weight], offset)

    given = images(), number(weight), number(0.0)
    assert gradcheck(run, given, fast_mode=True) and gradgradcheck(run, given, fast_mode=True)


def test_gradients_of_a_mixture_are_those_of_finite_differences():
    def run(x, logits, offset):
        return weighted_sum([arm(x) for arm in ARMS.values()], logits.softmax(0).unbind(), offset)

    given = images(), images(len(ARMS), seed=1), number(0.5)
    assert gradcheck(run, given, fast_mode=True) and gradgradcheck(run, given, fast_mode=True)


@pytest.mark.parametrize("name", ARMS)
def test_first_and_second_gradients_of_weights_of_layers_are_those_of_a_written_sum(name):
    found = []
    for run in (weighted_sum, weighing._plainly):
        x, weight = images(), number(1.0)
        made = run([ARMS[name](x)], [weight], None).pow(2).sum()
        (first,) = torch.autograd.grad(made, weight, create_graph=True)
        leaves = [x, weight, *NORM.parameters(), *CONV.parameters()]
        second = torch.autograd.grad(first, leaves, allow_unused=True)
        found.append([first, *(torch.zeros(()) if g is None else g for g in second)])
    assert all(torch.allclose(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("name", sorted(ARMS.keys() - {"convolution", "skip"}))
def test_an_output_with_a_weight_of_1_is_itself_and_nothing_is_kept(name):
    x = images() * 1.0
    output = ARMS[name](x)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        made = weighted_sum([output], [number(1.0)], number(0.0))
    assert made.data_ptr() == output.data_ptr() and sum(kept) <= 2


def test_a_weight_that_is_1_but_for_its_rounding_is_1_in_single_precision():
    x = images(dtype=torch.float32)
    output = F.relu(x)
    assert weighted_sum([output], [number(1 - 2**-53)], number(2**-54)).data_ptr() == output.data_ptr()
    assert weighted_sum([output], [number(1 - 2**-20)]).data_ptr() != output.data_ptr()
    assert weighted_sum([output], [number(1.0)], number(1e-3)).data_ptr() != output.data_ptr()
    double = F.relu(images())
    assert weighted_sum([double], [number(1 - 2**-53)]).data_ptr() != double.data_ptr()


def test_what_comes_after_a_gate_may_change_it_in_place():
    x, weight = images(), number(1.0)
    made = weighted_sum([NORM(x)], [weight])
    made.add_(1).relu_().sum().backward()
    expected = number(1.0)
    (NORM(images()) * expected + 1).relu().sum().backward()
    assert torch.allclose(weight.grad, expected.grad)
    kept = weighted_sum([CONV(x)], [weight])
    kept.relu_().sum().backward()  # Its output is kept, so that the sum has a memory of its own.


def test_outputs_without_gradients_still_give_one_to_their_weight():
    constant, weight = torch.full((2, 2), 3.0), number(1.0)
    weighted_sum([constant], [weight]).sum().backward()
    assert float(weight.grad) == 12.0


def test_weights_without_gradients_keep_nothing_and_outputs_get_theirs():
    x = images()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        made = weighted_sum([x, x], [torch.tensor(0.25), torch.tensor(0.5)])
    made.sum().backward()
    assert sum(kept) == 2 and torch.equal(x.grad, torch.full_like(x, 0.75))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_types_are_those_of_a_written_sum(dtype):
    x = images(dtype=dtype)
    other = images(dtype=torch.float32, seed=2)
    for outputs in ([F.relu(x)], [F.relu(x), x], [F.relu(x), other]):
        weights = [number(0.5) for _ in outputs]
        made, plain = weighted_sum(outputs, weights), weighing._plainly(outputs, weights, None)
        assert made.dtype is plain.dtype
        assert torch.allclose(made.double(), plain.double(), rtol=1e-6 if dtype != torch.bfloat16 else 1e-2)
        made.sum().backward()
        assert all(weight.grad.dtype is torch.float64 for weight in weights)


def test_transforms_of_functions_and_compilers_see_a_written_sum():
    def run(weight, x):
        return weighted_sum([F.relu(x)], [weight]).sum()

    x = images()
    wanted = float(F.relu(x.detach()).sum())
    assert float(torch.func.grad(run)(torch.tensor(1.0, dtype=torch.float64), x.detach())) == pytest.approx(wanted)
    compiled = torch.compile(run, backend="eager", fullgraph=True)
    weight = number(1.0)
    compiled(weight, x).backward()
    assert float(weight.grad) == pytest.approx(wanted)


def test_small_outputs_are_added_as_they_are_written(monkeypatch):
    monkeypatch.setattr(weighing, "SMALL", 10)
    x = images(9)
    assert weighted_sum([x], [number(1.0)]).grad_fn.name() == "MulBackward0"
    monkeypatch.setattr(weighing, "SMALL", 9)
    assert weighted_sum([F.relu(x)], [number(1.0)]).grad_fn.name() == "_GatedBackward"


def test_integers_and_classes_of_their_own_are_added_as_they_are_written():
    class Own(torch.Tensor):
        pass

    ints = torch.arange(4)
    assert torch.equal(weighted_sum([ints], [torch.tensor(2)]), ints * 2)
    assert type(weighted_sum([torch.ones(4).as_subclass(Own)], [number(1.0)])) is Own


def test_a_pass_under_a_counter_of_flops_works_too():
    from torch.utils.flop_counter import FlopCounterMode

    x, weight = images(), number(1.0)
    with FlopCounterMode(display=False):
        for arm in ARMS.values():
            weighted_sum([arm(x)], [weight]).sum().backward()
    assert weight.grad is not None
