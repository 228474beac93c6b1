"""The codec of steps: which slots there are, which are visited, what is legal, and that nothing is lost."""

from __future__ import annotations

import collections
import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import Scripted
from strategies import spaces_and_dnas

import mutandis as mu
from mutandis.algorithms.sequences import Cells, Codec
from mutandis.errors import DecisionError, SettingError
from mutandis.hyper import Rng
from mutandis.testing import contract_spaces

CONDITIONAL = mu.space({"x": mu.oneof(["a", {"z": mu.oneof([1, 2, 3])}]), "y": mu.oneof([3, 4])})
RANGES = [
    mu.floatv(0.0, 1.0), mu.floatv(1e-5, 1.0, scale="log"), mu.floatv(-3.0, 5.0, step=0.01), mu.intv(1, 20),
    mu.intv(-3, 4), mu.intv(1, 1000, scale="log"), mu.intv(8, 512, step=8), mu.intv(0, 10**30),
    mu.floatv(0.001, 1.0, step=0.001, scale="log"),
]  # fmt: skip


def shape(program, **settings):
    return [(slot.role, slot.place, slot.num_options) for slot in Codec(mu.space(program), **settings).slots]


def uniform(rng):
    return lambda slot, legal: rng.choice([o for o in range(slot.num_options) if legal is None or legal[o]])


def taken_in(steps):
    return [step.option for step in steps]


def sequences(space, **settings):
    """Returns every sequence of steps that a walk can take, with the DNA it leads to, in lexicographic order."""
    codec, found, script = Codec(space, **settings), [], []
    while script is not None:
        taken, widths = [], []

        def choose(slot, legal, taken=taken, widths=widths, script=script):
            allowed = [o for o in range(slot.num_options) if legal is None or legal[o]]
            widths.append(allowed)
            taken.append(script[len(taken)] if len(taken) < len(script) else allowed[0])
            return taken[-1]

        dna, _ = codec.walk(choose, Rng(0))
        found.append((tuple(taken), dna))
        script = next_script(taken, widths)
    return found


def next_script(taken, widths):
    for place in reversed(range(len(taken))):
        after = [o for o in widths[place] if o > taken[place]]
        if after:
            return [*taken[:place], after[0]]
    return None


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (mu.oneof(["a", "b", "c"]), [("choice", 0, 3)]),
        (mu.intv(1, 5), [("bin", 0, 5)]),
        (mu.intv(1, 17), [("bin", 0, 16)]),
        (mu.floatv(0.0, 1.0), [("bin", 0, 16)]),
        (mu.floatv(0.0, 1.0, step=0.25), [("bin", 0, 5)]),
        (mu.manyof(2, ["a", "b", "c"]), [("pick", 0, 3), ("pick", 1, 3)]),
        (mu.subset(["a", "b", "c"], min=1, max=2), [("count", 0, 2), ("pick", 0, 3), ("pick", 1, 3)]),
        ({"constant": 1}, []),
    ],
)
def test_a_decision_is_cut_into_slots(program, expected):
    assert shape(program) == expected


def test_the_number_of_cells_is_a_setting():
    assert shape([mu.floatv(0.0, 1.0), mu.intv(1, 5), mu.intv(1, 3)], bins=4) == [
        ("bin", 0, 4), ("bin", 0, 4), ("bin", 0, 3),
    ]  # fmt: skip


def test_slots_know_their_index_and_their_point():
    space = contract_spaces()["conditional"]
    slots = Codec(space).slots
    assert [slot.index for slot in slots] == list(range(len(slots)))
    assert [slot.point for slot in slots] == list(space.points)


@pytest.mark.parametrize("bins", [0, True, 2.0])
def test_a_number_of_cells_that_makes_no_sense_is_refused(bins):
    with pytest.raises(SettingError, match=r"Codec\.bins"):
        Codec(CONDITIONAL, bins)


def test_an_open_ended_decision_is_refused():
    with pytest.raises(SettingError) as error:
        Codec(mu.space({"program": mu.evolve([1], lambda program, rng: program)}))
    assert str(error.value) == (
        "cannot cut a decision into steps\n"
        "  at:       ['program']\n"
        "  got:      'a program, open-ended' (str)\n"
        "  expected: decisions among candidates or within ranges\n"
        "  fix:      use an algorithm that rewrites programs, such as RegularizedEvolution()"
    )


