"""Sizes in selections: masks are the children, and gradients are those of nets written by hand."""

from __future__ import annotations

import pytest
import torch
import toy_sizes as toy
from torch import nn
from torch.nn import functional as F

import mutandis as mu
from mutandis.errors import DecisionError, LoweringError
from mutandis.flows.supernet import Choice, Gate, Mixture, Subset
from mutandis.flows.supernet.mixing.mixer import block_of


def hot(point, candidate):
    """All weight on one candidate."""
    return Mixture(torch.eye(point.num_candidates, dtype=torch.float64)[candidate])


def states(shared, dna):
    """Returns what a child's norms know, and the gradients of all shared weights."""
    child = shared.materialize(dna)
    grads = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in shared.module.named_parameters()}
    return {name: buffer.clone() for name, buffer in child.named_buffers()}, grads


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", toy.PROGRAMS)
def test_all_weight_on_one_size_is_the_child_of_that_size(name, seed):
    shared = toy.shared_of(name)
    dna = shared.space.random(seed)
    expected = toy.passed(shared.materialize(dna))
    norms, grads = states(shared, dna)
    shared = toy.shared_of(name)
    chosen = {p.path: hot(p, dna.values[p.index]) for p in toy.numbers(shared) if dna.values[p.index] is not None}
    with shared.select(shared.space.random(seed + 100) if name != "arms" else dna, chosen) as live:
        found = toy.passed(live)
    assert torch.allclose(found, expected, rtol=1e-9, atol=1e-12)
    norms_found, grads_found = states(shared, dna)
    assert all(torch.allclose(norms_found[key], value, rtol=1e-9, atol=1e-12) for key, value in norms.items())
    assert all(torch.allclose(grads_found[key], value, rtol=1e-8, atol=1e-11) for key, value in grads.items())


@pytest.mark.parametrize("mode", ["mask", "interpolate"])
@pytest.mark.parametrize("name", ["sizes", "resnet", "layers", "kinds"])
def test_gradients_of_the_weights_are_those_of_finite_differences(name, mode):
    shared = toy.shared_of(name)
    dna = shared.space.random(0)
    batch = toy.images()

    def loss(*weights):
        chosen = {p.path: Mixture(w, mode) for p, w in zip(toy.numbers(shared), weights, strict=True)}
        with shared.select(dna, chosen) as live:
            return toy.trained(live)(batch).sin().sum()

    start = [toy.leaf(*(0.2 + 0.1 * k for k in range(p.num_candidates))) for p in toy.numbers(shared)]
    assert torch.autograd.gradcheck(loss, start, eps=1e-6, atol=1e-5, rtol=1e-4)


class Chain(nn.Module):
    """Reference: two convolutions with a mixture between them, written by hand."""

    def __init__(self, shared):
        super().__init__()
        self.weights = {name: p.detach().clone().requires_grad_() for name, p in shared.module.named_parameters()}

    def forward(self, x, mix):
        w = self.weights
        y = F.conv2d(x, w["0.weight"], w["0.bias"], padding=1)
        y = F.relu(F.batch_norm(y, None, None, w["1.weight"], w["1.bias"], training=True))
        return F.conv2d(mix(y), w["3.weight"], w["3.bias"], padding=1)


def masked(sizes, weights):
    """x times the mask of Wan et al. 2020, Sec. 3.1."""
    mask = sum(w * (torch.arange(max(sizes)) < size) for w, size in zip(weights, sizes, strict=True))
    return lambda x: x * mask[:, None, None]


def interpolated(sizes, weights):
    """The weighted sum of interpolated channels of Dong and Yang 2019, eq. (4) to (7)."""

    def spread(x, size):
        rows = x[:, :size].flatten(2).transpose(1, 2)
        return F.adaptive_avg_pool1d(rows, max(sizes)).transpose(1, 2).reshape(len(x), max(sizes), *x.shape[2:])

    return lambda x: sum(w * spread(x, size) for w, size in zip(weights, sizes, strict=True))


