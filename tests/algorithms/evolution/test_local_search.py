"""Local search: neighbourhoods, moves, restarts, and late results."""

from __future__ import annotations

import json

import pytest

import mutandis as mu
from mutandis.algorithms import LocalSearch
from mutandis.algorithms.evolution.local_search import neighbours
from mutandis.errors import SettingError
from mutandis.hyper import Feedback, Rng

SPACE = mu.space([mu.oneof([0, 1, 2]), mu.oneof([0, 1, 2])]).bare()


def around(program, decisions, **settings):
    space = mu.space(program).bare()
    return [dna.to_json() for dna in neighbours(space.dna(decisions), Rng(0), **settings)]


def test_the_neighbours_of_choices_differ_in_one_of_them():
    found = around([mu.oneof(["a", "b", "c"]), mu.oneof(["x", "y"])], {"[0]": 1, "[1]": 0})
    assert found == [{"[0]": 0, "[1]": 0}, {"[0]": 2, "[1]": 0}, {"[0]": 1, "[1]": 1}]


def test_a_short_range_has_all_its_other_values():
    assert around(mu.intv(1, 4), {"": 2}) == [{"": 1}, {"": 3}, {"": 4}]


def test_a_long_range_has_samples_and_the_values_next_to_it():
    found = [item[""] for item in around(mu.intv(0, 1000), {"": 500}, num_samples=3, scale=0.01)]
    assert {499, 501} <= set(found)
    assert 500 not in found
    assert 2 <= len(found) <= 5
    assert all(abs(value - 500) < 60 for value in found)


@pytest.mark.parametrize(
    ("program", "decisions", "expected"),
    [
        (mu.permutate(list("abc")), [0, 1, 2], [(1, 0, 2), (2, 1, 0), (0, 2, 1)]),
        (mu.manyof(2, list("abcde"), ordered=False), [0, 1], [(0, 2), (0, 3), (0, 4), (1, 2), (1, 3), (1, 4)]),
        (mu.subset(list("abcde"), min=1, max=2), [0], [(0, 1), (0, 2), (0, 3), (0, 4), (1,), (2,), (3,), (4,)]),
    ],
)  # fmt: skip
def test_picks_change_one_swap_two_and_grow_or_shrink_by_one(program, decisions, expected):
    found = around(program, {"": decisions}, num_samples=4)
    assert sorted(tuple(item[""]) for item in found) == sorted(expected)


def test_what_becomes_active_below_a_neighbour_is_drawn():
    program = mu.oneof(["plain", {"rate": mu.floatv(0.0, 1.0)}])
    (found,) = around(program, {"": 0})
    assert found[""] == 1
    assert len(found) == 2


def climb(reward, *, trials, seed=0, **settings):
    search = LocalSearch(**settings).start(SPACE, seed=seed)
    tried = []
    for _ in range(trials):
        proposal = search.propose()
        tried.append(tuple(proposal.dna.values))
        search.feedback(Feedback(proposal.id, proposal.dna, None, None, (reward(proposal.dna),)))
    return tried


def peak(dna):
    return -float((dna.values[0] - 2) ** 2 + (dna.values[1] - 2) ** 2)


def test_all_neighbours_are_tried_before_it_moves():
    tried = climb(lambda dna: float(sum(dna.values)), trials=5, seed=3)
    start = tried[0]
    assert all(sum(a != b for a, b in zip(start, other, strict=True)) == 1 for other in tried[1:5])
    assert len(set(tried)) == 5


def test_it_finds_the_peak_without_trying_anything_twice():
    tried = climb(peak, trials=8)
    assert (2, 2) in tried
    assert len(set(tried)) == len(tried)


def test_a_local_optimum_begins_a_new_climb():
    tried = climb(lambda dna: 0.0, trials=9)
    assert len(set(tried)) == 9  # Nothing is better than the first: four neighbours, then fresh random points.


def test_the_first_better_neighbour_is_enough_if_so_set():
    def count(first_improving):
        total = 0
        for seed in range(20):
            search = LocalSearch(first_improving=first_improving).start(SPACE, seed=seed)
            proposal = search.propose()
            search.feedback(Feedback(proposal.id, proposal.dna, None, None, (0.0,)))
            neighbour = search.propose()
            search.feedback(Feedback(neighbour.id, neighbour.dna, None, None, (1.0,)))
            following = search.propose().dna
            total += sum(a != b for a, b in zip(following.values, proposal.dna.values, strict=True)) == 2
        return total

    assert count(first_improving=False) == 0  # All neighbours of the first centre come first.
    assert count(first_improving=True) > 0  # Two steps away: a neighbour of the neighbour.


