"""Outputs behind several depths, brought to one width and added."""

from __future__ import annotations

import pytest
import torch
import toy_sizes as toy
from torch import nn
from torch.nn import functional as F

import mutandis as mu
from mutandis.errors import LoweringError
from mutandis.flows.supernet import Mixture, Subset
from mutandis.flows.supernet.mixing.behind import Behind, Case, channels_axis

DOUBLE = torch.float64


class Block(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)

    def forward(self, x):
        return F.relu(self.conv(x))


@mu.symbolize
class Chain(nn.Module):
    """Layers with a width each, of which the first ones run; what reads them is a layer, or a flattened one."""

    def __init__(self, first, second, third, depth, *, flat=False, norm=False):
        super().__init__()
        widths = [first, second, third][:depth]
        self.flat = flat
        self.body = nn.Sequential(*map(Block, [3, *widths], widths))
        self.norm = nn.BatchNorm2d(widths[-1]) if norm else nn.Identity()
        self.read = nn.Linear(widths[-1] * 16, 2) if flat else nn.Conv2d(widths[-1], 2, 1)

    def forward(self, x):
        y = self.norm(self.body(x))
        return self.read(y.flatten(1) if self.flat else y)


SIZES = ([4, 6, 2], [5, 3], [2, 7])


def chain(sizes=SIZES, **settings):
    widths = [mu.oneof(row, name=f"width {i}") for i, row in enumerate(sizes)]
    program = Chain(*widths, mu.oneof([1, 2, 3], name="depth"), **settings)
    shared = mu.share_weights(program, toy.images(size=4).float(), positions="leading")
    shared.module.double()
    return shared


def spread(y, size, full):
    """Dong and Yang 2019, eq. (4) to (7)."""
    rows = F.adaptive_avg_pool1d(y[:, :size].flatten(2).transpose(1, 2), full)
    return rows.transpose(1, 2).reshape(len(y), full, *y.shape[2:])


def cut(y, size, full):
    """Masks the channels of larger sizes."""
    made = y.new_zeros(len(y), full, *y.shape[2:])
    made[:, :size] = y[:, :size]
    return made


