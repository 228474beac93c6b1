"""Finding decisions: each once, with all its places, parents before children."""

from __future__ import annotations

import collections

import pytest

import mutandis as mu
from mutandis.errors import SpaceError

Pair = collections.namedtuple("Pair", "left right")


@mu.symbolize
class Net:
    def __init__(self, width, *layers, **options):
        self.width = width


def paths(program):
    return [point.path for point in mu.space(program).points]


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (lambda v: v, [""]),
        (lambda v: [v], ["[0]"]),
        (lambda v: (1, v), ["[1]"]),
        (lambda v: {"a b": v}, ["['a b']"]),
        (lambda v: {3: v}, ["[3]"]),
        (lambda v: Net(v), ["width"]),
        (lambda v: Net(1, v), ["layers[0]"]),
        (lambda v: Net(1, rate=v), ["rate"]),
        (lambda v: mu.bind(max, v, 3), ["args[0]"]),
        (lambda v: Pair(1, v), ["[1]"]),
        (lambda v: mu.oneof([v]), ["", "candidates[0]"]),
        (lambda v: [[[[v]]]], ["[0][0][0][0]"]),
    ],
)
def test_a_decision_is_found_wherever_the_tree_goes(program, expected):
    found = paths(program(mu.oneof([1, 2])))
    assert found == expected


def test_a_decision_knows_all_its_places():
    width = mu.oneof([1, 2])
    (point,) = mu.space([width, Net(width), {"w": width}]).points
    assert point.paths == ("[0]", "[1].width", "[2]['w']")


def test_places_in_computed_values_come_last():
    width = mu.oneof([1, 2])
    (point,) = mu.space([width * 2, [width]]).points
    assert point.path == "[1][0]"
    assert len(point.paths) == 2


def test_a_decision_that_stands_outside_too_is_always_active():
    shared = mu.oneof([1, 2])
    space = mu.space([mu.oneof([0, [shared]]), shared])
    assert [point.conditions for point in space.points] == [(), ()]


def test_a_decision_under_two_candidates_is_active_with_either():
    shared = mu.oneof([1, 2])
    space = mu.space(mu.oneof([["a", shared], ["b"], ["c", shared]]))
    assert space.points[1].conditions == ((0, 0), (0, 2))


def test_hints_and_names_and_defaults_reach_the_point():
    (point,) = mu.space(mu.intv(1, 9, name="n", hints={"a": 1}, default=4, when="step")).points
    assert (point.name, point.hints, point.default, point.when) == ("n", {"a": 1}, 4, "step")


def test_the_place_of_a_clashing_name_is_told():
    with pytest.raises(SpaceError) as error:
        mu.space({"a": mu.oneof([1, 2], name="w"), "b": Net(mu.intv(1, 2, name="w"))})
    assert str(error.value) == (
        "cannot use one name for two decisions\n"
        "  at:       ['b'].width\n"
        "  got:      intv(1, 2, name='w') (IntV)\n"
        "  expected: the same as at ['a']: oneof([1, 2], name='w')\n"
        "  fix:      give them different names, or use one object at both places"
    )


@pytest.mark.parametrize(
    "other",
    [
        lambda: mu.oneof([1, 2], name="w", when="step"),
        lambda: mu.oneof([2, 1], name="w"),
        lambda: mu.oneof([1, 2, 3], name="w"),
        lambda: mu.boolv(name="w"),
    ],
)
def test_one_name_for_unlike_decisions_is_refused(other):
    with pytest.raises(SpaceError, match="cannot use one name for two decisions"):
        mu.space([mu.oneof([1, 2], name="w"), other()])


def test_one_name_may_have_other_hints():
    assert mu.space([mu.oneof([1, 2], name="w", hints="a"), mu.oneof([1, 2], name="w", hints="b")]).size == 2


def test_what_is_required_is_no_decision():
    assert paths(Net(mu.REQUIRED, mu.oneof([1, 2]))) == ["layers[0]"]
