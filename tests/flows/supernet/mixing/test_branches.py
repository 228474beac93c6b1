"""Layers of another kind for other sizes: both run, each as much as the sizes with its kind weigh."""

from __future__ import annotations

import itertools

import pytest
import torch
import toy_sizes as toy
from torch import nn
from torch.nn import functional as F

import mutandis as mu
from mutandis.errors import LoweringError
from mutandis.flows.supernet import Gate, Mixture, Subset

DOUBLE = torch.float64
FIRST, SECOND = (4, 6, 2), (4, 6)


class Block(nn.Module):
    """A shortcut that is nothing where widths agree, written in one of two ways."""

    def __init__(self, inputs, outputs, style):
        super().__init__()
        layers = [nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]
        if style == "sequence":
            self.short = nn.Sequential(*layers) if inputs != outputs else nn.Sequential()
        elif style == "norm only":
            self.short = nn.Sequential(*layers) if inputs != outputs else nn.BatchNorm2d(outputs)
        else:
            self.short = layers[0] if inputs != outputs else nn.Identity()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)

    def forward(self, x):
        return self.short(x) + F.relu(self.conv(x))


@mu.symbolize
class Net(nn.Module):
    def __init__(self, first, second, style):
        super().__init__()
        self.stem, self.block, self.head = nn.Conv2d(3, first, 1), Block(first, second, style), nn.Conv2d(second, 2, 1)

    def forward(self, x):
        return self.head(self.block(self.stem(x)))


def net(style, first=FIRST, second=SECOND):
    program = Net(mu.oneof(list(first), name="first"), mu.oneof(list(second), name="second"), style)
    shared = mu.share_weights(program, toy.images().float(), positions="leading")
    shared.module.double()
    return shared


def child_loss(shared, dna):
    """Returns the output of a child, its gradients and its norms."""
    shared.module.zero_grad()
    output = toy.passed(shared.materialize(dna))
    return output, gradients(shared), norms(shared, dna)


def gradients(shared):
    return {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in shared.module.named_parameters()}


def norms(shared, dna):
    return {name: buffer.clone() for name, buffer in shared.materialize(dna).named_buffers()}


@pytest.mark.parametrize("style", ["identity", "sequence", "norm only"])
def test_all_weight_on_one_size_is_the_child_whatever_kind_it_has(style):
    shared = net(style)
    before = {name: tensor.clone() for name, tensor in shared.module.state_dict().items()}
    for dna in shared.space.bare().enumerate():
        shared.module.load_state_dict(before)
        expected, grads, known = child_loss(shared, dna)
        shared.module.load_state_dict(before)
        shared.module.zero_grad()
        hot = {p.path: Mixture(torch.eye(p.num_candidates, dtype=DOUBLE)[v])
               for p, v in zip(shared.points, dna.values, strict=True)}  # fmt: skip
        with shared.select(shared.space.random(5), hot) as live:
            found = toy.passed(live)
        assert torch.allclose(found, expected, rtol=1e-9, atol=1e-12)
        assert all(torch.allclose(gradients(shared)[key], g, rtol=1e-8, atol=1e-11) for key, g in grads.items())
        assert all(torch.allclose(norms(shared, dna)[key], b, rtol=1e-9, atol=1e-12) for key, b in known.items())


def by_hand(shared, first, second, chances):
    """Returns the mixture with an identity and a projection, each times the probability of its kind."""
    w = {name: p.detach() for name, p in shared.module.named_parameters()}
    size = {"first": max(FIRST[i] for i in first), "second": max(SECOND[i] for i in second)}
    inputs, outputs = size["first"], size["second"]
    masks = {name: sum(p * (torch.arange(size[name]) < full[i]) for i, p in zip(picks, chances[name], strict=True))
             for name, picks, full in (("first", first, FIRST), ("second", second, SECOND))}  # fmt: skip
    pairs = [(FIRST[i] == SECOND[j], p * q) for i, p in zip(first, chances["first"], strict=True)
             for j, q in zip(second, chances["second"], strict=True)]  # fmt: skip
    equal, other = (sum(weight for same, weight in pairs if same is kind) for kind in (True, False))
    x = F.conv2d(toy.images(), w["stem.weight"][:inputs], w["stem.bias"][:inputs])
    seen = x * masks["first"][:, None, None]
    same = F.pad(x, (0, 0, 0, 0, 0, max(0, outputs - inputs)))[:, :outputs]
    short = equal * same + other * F.conv2d(seen, w["block.short.weight"][:outputs, :inputs])
    y = short + F.relu(F.conv2d(seen, w["block.conv.weight"][:outputs, :inputs], w["block.conv.bias"][:outputs],
                                padding=1))  # fmt: skip
    return F.conv2d(y * masks["second"][:, None, None], w["head.weight"][:, :outputs], w["head.bias"])


