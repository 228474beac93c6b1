"""Features: distances within a decision, rounding, activity."""

from __future__ import annotations

import numpy as np
import pytest

import mutandis as mu
from mutandis.algorithms.bayesian.features import INACTIVE, Features, snapped
from mutandis.errors import SettingError
from mutandis.hyper import Point, SearchSpace, permutate, space
from mutandis.testing import contract_spaces

SPACES = contract_spaces()


def distances(program, *decisions):
    """Returns the squared distances of the first DNA to the others."""
    made = space(program)
    features = Features(made.bare())
    rows = features.encode(features.place([made.dna(given) for given in decisions]))
    return ((rows[1:] - rows[0]) ** 2).sum(axis=1)


@pytest.mark.parametrize("name", SPACES)
def test_the_unit_cube_is_decoded_as_the_space_decodes_it(name):
    bare = SPACES[name].bare()
    features = Features(bare)
    places = np.random.default_rng(0).random((200, features.num_units))
    settled = features.place([bare.from_unit(place.tolist()) for place in places])
    encoded, active = features.encode_with_activity(places)
    np.testing.assert_allclose(features.encode(settled), encoded, atol=1e-12)
    expected = [[value is not None for value in bare.from_unit(place.tolist()).values] for place in places]
    assert active.tolist() == expected


@pytest.mark.parametrize("name", SPACES)
def test_different_points_have_different_features(name):
    bare = SPACES[name].bare()
    features = Features(bare)
    dnas = list({bare.random(seed) for seed in range(100)})
    rows = features.encode(features.place(dnas))
    assert len(np.unique(rows.round(9), axis=0)) == len(dnas)


def test_a_range_is_its_place_in_the_unit_interval():
    assert distances(mu.floatv(0.0, 4.0), {"": 1.0}, {"": 3.0}) == pytest.approx([0.25])


def test_a_log_scale_is_measured_in_its_logarithm():
    found = distances(mu.floatv(1e-4, 1.0, scale="log"), {"": 1e-4}, {"": 1e-2}, {"": 1.0})
    assert found == pytest.approx([0.25, 1.0])


def test_different_candidates_are_at_distance_one():
    assert distances(mu.oneof(["a", "b", "c"]), {"": 0}, {"": 1}, {"": 2}, {"": 0}) == pytest.approx([1, 1, 0])


def test_subsets_differ_in_the_share_of_candidates():
    program = mu.subset(["a", "b", "c", "d"], min=0, max=4)
    assert distances(program, {"": [0, 1]}, {"": [0, 2]}, {"": [2, 3]}, {"": []}) == pytest.approx([0.5, 1, 0.5])


def test_an_order_is_farthest_from_its_reverse():
    program = permutate(["a", "b", "c", "d"])
    found = distances(program, {"": [0, 1, 2, 3]}, {"": [1, 0, 2, 3]}, {"": [3, 2, 1, 0]})
    assert found == pytest.approx([2 / 20, 1.0])  # Squared differences of ranks: 1 + 1, and 9 + 1 + 1 + 9.


def test_unpicked_candidates_share_the_mean_rank_of_the_rest():
    program = mu.manyof(2, ["a", "b", "c", "d"])
    found = distances(program, {"": [0, 1]}, {"": [0, 2]})
    assert found == pytest.approx([2 * 1.5**2 / 20])


def test_slots_with_repetition_count_one_by_one():
    program = mu.manyof(4, ["a", "b"], distinct=False)
    assert distances(program, {"": [0, 0, 0, 0]}, {"": [0, 0, 0, 1]}, {"": [1, 1, 1, 1]}) == pytest.approx([0.25, 1])


def test_multisets_differ_in_their_counts():
    program = mu.manyof(2, ["a", "b"], distinct=False, ordered=False)
    assert distances(program, {"": [0, 0]}, {"": [0, 1]}, {"": [1, 1]}) == pytest.approx([0.25, 1.0])


def test_what_is_not_active_does_not_differ_and_has_a_place_of_its_own():
    program = mu.oneof([{"x": mu.floatv(0.0, 1.0)}, "b", "c"])
    bare = space(program)
    path = bare.points[1].path
    found = distances(program, {"": 1}, {"": 2}, {"": 0, path: 0.5}, {"": 0, path: 1.0})
    assert found == pytest.approx([1.0, 1.0 + INACTIVE, 1.25 + INACTIVE])


def test_a_choice_that_is_not_active_is_one_more_candidate():
    program = mu.oneof([mu.oneof(["a", "b"]), "c"])
    path = space(program).points[1].path
    assert distances(program, {"": 1}, {"": 0, path: 0}, {"": 0, path: 1}) == pytest.approx([2.0, 2.0])


@pytest.mark.parametrize("value", [mu.intv(1, 9), mu.intv(2, 300, scale="log"), mu.floatv(0.0, 1.0, step=0.3)])
def test_ranges_with_steps_are_rounded_to_legal_values(value):
    point = space(value).points[0]
    places = np.linspace(0, 1, 101)
    expected = [point.to_unit(point.from_unit(place))[0] for place in places]
    np.testing.assert_allclose(snapped(point, places), expected, atol=1e-12)


def test_an_open_ended_decision_is_refused():
    with pytest.raises(SettingError) as error:
        Features(SearchSpace([Point(index=0, path="program", kind="custom")]))
    assert str(error.value) == (
        "cannot model an open-ended decision\n"
        "  at:       program\n"
        "  got:      'a program, open-ended' (str)\n"
        "  expected: choices, ranges and picks\n"
        "  fix:      use RegularizedEvolution() or LocalSearch()"
    )