@pytest.fixture(scope="module")
def chain():
    width = mu.oneof([6, 2, 5, 3], name="width")
    layers = [mu.nn.Conv2d(3, width, 3, padding=1), mu.nn.BatchNorm2d(width), mu.nn.ReLU(),
              mu.nn.Conv2d(width, 2, 3, padding=1)]  # fmt: skip
    shared = mu.share_weights(mu.nn.Sequential(*layers), toy.images().float())
    shared.module.double()
    return shared


@pytest.mark.parametrize("indices", [(0, 1, 2, 3), (1, 2), (3, 0), (2,)])
@pytest.mark.parametrize(("mode", "by_hand"), [("mask", masked), ("interpolate", interpolated)])
def test_a_mixture_is_that_of_a_net_written_by_hand(chain, mode, by_hand, indices):
    weights = toy.leaf(*(0.1 + 0.2 * k for k in range(len(indices))))
    selection = Mixture(weights, mode) if len(indices) == 4 else Subset(indices, weights, mode=mode)
    chain.module.zero_grad()
    with chain.select(chain.space.dna({"width": 1}), {"width": selection}) as live:
        assert live[0].out_channels == max((6, 2, 5, 3)[i] for i in indices)
        found = toy.passed(live)
    grads = {name: p.grad for name, p in chain.module.named_parameters()}
    mine = toy.leaf(*weights.tolist())
    sizes = [(6, 2, 5, 3)[i] for i in indices]
    reference = Chain(chain)
    for name in ("0.weight", "0.bias", "1.weight", "1.bias"):
        reference.weights[name] = reference.weights[name].detach()[: max(sizes)].requires_grad_()
    reference.weights["3.weight"] = reference.weights["3.weight"].detach()[:, : max(sizes)].requires_grad_()
    expected = reference(toy.images(), by_hand(sizes, mine))
    (expected * torch.linspace(-1, 2, expected.numel(), dtype=torch.float64).reshape(expected.shape)).sum().backward()
    assert torch.allclose(found, expected.detach(), rtol=1e-9, atol=1e-11)
    assert torch.allclose(weights.grad, mine.grad, rtol=1e-9, atol=1e-11)
    for name, weight in reference.weights.items():
        own = grads[name][:, : max(sizes)] if name == "3.weight" else grads[name][: max(sizes)]
        assert torch.allclose(own, weight.grad, rtol=1e-8, atol=1e-10)


def test_channels_that_were_flattened_are_interpolated_each_with_its_places():
    width = mu.oneof([4, 8], name="width")
    layers = [mu.nn.Conv2d(3, width, 3), mu.nn.ReLU(), mu.nn.Flatten(), mu.nn.Linear(width * 36, 2)]
    shared = mu.share_weights(mu.nn.Sequential(*layers), toy.images().float())
    shared.module.double()
    with shared.select(shared.space.random(0), {"width": Mixture(toy.leaf(0.3, 0.7), "interpolate")}) as live:
        layer, x = live[3], torch.randn(2, 8, 6, 6, dtype=torch.float64)
        found = layer(x.flatten(1))
        expected = F.linear(interpolated((4, 8), (0.3, 0.7))(x).flatten(1), layer.weight, layer.bias)
    assert torch.allclose(found, expected)


def test_flattened_channels_of_one_of_several_layers_are_not_interpolated():
    shared = toy.shared_of("mobilenet")
    with pytest.raises(LoweringError, match=r"(?s)width, module head .* come from one layer"), shared.select(
            shared.space.random(0), {"width": Mixture(torch.ones(3), "interpolate")}):  # fmt: skip
        pass


@pytest.mark.parametrize(
    ("sizes", "made", "block"),
    [((4, 8), (4, 8), 1), ((64, 128), (4, 8), 16), ((5, 9), (4, 8), 0), ((4, 16), (4, 8), 0), ((2, 4), (4, 8), 0)],
)
def test_how_many_places_a_channel_has(sizes, made, block):
    assert block_of(sizes, made) == block


