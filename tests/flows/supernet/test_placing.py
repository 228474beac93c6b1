"""Parts of shared tensors by the rule of the layer, or by proof; refused where there is neither."""

from __future__ import annotations

import itertools

import pytest
import supernet_zoo as zoo
import torch

import mutandis as mu
from mutandis.errors import LoweringError
from mutandis.flows.supernet.lowering.labels import Desk
from mutandis.flows.supernet.lowering.positions import Finder, Labels


def test_a_cut_tensor_without_a_batch_is_refused_with_the_remedy():
    with pytest.raises(LoweringError) as error:
        mu.share_weights(zoo.programs()["concat"][0])
    assert str(error.value) == (
        "cannot tell which places of a shared weight belong to a smaller child\n"
        "  at:       module a, norm, out\n"
        "  expected: input channels that can be followed from layer to layer\n"
        "  fix:      pass batch=x, an example of what the module is called with, or positions='leading'"
    )


def test_a_batch_that_the_module_cannot_take_is_named():
    with pytest.raises(LoweringError) as error:
        mu.share_weights(zoo.programs()["concat"][0], torch.ones(3))
    title, *rest = str(error.value).splitlines()
    assert title.startswith("cannot run a child on the batch: RuntimeError: Expected 3D")
    assert rest == [
        "  at:       module a",
        "  got:      DNA({'first': 1, 'second': 1}) (DNA)",
        "  expected: a batch that goes through every child, and in every child sizes that fit together",
        "  fix:      pass another batch, a tuple only for several arguments; make sizes that meet one decision, or "
        "mu.derive one from the other; or pass "
        "positions='leading' if only labels in the place of outputs cannot go through",
    ]


def test_sizes_that_do_not_fit_are_named_with_the_layer_and_the_child():
    width = mu.oneof([3, 4])
    program = mu.nn.Sequential(mu.nn.Linear(4, width), mu.nn.ReLU(), mu.nn.Sequential(mu.nn.Linear(4, 2)))
    with pytest.raises(LoweringError, match=r"shapes cannot be multiplied") as error:
        mu.share_weights(program, zoo.features(2, 4))
    assert "  at:       module 2.0\n  got:      DNA({'args[0].out_features': 0}) (DNA)\n" in str(error.value)


def test_leading_places_are_taken_where_that_is_asked_for_and_nothing_is_known():
    program, batch = zoo.programs()["concat"]
    for given, expected in ((batch, [0, 1, 4, 5]), (None, [0, 1, 2, 3])):
        shared = mu.share_weights(program, given, positions="leading")
        live = shared.materialize(shared.space.dna({"first": 1, "second": 0}))
        live.out.weight.retain_grad() if given is None else None
        shared.module.zero_grad()
        live(batch).square().sum().backward()
        gradient = dict(shared.module.named_parameters())["out.weight"].grad
        assert gradient.flatten(1).abs().sum(0).nonzero().flatten().tolist() == expected


def test_a_layer_that_only_some_children_have_is_placed_by_those():
    """No child has the projection in full, since equal widths have none."""

    @mu.symbolize
    class Net(torch.nn.Module):
        def __init__(self, a, b):
            super().__init__()
            self.first = torch.nn.Linear(4, a)
            self.short = torch.nn.Identity() if a == b else torch.nn.Linear(a, b)
            self.last = torch.nn.Linear(b, 2)

        def forward(self, x):
            return self.last(self.short(torch.relu(self.first(x))))

    program, batch = Net(mu.oneof([2, 4, 6]), mu.oneof([2, 4, 6])), zoo.features(3, 4)
    shared = mu.share_weights(program, batch)
    assert shared.module.state_dict()["short.weight"].shape == (6, 6)
    assert shared.report().unproven == ()
    assert all(shared.verify(dna, batch).error < 1e-9 for dna in shared.space.enumerate())


def test_the_work_grows_by_as_much_with_each_further_decision(monkeypatch):
    """Builds, passes of labels, and shapes of outputs: no more for the second four layers than for the first."""
    passes, desks = [], []
    run, made = Labels.__init__, Desk.__init__
    monkeypatch.setattr(Labels, "__init__", lambda self, *a, **k: (passes.append(1), run(self, *a, **k))[1])
    monkeypatch.setattr(Desk, "__init__", lambda self: (desks.append(self), made(self))[1])

    def work(layers):
        passes.clear()
        desks.clear()
        widths = [4, *(mu.oneof([3, 6]) for _ in range(layers)), 2]
        program = mu.nn.Sequential(*(mu.nn.Linear(a, b) for a, b in itertools.pairwise(widths)))
        shared = mu.share_weights(program, zoo.features(3, 4))
        return shared.num_builds, len(passes), sum(desk.num_shapes for desk in desks)

    few, more, most = (work(layers) for layers in (7, 11, 15))  # More DNAs than are enumerated.
    assert [b - a for a, b in zip(few, more)] == [b - a for a, b in zip(more, most)] == [12, 8, 0]
    assert few[1] < few[0] / 2 and few[2] <= 8  # Of 2 x 3 sizes, and those at the ends.


class Residual(torch.nn.Module):
    """A layer beside a shortcut that is a layer only where the widths differ."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.layer = torch.nn.Linear(inputs, outputs)
        self.short = torch.nn.Identity() if inputs == outputs else torch.nn.Linear(inputs, outputs)

    def forward(self, x):
        return self.short(x) + self.layer(x)


@mu.symbolize
class Residuals(torch.nn.Module):
    def __init__(self, *widths):
        super().__init__()
        self.blocks = torch.nn.Sequential(*(Residual(a, b) for a, b in itertools.pairwise([4, *widths, 2])))

    def forward(self, x):
        return self.blocks(x)


def test_blocks_are_not_looked_for_where_they_explained_nothing_before(monkeypatch):
    """Channels behind shortcuts of several kinds cannot be followed, which each look at a child would find anew."""
    looks, try_blocks = [], Finder._try_blocks
    monkeypatch.setattr(Finder, "_try_blocks", lambda self: (looks.append(1), try_blocks(self))[1])
    program = Residuals(*(mu.oneof([4, 8, 6]) for _ in range(5)))
    shared = mu.share_weights(program, zoo.features(3, 4), positions="leading")
    assert 0 < len(looks) <= len(shared.report().unproven) < shared.num_builds / 4