def test_only_slots_of_active_decisions_are_visited():
    assert sorted(taken for taken, _ in sequences(CONDITIONAL)) == [
        (0, 0), (0, 1), *itertools.product([1], range(3), range(2))
    ]  # fmt: skip


def test_what_was_picked_is_not_legal_any_more():
    _, steps = Codec(mu.space(mu.permutate(["a", "b", "c"]))).walk(uniform(Rng(1)), Rng(0))
    assert steps[0].legal is None
    for step, before in zip(steps[1:], (steps[:1], steps[:2]), strict=True):
        assert step.legal == tuple(c not in taken_in(before) for c in range(3))


def test_picks_with_repetition_stay_legal():
    _, steps = Codec(mu.space(mu.manyof(3, ["a", "b"], distinct=False))).walk(lambda slot, legal: 1, Rng(0))
    assert [step.legal for step in steps] == [None, None, None]


@pytest.mark.parametrize("distinct", [False, True])
@pytest.mark.parametrize("ordered", [False, True])
def test_every_pick_is_reached(distinct, ordered):
    space = mu.space(mu.manyof(2, list("abcd"), distinct=distinct, ordered=ordered))
    assert {dna for _, dna in sequences(space)} == set(space.enumerate())


@pytest.mark.parametrize("distinct", [False, True])
def test_a_canonical_walk_has_one_sequence_per_set(distinct):
    space = mu.space(mu.manyof(3, list("abcd"), distinct=distinct, ordered=False))
    found = sequences(space, canonical=True)
    assert len(found) == space.size
    assert {dna for _, dna in found} == set(space.enumerate())
    assert all(list(taken) == sorted(taken) for taken, _ in found)


def test_a_canonical_walk_of_a_varying_number_has_one_sequence_per_set():
    space = mu.space(mu.subset(list("abcd"), min=0, max=3))
    found = sequences(space, canonical=True)
    assert len(found) == space.size == len({dna for _, dna in found})


def test_a_canonical_walk_leaves_orders_alone():
    assert len(sequences(mu.space(mu.permutate(list("abc"))), canonical=True)) == 6


def test_sets_are_walked_in_any_order_unless_canonical():
    space = mu.space(mu.manyof(2, list("abc"), ordered=False))
    assert collections.Counter(dna[""] for _, dna in sequences(space)) == {(0, 1): 2, (0, 2): 2, (1, 2): 2}
    assert taken_in(Codec(space).steps(space.dna({"": [2, 0]}))) == [0, 2]


@pytest.mark.parametrize("name", list(contract_spaces()))
def test_steps_of_what_was_walked_are_those_that_were_taken(name):
    codec, rng = Codec(contract_spaces()[name], canonical=True), Rng(5)
    for _ in range(200):
        dna, steps = codec.walk(uniform(rng), rng)
        assert codec.steps(dna) == steps


@pytest.mark.parametrize("program", RANGES)
@pytest.mark.parametrize("bins", [1, 5, 16])
def test_a_value_drawn_in_a_cell_lies_in_it(program, bins):
    cells, rng = Cells(mu.space(program).points[0], bins), Rng(0)
    for option in range(len(cells)):
        assert {cells.find(cells.draw(option, rng)) for _ in range(50)} == {option}


@pytest.mark.parametrize("program", RANGES)
def test_cells_rise_and_hold_both_ends(program):
    point = mu.space(program).points[0]
    cells = Cells(point, 7)
    found = [cells.find(point.from_unit(i / 500)) for i in range(501)]
    assert found == sorted(found)
    assert (cells.find(point.low), cells.find(point.from_unit(1.0)), len(cells)) == (0, len(cells) - 1, len(set(found)))


@given(spaces_and_dnas())
def test_a_finite_dna_is_decoded_from_its_steps(pair):
    space, dna = pair
    codec = Codec(space)
    assert codec.decode(taken_in(codec.steps(dna)), Rng(0)) == dna


@given(spaces_and_dnas(), st.integers(0, 99))
def test_walked_steps_lead_back_to_the_dna(pair, seed):
    codec = Codec(pair[0])
    dna, steps = codec.walk(uniform(Rng(seed)), Rng(seed))
    assert codec.decode(taken_in(steps), Rng(0)) == dna