def test_a_gate_of_one_is_the_child_and_has_a_gradient_at_every_layer_that_reads(chain):
    dna = chain.space.dna({"width": 2})
    expected = toy.passed(chain.materialize(dna))
    gate = torch.ones((), dtype=torch.float64, requires_grad=True)
    with chain.select(dna, {"width": Gate(2, gate)}) as live:
        found = toy.passed(live)
    weight, bias = live[3].weight, live[3].bias
    with torch.no_grad():
        slopes = torch.linspace(-1, 2, found.numel(), dtype=torch.float64).reshape(found.shape)
        read = F.conv2d(F.relu(live[1](live[0](toy.images()))), weight, padding=1)
    assert torch.allclose(found, expected) and bias is not None
    assert float(gate.grad) == pytest.approx(float((slopes * read).sum()))


def test_gates_that_are_probed_change_nothing_and_have_gradients(chain):
    dna = chain.space.dna({"width": 1})
    expected = toy.passed(chain.materialize(dna))
    gates = toy.leaf(0.0, 1.0, 0.0, 0.0)
    probes = {j: gates[j] for j in (0, 3)}
    with chain.select(dna, {"width": Gate(1, gates[1], probes)}) as live:
        found = toy.passed(live)
    assert torch.allclose(found, expected) and gates.grad.ne(0).tolist() == [True, True, False, True]


def test_an_offset_of_zero_has_a_gradient_and_no_effect(chain):
    dna, weights = chain.space.dna({"width": 1}), toy.leaf(1.0)
    expected = toy.passed(chain.materialize(dna))
    offset = torch.zeros((), dtype=torch.float64, requires_grad=True)
    with chain.select(dna, {"width": Subset((1,), weights, offset)}) as live:
        found = toy.passed(live)
    assert torch.equal(found, expected) and float(offset.grad) != 0


def test_two_sizes_of_one_axis_are_weighed_together():
    shared = toy.shared_of("branches")
    first, second = toy.leaf(0.2, 0.5, 0.3), toy.leaf(0.4, 0.6)
    with shared.select(shared.space.random(0), {"first": Mixture(first), "second": Mixture(second)}) as live:
        found = toy.passed(live)
    mask = torch.tensor([1.0, 1.0, 0.5, 0.2, 1.0, 1.0, 0.6], dtype=torch.float64)
    live = toy.trained(shared.materialize(shared.space.dna({"first": 0, "second": 1})))
    x = toy.images()
    y = F.relu(live.norm(torch.cat([live.a(x), live.b(x)], 1))) * mask[:, None, None]
    expected = live.head(F.relu(live.up(y)).mean((2, 3)))
    assert torch.allclose(found, expected.detach(), rtol=1e-9, atol=1e-12)


def test_kernels_are_mixed_as_masks_of_their_rings():
    shared = toy.shared_of("mobilenet")
    weights = toy.leaf(0.3, 0.7)
    dna = shared.space.dna({"width": 1, "expansion": 0, "kernel": 0})
    with shared.select(dna, {"kernel": Mixture(weights)}) as live:
        layer, x = live.blocks[0].depthwise, torch.randn(1, 16, 4, 4, dtype=torch.float64)
        found = layer(x)
        assert layer.kernel_size == (5, 5) and layer.weight.shape[-1] == 5
        ring = F.pad(torch.ones(3, 3, dtype=torch.float64), (1, 1, 1, 1))
        full = layer.weight.detach()
    expected = F.conv2d(x, full * (0.3 * ring + 0.7), padding=2, groups=16)
    assert torch.allclose(found.detach(), expected)


