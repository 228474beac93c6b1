"""What the wrapped algorithm is asked for and told."""

from __future__ import annotations

import json

import pytest
from listed import Listed, numbered

import mutandis as mu
from mutandis.algorithms import ASHA, Algorithm, Constrained, Deduped, Grid, HillClimb, Hyperband, Random, settings
from mutandis.algorithms.multifidelity.source import Source, reached
from mutandis.errors import SettingError
from mutandis.hyper import Feedback

SPACE = mu.space({"x": mu.oneof(list(range(50)), name="x")}).bare()
LADDER = (1.0, 3.0, 9.0)


def source(told="largest", enough=2, sampler=None):
    heard = []
    return Source(sampler or Listed(numbered(50), heard), SPACE, 0, LADDER, told, enough), heard


def tell(made, tag, number, fidelity, reward, *, is_first=True):
    rewards = None if reward is None else (reward,)
    made.tell(Feedback(99, SPACE.dna({"x": number}), None, fidelity, rewards), tag, is_first=is_first)


def test_results_of_the_smallest_fidelity_are_told_at_first_under_the_ids_of_the_sampler():
    made, heard = source()
    made.new()
    dna, tag = made.new()
    tell(made, tag, dna["x"], 1.0, 0.5)
    assert heard == [(1, 1, 1.0, 0.5)]


def test_a_larger_fidelity_takes_over_with_enough_results_in_a_new_run():
    made, heard = source()
    tags = [made.new()[1] for _ in range(3)]
    for number, tag in enumerate(tags):
        tell(made, tag, number, 1.0, 0.1)
    heard.clear()
    tell(made, tags[0], 0, 3.0, 0.6)
    assert heard == []
    tell(made, tags[1], 1, 3.0, 0.7)
    assert heard == [(None, 0, 3.0, 0.6), (None, 1, 3.0, 0.7)]
    assert made.new()[0]["x"] == 0  # The new run begins from its start.
    heard.clear()
    for _ in range(3):
        tell(made, tags[2], 2, 1.0, 0.9)
    assert heard == []  # The small fidelity counts no more.
    tell(made, tags[2], 2, 3.0, 0.8)
    assert heard == [(None, 2, 3.0, 0.8)]  # Its id was of the old run.


def test_a_fidelity_may_be_skipped():
    made, heard = source()
    for number in (4, 5):
        tell(made, None, number, 9.0, 0.1)
    tell(made, None, 6, 3.0, 0.1)
    assert heard == [(None, 4, 9.0, 0.1), (None, 5, 9.0, 0.1)]


def test_results_of_the_largest_fidelity_wait_while_the_middle_one_takes_over():
    made, heard = source()
    for number, fidelity in ((1, 9.0), (2, 3.0), (3, 3.0), (4, 9.0)):
        tell(made, None, number, fidelity, 0.1)
    assert [(number, fidelity) for _, number, fidelity, _ in heard] == [(2, 3.0), (3, 3.0), (1, 9.0), (4, 9.0)]


def test_failures_are_told_at_the_fidelity_of_the_run_and_do_not_make_another_one_take_over():
    made, heard = source()
    tag = made.new()[1]
    tell(made, tag, 0, 1.0, None)
    for _ in range(5):
        tell(made, tag, 0, 3.0, None)
    assert heard == [(0, 0, 1.0, None)]


@pytest.mark.parametrize("fidelity", [None, 2.0, 0.5, 27.0])
def test_a_result_between_the_rungs_is_left_aside(fidelity):
    made, heard = source()
    tell(made, None, 0, fidelity, 0.5)
    assert heard == []


def test_told_of_every_result_the_first_one_has_the_id():
    made, heard = source("every")
    tag = made.new()[1]
    tell(made, tag, 0, 1.0, 0.1)
    tell(made, tag, 0, 3.0, 0.2, is_first=False)
    tell(made, None, 7, None, 0.3, is_first=False)
    assert heard == [(0, 0, 1.0, 0.1), (None, 0, 3.0, 0.2), (None, 7, None, 0.3)]