@pytest.mark.parametrize("name", list(contract_spaces()))
def test_the_steps_of_options_are_traced_without_the_dna(name):
    codec, rng = Codec(contract_spaces()[name]), Rng(6)
    for _ in range(50):
        _, steps = codec.walk(uniform(rng), rng)
        assert codec.trace(taken_in(steps)) == steps


def test_too_few_options_are_not_traced():
    with pytest.raises(DecisionError, match="cannot take a step"):
        Codec(CONDITIONAL).trace([1])


def test_cells_of_a_log_range_are_equal_in_the_logarithm():
    cells = Cells(mu.space(mu.floatv(1e-4, 1.0, scale="log")).points[0], 4)
    assert [cells.draw(option, Scripted(0.5)) for option in range(4)] == pytest.approx(
        [10**-3.5, 10**-2.5, 10**-1.5, 10**-0.5], rel=1e-12
    )
    assert cells.draw(1, Scripted(0.25)) == pytest.approx(10**-2.75, rel=1e-12)
    assert [cells.find(value) for value in (2e-4, 2e-3, 2e-2, 2e-1)] == [0, 1, 2, 3]


def test_a_cell_of_whole_numbers_is_drawn_from_evenly():
    cells = Cells(mu.space(mu.intv(0, 99)).points[0], 10)
    counts = collections.Counter(cells.draw(3, rng) for rng in [Rng(0)] for _ in range(5000))
    assert sorted(counts) == list(range(30, 40))
    assert all(abs(count - 500) < 4 * math.sqrt(5000 * 0.1 * 0.9) for count in counts.values())


def test_a_cell_of_whole_numbers_on_a_log_scale_is_drawn_from_by_share_of_the_logarithm():
    point = mu.space(mu.intv(1, 100, scale="log")).points[0]
    cells, rng = Cells(point, 3), Rng(0)
    last = [v for v in range(1, 101) if cells.find(v) == 2]
    counts = collections.Counter(cells.draw(2, rng) for _ in range(20_000))
    assert sorted(counts) == last
    low, high = math.log(last[0] - 0.5), math.log(last[-1] + 0.5)
    for value in (last[0], last[len(last) // 2], last[-1]):
        share = (math.log(value + 0.5) - math.log(value - 0.5)) / (high - low)
        assert abs(counts[value] - 20_000 * share) < 4 * math.sqrt(20_000 * share)


def test_a_value_of_its_own_draws_nothing():
    assert Cells(mu.space(mu.intv(3, 9)).points[0], 16).draw(2, Scripted()) == 5


@pytest.mark.parametrize(
    ("wrong", "problem", "got", "expected"),
    [
        ([1, 3, 0], "cannot take a step", "3", "one of the legal options [0, 1, 2] of step 1 (choice 0)"),
        ([1, 0], "cannot take a step", "-1", "one of the legal options [0, 1] of step 2 (choice 0)"),
        ([0, 0, 0], "cannot decode a sequence", "3", "2 options, one per step"),
    ],
)
def test_options_that_fit_no_walk_are_refused(wrong, problem, got, expected):
    with pytest.raises(DecisionError) as error:
        Codec(CONDITIONAL).decode(wrong, Rng(0))
    assert (error.value.problem, error.value.got, error.value.expected) == (problem, got, expected)


def test_a_pick_that_is_not_legal_any_more_is_refused():
    with pytest.raises(DecisionError) as error:
        Codec(mu.space({"order": mu.permutate(["a", "b", "c"])})).decode([1, 1, 0], Rng(0))
    assert str(error.value) == (
        "cannot take a step\n"
        "  at:       ['order']\n"
        "  got:      1 (int)\n"
        "  expected: one of the legal options [0, 2] of step 1 (pick 1)\n"
        "  fix:      ask the walk which options are legal"
    )


def test_too_many_options_are_refused():
    with pytest.raises(DecisionError) as error:
        Codec(CONDITIONAL).decode([0, 1, 1], Rng(0))
    assert str(error.value) == (
        "cannot decode a sequence\n"
        "  got:      3 (int)\n"
        "  expected: 2 options, one per step\n"
        "  fix:      stop where the walk ends: slots of inactive decisions take no option"
    )


def test_a_dna_of_another_space_is_refused():
    with pytest.raises(DecisionError, match="cannot use a DNA"):
        Codec(CONDITIONAL).steps(mu.space(mu.oneof([1, 2])).random(0))