def test_depths_are_mixed_behind_the_layers_in_one_pass():
    shared = toy.shared_of("resnet")
    dna, weights = shared.space.dna({"first": 0, "second": 0, "depth": 0}), toy.leaf(0.2, 0.3, 0.5)
    x, calls = torch.randn(3, 8, 4, 4, dtype=torch.float64), []
    with shared.select(dna, {"depth": Mixture(weights)}) as live:
        handles = [block.register_forward_hook(lambda *_: calls.append(1)) for block in live.stage2]
        found = live.stage2(x)
        blocks = list(live.stage2)
    for handle in handles:
        handle.remove()
    outputs = [blocks[0](x)]
    outputs += [blocks[1](outputs[0])]
    outputs += [blocks[2](outputs[1])]
    expected = sum(w * y for w, y in zip((0.2, 0.3, 0.5), outputs, strict=True))
    assert len(calls) == 3 and torch.allclose(found.detach(), expected.detach())
    with shared.select(dna, {"depth": Subset((1, 0), toy.leaf(0.5, 0.5))}) as live:
        assert len(live.stage2) == 2


def test_sizes_and_arms_are_mixed_together():
    shared = toy.shared_of("arms")
    dna = shared.space.dna({"width": 0, "operation": 1})
    width, arms, hidden = toy.leaf(0.25, 0.75), toy.leaf(0.2, 0.3, 0.5), toy.leaf(0.6, 0.4)
    chosen = {"width": Mixture(width), "operation": Mixture(arms), "hidden": Mixture(hidden)}
    with shared.select(dna, chosen) as live:
        assert isinstance(live.operation, Choice)
        found = toy.passed(live)
        inner, conv, _ = live.operation.arms.values()
        mask = torch.tensor([1.0] * 4 + [0.75] * 4, dtype=torch.float64)[:, None, None]
        x = live.stem(toy.images())
        few = torch.tensor([1.0] * 2 + [0.4] * 4, dtype=torch.float64)[:, None, None]
        narrow = inner[0]
    assert all(bool(w.grad.ne(0).all()) for w in (width, arms, hidden))
    a = inner[2](F.relu(narrow(x * mask)) * few)
    head = shared.materialize(shared.space.dna({"width": 1, "operation": 1})).head
    mixed = 0.2 * a + 0.3 * conv(x * mask) + 0.5 * x
    assert torch.allclose(found, head((mixed * mask).mean((2, 3))).detach(), rtol=1e-9, atol=1e-12)


def test_afterwards_the_child_stands_there_with_plain_weights(chain):
    dna = chain.space.dna({"width": 3})
    before = chain.materialize(dna)
    with chain.select(dna, {"width": Mixture(toy.leaf(0.1, 0.2, 0.3, 0.4))}) as live:
        live(toy.images())
    assert chain.materialize(dna) is before and chain.verify(dna, toy.images()).error < 1e-12
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in live.modules())


def test_weights_are_put_back_after_a_pass_that_fails(chain):
    with chain.select(chain.space.dna({"width": 0}), {"width": Mixture(toy.leaf(0.1, 0.2, 0.3, 0.4))}) as live:
        weight = live[3].weight
        with pytest.raises(RuntimeError):
            live[3](toy.images())
        assert live[3].weight is weight


def test_two_passes_in_one_selection_both_reach_the_weights(chain):
    weights = toy.leaf(0.1, 0.2, 0.3, 0.4)
    with chain.select(chain.space.dna({"width": 0}), {"width": Mixture(weights)}) as live:
        toy.passed(live)
        once = weights.grad.clone()
        toy.passed(live)
    assert torch.allclose(weights.grad, 2 * once)


def test_weights_that_change_in_place_are_seen_by_the_next_pass(chain):
    weights = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    with chain.select(chain.space.dna({"width": 0}), {"width": Mixture(weights)}) as live, torch.no_grad():
        first = live(toy.images())
        weights.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0]))
        second = live(toy.images())
    child = chain.materialize(chain.space.dna({"width": 0}))
    assert torch.allclose(second, child(toy.images())) and not torch.allclose(first, second)


