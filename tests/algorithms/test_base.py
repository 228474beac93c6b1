"""Settings: frozen, comparable, symbolic, and refused where they make no sense."""

from __future__ import annotations

import dataclasses
import math

import pytest

import mutandis as mu
from mutandis.algorithms import HillClimb, Random, RegularizedEvolution
from mutandis.algorithms.base import from_state, need_int, need_number, need_one_of, to_state
from mutandis.algorithms.evolution import Uniform
from mutandis.errors import SettingError

SPACE = mu.space({"x": mu.oneof([1, 2, 3]), "m": mu.manyof(2, ["a", "b", "c"])})


def test_settings_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RegularizedEvolution().population_size = 3


def test_settings_compare_by_value():
    assert RegularizedEvolution(10, 3) == RegularizedEvolution(10, 3) != RegularizedEvolution(10, 4)


def test_equal_settings_have_equal_hashes():
    assert len({RegularizedEvolution(10, 3), RegularizedEvolution(10, 3), RegularizedEvolution(10, 4)}) == 2


def test_a_decision_within_settings_is_put_in_and_checked():
    with pytest.raises(SettingError, match=r"RegularizedEvolution\.population_size"):
        mu.rebind(RegularizedEvolution(10, 3), {"population_size": 0})


def test_settings_are_symbolic():
    changed = mu.rebind(RegularizedEvolution(10, 3), {"tournament_size": 5})
    assert changed == RegularizedEvolution(10, 5)
    assert mu.diff(RegularizedEvolution(10, 3), changed).keys() == {"tournament_size"}
    assert mu.from_json(mu.to_json(changed)) == changed


def test_settings_are_searched_like_any_program():
    program = RegularizedEvolution(mu.intv(5, 50), 3, mutation=Uniform(redraw_children=mu.boolv()))
    found = [child for child, feedback in mu.sample(program, Random(), trials=8) if not feedback(1.0)]
    assert {type(child) for child in found} == {RegularizedEvolution}
    assert all(5 <= child.population_size <= 50 for child in found)
    assert len(set(found)) > 1


@pytest.mark.parametrize("value", [0, -1, 2.0, True, "3", None])
def test_a_size_that_is_no_positive_int_is_refused(value):
    with pytest.raises(SettingError):
        need_int("X.size", value, 1)


def test_the_refusal_of_a_size_tells_everything():
    with pytest.raises(SettingError) as error:
        RegularizedEvolution(population_size=0)
    assert str(error.value) == (
        "cannot use a setting\n"
        "  at:       RegularizedEvolution.population_size\n"
        "  got:      0 (int)\n"
        "  expected: an int >= 1\n"
        "  fix:      give a larger whole number"
    )


@pytest.mark.parametrize("algorithm", [RegularizedEvolution(), HillClimb()])
def test_several_objectives_are_refused_where_only_one_is_known(algorithm):
    with pytest.raises(SettingError) as error:
        algorithm.start(SPACE, seed=0, num_objectives=2)
    assert str(error.value) == (
        "cannot search for several objectives\n"
        f"  at:       {type(algorithm).__name__}\n"
        "  got:      2 (int)\n"
        "  expected: one objective\n"
        "  fix:      combine the metrics into one reward, or use an algorithm for several objectives"
    )


def test_an_algorithm_of_many_objectives_passes_the_check():
    assert Random().check_objectives(3) is None


def test_the_state_of_a_dna_leads_back_to_it():
    dna = SPACE.random(3)
    assert from_state(SPACE, to_state(dna)) == dna
    assert all(not isinstance(value, tuple) for value in to_state(dna))


