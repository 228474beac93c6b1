"""Progressive search: levels, expansions, survivors, and what is refused."""

from __future__ import annotations

import dataclasses
import json

import pytest

import mutandis as mu
from mutandis.algorithms.predictors import PNAS
from mutandis.algorithms.predictors.progressive import distinct, expansions, growing_point, num_levels, shrunk
from mutandis.errors import DecisionError, SettingError
from mutandis.hyper import Feedback, Rng, SearchSpace
from mutandis.testing import answer, run

OPERATIONS = ["3x3", "5x5", "7x7", "1x7-7x1", "identity", "avg", "max", "dilated"]


def block(number, num_operations=8):
    """Two branches, each one of two cell inputs or of the blocks before, under one operation; their order is free."""
    branches = [(source, op) for source in range(2 + number) for op in OPERATIONS[:num_operations]]
    return mu.manyof(2, branches, distinct=False, ordered=False, name=f"block {number}")


def cells(num_blocks, num_operations=8):
    blocks = [block(number, num_operations) for number in range(num_blocks)]
    return mu.space({"cell": mu.oneof([blocks[: n + 1] for n in range(num_blocks)], name="size")})


def level(dna):
    return dna["size"]


def test_there_are_136_cells_of_one_block():
    space = cells(5).bare()
    search = PNAS(first=136, width=8, expansions=40).start(space, seed=0)
    found = run(search, 137)
    assert len(set(found[:136])) == 136 and {level(dna) for dna in found[:136]} == {0}
    assert level(found[136]) == 1


def test_a_cell_of_one_block_has_as_many_expansions_as_there_are_second_blocks():
    space = cells(2).bare()
    dna = shrunk(space, space.point("size")).random(0)
    dna = space.repair(dna.values, lambda point: point.first())
    found = expansions(dna, space.point("size"), Rng(0), 1000)
    assert len(set(found)) == 24 * 25 // 2
    assert {made["block 0"] for made in found} == {dna["block 0"]} and {level(made) for made in found} == {1}


def test_too_many_expansions_are_a_random_part_of_them():
    space = cells(2).bare()
    dna = shrunk(space, space.point("size")).random(0)
    found = expansions(space.repair(dna.values, lambda point: point.first()), space.point("size"), Rng(0), 50)
    assert len(set(found)) == len(found) == 50
    assert found != sorted(found)


SEQUENCE = mu.space(mu.subset(list("abcde"), min=1, max=4)).bare()


def picks(dna):
    return dna.values[0]


def test_only_the_best_survive_a_level():
    search = PNAS(first=5, width=2).start(SEQUENCE, seed=0)
    rewards = {0: 0.0, 1: 1.0, 2: 5.0, 3: 4.0, 4: 2.0}
    for _ in range(5):
        proposal = search.propose()
        search.feedback(answer(proposal, rewards[picks(proposal.dna)[0]]))
    second = [search.propose().dna for _ in range(2)]
    assert all(len(picks(dna)) == 2 and {2, 3} & set(picks(dna)) for dna in second)
    assert picks(second[0]) == (2, 3)


def test_only_the_level_below_is_expanded_even_if_shorter_ones_are_better():
    search = PNAS(first=5, width=2).start(SEQUENCE, seed=0)
    made = []
    for _ in range(9):
        proposal = search.propose()
        made.append(len(picks(proposal.dna)))
        search.feedback(answer(proposal, -float(made[-1])))
    assert made == [1] * 5 + [2] * 2 + [3] * 2


def test_each_level_is_as_wide_as_asked_for_and_the_last_one_goes_on():
    found = run(PNAS(first=5, width=3).start(SEQUENCE, seed=0), 16)
    assert [len(picks(dna)) for dna in found[:11]] == [1] * 5 + [2] * 3 + [3] * 3
    assert {len(picks(dna)) for dna in found[11:14]} == {4}
    assert len(set(found)) == 16


def test_all_is_proposed_once_before_the_search_ends():
    assert len(set(run(PNAS(first=3, width=2).start(SEQUENCE, seed=0), 99))) == SEQUENCE.size == 30


def test_without_answers_what_was_tried_is_expanded():
    search = PNAS(first=5, width=3).start(SEQUENCE, seed=0)
    assert [len(picks(search.propose().dna)) for _ in range(11)] == [1] * 5 + [2] * 3 + [3] * 3


def test_failed_trials_are_not_expanded():
    search = PNAS(first=5, width=3).start(SEQUENCE, seed=0)
    for _ in range(5):
        proposal = search.propose()
        search.feedback(answer(proposal) if picks(proposal.dna) == (3,) else Feedback(proposal.id, proposal.dna))
    assert all(3 in picks(search.propose().dna) for _ in range(3))


def test_first_is_the_most_that_are_tried_of_the_first_level():
    found = run(PNAS(first=20, width=4, expansions=9).start(cells(2).bare(), seed=0), 22)
    assert [level(dna) for dna in found] == [0] * 20 + [1] * 2