def test_a_climb_starts_from_the_best_of_its_random_points():
    search = LocalSearch(num_initial=3).start(SPACE, seed=1)
    for values, reward in (((0, 0), 1.0), ((2, 2), 5.0), ((1, 1), 2.0)):
        search.feedback(Feedback(None, SPACE.dna({"[0]": values[0], "[1]": values[1]}), None, None, (reward,)))
    for _ in range(4):
        proposal = search.propose()
        assert 2 in proposal.dna.values  # A neighbour of (2, 2).
        search.feedback(Feedback(proposal.id, proposal.dna, None, None, (0.0,)))


def test_a_late_result_counts_only_against_the_centre_it_was_made_from():
    search = LocalSearch().start(SPACE, seed=0)
    start = search.propose()
    search.feedback(Feedback(start.id, start.dna, None, None, (1.0,)))
    pending = [search.propose() for _ in range(4)]
    search.feedback(Feedback(pending[0].id, pending[0].dna, None, None, (2.0,)))
    search.feedback(Feedback(pending[1].id, pending[1].dna, None, None, (0.5,)))
    following = search.propose().dna  # The round is over: a neighbour of the better one.
    assert sum(a != b for a, b in zip(following.values, pending[0].dna.values, strict=True)) == 1
    search.feedback(Feedback(pending[2].id, pending[2].dna, None, None, (9.0,)))
    assert search.state_dict()["better"][0] == 9.0


def test_failures_and_worse_foreign_results_move_nothing():
    search = LocalSearch().start(SPACE, seed=0)
    start = search.propose()
    search.feedback(Feedback(start.id, start.dna, None, None, (1.0,)))
    before = search.state_dict()["centre"]
    search.feedback(Feedback(None, SPACE.dna_at(3)))
    search.feedback(Feedback(None, SPACE.dna_at(4), None, None, (0.5,)))
    assert search.state_dict()["centre"] == before
    assert search.state_dict()["better"] is None


def test_a_known_neighbour_is_a_candidate_without_another_trial():
    search = LocalSearch().start(SPACE, seed=0)
    search.feedback(Feedback(None, SPACE.dna_at(0), None, None, (1.0,)))
    known = SPACE.dna_at(1)
    for _ in range(4):
        proposal = search.propose()
        if proposal.dna != known:
            search.feedback(Feedback(proposal.id, proposal.dna, None, None, (0.0,)))
        else:
            search.feedback(Feedback(proposal.id, proposal.dna, None, None, (3.0,)))
    again = [search.propose().dna for _ in range(2)]  # The centre is `known`; two of its neighbours are known too.
    assert known not in again
    assert all(sum(a != b for a, b in zip(dna.values, known.values, strict=True)) == 1 for dna in again)


def test_a_run_resumes_in_the_middle_of_a_round():
    first, second = (LocalSearch(num_initial=2).start(SPACE, seed=5) for _ in range(2))

    def go_on(search, count):
        made = []
        for _ in range(count):
            proposal = search.propose()
            made.append(proposal.dna.values)
            search.feedback(Feedback(proposal.id, proposal.dna, None, None, (peak(proposal.dna),)))
        return made

    go_on(first, 4)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert go_on(first, 12) == go_on(second, 12)


@pytest.mark.parametrize("scale", [0, 1.5, -0.1, True, "wide"])
def test_what_is_no_share_of_a_range_is_refused(scale):
    with pytest.raises(SettingError) as error:
        LocalSearch(scale=scale)
    assert str(error.value) == (
        "cannot use a setting\n"
        "  at:       LocalSearch.scale\n"
        f"  got:      {scale!r} ({type(scale).__name__})\n"
        "  expected: a finite number > 0 and <= 1\n"
        "  fix:      use 0.1: a share of the range"
    )


@pytest.mark.parametrize("name", ["num_initial", "num_samples"])
def test_counts_below_one_are_refused(name):
    with pytest.raises(SettingError, match=rf"LocalSearch\.{name}"):
        LocalSearch(**{name: 0})
