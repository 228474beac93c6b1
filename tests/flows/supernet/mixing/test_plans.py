"""What modules have to do is found by holding children against each other."""

from __future__ import annotations

import pytest
import torch
import toy_sizes as toy
from torch import nn

import mutandis as mu
from mutandis.errors import LoweringError
from mutandis.flows.supernet import Mixture, Subset


def plans(shared, dna, chosen):
    """Returns what modules do, by name, where candidates run."""
    live = shared.materialize(dna)
    planner = shared._sizes._planner
    found = {name: planner.plan(module, chosen) for name, module in live.named_modules()}
    return {name: plan for name, plan in found.items() if plan is not None}


def test_layers_that_read_a_width_are_the_ones_that_mask_it():
    shared = toy.shared_of("resnet")
    first = shared.space.point("first").index
    found = plans(shared, shared.space.dna({"first": 1, "second": 0, "depth": 0}), {first: (0, 1, 2)[1:]})
    readers = {name for name, plan in found.items() if plan.weighings}
    assert readers == {"stage1.0.conv1", "stage1.0.conv2", "stage1.1.conv1", "stage1.1.conv2", "down.conv1",
                       "down.short"}  # fmt: skip
    ((weighing,),) = {tuple(found[name].weighings) for name in ("down.conv1",)}
    assert weighing.rows.tolist() == [[True] * 6, [True] * 2 + [False] * 4] and weighing.sizes == (6, 2)
    assert found["stem.0"].made == (6, 2) and not found["stem.0"].weighings


def test_a_product_of_two_decisions_is_one_axis():
    shared = toy.shared_of("mobilenet")
    width, expansion = (shared.space.point(name).index for name in ("width", "expansion"))
    dna = shared.space.dna({"width": 1, "expansion": 0, "kernel": 0})
    found = plans(shared, dna, {width: (1, 0), expansion: (0, 1)})
    (weighing,) = found["blocks.0.narrow.0"].weighings
    assert (weighing.decisions, weighing.sizes) == ((width, expansion), (16, 8, 8, 4))
    (alone,) = found["blocks.1.narrow.0"].weighings
    assert (alone.decisions, alone.sizes) == ((width,), (16, 8))


def test_a_depth_is_a_number_of_layers_of_a_sequence():
    shared = toy.shared_of("resnet")
    depth = shared.space.point("depth").index
    found = plans(shared, shared.space.dna({"first": 0, "second": 0, "depth": 2}), {depth: (0, 2)})
    assert {name: plan.lengths for name, plan in found.items()} == {"stage2": (1, 3)}


def test_plans_are_remembered():
    shared = toy.shared_of("resnet")
    dna, chosen = shared.space.dna({"first": 0, "second": 0, "depth": 2}), {0: (0, 2)}
    first, second = plans(shared, dna, chosen), plans(shared, dna, chosen)
    assert all(first[name] is second[name] for name in first) and first


@mu.symbolize
class Split(nn.Module):
    """What one branch gains the other one loses."""

    def __init__(self, width):
        super().__init__()
        self.a, self.b = (nn.Sequential(nn.Linear(3, n), nn.Linear(n, 2)) for n in (width, 12 - width))

    def forward(self, x):
        return self.a(x) + self.b(x)


def test_a_size_that_is_not_part_of_the_largest_is_refused():
    shared = mu.share_weights(Split(mu.oneof([2, 6], name="width")), torch.ones(2, 3))
    with pytest.raises(LoweringError, match="a largest size that has all places of the others"), shared.select(
            shared.space.dna({"width": 0}), {"width": Mixture(torch.ones(2))}):  # fmt: skip
        pass


def test_too_many_sizes_of_one_layer_are_refused():
    widths = [mu.oneof(list(range(1, 10)), name=name) for name in "abc"]
    layers = [mu.nn.Linear(3, widths[0] + widths[1] + widths[2]), mu.nn.Linear(widths[0] + widths[1] + widths[2], 2)]
    shared = mu.share_weights(mu.nn.Sequential(*layers), torch.ones(2, 3))
    with pytest.raises(LoweringError, match="at most 512 sizes of one layer"), shared.select(
            shared.space.random(0), {name: Mixture(torch.ones(9)) for name in "abc"}):  # fmt: skip
        pass


