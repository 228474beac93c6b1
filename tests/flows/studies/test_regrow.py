"""What the decisions of a trial are in a space that has changed."""

from __future__ import annotations

import pytest

import mutandis as mu
from mutandis.flows.studies.regrow import Misfit, regrown
from mutandis.hyper import SearchSpace


def carried(old, new, **decisions):
    """Returns the literals of decisions, by key, of an old program in a new one."""
    space = mu.space(old)
    return regrown(space.dna({f"['{k}']": v for k, v in decisions.items()}), mu.space(new)).literals()


ONE = {"x": mu.oneof(["a", "b", "c"])}


@pytest.mark.parametrize(
    ("old", "new", "value", "found"),
    [
        (mu.oneof(["a", "b"]), mu.oneof(["b", "c", "a"]), 1, "b"),
        (mu.oneof([1, 2]), mu.intv(0, 9), 1, 2),
        (mu.intv(0, 9), mu.oneof([3, 4]), 4, 4),
        (mu.intv(0, 9), mu.floatv(0.0, 9.0), 4, 4.0),
        (mu.floatv(0.0, 9.0), mu.intv(0, 9), 4.0, 4),
        (mu.floatv(0.0, 1.0), mu.floatv(0.0, 0.5), 0.25, 0.25),
        (mu.intv(0, 9, step=3), mu.intv(0, 12, step=2), 6, 6),
        (mu.boolv(), mu.oneof([True, "often"]), 1, True),
        (mu.manyof(2, ["a", "b", "c"]), mu.manyof(2, ["c", "d", "a"]), [0, 2], ["a", "c"]),
        (mu.permutate(["a", "b"]), mu.permutate(["b", "a"]), [0, 1], ["a", "b"]),
    ],
)
def test_a_value_is_found_again_by_what_it_means(old, new, value, found):
    result = carried({"x": old}, {"x": new}, x=value)["['x']"]
    assert result == found and type(result) is type(found)


@pytest.mark.parametrize(
    ("old", "new", "value", "reason"),
    [
        (mu.oneof(["a", "b"]), mu.oneof(["b", "c"]), 0, "['x'] was 'a' and is one of [b, c] now"),
        (mu.intv(0, 9), mu.intv(0, 5), 6, "['x'] was 6 and is int in [0, 5] now"),
        (mu.intv(0, 9), mu.intv(0, 8, step=2), 3, "['x'] was 3 and is int in [0, 8] step 2 now"),
        (mu.oneof([1, 2]), mu.oneof([True, 2]), 0, "['x'] was 1 and is one of [True, 2] now"),
        (mu.oneof(["a", "b"]), mu.intv(0, 9), 0, "['x'] was 'a' and is int in [0, 9] now"),
        (mu.manyof(2, ["a", "b"]), mu.manyof(2, ["a", "c"]), [0, 1], "['x'] was ['a', 'b'] and is 2 of [a, c] now"),
        (mu.manyof(2, ["a", "b"]), mu.oneof(["a", "b"]), [0, 1], "['x'] was ['a', 'b'] and is one of [a, b] now"),
        (mu.oneof(["a", "b"]), mu.oneof(["a", "a"]), 0, "['x'] was 'a', which several candidates are called now"),
    ],
)
def test_a_value_that_is_gone_sets_its_trial_aside(old, new, value, reason):
    with pytest.raises(Misfit) as misfit:
        carried({"x": old}, {"x": new}, x=value)
    assert str(misfit.value).replace(" in order", "") == reason


def test_a_new_decision_takes_its_default():
    assert carried(ONE, {**ONE, "y": mu.oneof([1, 2], default=2)}, x=1) == {"['x']": "b", "['y']": 2}


def test_a_new_decision_without_a_default_sets_trials_aside():
    with pytest.raises(Misfit, match=r"^\['y'\] is new and has no default$"):
        carried(ONE, {**ONE, "y": mu.oneof([1, 2])}, x=1)


def test_a_decision_that_is_gone_must_have_had_what_stands_there_now():
    two = {**ONE, "y": mu.oneof([1, 2])}
    assert carried(two, {**ONE, "y": 2}, x=0, y=1) == {"['x']": "a"}
    for new in ({**ONE, "y": 1}, {**ONE, "y": True}, {**ONE, "y": 2.0}, ONE):
        with pytest.raises(Misfit, match=r"^\['y'\] is no decision any more, and was 2$"):
            carried(two, new, x=0, y=1)


def test_a_decision_that_is_gone_may_have_had_its_default():
    two = {**ONE, "y": mu.oneof([1, 2], default=2)}
    assert carried(two, ONE, x=0, y=1) == {"['x']": "a"}
    with pytest.raises(Misfit):
        carried(two, ONE, x=0, y=0)


def test_a_name_finds_a_decision_that_has_moved():
    old, new = {"a": mu.intv(0, 9, name="width")}, {"b": [mu.intv(0, 9, name="width")]}
    assert carried(old, new, a=4) == {"['b'][0]": 4}


def test_only_what_is_active_counts():
    old = {"x": mu.oneof(["none", {"lr": mu.floatv(0.0, 1.0)}])}
    new = {"x": mu.oneof(["none", {"lr": mu.floatv(0.0, 0.5), "beta": mu.floatv(0.0, 1.0)}])}
    assert carried(old, new, x=0) == {"['x']": "none"}


def test_what_the_predicate_refuses_is_set_aside():
    space = mu.space(ONE).require(lambda child: child["x"] != "b")
    old = mu.space({"x": mu.oneof(["a", "b"])})
    assert regrown(old.dna({"['x']": 0}), space).literals() == {"['x']": "a"}
    with pytest.raises(Misfit, match=r"^the predicate of the space refuses it$"):
        regrown(old.dna({"['x']": 1}), space)


def test_the_same_space_gives_the_same_dna():
    dna = mu.space(ONE).random(0)
    assert regrown(dna, mu.space(ONE)) is dna


def test_open_ended_decisions_are_carried_as_they_are():
    def rule(key, value, parent):
        return value

    old, other = ({"x": mu.evolve(seed, rule)} for seed in (mu.nn.ReLU(), mu.nn.GELU()))
    dna = mu.space(old).default()
    assert regrown(dna, mu.space(other)).values == dna.values
    with pytest.raises(Misfit, match="open-ended and is one of"):
        regrown(dna, mu.space(ONE))


def test_a_space_without_its_program_knows_of_nothing_that_is_fixed():
    two = mu.space({**ONE, "y": mu.oneof([1, 2])})
    with pytest.raises(Misfit):
        regrown(two.random(0), SearchSpace(mu.space({**ONE, "y": 1}).points))
