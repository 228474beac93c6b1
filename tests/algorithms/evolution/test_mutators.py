"""Mutators: small legal changes."""

from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import Scripted
from strategies import spaces_and_dnas

import mutandis as mu
from mutandis.algorithms.evolution import Context, Individual, Linear, Local, Mutator, Swap, Uniform
from mutandis.algorithms.evolution.mutators import descendants, local_move, neighbour, replaced_pick, swapped
from mutandis.errors import SettingError
from mutandis.hyper import Rng
from mutandis.testing import contract_spaces

NESTED = mu.space(
    {"op": mu.oneof(["skip", {"k": mu.oneof([3, 5, 7]), "act": mu.oneof(["relu", {"slope": mu.floatv(0.0, 1.0)}])}]),
     "width": mu.oneof([8, 16, 32])}
).bare()  # fmt: skip


def changed(a, b):
    return {path for path in {*a.to_dict(), *b.to_dict()} if a.to_dict().get(path) != b.to_dict().get(path)}


@given(
    spaces_and_dnas(),
    st.integers(0, 1000),
    st.sampled_from([Uniform(), Uniform(redraw_children=True), Local(), Swap()]),
)
def test_a_mutant_is_legal_on_every_space(space_and_dna, seed, mutator):
    space, dna = space_and_dna
    mutant = mutator.mutate(dna, Rng(seed))
    assert space.dna(mutant.to_json()) == mutant


@given(spaces_and_dnas(), st.integers(0, 1000))
def test_a_mutant_differs_where_anything_can_differ(space_and_dna, seed):
    _, dna = space_and_dna
    mutant = Uniform().mutate(dna, Rng(seed))
    can_move = any(point.size > 1 for point in dna.active)
    assert (mutant != dna) is can_move


def test_the_drawn_decision_changes_to_the_drawn_other_value():
    space = mu.space([mu.oneof([0, 1, 2]) for _ in range(3)]).bare()
    dna = space.dna({"[0]": 0, "[1]": 1, "[2]": 2})
    mutant = Uniform().mutate(dna, Scripted(0.5, 0.9))  # The second decision, the last of its two other values.
    assert mutant.to_numbers() == [0, 2, 2]


def test_what_is_not_touched_keeps_its_value():
    dna = NESTED.dna({"['op']": 1, "['op'].candidates[1]['k']": 2, "['op'].candidates[1]['act']": 0, "['width']": 1})
    for seed in range(40):
        mutant = Uniform().mutate(dna, Rng(seed))
        touched = changed(dna, mutant)
        assert len(touched - {"['op'].candidates[1]['act'].candidates[1]['slope']"}) == 1 or mutant["['op']"] == 0


def test_subtrees_below_a_choice_survive_unless_they_are_redrawn():
    inner = mu.oneof([mu.oneof(list(range(50)), name="inner"), mu.oneof(list(range(50)), name="inner")], name="outer")
    space = mu.space(inner).bare()
    dna = space.dna({"outer": 0, "inner": 7})
    outer_only = Uniform(where=lambda point: point.name == "outer")
    assert all(outer_only.mutate(dna, Rng(seed)).to_numbers() == [1, 7] for seed in range(10))
    redrawn = Uniform(where=lambda point: point.name == "outer", redraw_children=True)
    assert {redrawn.mutate(dna, Rng(seed)).to_numbers()[1] for seed in range(10)} != {7}


def test_descendants_are_all_that_hangs_on_a_point():
    dna = NESTED.random(0)
    paths = {NESTED.points[index].path for index in descendants(dna, NESTED.point("['op']").index)}
    assert paths == {"['op'].candidates[1]['k']", "['op'].candidates[1]['act']",
                     "['op'].candidates[1]['act'].candidates[1]['slope']"}  # fmt: skip


def test_where_limits_what_may_be_touched():
    only = Uniform(where=lambda point: point.path == "['width']")
    dna = NESTED.random(4)
    assert all(changed(dna, only.mutate(dna, Rng(seed))) == {"['width']"} for seed in range(10))


def test_a_dna_without_room_stays_as_it_is():
    dna = mu.space([mu.oneof([1])]).bare().random(0)
    assert Uniform().mutate(dna, Scripted()) is dna
    assert Local().mutate(dna, Scripted()) is dna
    assert Swap().mutate(dna, Scripted()) is dna


def test_a_local_move_of_a_log_range_is_a_factor():
    point = mu.space(mu.floatv(1e-6, 1.0, scale="log")).points[0]
    moves = [math.log10(local_move(point, 1e-3, 0.05, Rng(seed)) / 1e-3) for seed in range(400)]
    assert statistics.mean(moves) == pytest.approx(0, abs=0.06)
    assert statistics.stdev(moves) == pytest.approx(0.05 * 6, rel=0.15)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.5])
def test_a_local_move_stays_in_range_and_moves(value):
    point = mu.space(mu.floatv(0.0, 1.0)).points[0]
    moved = [local_move(point, value, 0.5, Rng(seed)) for seed in range(200)]
    assert all(0 <= m <= 1 and m != value for m in moved)
    assert len(set(moved)) > 150  # Reflected at the ends, not heaped there.


