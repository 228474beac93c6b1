"""Hill climbing: better or equal replaces the best (card MT-4)."""

from __future__ import annotations

import pytest

import mutandis as mu
from mutandis.algorithms import HillClimb
from mutandis.algorithms.evolution import Mutator
from mutandis.errors import SettingError
from mutandis.hyper import Feedback

SPACE = mu.space(mu.intv(0, 9)).bare()


class Up(Mutator):
    def mutate(self, dna, rng, step=0):
        return SPACE.dna({"": min(dna[""] + 1, 9)})


def told(search, value, reward):
    search.feedback(Feedback(None, SPACE.dna({"": value}), None, None, None if reward is None else (reward,)))


@pytest.mark.parametrize(("drift", "expected"), [(True, 6), (False, 3)])
def test_equals_replace_the_best_only_if_it_drifts(drift, expected):
    search = HillClimb(mutation=Up(), drift=drift).start(SPACE, seed=0)
    told(search, 2, 1.0)
    told(search, 5, 1.0)
    assert search.propose().dna[""] == expected


def test_worse_and_failed_ones_do_not_replace_the_best():
    search = HillClimb(mutation=Up()).start(SPACE, seed=0)
    told(search, 2, 1.0)
    told(search, 8, 0.5)
    told(search, 8, None)
    assert search.propose().dna[""] == 3


def test_so_many_random_ones_come_first():
    search = HillClimb(num_initial=3, mutation=Up()).start(SPACE, seed=0)
    told(search, 0, 9.0)
    told(search, 0, 9.0)
    assert len({search.propose().dna[""] for _ in range(30)}) > 5  # Results count, not proposals.
    told(search, 0, 9.0)
    assert {search.propose().dna[""] for _ in range(30)} == {1}


def test_no_random_one_is_refused():
    with pytest.raises(SettingError, match=r"HillClimb\.num_initial"):
        HillClimb(num_initial=0)


class Counting(Mutator):
    def mutate(self, dna, rng, step=0):
        return SPACE.dna({"": (dna[""] + 1) % 10})


def test_so_many_mutants_are_made_of_one_parent_before_the_best_is_looked_up_again():
    search = HillClimb(mutation=Counting(), batch_size=3).start(SPACE, seed=0)
    told(search, 2, 1.0)
    assert search.propose().dna[""] == 3
    told(search, 7, 2.0)  # Better, but the round of the parent goes on.
    assert [search.propose().dna[""] for _ in range(3)] == [3, 3, 8]


def test_a_batch_below_one_is_refused():
    with pytest.raises(SettingError, match=r"HillClimb\.batch_size"):
        HillClimb(batch_size=0)