def mixed_by_hand(shared, weights, depth, align):
    """Returns the sum over depths of the sums over sizes, from the layers of the largest child."""
    full = max(max(row) for row in SIZES)
    live = shared.materialize(shared.space.dna({"width 0": 1, "width 1": 0, "width 2": 1, "depth": 2}))
    x, total = toy.images(size=4), 0.0
    for block, row, chances, p in zip(live.body, SIZES, weights, depth, strict=True):
        y = F.relu(F.conv2d(x, block.conv.weight, block.conv.bias, padding=1))
        total = total + p * sum(w * align(y, size, full) for w, size in zip(chances, row, strict=True))
        x = sum(w * align(y, size, max(row)) for w, size in zip(chances, row, strict=True))
    weight = shared.module.get_parameter("read.weight")
    return total, weight


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize(("mode", "align"), [("mask", cut), ("interpolate", spread)])
def test_a_mixture_of_depths_and_widths_is_that_of_a_net_written_by_hand(mode, align, flat):
    shared = chain(flat=flat)
    weights = [toy.leaf(*(0.2 + 0.3 * k for k in range(len(row)))) for row in SIZES]
    depth = toy.leaf(0.2, 0.3, 0.5)
    chosen = {f"width {i}": Mixture(w, mode) for i, w in enumerate(weights)}
    chosen["depth"] = Mixture(depth, mode)
    with shared.select(shared.space.random(0), chosen) as live:
        found = toy.passed(live, toy.images(size=4))
    mine, own = [toy.leaf(*w.tolist()) for w in weights], toy.leaf(*depth.tolist())
    total, weight = mixed_by_hand(shared, mine, own, align)
    bias = shared.module.get_parameter("read.bias")
    expected = F.linear(total.flatten(1), weight, bias) if flat else F.conv2d(total, weight, bias)
    slopes = torch.linspace(-1, 2, expected.numel(), dtype=DOUBLE).reshape(expected.shape)
    (expected * slopes).sum().backward()
    assert torch.allclose(found, expected.detach(), rtol=1e-10, atol=1e-12)
    for given, by_hand in zip([*weights, depth], [*mine, own], strict=True):
        assert torch.allclose(given.grad, by_hand.grad, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(("picks", "size"), [({"width 0": (2, 0), "width 1": (1,), "width 2": (0,)}, 4),
                                             ({"width 0": (2,), "width 1": (1, 0), "width 2": (1, 0)}, 7)])  # fmt: skip
def test_the_sum_is_as_wide_as_the_widest_that_runs(picks, size):
    shared, seen = chain(), []
    chosen = {name: Subset(own, torch.full((len(own),), 1.0 / len(own))) for name, own in picks.items()}
    chosen["depth"] = Mixture(torch.tensor([0.2, 0.3, 0.5]))
    with shared.select(shared.space.random(0), chosen) as live:
        live.read.register_forward_pre_hook(lambda module, inputs: seen.append((inputs[0], module.weight)))
        live(toy.images(size=4))
    assert [(x.shape[1], weight.shape[1]) for x, weight in seen] == [(size, size)]


def test_a_norm_behind_the_sum_that_a_mask_would_spoil_is_refused():
    shared = chain(norm=True)
    chosen = {p.path: Mixture(torch.ones(p.num_candidates)) for p in shared.points}
    with pytest.raises(LoweringError) as caught, shared.select(shared.space.random(0), chosen):
        pass
    assert str(caught.value).startswith("cannot mix the sizes of a decision\n  at:       ")


def test_a_norm_that_is_too_narrow_for_the_sum_is_refused_and_told():
    shared = chain([[4, 7], [3, 5], [2, 3]], norm=True)
    chosen = {p.path: Mixture(torch.ones(p.num_candidates)) for p in shared.points}
    with pytest.raises(LoweringError, match="where the mixture cannot run: "), shared.select(
            shared.space.random(0), chosen):  # fmt: skip
        pass


@mu.symbolize
class Beside(nn.Module):
    """A depth that is a width, too: one layer reads eight channels of each layer that runs."""

    def __init__(self, depth):
        super().__init__()
        self.body = nn.Sequential(*(nn.Linear(3, 3) for _ in range(depth)))
        self.wide, self.read = nn.Linear(3, 4 * depth), nn.Linear(4 * depth, 2)

    def forward(self, x):
        return self.read(torch.relu(self.wide(self.body(x))))


def test_a_layer_that_does_not_read_the_sum_masks_what_it_reads():
    shared = mu.share_weights(Beside(mu.oneof([1, 3, 2], name="depth")), torch.randn(4, 3))
    shared.module.double()
    weights, x = toy.leaf(0.5, 0.2, 0.3), torch.randn(4, 3, dtype=DOUBLE)
    with shared.select(shared.space.dna({"depth": 0}), {"depth": Mixture(weights)}) as live:
        found = live(x)
        a = live.body[0](x)
        b, c = live.body[1](a), live.body[2](live.body[1](a))
        y = torch.relu(live.wide(0.5 * a + 0.3 * b + 0.2 * c))
    mask = torch.tensor([1.0] * 4 + [0.5] * 4 + [0.2] * 4, dtype=DOUBLE)
    full = shared.materialize(shared.space.dna({"depth": 1}))
    assert torch.allclose(found, full.read(y * mask))


def test_interpolation_of_what_is_not_read_from_the_sum_is_refused():
    shared = mu.share_weights(Beside(mu.oneof([1, 3, 2], name="depth")), torch.randn(4, 3))
    mixture = Mixture(torch.ones(3) / 3, "interpolate")
    with (
        shared.select(shared.space.dna({"depth": 0}), {"depth": mixture}) as live,
        pytest.raises(LoweringError) as caught,
    ):
        live(torch.randn(4, 3))
    assert str(caught.value) == (
        "cannot mix several depths\n"
        "  at:       module Linear\n"
        "  got:      '12 input channels' (str)\n"
        "  expected: a layer that reads what an nn.Sequential of this depth returns, and nothing beside it\n"
        "  fix:      let only layers that keep the shape depend on the depth"
    )


def behind(*sizes):
    rows = [Case((), torch.arange(8)[None] < size) for size in sizes]
    return Behind("weight", 1, 0, rows, lambda: torch.zeros(1), is_larger=False)


@pytest.mark.parametrize(
    ("channels", "block"), [((4, 8), 1), ((2, 4), 2), ((4, 4), 0), ((3, 8), 0), ((8, 8), 0), ((8, 16), 0)]
)
def test_how_many_places_a_channel_has_where_it_is_read(channels, block):
    assert behind(4, 8).block(channels) == block


def test_leading_places_are_told():
    assert behind(4, 8).is_leading and behind(4, 8).decisions == {0}
    odd = Case((3,), torch.tensor([[True, False, True]]))
    assert not odd.is_leading and odd.sizes == [2]


@pytest.mark.parametrize(
    ("layer", "shape", "axis"),
    [(nn.Sequential(nn.Conv2d(2, 3, 1), nn.ReLU()), (2, 3, 4, 4), 1), (nn.Linear(2, 3), (2, 5, 3), 2),
     (nn.ReLU(), (2, 3, 4), 1), (nn.ReLU(), (3,), 0), (nn.LayerNorm(3), (2, 4, 3), 2)],
)  # fmt: skip
def test_the_axis_of_channels_is_that_of_the_last_layer(layer, shape, axis):
    assert channels_axis(layer, torch.zeros(shape)) == axis
