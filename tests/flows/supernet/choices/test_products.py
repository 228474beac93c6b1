"""Scalar products of gradients and outputs that are not kept."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mutandis.flows.supernet.choices.products import dot, product_of
from mutandis.flows.supernet.choices.weighing import _Gated, _Weighted


def images(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*(shape or (3, 4, 5, 6)), dtype=torch.float64, generator=generator).requires_grad_()


def norm(*, affine=True, training=True, frozen=False):
    """A batch norm over 4 channels in which nothing is 0 or 1."""
    made = nn.BatchNorm2d(4, affine=affine).double().train(training)
    made.running_mean.uniform_(-1, 1)
    made.running_var.uniform_(0.5, 2)
    if affine:
        with torch.no_grad():
            made.weight.uniform_(0.5, 2)
            made.bias.uniform_(-1, 1)
        made.requires_grad_(not frozen)
    return made


SHARED = images(9, seed=4)
KNOWN = {
    "norm": norm(),
    "norm without affine": norm(affine=False),
    "norm in evaluation": norm(training=False),
    "norm in evaluation without affine": norm(affine=False, training=False),
    "norm that is not trained": norm(frozen=True),
    "norm that is not trained, in evaluation": norm(frozen=True, training=False),
    "norm with a part of a tensor": lambda x: F.batch_norm(
        x, None, None, SHARED.as_strided((4,), (1,), 0), SHARED.as_strided((4,), (1,), 5), True),
    "norm with a bias that no weight goes with": lambda x: F.batch_norm(x, None, None, None, SHARED[:4].detach(), True),
    "relu": F.relu,
    "relu in place": lambda x: F.relu_(x * 1.0),
    "pool": lambda x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False),
    "factor": lambda x: F.relu(x) * 0.3,
    "zero": lambda x: x.mul(0.0),
}  # fmt: skip
SUMS = {
    "stack": lambda x: torch.stack([F.relu(x), KNOWN["norm"](x), KNOWN["pool"](x)]).sum(0),
    "stack at the end": lambda x: torch.stack([F.relu(x), KNOWN["norm"](x)], -1).sum(-1),
    "stack at the end by another name": lambda x: torch.stack([F.relu(x), KNOWN["norm"](x)], -1).sum(4),
    "sum": lambda x: F.relu(x) + KNOWN["norm"](x),
    "sum of sums": lambda x: F.relu(x) + (KNOWN["norm"](x) + KNOWN["pool"](x)) * 2.0,
}  # fmt: skip
UNKNOWN = {
    "leaf": lambda x: x,
    "convolution": nn.Conv2d(4, 4, 1).double(),
    "sum with what needs no gradient": lambda x: F.relu(x) + x.detach(),
    "sum of other shapes": lambda x: F.relu(x) + F.relu(x[:1]),
    "sum with a factor": lambda x: torch.add(F.relu(x), F.relu(x), alpha=2),
    "product": lambda x: F.relu(x) * F.relu(x),
    "factor that is a tensor": lambda x: F.relu(x) * torch.ones(1, 4, 1, 1, dtype=torch.float64),
    "sum over another axis": lambda x: torch.stack([F.relu(x)] * 3, 1).sum(0),
    "sum that keeps its axis": lambda x: torch.stack([F.relu(x)] * 2).sum(0, keepdim=True),
    "large pool": lambda x: F.avg_pool2d(x.repeat(1, 1, 3, 3), 9),
    "pool of partial windows": lambda x: F.avg_pool2d(x, 2, 2, 0, ceil_mode=True),
    "part": lambda x: F.relu(x)[:, 1:],
}  # fmt: skip


@pytest.mark.parametrize("name", [*KNOWN, *SUMS])
def test_the_product_is_that_with_the_output(name):
    output = {**KNOWN, **SUMS}[name](images() * 1.0)
    gradient = images(*output.shape, seed=1).detach()
    assert torch.allclose(product_of(output, 4)(gradient), (gradient * output).sum(), rtol=1e-12)


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_not_known_is_left_to_be_kept(name):
    assert product_of(UNKNOWN[name](images()), 9) is None


@pytest.mark.parametrize("name", SUMS)
def test_sums_of_more_than_may_be_asked_are_left_to_be_kept(name):
    assert product_of(SUMS[name](images()), 1) is None


@pytest.mark.parametrize("kernel", [2, 3, (3, 2)])
@pytest.mark.parametrize("stride", [None, 1, (2, 1), 2])
def test_pools_of_all_forms_are_done_again(kernel, stride):
    x = images(2, 3, 7, 8)
    for padding, includes, divisor in itertools.product([0, 1], [True, False], [None, 5]):
        output = F.avg_pool2d(x, kernel, stride, padding, False, includes, divisor)
        gradient = images(*output.shape, seed=2).detach()
        assert torch.allclose(product_of(output)(gradient), (gradient * output).sum(), rtol=1e-12)


@pytest.mark.parametrize("name", [*KNOWN, *SUMS])
def test_the_product_is_differentiable_like_that_with_the_output(name):
    make = {**KNOWN, **SUMS}[name]
    leaves = [t for t in (*KNOWN["norm"].parameters(), SHARED) if t.requires_grad]
    found = []
    for is_asked in (True, False):
        x = images()
        output = make(x * 1.0)
        gradient = images(*output.shape, seed=1)
        with torch.enable_grad():
            value = product_of(output, 4)(gradient) if is_asked else (gradient * output).sum()
        found.append(torch.autograd.grad(value.sin() + 0.0 * x.sum(), [x, gradient, *leaves], allow_unused=True))
    for a, b in zip(*found, strict=True):
        assert (a is None and (b is None or not bool(b.any()))) or torch.allclose(a, torch.zeros_like(a) + (
            0.0 if b is None else b), atol=1e-12)  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_scalar_products_do_not_lose_what_small_types_would(dtype):
    a, b = (images(1, 64, 64, seed=s).detach().to(dtype) for s in (0, 1))
    wanted = (a.double() * b.double()).sum()
    assert abs(float(dot(a, b)) - float(wanted)) < 1e-5 * float((a.double() * b.double()).abs().sum())
    assert dot(a.transpose(1, 2), b.transpose(1, 2)) == pytest.approx(float(wanted), rel=1e-3)


def test_a_bias_of_half_precision_outputs_is_exactly_0_where_there_is_none():
    x = images(8, 4, 8, 8).detach().to(torch.bfloat16).requires_grad_()
    output = F.batch_norm(x, torch.zeros(4), torch.ones(4), None, None, True)
    ones = torch.ones_like(output)
    assert abs(product_of(output)(ones).item()) < 0.02  # A bias read off rounded numbers would give much more.


def test_gates_inside_of_sums_give_their_part():
    x, weight = images(), torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    offset = torch.tensor(0.25, dtype=torch.float64, requires_grad=True)
    gated = _Gated.apply(product_of(F.relu(x)), F.relu(x), weight, torch.zeros_like(weight))
    kept = images(seed=3).detach()
    mixed = _Weighted.apply([product_of(F.relu(x)), None], [False, True], offset, weight * 0.3, weight * 2, F.relu(x),
                            kept * 1.0 + x * 0)  # fmt: skip
    for output in (gated, mixed, gated + mixed):
        gradient = images(*output.shape, seed=1).detach()
        assert torch.allclose(product_of(output, 2)(gradient), (gradient * output).sum(), rtol=1e-12)
    unknown = _Weighted.apply([None], [False], None, weight.detach(), F.relu(x))
    assert product_of(unknown) is None


def test_what_was_freed_is_not_asked_twice():
    x = images()
    output = F.relu(x)
    product = product_of(output)
    output.sum().backward()
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        product(output)