class Skip(nn.Module):
    """A layer of another class where widths are equal, as in many networks."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.short = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)

    def forward(self, x):
        return self.short(x) + torch.relu(self.conv(x))


@mu.symbolize
class Skips(nn.Module):
    def __init__(self, first, second):
        super().__init__()
        self.stem, self.skip, self.head = nn.Conv2d(3, first, 1), Skip(first, second), nn.Conv2d(second, 2, 1)

    def forward(self, x):
        return self.head(self.skip(self.stem(x)))


def skips(**settings):
    program = Skips(mu.oneof([4, 6, 2], name="first"), mu.oneof([4, 6], name="second"))
    return mu.share_weights(program, toy.images().float(), **settings)


class Normed(nn.Module):
    """A layer with a norm for one size, which treats each channel alone, and one that does not for the other."""

    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width) if width > 4 else nn.BatchNorm1d(width)
        self.first, self.last = nn.Linear(3, width), nn.Linear(width, 2)

    def forward(self, x):
        return self.last(self.norm(self.first(x)))


def test_kinds_of_layers_that_do_not_treat_each_channel_alone_are_refused():
    program = mu.symbolize(Normed)(mu.oneof([4, 6, 2, 8], name="width"))
    shared = mu.share_weights(program, torch.randn(4, 3), positions="leading")
    with pytest.raises(LoweringError) as caught, shared.select(
            shared.space.random(0), {"width": Mixture(torch.ones(4))}):  # fmt: skip
        pass
    assert str(caught.value) == (
        "cannot mix the sizes of a decision\n"
        "  at:       width, module norm (LayerNorm)\n"
        "  got:      'one of [4, 6, 2, 8]' (str)\n"
        "  expected: layers that treat each channel alone or add them all up\n"
        "  fix:      use an algorithm that runs one size at a time, such as TuNAS() or ENAS()"
    )


def test_layers_that_have_other_weights_for_other_sizes_are_refused():
    @mu.symbolize
    class Biased(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.first, self.last = nn.Linear(3, width, bias=width > 4), nn.Linear(width, 2)

        def forward(self, x):
            return self.last(self.first(x))

    shared = mu.share_weights(Biased(mu.oneof([4, 6, 2], name="width")), torch.randn(4, 3))
    with pytest.raises(LoweringError) as caught, shared.select(
            shared.space.random(0), {"width": Mixture(torch.ones(3))}):  # fmt: skip
        pass
    assert str(caught.value) == (
        "cannot mix the sizes of a decision\n"
        "  at:       width, module first (Linear)\n"
        "  got:      'one of [4, 6, 2]' (str)\n"
        "  expected: one class of layer, with the same weights, for all sizes\n"
        "  fix:      use an algorithm that runs one size at a time, such as TuNAS() or ENAS()"
    )


def test_layers_of_the_largest_size_run_where_that_is_asked_for():
    shared = skips(sizes="largest")
    chosen = {"first": Mixture(toy.leaf(0.2, 0.5, 0.3)), "second": Mixture(toy.leaf(0.4, 0.6))}
    with shared.select(shared.space.random(0), chosen) as live:
        assert isinstance(live.skip.short, nn.Identity) and live.skip.conv.weight.shape[:2] == (6, 6)
        found = live(toy.images().float()).detach()
        x = live.stem(toy.images().float())
    mask = torch.tensor([1.0, 1.0, 0.7, 0.7, 0.5, 0.5])[:, None, None]
    full = shared.materialize(shared.space.dna({"first": 1, "second": 1}))
    y = x + torch.relu(full.skip.conv(x * mask))
    expected = full.head(y * torch.tensor([1.0] * 4 + [0.6] * 2)[:, None, None])
    assert torch.allclose(found, expected.detach(), atol=1e-6)


def test_where_the_largest_sizes_differ_the_masks_are_those_of_children_that_have_the_layer():
    shared = skips(sizes="largest")
    chosen = {"first": Subset((0, 2), toy.leaf(0.5, 0.5)), "second": Mixture(toy.leaf(0.4, 0.6))}
    with shared.select(shared.space.random(0), chosen) as live:
        assert isinstance(live.skip.short, nn.Conv2d)
        found = live(toy.images().float()).detach()
        x = live.stem(toy.images().float()) * torch.tensor([1.0, 1.0, 0.5, 0.5])[:, None, None]
    full = shared.materialize(shared.space.dna({"first": 0, "second": 1}))
    y = (full.skip.short(x) + torch.relu(full.skip.conv(x))) * torch.tensor([1.0] * 4 + [0.6] * 2)[:, None, None]
    assert torch.allclose(found, full.head(y).detach(), atol=1e-6)
