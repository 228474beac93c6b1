"""Gates that act inside of the last layer of an arm."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck

from mutandis.flows.supernet.choices import weighing
from mutandis.flows.supernet.choices.folding import Folds, last_of
from mutandis.flows.supernet.choices.products import product_of
from mutandis.flows.supernet.choices.weighing import weighted_sum
from mutandis.flows.supernet.selections import Choice, Gate, Subset


def images(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*(shape or (3, 2, 4, 4)), dtype=torch.float64, generator=generator).requires_grad_()


def number(value):
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def norm(channels=2, *, training=True):
    """A batch norm in which nothing is 0 or 1."""
    made = nn.BatchNorm2d(channels).double().train(training)
    with torch.no_grad():
        made.weight.uniform_(0.5, 2)
        made.bias.uniform_(-1, 1)
    return made


class Twice(nn.Module):
    """Runs a norm that stands behind itself."""

    def __init__(self):
        super().__init__()
        self.norm = norm()
        self.body = nn.Sequential(self.norm, nn.ReLU(), self.norm)

    def forward(self, x):
        return self.body(x)


class Shifted(nn.Sequential):
    """No plain sequence: what it returns is not what its last layer has made."""

    def forward(self, x):
        return super().forward(x) + 1.0


TAKEN = {
    "norm": lambda: norm(),
    "norm in evaluation": lambda: norm(training=False),
    "norm behind others": lambda: nn.Sequential(nn.ReLU(), nn.Conv2d(2, 2, 1).double(), norm()),
    "norm deep inside": lambda: nn.Sequential(nn.Identity(), nn.Sequential(nn.Tanh(), norm())),
    "pool": lambda: nn.AvgPool2d(3, 1, 1, count_include_pad=False),
    "pool with a stride": lambda: nn.Sequential(nn.Identity(), nn.AvgPool2d(2)),
}
LEFT = {
    "norm twice": lambda: Twice().body,
    "norm in a module of its own": Twice,
    "norm with more behind": lambda: Shifted(norm()),
    "norm without affine": lambda: nn.BatchNorm2d(2, affine=False).double(),
    "activation": lambda: nn.Sequential(norm(), nn.ReLU()),
    "convolution": lambda: nn.Conv2d(2, 2, 1).double(),
    "skip": nn.Identity,
    "nothing": nn.Sequential,
    "pool that counts zeros around": lambda: nn.AvgPool2d(3, 1, 1),
    "pool behind others": lambda: nn.Sequential(nn.ReLU(inplace=True), nn.AvgPool2d(2)),
    "pool with a divisor": lambda: nn.AvgPool2d(2, divisor_override=3),
}


def gated(arm, x, gate, offset=None):
    selection = Gate(0, gate) if offset is None else Subset((0,), gate.reshape(1), offset)
    return Choice({0: arm}, selection, "here")(x)


@pytest.mark.parametrize("name", [*TAKEN, *LEFT])
@pytest.mark.parametrize("value", [1.0, 0.4])
@pytest.mark.parametrize("has_offset", [True, False])
def test_values_and_gradients_are_those_of_a_written_product(name, value, has_offset):
    torch.manual_seed(0)
    arm = (TAKEN | LEFT)[name]()
    found = []
    for run in (gated, lambda arm, x, g, c=None: weighing._plainly([arm(x)], [g], c)):
        leaves = [images(), number(value), *([number(0.3 if value != 1.0 else 0.0)] if has_offset else [])]
        made = run(arm, leaves[0] * 1.0, *leaves[1:])
        found.append([made, *torch.autograd.grad(made.pow(3).sum(), [*leaves, *arm.parameters()])])
    assert all(torch.allclose(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("name", TAKEN)
def test_gradients_are_those_of_finite_differences(name):
    torch.manual_seed(0)
    arm = TAKEN[name]()
    given = images(), number(1.0), number(0.0)
    assert gradcheck(lambda *leaves: gated(arm, *leaves), given, fast_mode=True)
    assert gradgradcheck(lambda *leaves: gated(arm, *leaves).pow(2), given, fast_mode=True)


@pytest.mark.parametrize("name", TAKEN)
def test_nothing_is_kept_but_what_the_arm_keeps(name):
    arm, x = TAKEN[name](), images(4, 2, 8, 8) * 1.0

    def kept(run):
        seen = {}

        def pack(tensor):
            seen[tensor.data_ptr()] = tensor.numel() if tensor.numel() > 8 else 0
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            run()
        return sum(seen.values())

    assert kept(lambda: gated(arm, x, number(1.0), number(0.0))) == kept(lambda: arm(x)) > 0


@pytest.mark.parametrize("name", LEFT)
def test_arms_whose_last_layer_is_not_known_to_take_gates_are_left_alone(name):
    arm = LEFT[name]()
    fold = Folds().find(arm)
    output = None if fold is None else fold[1](arm, fold[0], (images(),), {}, number(1.0), None)
    assert output is None


def test_afterwards_the_norm_has_its_own_vectors_even_after_an_error():
    arm = norm()
    own = list(arm.parameters())
    gated(arm, images(), number(1.0))
    with pytest.raises(ValueError, match="expected 4D"):
        gated(arm, images(3, 2), number(1.0))
    assert all(a is b for a, b in zip(arm.parameters(), own, strict=True))


@pytest.mark.parametrize("place", ["arm", "norm"])
def test_hooks_see_what_the_arm_makes_and_not_the_gate(place):
    arm, gate, seen = nn.Sequential(norm()), number(1.0), []
    (arm if place == "arm" else arm[0]).register_forward_hook(lambda module, inputs, output: seen.append(output))
    gated(arm, images(), gate)
    assert torch.autograd.grad(seen[0].sum(), gate, allow_unused=True) == (None,)


def test_hooks_of_all_modules_do_not_see_the_gate_either():
    gate, seen = number(1.0), []
    handle = nn.modules.module.register_module_forward_hook(lambda module, inputs, output: seen.append(output))
    try:
        gated(norm(), images(), gate)
    finally:
        handle.remove()
    assert torch.autograd.grad(seen[0].sum(), gate, allow_unused=True) == (None,)


def test_an_arm_that_gets_another_last_layer_is_looked_at_again():
    folds, arm = Folds(), nn.Sequential(nn.ReLU(), norm())
    assert folds.find(arm)[0] is arm[1]
    arm[1] = nn.Conv2d(2, 2, 1)
    assert folds.find(arm) is None
    arm[1] = norm()
    assert folds.find(arm)[0] is arm[1] is last_of(arm)


@pytest.mark.parametrize(("value", "shift"), [(1.0, 0.0), (0.4, 0.3), (0.4, None)])
def test_an_output_that_is_gated_twice_knows_its_product(value, shift):
    arm, inner, outer = norm(), number(value), number(1.0)
    made = gated(arm, images(32, 2, 16, 17), inner, None if shift is None else number(shift))
    gradient = images(32, 2, 16, 17, seed=1).detach()
    expected = float((made * gradient).detach().sum())
    assert float(product_of(made)(gradient).detach()) == pytest.approx(expected)
    (weighted_sum([made], [outer]) * gradient).sum().backward()
    assert float(outer.grad) == pytest.approx(expected)


def test_zeros_are_not_kept_for_the_gradient_of_their_weight_which_is_0():
    kept, x, weight, offset, other = [], images(2, 2, 3, 3), number(1.0), number(0.0), number(1.0)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        made = weighted_sum([x.mul(0.0)], [weight], offset) + weighted_sum([x.mul(0.0)], [other])
    made.sum().backward()
    assert max(kept, default=0) <= 1 and float(offset.grad) == x.numel()
    assert float(weight.grad) == float(other.grad) == 0.0