def test_ranges_are_drawn_where_they_cannot_be_listed():
    blocks = [{"rate": mu.floatv(0.0, 1.0, name=f"rate {n}")} for n in range(3)]
    space = mu.space(mu.oneof([blocks[: n + 1] for n in range(3)])).bare()
    found = run(PNAS(first=6, width=4, expansions=10).start(space, seed=0), 14)
    assert [dna.values[0] for dna in found] == [0] * 6 + [1] * 4 + [2] * 4
    parents = {dna["rate 0"] for dna in found[:6]}
    assert {dna["rate 0"] for dna in found[6:]} <= parents


def test_ordered_picks_grow_at_their_end():
    point = dataclasses.replace(SEQUENCE.points[0], ordered=True, distinct=False)
    space = SearchSpace([point])
    made = expansions(space.dna({"": [3, 1]}), point, Rng(0), 99)
    assert [picks(dna) for dna in made] == [(3, 1, c) for c in range(5)]


def test_the_predictor_leads_to_the_best_blocks():
    space = cells(3, num_operations=3).bare()

    def reward(dna):
        return sum(b % 3 == 1 for v in dna.values[1:] if v is not None for b in v) / (2 * (dna["size"] + 1))

    search = PNAS(width=12, first=21, expansions=100).start(space, seed=0)
    best = 0.0
    for _ in range(21 + 12 + 12):
        proposal = search.propose()
        search.feedback(answer(proposal, reward(proposal.dna)))
        best = max(best, reward(proposal.dna) if level(proposal.dna) == 2 else 0.0)
    assert best == 1.0


def test_a_resumed_run_goes_on_in_the_middle_of_a_level():
    space = cells(3, num_operations=2).bare()
    algorithm = PNAS("size", width=6, first=10, expansions=12)
    first, second = (algorithm.start(space, seed=0) for _ in range(2))
    pending = [first.propose() for _ in range(3)]
    run(first, 10)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for search in (first, second):
        search.feedback(answer(pending[1]))
    assert run(first, 20) == run(second, 20)


@pytest.mark.parametrize(
    ("point", "expected"), [(cells(4).point("size"), 4), (SEQUENCE.points[0], 4)], ids=["choice", "picks"]
)
def test_levels_are_counted(point, expected):
    assert num_levels(point) == expected


def test_the_only_decision_that_grows_is_found():
    assert growing_point(cells(2), None).name == "size"


def test_distinct_takes_no_more_than_it_needs():
    source = iter([SEQUENCE.dna_at(i) for i in (0, 0, 1, 2)])
    assert distinct(source, 2) == [SEQUENCE.dna_at(0), SEQUENCE.dna_at(1)]
    assert list(source) == [SEQUENCE.dna_at(2)]


def test_a_space_without_levels_is_refused():
    with pytest.raises(SettingError) as error:
        PNAS().start(mu.space([mu.oneof([1, 2]), mu.intv(1, 3)]).bare(), seed=0)
    assert str(error.value) == (
        "cannot climb the levels of a space\n"
        "  at:       PNAS.grow\n"
        "  got:      'no decision that makes programs grow' (str)\n"
        "  expected: one decision that does\n"
        "  fix:      use Screened(), which needs no levels"
    )


def test_several_decisions_that_grow_must_be_told_apart():
    space = mu.space({"a": mu.subset([1, 2], min=1), "b": mu.subset([1, 2], min=1)}).bare()
    with pytest.raises(SettingError) as error:
        PNAS().start(space, seed=0)
    assert str(error.value) == (
        "cannot climb the levels of a space\n"
        "  at:       PNAS.grow\n"
        "  got:      \"['a'], ['b']\" (str)\n"
        "  expected: one decision that does\n"
        "  fix:      name it: PNAS(grow=path)"
    )
    assert run(PNAS("['b']").start(space, seed=0), 3)


def test_a_named_decision_that_does_not_grow_is_refused():
    space = mu.space({"a": mu.oneof([1, 2], name="a"), "b": mu.subset([1, 2], min=1)}).bare()
    with pytest.raises(SettingError) as error:
        PNAS("a").start(space, seed=0)
    assert str(error.value) == (
        "cannot climb the levels of a space\n"
        "  at:       PNAS.grow\n"
        "  got:      \"['a']: one of [1, 2]\" (str)\n"
        "  expected: picks whose number varies, or a choice in which what hangs on a candidate also hangs on the "
        "next; always active\n"
        "  fix:      write oneof([[a], [a, b], [a, b, c]]) with blocks of one name, or use Screened()"
    )


def test_an_unknown_decision_is_refused():
    with pytest.raises(DecisionError, match="cannot find a decision"):
        PNAS("depth").start(SEQUENCE, seed=0)


@pytest.mark.parametrize("bad", [{"width": 0}, {"first": 0}, {"expansions": 0}, {"predictor": None}])
def test_settings_that_make_no_sense_are_refused(bad):
    with pytest.raises(SettingError, match=f"PNAS.{next(iter(bad))}"):
        PNAS(**bad)
