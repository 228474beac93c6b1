"""Children that are taken apart for a pass of labels, and put together again."""

from __future__ import annotations

import pytest
import supernet_zoo as zoo
import torch
from torch import nn

import mutandis as mu
from mutandis.flows.supernet.lowering.children import Builder
from mutandis.flows.supernet.lowering.facts import facts_of
from mutandis.flows.supernet.lowering.positions import Labels
from mutandis.flows.supernet.lowering.spares import Spare
from mutandis.flows.supernet.verify import as_double


def spare_of(program, values=None):
    """Returns a stripped child, its spare, and a list with an entry for each child that is built again."""
    space = mu.space(program)
    builder = Builder(space, 0)
    values = space.random(0).values if values is None else values
    child = builder.build(values)
    child.strip()
    built = []

    def build():
        built.append(1)
        return builder.build(values)

    return child, Spare(child, build), built


def state_of(child):
    return {path: (dict(m.__dict__), dict(m._parameters), dict(m._buffers)) for path, m in child.tree.items()}


def are_same(first, second):
    return all(
        a.keys() == b.keys() and all(a[name] is b[name] for name in a)
        for path in first
        for a, b in zip(first[path], second[path], strict=True)
    )


@pytest.mark.parametrize("name", ["residual", "concat", "transformer", "attention", "lstm", "deep", "one dimension"])
def test_after_a_pass_of_labels_a_child_is_what_it_was(name):
    program, batch = zoo.programs()[name]
    child, spare, built = spare_of(program)
    before, facts = state_of(child), child.facts
    for _ in range(2):
        labels = Labels(spare.fresh(), as_double((batch,)))
        assert labels.failure is None and labels.signatures
    assert not are_same(state_of(child), before)
    spare.give_back()
    assert are_same(state_of(child), before) and child.facts is facts and not built
    assert all(module.training and "forward" not in module.__dict__ for module in child.tree.values())


def test_a_fresh_child_has_tensors_of_the_shapes_types_and_ties_it_was_built_with():
    program, _ = zoo.programs()["transformer"]
    child, spare, _ = spare_of(program)
    dressed = spare.fresh()
    assert facts_of(dressed.tree) == child.facts
    assert dressed.tree["head"].weight is dressed.tree["token"].weight
    first = dressed.tree["head"].weight
    assert spare.fresh().tree["head"].weight is not first


@mu.symbolize
class Counting(nn.Module):
    """Remembers in its attributes that it ran."""

    def __init__(self, width, kind="number"):
        super().__init__()
        self.layer = nn.Linear(4, width)
        self.kind, self.count, self.cache, self.last = kind, 0, {}, None
        self.register_buffer("scale", torch.ones(1))

    def forward(self, x):
        self.count += 1
        if self.kind == "cache":
            self.cache[x.dtype] = x
        self.last = self.layer(x) * self.scale
        return self.last


def test_what_a_forward_sets_is_undone_and_what_it_puts_into_a_container_is_left_behind_with_it():
    x = as_double((zoo.features(3, 4),))
    child, spare, built = spare_of(Counting(mu.oneof([2, 3])))
    (root,) = child.roots.values()
    scale = root.scale
    Labels(spare.fresh(), x)
    assert root.count == 1 and root.last is not None
    spare.give_back()
    assert (root.count, root.last) == (0, None) and not built
    assert root.scale is scale and scale.tolist() == [1.0]  # Labels were written into another one.
    child, spare, built = spare_of(Counting(mu.oneof([2, 3]), "cache"))
    (root,) = child.roots.values()
    Labels(spare.fresh(), x)
    spare.give_back()
    (other,) = child.roots.values()
    assert built == [1] and other is not root and other.cache == {} and child.tree[""] is other
    assert other.layer.weight.numel() == 0 and child.tree["layer"] is other.layer


class Slotted(nn.Linear):
    __slots__ = "note"


class Named(nn.Parameter):
    pass


@mu.symbolize
class Odd(nn.Module):
    def __init__(self, width, kind):
        super().__init__()
        self.layer = Slotted(4, width) if kind == "slots" else nn.Linear(4, width)
        if kind == "class":
            self.layer.weight = Named(self.layer.weight.detach())

    def forward(self, x):
        return self.layer(x)


@pytest.mark.parametrize("kind", ["slots", "class"])
def test_what_cannot_be_put_together_again_is_built_once_more_each_time(kind):
    child, spare, built = spare_of(Odd(mu.oneof([2, 3]), kind))
    first, second = spare.fresh(), spare.fresh()
    assert first is not child and second is not first and built == [1, 1]
    Labels(second, as_double((zoo.features(3, 4),)))
    before = state_of(child)
    spare.give_back()
    assert are_same(state_of(child), before) and built == [1, 1]


def test_sharing_builds_a_child_once_for_its_parts_and_their_places():
    builds = mu.share_weights(mu.nn.Sequential(
        mu.nn.Linear(4, (w := mu.intv(1, 200, name="w"))), mu.nn.Linear(w, 2)), zoo.features(3, 4))  # fmt: skip
    before = builds.num_builds
    builds.materialize(builds.space.dna({"w": 77}))
    assert builds.num_builds == before + 1