def test_a_local_move_of_an_int_is_at_least_one_step():
    point = mu.space(mu.intv(1, 1000)).points[0]
    assert all(local_move(point, 500, 1e-6, Rng(seed)) in (499, 501) for seed in range(20))


def test_the_neighbour_of_an_end_is_inside():
    point = mu.space(mu.intv(2, 10, step=2)).points[0]
    assert neighbour(point, 2, Rng(0)) == 4
    assert neighbour(point, 10, Rng(0)) == 8


def test_a_local_move_of_a_permutation_exchanges_two_places():
    point = mu.space(mu.permutate(list("abcde"))).points[0]
    moved = local_move(point, (0, 1, 2, 3, 4), 0.1, Rng(0))
    assert sorted(moved) == [0, 1, 2, 3, 4]
    assert sum(a != b for a, b in zip(moved, range(5), strict=True)) == 2


def test_swapped_exchanges_the_drawn_places():
    assert swapped((5, 6, 7), Scripted(0.0, 0.9)) == (7, 6, 5)


def test_a_replaced_pick_of_a_subset_stays_sorted_and_distinct():
    point = mu.space(mu.subset(list("abcdef"), min=3, max=3)).points[0]
    for seed in range(20):
        picks = replaced_pick(point, (0, 2, 4), Rng(seed))
        assert list(picks) == sorted(set(picks))
        assert len(set(picks) & {0, 2, 4}) == 2


@pytest.mark.parametrize(
    "program",
    [mu.subset(list("abcd")), mu.subset(list("abcde"), min=1, max=3), mu.permutate(list("abcd")),
     mu.manyof(2, list("abcd")), mu.manyof(2, list("abc"), distinct=False, ordered=False), mu.intv(1, 12),
     mu.oneof(list("abcd"))],
)  # fmt: skip
def test_local_moves_reach_the_whole_space(program):
    space = mu.space(program).bare()
    rng, dna, reached = Rng(0), space.dna_at(0), set()
    for _ in range(60 * space.size):
        dna = Local(0.1).mutate(dna, rng)
        reached.add(dna)
    assert len(reached) == space.size


def test_a_local_move_of_a_subset_adds_drops_or_replaces_one_pick():
    point = mu.space(mu.subset(list("abcdef"), min=1, max=4)).points[0]
    moved = [set(local_move(point, (0, 2), 0.1, Rng(seed))) for seed in range(60)]
    assert {(len(picks), len(picks & {0, 2})) for picks in moved} == {(1, 1), (3, 2), (2, 1)}


def test_the_scale_of_local_moves_may_be_a_schedule():
    space = mu.space(mu.floatv(0.0, 1.0)).bare()
    dna, cooling = space.dna({"": 0.5}), Local(Linear(0.5, 0.001, 100))
    early = [abs(cooling.mutate(dna, Rng(seed), 0).to_numbers()[0] - 0.5) for seed in range(50)]
    late = [abs(cooling.mutate(dna, Rng(seed), 100).to_numbers()[0] - 0.5) for seed in range(50)]
    assert statistics.mean(late) < 0.02 * statistics.mean(early)


@pytest.mark.parametrize("scale", [0, -0.1, 1.5])
def test_an_impossible_scale_is_refused(scale):
    with pytest.raises(SettingError) as error:
        Local(scale)
    assert str(error.value) == (
        "cannot mutate locally\n"
        "  at:       Local.scale\n"
        f"  got:      {scale} ({type(scale).__name__})\n"
        "  expected: a share of the range in (0, 1]\n"
        "  fix:      use 0.1"
    )


@pytest.mark.parametrize("name", [name for name, space in contract_spaces().items() if space.size > 1])
def test_a_mutator_is_an_operation_on_each_individual(name):
    space = contract_spaces()[name].bare()
    parents = [Individual(space.random(seed), (1.0,)) for seed in range(3)]
    children = Uniform()(parents, Context(space, Rng(0)))
    assert [child.rewards for child in children] == [None] * 3
    assert all(child.dna != parent.dna for child, parent in zip(children, parents, strict=True))


def test_the_base_class_cannot_mutate():
    with pytest.raises(TypeError, match="use Uniform, Local or Swap"):
        Mutator().mutate(NESTED.random(0), Rng(0))


def test_weights_say_how_often_a_point_is_touched():
    space = mu.space([mu.oneof([0, 1, 2]) for _ in range(3)]).bare()
    dna = space.dna_at(0)
    weighted = Uniform(weight=lambda point: [0.0, 1.0, 3.0][point.index])
    counts = [0, 0, 0]
    for seed in range(2000):
        mutant = weighted.mutate(dna, Rng(seed))
        counts[next(i for i, value in enumerate(mutant.to_numbers()) if value)] += 1
    assert counts[0] == 0
    assert abs(counts[1] - 500) < 80


@pytest.mark.parametrize("weight", [lambda point: 0.0, lambda point: -1.0])
def test_weights_without_any_chance_are_refused(weight):
    with pytest.raises(SettingError, match=r"Uniform\.weight"):
        Uniform(weight=weight).mutate(NESTED.random(0), Rng(0))