@pytest.mark.parametrize(
    ("first", "second"), [((0, 1, 2), (0, 1)), ((0, 2), (0, 1)), ((1, 0), (0,)), ((1, 2), (1, 0)), ((0, 1), (1,))]
)
def test_kinds_weigh_as_much_as_their_sizes_together(first, second):
    """The largest sizes may be of either kind, and the input narrower or wider than the output."""
    shared = net("identity")
    chances = {"first": toy.leaf(*(0.5, 0.2, 0.3)[: len(first)]), "second": toy.leaf(*(0.6, 0.4)[: len(second)])}
    if len(second) == 1:
        chances["second"] = toy.leaf(1.0)
    if len(first) == 2:
        chances["first"] = toy.leaf(0.35, 0.65)
    chosen = {"first": Subset(first, chances["first"]), "second": Subset(second, chances["second"])}
    with shared.select(shared.space.random(0), chosen) as live:
        found = toy.passed(live)
    mine = {name: toy.leaf(*row.tolist()) for name, row in chances.items()}
    expected = by_hand(shared, first, second, mine)
    (expected * torch.linspace(-1, 2, expected.numel(), dtype=DOUBLE).reshape(expected.shape)).sum().backward()
    assert torch.allclose(found, expected.detach(), rtol=1e-10, atol=1e-12)
    for name, row in chances.items():
        assert torch.allclose(row.grad, mine[name].grad, rtol=1e-9, atol=1e-11)


def test_gates_choose_the_kind_and_probe_the_other():
    shared = net("identity")
    dna = shared.space.dna({"first": 1, "second": 1})
    expected = child_loss(shared, dna)[0]
    gates, others = toy.leaf(0.0, 1.0, 0.0), toy.leaf(0.0, 1.0)
    chosen = {"first": Gate(1, gates[1], {0: gates[0]}), "second": Gate(1, others[1], {0: others[0]})}
    with shared.select(dna, chosen) as live:
        found = toy.passed(live)
    assert torch.allclose(found, expected)
    assert gates.grad[:2].ne(0).all() and others.grad.ne(0).all()


def test_one_kind_among_the_sizes_that_run_needs_no_other():
    shared = net("identity")
    with shared.select(shared.space.random(0), {"first": Subset((2,), torch.ones(1)), "second": Mixture(
            torch.tensor([0.5, 0.5]))}) as live:  # fmt: skip
        assert isinstance(live.block.short, nn.Conv2d) and not live.block.short._forward_hooks_with_kwargs
    shared.materialize(shared.space.dna({"first": 0, "second": 0}))
    with shared.select(shared.space.dna({"first": 0, "second": 0}), {"first": Mixture(torch.ones(3) / 3)}) as live:
        assert live.block.short._forward_hooks_with_kwargs
    assert not live.block.short._forward_hooks_with_kwargs


def test_arms_follow_training_evaluation_and_the_weights():
    shared = net("sequence")
    chosen = {"first": Mixture(torch.tensor([0.5, 0.2, 0.3])), "second": Mixture(torch.tensor([0.6, 0.4]))}
    dna = shared.space.dna({"first": 0, "second": 1})
    counts = [norms(shared, dna)["block.short.1.num_batches_tracked"].item()]
    with shared.select(dna, chosen) as live:
        for mode in (True, False):
            live.train(mode)(toy.images())
            counts.append(norms(shared, dna)["block.short.1.num_batches_tracked"].item())
        before = live(toy.images())
        with torch.no_grad():
            shared.module.get_parameter("block.short.0.weight").add_(1.0)
        assert not torch.allclose(live(toy.images()), before)
    assert counts == [counts[0], counts[0] + 1, counts[0] + 1]


