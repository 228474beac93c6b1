from __future__ import annotations

import copy

import pytest

import mutandis as mu
from mutandis.errors import DecisionError
from mutandis.hyper import DNA, Feedback, Proposal


@pytest.fixture
def space():
    return mu.space({"op": mu.oneof(["conv", ["pool", mu.intv(1, 3)]], name="op"), "many": mu.subset([1, 2, 3])})


def test_a_dna_is_read_by_path_and_name(space):
    dna = space.dna({"op": 1, "['op'].candidates[1][1]": 2, "['many']": [0, 2]})
    assert dna["op"] == dna["['op']"] == dna[0] == 1
    assert dna.get("nothing", 5) == 5
    assert "op" in dna and "nothing" not in dna and 3 not in dna
    assert list(dna) == ["['op']", "['op'].candidates[1][1]", "['many']"]
    assert len(dna) == len(dna.active) == 3


def test_only_active_decisions_show(space):
    dna = space.dna({"op": 0, "['many']": [1]})
    assert dna.to_dict() == {"['op']": 0, "['many']": (1,)}
    assert dna.literals() == {"['op']": "conv", "['many']": [2]}
    assert str(dna) == "{['op']: conv, ['many']: [2]}"
    assert repr(dna) == "DNA({\"['op']\": 0, \"['many']\": (1,)})"
    assert dna.to_numbers() == [0, 1, 1]
    assert dna.tokens() == (0, 1)
    with pytest.raises(DecisionError, match="an active decision"):
        dna["['op'].candidates[1][1]"]


def test_a_dna_is_immutable_small_hashable_and_ordered(space):
    a, b = space.dna({"op": 0, "['many']": []}), space.dna({"op": 0, "['many']": [0]})
    with pytest.raises(DecisionError, match="cannot change a DNA"):
        a.values = ()
    with pytest.raises(DecisionError):
        del a.values
    assert not hasattr(a, "__dict__")
    assert a < b and sorted([b, a]) == [a, b] and a != b and a >= a
    assert len({a, space.dna({"op": 0, "['many']": []})}) == 1
    assert copy.copy(a) is copy.deepcopy(a) is a
    assert a != 3


def test_dnas_of_equal_spaces_are_equal_and_of_others_are_not():
    one, two, three = mu.space(mu.oneof([1, 2])), mu.space(mu.oneof([1, 2])), mu.space(mu.oneof([1, 3]))
    assert one.dna({"": 1}) == two.dna({"": 1}) != three.dna({"": 1})


def test_tokens_bin_ranges():
    dna = mu.space([mu.floatv(0.0, 1.0), mu.intv(0, 9), mu.intv(0, 999)]).dna({"[0]": 1.0, "[1]": 9, "[2]": 500})
    assert dna.tokens(bins=10) == (9, 9, 5)


def test_a_place_of_the_wrong_length_is_refused(space):
    with pytest.raises(DecisionError, match="expected: 6 coordinates"):
        space.from_unit([0.5])


def test_json_that_does_not_fit_is_refused(space):
    with pytest.raises(DecisionError, match="cannot leave out a decision"):
        DNA.from_json("{}", space)


def test_records_hold_what_was_said(space):
    dna = space.default()
    assert Proposal(0, dna).fidelity is None
    assert Feedback(0, dna, rewards=(1.0, 2.0)).reward == 1.0
    assert Feedback(0, dna).reward is None


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (
            lambda dna: setattr(dna, "values", ()),
            "cannot change a DNA\n"
            "  at:       values\n"
            "  got:      () (tuple)\n"
            "  expected: nothing: a DNA is immutable\n"
            "  fix:      make another one: space.dna({**dna.to_dict(), path: value})",
        ),
        (
            lambda dna: dna["['op'].candidates[1][1]"],
            "cannot read a decision\n"
            "  at:       ['op'].candidates[1][1]\n"
            "  expected: an active decision\n"
            "  fix:      the choice above it took another candidate; ask `path in dna` first",
        ),
        (
            lambda dna: dna["['map']"],
            "cannot find a decision\n"
            "  at:       ['map']\n"
            "  expected: one of op, ['op'].candidates[1][1], ['many']; did you mean \"['many']\"?\n"
            "  fix:      list the decisions with print(space.describe())",
        ),
    ],
)
def test_a_misuse_of_a_dna_is_refused_with_the_whole_story(space, use, message):
    with pytest.raises(DecisionError) as error:
        use(space.default())
    assert str(error.value) == message
