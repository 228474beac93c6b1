from __future__ import annotations

import pytest

import mutandis as mu
from mutandis.errors import SpaceError


@mu.symbolize
class Net:
    def __init__(self, width, op=None):
        self.width, self.op = width, op


def test_a_hand_written_child_is_encoded():
    lr = mu.floatv(0.0, 1.0)
    space = mu.space(Net(mu.oneof([1, Net(mu.intv(1, 9))]), mu.subset(["a", "b", "c"])))
    assert space.encode(Net(Net(4), ["a", "c"])).to_numbers() == [1, 4, 2, 0, 2]
    assert mu.space(lr).encode(0.25).to_numbers() == [0.25]


def test_functions_and_classes_are_told_apart():
    space = mu.space([mu.oneof([len, print, int, lambda: 0])])
    for dna in space.enumerate():
        assert space.encode(space.materialize(dna)) == dna


def test_a_shared_decision_is_found_where_only_one_place_tells():
    a = mu.oneof([[1], [1], [2]])
    space = mu.space({"x": a, "y": mu.derive(len, [a])})
    child = space.materialize(space.dna({"['x']": 2}))
    assert space.encode(child).to_numbers() == [2]


def test_a_first_guess_that_fails_elsewhere_is_taken_back():
    kind = mu.oneof([1, mu.intv(1, 2, name="n")])
    space = mu.space([kind, mu.intv(1, 2, name="n")])
    for dna in [space.dna({"[0]": 1, "n": 2}), space.dna({"[0]": 0, "n": 2})]:
        assert space.encode(space.materialize(dna)) == dna


@pytest.mark.parametrize(
    ("child", "message"),
    [
        (
            Net(5, "x"),
            "cannot encode a program\n"
            "  at:       width\n"
            "  got:      5 (int)\n"
            "  expected: one of [1, 2]\n"
            "  fix:      encode a child of this space; mu.diff(program, child) shows the difference",
        ),
        (
            Net(1, "y"),
            "cannot encode a program\n"
            "  at:       op\n"
            "  got:      'y' (str)\n"
            "  expected: the value of the program, 'x'\n"
            "  fix:      encode a child of this space; mu.diff(program, child) shows the difference",
        ),
        (
            [1],
            "cannot encode a program\n"
            "  at:       (the root)\n"
            "  got:      [1] (list)\n"
            "  expected: a Net\n"
            "  fix:      encode a child of this space; mu.diff(program, child) shows the difference",
        ),
    ],
)
def test_a_stranger_is_refused_with_the_place(child, message):
    with pytest.raises(SpaceError) as error:
        mu.space(Net(mu.oneof([1, 2]), "x")).encode(child)
    assert str(error.value) == message


def test_a_wrong_computed_value_is_refused():
    width = mu.oneof([1, 2])
    with pytest.raises(SpaceError, match="expected: 4, computed from the decisions"):
        mu.space([width, width * 2]).encode([2, 5])


def test_two_values_for_one_decision_are_refused():
    width = mu.intv(1, 4)
    with pytest.raises(SpaceError, match="the same decision is elsewhere: 1"):
        mu.space([width, width]).encode([1, 2])


def test_nan_and_bool_leaves_are_compared_as_what_they_are():
    space = mu.space([float("nan"), True, mu.oneof([1, True, 1.0])])
    for dna in space.enumerate():
        child = [float("nan"), True, space.materialize(dna)[2]]
        assert space.encode(child) == dna
    with pytest.raises(SpaceError):
        space.encode([0.0, 1, 1])
