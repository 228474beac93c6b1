"""What kinds a layer has, and which decision each of its axes follows."""

from __future__ import annotations

import pytest
from torch import nn

from mutandis.flows.supernet.assembly import Home, Instance
from mutandis.flows.supernet.lowering.partition import Part
from mutandis.flows.supernet.mixing.families import Family, kind_of
from mutandis.flows.supernet.tensors.loans import Key, Loan

WIDTHS = (4, 8, 6)


def member(inputs, outputs, *, always=False):
    """A part as a child would have it: an identity, or a convolution and a norm."""
    made = Instance.__new__(Instance)
    if inputs == outputs and not always:
        made.tree, made.loans = {"short": nn.Identity()}, []
        return made
    short = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
    short.ratio = outputs / inputs
    made.tree = {"short": short, "short.0": short[0], "short.1": short[1]}
    made.loans = []
    for path, layer in list(made.tree.items())[1:]:
        for name, tensor in layer.named_parameters(recurse=False):
            shape = tuple(tensor.shape)
            loan = Loan(path, name, Key(path, name, (), "layer"), shape, False, True, "float32")
            cut = tuple(None if size == max(WIDTHS) else (0, size) for size in shape[:2])
            made.loans.append((loan, cut + (None,) * (len(shape) - 2)))
    return made


def family(widths=WIDTHS, **settings):
    part = Part("short", (0, 1), True, (0, 1), frozenset())
    members = {(i, j): member(a, b, **settings) for i, a in enumerate(widths) for j, b in enumerate(widths)}
    return Family(Home("short", part, (0, 0)), (0, 1), members, lambda index, candidate: widths[candidate])


def test_a_layer_is_of_one_kind_where_classes_and_tensors_are_the_same():
    made = family()
    identity, projection = made.kinds[0, 0], made.kinds[0, 1]
    assert made.alike(identity) == [(0, 0), (1, 1), (2, 2)] and len(made.alike(projection)) == 6
    assert set(made.loans(projection)) == {("short.0", "weight"), ("short.1", "weight"), ("short.1", "bias")}
    assert kind_of(member(4, 8), "short.1") == (("short.1", nn.BatchNorm2d, (), ("bias", "weight")),)


@pytest.mark.parametrize("widths", [WIDTHS, (8, 4), (4, 8)], ids=str)
def test_each_axis_follows_the_decision_it_grows_with(widths):
    made = family(widths)
    projection = made.kinds[0, 1]
    assert [made.follows(projection, ("short.0", "weight"), axis) for axis in range(4)] == [1, 0, None, None]
    assert made.follows(projection, ("short.1", "weight"), 0) == 1


def test_an_axis_that_follows_both_is_told():
    part = Part("short", (0, 1), True, (0, 1), frozenset())
    members = {
        (i, j): member(a, min(8, a + b), always=True) for i, a in enumerate((1, 4)) for j, b in enumerate((2, 4))
    }
    made = Family(
        Home("short", part, (0, 0)), (0, 1), members, lambda index, candidate: ((1, 4), (2, 4))[index][candidate]
    )
    assert made.follows(made.kinds[0, 0], ("short.0", "weight"), 0) == -1
    assert made.follows(made.kinds[0, 0], ("short.0", "weight"), 1) == 0


def test_attributes_are_those_of_the_decision_that_they_follow():
    made = family()
    found = {(path, name): value for path, name, value in made.attributes(made.kinds[0, 1], (1, 1))}
    assert found == {("short.0", "in_channels"): 8, ("short.0", "out_channels"): 8, ("short.1", "num_features"): 8}


def test_cuts_are_those_of_members():
    made = family()
    assert made.cut((0, 2), ("short.0", "weight")) == ((0, 6), (0, 4), None, None)
    assert isinstance(made.loans(made.kinds[0, 1])["short.0", "weight"], Loan)