@pytest.mark.parametrize(
    ("make", "at", "fix"),
    [
        (lambda: RegularizedEvolution(mutation=Uniform), "RegularizedEvolution.mutation",
         "write Uniform(...), not the class"),
        (lambda: HillClimb(mutation=3), "HillClimb.mutation", "use mutation=Uniform()"),
        (lambda: mu.algorithms.Deduped(Random), "Deduped.algorithm", "write Random(...), not the class"),
        (lambda: mu.algorithms.Constrained(3, len), "Constrained.algorithm", "use Constrained(Random(), predicate)"),
    ],
)  # fmt: skip
def test_a_setting_of_another_type_is_refused_when_it_is_made(make, at, fix):
    with pytest.raises(SettingError) as error:
        make()
    assert (error.value.at, error.value.fix) == (at, fix)


def test_the_refusal_of_a_number_tells_everything():
    with pytest.raises(SettingError) as error:
        need_number("X.share", 1.5, low=0.0, high=1.0)
    assert str(error.value) == (
        "cannot use a setting\n"
        "  at:       X.share\n"
        "  got:      1.5 (float)\n"
        "  expected: a finite number >= 0 and <= 1\n"
        "  fix:      give a number within these bounds"
    )


@pytest.mark.parametrize(("value", "is_legal"), [(0.0, True), (1.0, True), (-0.1, False), (1.1, False), (None, False)])
def test_bounds_of_a_number_are_kept(value, is_legal):
    try:
        need_number("X.share", value, low=0.0, high=1.0)
    except SettingError:
        assert not is_legal
    else:
        assert is_legal


def test_a_number_without_bounds_has_only_to_be_one():
    with pytest.raises(SettingError) as error:
        need_number("X.value", math.nan)
    assert (error.value.expected, error.value.fix) == ("a finite number", "give a number")


@pytest.mark.parametrize("value", [True, "often", math.nan, math.inf, -math.inf, None])
def test_what_is_no_finite_number_is_refused_even_without_bounds(value):
    with pytest.raises(SettingError, match="expected: a finite number\n"):
        need_number("X.value", value)


@pytest.mark.parametrize(
    ("bounds", "words"),
    [({"above": 0}, "> 0"), ({"low": 0}, ">= 0"), ({"below": 2}, "< 2"), ({"high": -2}, "<= -2"),
     ({"above": 0.5, "high": 1}, "> 0.5 and <= 1")],
)  # fmt: skip
def test_the_bounds_of_a_number_are_told_with_the_remedy_of_the_setting(bounds, words):
    with pytest.raises(SettingError) as error:
        need_number("X.y", -1 if "high" not in bounds and "below" not in bounds else 3, **bounds, fix="use 3")
    assert (error.value.expected, error.value.fix) == (f"a finite number {words}", "use 3")


@pytest.mark.parametrize(("bounds", "at", "is_legal"), [({"low": 0}, 0, True), ({"above": 0}, 0, False),
                                                        ({"high": 0}, 0, True), ({"below": 0}, 0, False)])  # fmt: skip
def test_the_bound_itself_is_legal_where_it_is_included(bounds, at, is_legal):
    try:
        need_number("X.y", at, **bounds)
    except SettingError:
        assert not is_legal
    else:
        assert is_legal


def test_the_refusal_of_a_word_tells_everything():
    need_one_of("X.form", "a", ("a", "b"))
    with pytest.raises(SettingError) as error:
        need_one_of("X.form", "c", ("a", "b"))
    assert str(error.value) == (
        "cannot use a setting\n  at:       X.form\n  got:      'c' (str)\n  expected: 'a' or 'b'\n  fix:      write 'a'"
    )


@pytest.mark.parametrize(
    ("value", "fix", "expected", "told"),
    [("linaer", "", "'linear' or 'cosine'; did you mean 'linear'?", "write 'linear'"),
     (3, "use 'cosine'", "'linear' or 'cosine'", "use 'cosine'"), (None, "", "'linear' or 'cosine'", "write 'linear'")],
)  # fmt: skip
def test_a_word_that_is_nearly_right_is_recognised(value, fix, expected, told):
    with pytest.raises(SettingError) as error:
        need_one_of("X.shape", value, ("linear", "cosine"), fix=fix)
    assert (error.value.expected, error.value.fix) == (expected, told)