def test_a_pass_without_gradients_does_not_take_them_from_the_next(chain):
    weights = toy.leaf(0.1, 0.2, 0.3, 0.4)
    with chain.select(chain.space.dna({"width": 0}), {"width": Mixture(weights)}) as live:
        with torch.no_grad():
            live(toy.images())
        toy.passed(live)
    assert bool(weights.grad.ne(0).all())


@pytest.mark.parametrize("batch", [1, 64])
def test_small_inputs_are_masked_themselves_and_large_ones_by_the_weight_that_reads_them(chain, batch):
    x, seen = toy.images(batch), []
    with chain.select(chain.space.dna({"width": 0}), {"width": Mixture(toy.leaf(0.1, 0.2, 0.3, 0.4))}) as live:
        weight = live[3].weight
        handle = live[3].register_forward_pre_hook(lambda module, inputs: seen.append(module.weight))
        live[3](torch.randn(batch, 6, 1, 1, dtype=torch.float64))
        handle.remove()
    assert (seen[0] is weight) == (batch * 6 < weight.numel()) and len(x) == batch


def test_without_a_batch_nothing_is_proven_and_sizes_are_refused():
    width = mu.oneof([4, 2], name="width")
    shared = mu.share_weights(mu.nn.Sequential(mu.nn.Linear(3, width), mu.nn.Linear(width, 2)), positions="leading")
    with pytest.raises(LoweringError) as caught, shared.select(
            shared.space.dna({"width": 0}), {"width": Mixture(torch.ones(2))}):  # fmt: skip
        pass
    assert str(caught.value) == (
        "cannot mix the sizes of a decision\n"
        "  at:       width\n"
        "  got:      'one of [4, 2]' (str)\n"
        "  expected: a batch, on which masks are held against real children\n"
        "  fix:      pass batch=x to mu.share_weights, an example of what the module is called with"
    )


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Mixture(torch.ones(3)), "candidates in [0, 4), all of them for a Mixture"),
        (Subset((4,), torch.ones(1)), "candidates in [0, 4), all of them for a Mixture"),
        (Mixture(torch.ones(4), "slice"), "a mode: mask or interpolate"),
    ],
)
def test_what_does_not_fit_a_decision_is_refused(chain, selection, expected):
    with pytest.raises(DecisionError) as caught, chain.select(chain.space.dna({"width": 0}), {"width": selection}):
        pass
    assert "  at:       width\n" in str(caught.value) and f"  expected: {expected}\n" in str(caught.value)


def test_a_range_is_refused():
    width = mu.intv(2, 4, name="width")
    program = mu.nn.Sequential(mu.nn.Linear(3, width), mu.nn.Linear(width, 2))
    shared = mu.share_weights(program, torch.ones(2, 3))
    with pytest.raises(LoweringError) as caught, shared.select(
            shared.space.dna({"width": 2}), {"width": Subset((0,), torch.ones(1))}):  # fmt: skip
        pass
    assert str(caught.value) == (
        "cannot mix the sizes of a decision\n"
        "  at:       width\n"
        "  got:      'int in [2, 4]' (str)\n"
        "  expected: a choice among some sizes\n"
        "  fix:      write mu.oneof([...]) for the range"
    )


def test_channels_of_a_concatenation_are_not_interpolated():
    shared = toy.shared_of("branches")
    with pytest.raises(LoweringError) as caught, shared.select(
            shared.space.random(0), {"first": Mixture(torch.ones(3), "interpolate")}):  # fmt: skip
        pass
    assert str(caught.value) == (
        "cannot mix the sizes of a decision\n"
        "  at:       first, module up (ConvTranspose2d)\n"
        "  got:      'one of [4, 2, 3]' (str)\n"
        "  expected: channels to interpolate that come from one layer, not from a concatenation\n"
        "  fix:      use masks, as FBNetV2() does"
    )