@settings
class Reader(Algorithm):
    inner: Algorithm
    reads_fidelity = True

    def start(self, space, *, seed, num_objectives=1):
        return self.inner.start(space, seed=seed)


def test_an_algorithm_that_reads_fidelities_is_told_of_every_result():
    heard = []
    made, _ = source(sampler=Reader(Listed(numbered(5), heard)))
    tell(made, None, 3, 3.0, 0.2)
    assert heard == [(None, 3, 3.0, 0.2)]


def test_enough_is_two_for_each_decision_and_two_more_by_default():
    made, heard = source(enough=None)
    for number in range(4):
        assert heard == []
        tell(made, None, number, 3.0, 0.1)
    assert len(heard) == 4


@pytest.mark.parametrize("sampler", [Random(), Grid(), Deduped(Random()), Constrained(Deduped(Grid()), bool)])
def test_what_learns_nothing_goes_on_as_it_was(sampler):
    made, _ = source(sampler=sampler)
    alone = sampler.start(SPACE, seed=0)
    for fidelity in (1.0, 3.0, 9.0):
        assert [made.new()[0] for _ in range(5)] == [alone.propose().dna for _ in range(5)]
        for number in range(3):
            tell(made, None, number, fidelity, 0.1)


@pytest.mark.parametrize("rises", [False, True])
def test_the_first_run_has_the_seed_and_a_later_one_another(rises):
    made, _ = source(sampler=HillClimb())
    alone = HillClimb().start(SPACE, seed=0)
    for number in range(2):
        tell(made, None, number, 3.0 if rises else 1.0, 0.1)
        alone.feedback(Feedback(None, SPACE.dna({"x": number}), None, 1.0, (0.1,)))
    same = [made.new()[0] for _ in range(5)] == [alone.propose().dna for _ in range(5)]
    assert same != rises


@pytest.mark.parametrize("rises", [0, 1, 2])
def test_a_source_goes_on_from_json(rises):
    first, _ = source(sampler=HillClimb())
    for level in range(1, rises + 1):
        for number in range(2):
            tell(first, None, number, LADDER[level], 0.1 * number)
    tell(first, None, 30, 9.0, 5.0)
    second, _ = source(sampler=HillClimb())
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for made in (first, second):
        tell(made, None, 40, 9.0, 7.0)
    assert [first.new() for _ in range(8)] == [second.new() for _ in range(8)]


@settings
class Seeded(Algorithm):
    """Draws as `Random` does, whose state does not hold the seed."""

    def start(self, space, *, seed, num_objectives=1):
        return Random().start(space, seed=seed)


def test_a_later_run_goes_on_from_json_with_its_own_seed():
    first, _ = source(sampler=Seeded())
    for number in range(2):
        tell(first, None, number, 3.0, 0.1)
    second, _ = source(sampler=Seeded())
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert [first.new() for _ in range(8)] == [second.new() for _ in range(8)]


@pytest.mark.parametrize("outer", [Hyperband, ASHA])
def test_a_sampler_that_decides_on_fidelities_itself_is_refused(outer):
    search = outer(1, 9, 3, sampler=Hyperband(1, 9)).start(SPACE, seed=0)
    with pytest.raises(SettingError) as caught:
        search.propose()
    assert (
        str(caught.value).splitlines()[0]
        == "cannot draw configurations from an algorithm that decides how long they train"
    )
    assert "use one of the two algorithms, not one inside the other" in str(caught.value)


@pytest.mark.parametrize(
    ("told", "asked", "expected"),
    [(None, 4 / 3, 4 / 3), (1.33333333, 4 / 3, 4 / 3), (5.0, 4.0, 4.0), (3.0, 4.0, 3.0), (3.0, None, 3.0)],
)
def test_a_result_counts_for_what_was_asked_unless_it_ended_before(told, asked, expected):
    assert reached(Feedback(0, SPACE.dna({"x": 0}), None, told, (1.0,)), asked).fidelity == expected


@pytest.mark.parametrize("reward", [float("inf"), float("-inf"), float("nan")])
def test_a_reward_that_is_not_finite_is_a_failure(reward):
    assert reached(Feedback(0, SPACE.dna({"x": 0}), None, 1.0, (reward,))).rewards is None
