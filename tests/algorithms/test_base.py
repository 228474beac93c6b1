"""Settings: frozen, comparable, symbolic, and refused where they make no sense."""

from __future__ import annotations

import dataclasses

import pytest

import mutandis as mu
from mutandis.algorithms import HillClimb, Random, RegularizedEvolution
from mutandis.algorithms.base import from_state, need_int, to_state
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