def test_arms_are_trained_and_what_did_not_run_is_left_alone():
    shared = net("sequence")
    optimizer = torch.optim.SGD(shared.module.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    shared.guard(optimizer)
    before = {name: p.detach().clone() for name, p in shared.module.named_parameters()}
    chosen = {"first": Subset((0, 2), toy.leaf(0.5, 0.5)), "second": Subset((0,), toy.leaf(1.0))}
    with shared.select(shared.space.random(0), chosen) as live:
        toy.passed(live)
    optimizer.step()
    moved = {name: p.detach() != before[name] for name, p in shared.module.named_parameters()}
    weight = moved["block.short.0.weight"][:, :, 0, 0]
    assert weight[:4, :4].all() and not weight[4:].any() and not weight[:, 4:].any()


def test_a_device_or_type_that_changes_is_followed():
    shared = net("sequence")
    chosen = {"first": Mixture(torch.tensor([0.5, 0.2, 0.3])), "second": Mixture(torch.tensor([0.6, 0.4]))}
    with shared.select(shared.space.random(0), chosen) as live:
        wide = live.eval()(toy.images())
    shared.module.float()
    with shared.select(shared.space.random(0), chosen) as live:
        assert torch.allclose(live(toy.images().float()).double(), wide, atol=1e-5)


def test_children_are_built_for_many_layers_at_once():
    """Each of 7 neighbours with 5 sizes has 25 pairs, which a few more than 25 children show."""
    widths = [mu.oneof([4, 6, 2, 3, 5], name=str(i)) for i in range(8)]

    @mu.symbolize
    class Row(nn.Module):
        def __init__(self, *sizes):
            super().__init__()
            self.stem = nn.Conv2d(3, sizes[0], 1)
            self.rest = nn.Sequential(*(Block(a, b, "identity") for a, b in itertools.pairwise(sizes)))
            self.head = nn.Conv2d(sizes[-1], 2, 1)

        def forward(self, x):
            return self.head(self.rest(self.stem(x)))

    shared = mu.share_weights(Row(*widths), toy.images().float(), positions="leading")
    live, mixer = shared.materialize(shared.space.dna({str(i): 1 for i in range(8)})), shared._sizes
    before, pairs = shared.num_builds, mixer._planner._brancher
    homes = [shared._live.home_of(block.short) for block in live.rest]
    missing = [sum(not pairs._has(home, values) for values in pairs._combinations(home)) for home in homes]
    mixer._planner.prepare(list(live.modules()), dict.fromkeys(range(8), tuple(range(5))))
    assert max(missing) <= shared.num_builds - before <= max(missing) + 3 < sum(missing) - 10
    assert all(pairs._has(home, values) for home in homes for values in pairs._combinations(home))


@mu.symbolize
class Padded(nn.Module):
    """A shortcut without weights, whose code is about channels that a mask would have to take away."""

    def __init__(self, first, second):
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, first, 1), nn.Conv2d(first, second, 1)
        self.short = nn.Identity() if first == second else nn.ConstantPad3d((0, 0, 0, 0, 0, max(0, second - first)), 0)
        self.head = nn.Conv2d(second, 2, 1)

    def forward(self, x):
        y = self.stem(x)
        z = self.conv(y)
        return self.head(self.short(y)[:, : z.shape[1]] + z)


def test_kinds_that_are_no_mixture_are_refused():
    program = Padded(mu.oneof([4, 2], name="first"), mu.oneof([4, 2], name="second"))
    shared = mu.share_weights(program, toy.images().float(), positions="leading")
    with pytest.raises(LoweringError) as caught, shared.select(
            shared.space.random(0), {"first": Mixture(torch.ones(2)), "second": Mixture(torch.ones(2))}):  # fmt: skip
        pass
    assert "cannot mix the sizes of a decision" in str(caught.value)


def test_a_kind_without_a_child_of_the_largest_size_is_refused():
    """Only the smallest width has a projection, so that nobody knows what one of the largest would be."""

    @mu.symbolize
    class Odd(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.stem, self.head = nn.Linear(3, width), nn.Linear(width, 2)
            self.inner = nn.Linear(width, width) if width < 4 else nn.Identity()

        def forward(self, x):
            return self.head(self.inner(self.stem(x)))

    shared = mu.share_weights(Odd(mu.oneof([4, 2], name="width")), torch.randn(4, 3), positions="leading")
    with pytest.raises(LoweringError) as caught, shared.select(
            shared.space.random(0), {"width": Mixture(torch.ones(2))}):  # fmt: skip
        pass
    assert str(caught.value) == (
        "cannot mix the sizes of a decision\n"
        "  at:       width, module inner\n"
        "  got:      'one of [4, 2]' (str)\n"
        "  expected: a child with this kind of layer at the largest size of each decision\n"
        "  fix:      use an algorithm that runs one size at a time, such as TuNAS() or ENAS()"
    )
