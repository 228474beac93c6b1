"""Grid search: an order that is a bijection, and steps of ranges (card MT-2)."""

from __future__ import annotations

import pytest

import mutandis as mu
from mutandis.algorithms import Grid
from mutandis.algorithms.grid import axis_value
from mutandis.errors import SettingError, SpaceExhausted
from mutandis.testing import run

CONDITIONAL = {"x": mu.oneof(["a", {"z": mu.oneof([1, 2])}]), "y": mu.oneof([3, 4])}


def grid(program, **settings):
    return Grid(**settings).start(mu.space(program).bare(), seed=0)


def test_the_last_decision_is_the_fastest_and_inactive_ones_are_skipped():
    found = [dna.to_numbers() for dna in run(grid(CONDITIONAL), 99)]
    assert found == [[0, 0], [0, 1], [1, 0, 0], [1, 0, 1], [1, 1, 0], [1, 1, 1]]


def test_the_number_of_a_dna_leads_to_it_and_back():
    space = mu.space(CONDITIONAL)
    assert space.dna_at(4).to_numbers() == [1, 1, 0]
    assert [space.index_of(space.dna_at(i)) for i in range(6)] == list(range(6))


def test_a_used_up_grid_says_so():
    search = grid(mu.oneof([1, 2]))
    run(search, 2)
    with pytest.raises(SpaceExhausted) as error:
        search.propose()
    assert str(error.value) == (
        "cannot propose: every DNA of the grid was proposed\n  got:      2 (int)\n  expected: at most 2 proposals"
    )


def test_a_log_range_is_cut_geometrically():
    found = [dna.to_numbers()[0] for dna in run(grid(mu.floatv(1e-4, 1e-1, scale="log"), points=4), 9)]
    assert found == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1], rel=1e-12)


def test_a_linear_range_is_cut_evenly():
    assert [dna.to_numbers()[0] for dna in run(grid(mu.floatv(0.0, 1.0), points=5), 9)] == [0, 0.25, 0.5, 0.75, 1]


def test_the_ends_of_a_range_are_hit_exactly():
    point = mu.space(mu.floatv(1e-5, 0.3, scale="log")).points[0]
    assert (axis_value(point, 0, 7), axis_value(point, 6, 7)) == (1e-5, 0.3)


@pytest.mark.parametrize(("low", "high"), [(-0.132, 1.74), (-0.766, -0.027), (0.691, 1.784), (0.0, 1.0)])
def test_the_ends_of_a_linear_range_are_hit_exactly(low, high):
    point = mu.space(mu.floatv(low, high)).points[0]
    assert (axis_value(point, 0, 7), axis_value(point, 6, 7)) == (low, high)


def test_one_point_is_no_grid():
    with pytest.raises(SettingError, match=r"Grid\.points"):
        Grid(points=1)


def test_a_step_of_a_range_goes_before_points():
    assert [dna.to_numbers()[0] for dna in run(grid(mu.floatv(0.0, 1.0, step=0.5), points=9), 99)] == [0.0, 0.5, 1.0]


def test_a_continuous_space_without_points_is_refused():
    with pytest.raises(SettingError) as error:
        grid({"rate": mu.floatv(0.0, 1.0)})
    assert str(error.value) == (
        "cannot sweep an infinite space\n"
        "  at:       ['rate']\n"
        "  got:      'float in [0.0, 1.0]' (str)\n"
        "  expected: a decision with finitely many values\n"
        "  fix:      use Grid(points=10), give the range a step=, or use another algorithm, such as Random()"
    )


def test_an_open_ended_space_is_refused():
    with pytest.raises(SettingError, match="cannot sweep an infinite space"):
        grid(mu.evolve([1], lambda program, rng: program), points=3)


def test_a_shared_decision_is_swept_once():
    width = mu.oneof([1, 2, 3])
    assert [dna.to_numbers() for dna in run(grid([width, width]), 99)] == [[0], [1], [2]]


def test_a_huge_grid_goes_on_from_any_number():
    search = grid([mu.oneof(range(10)) for _ in range(30)])
    search.load_state_dict({"next": 10**29})
    assert search.propose().dna.to_numbers() == [1] + [0] * 29
