"""Regularized evolution: the card's known answer (MT-3)."""

from __future__ import annotations

import json

import pytest
from scripted import Scripted

import mutandis as mu
from mutandis.algorithms import RegularizedEvolution
from mutandis.algorithms.evolution import Mutator, Uniform
from mutandis.errors import SettingError
from mutandis.hyper import Feedback

SPACE = mu.space(mu.oneof(list("ABCDEF"))).bare()


class NextLetter(Mutator):
    """Takes the next candidate, so that a child tells who its parent was."""

    def mutate(self, dna, rng, step=0):
        return SPACE.dna({"": (dna[""] + 1) % 6})


def searching(draws, size=3, tournament=2):
    search = RegularizedEvolution(size, tournament, mutation=NextLetter()).start(SPACE, seed=0)
    for letter, reward in (("A", 0.5), ("B", 0.7), ("C", 0.6)):
        search.feedback(Feedback(None, SPACE.dna({"": "ABC".index(letter)}), None, None, (reward,)))
    search._rng = Scripted(*[(draw + 0.5) / 3 for draw in draws])
    return search


def rewards(search):
    return [reward for reward, _ in search._population]


def step(search, reward):
    proposal = search.propose()
    search.feedback(Feedback(proposal.id, proposal.dna, None, None, (reward,)))
    return "ABCDEF"[(proposal.dna[""] - 1) % 6]


def test_the_best_of_the_draw_is_the_parent_and_the_oldest_dies():
    search = searching([0, 1, 0, 2, 1, 1])
    assert step(search, 0.65) == "B"
    assert rewards(search) == [0.7, 0.6, 0.65]
    assert step(search, 0.9) == "B"  # 0.7 is drawn with 0.65 and wins.
    assert rewards(search) == [0.6, 0.65, 0.9]
    assert step(search, 0.4) == "C"  # The child of B stands for its letter.
    assert rewards(search) == [0.65, 0.9, 0.4]


def test_the_oldest_dies_even_if_it_is_the_best():
    search = searching([1, 1])
    for reward in (0.1, 0.2, 0.3):
        search.feedback(Feedback(None, SPACE.random(0), None, None, (reward,)))
    assert rewards(search) == [0.1, 0.2, 0.3]


def test_a_failed_trial_never_enters():
    search = searching([])
    search.feedback(Feedback(None, SPACE.random(0)))
    assert rewards(search) == [0.5, 0.7, 0.6]


def test_age_counts_from_the_result_not_from_the_proposal():
    search = searching([1, 1, 1, 1])
    early, late = search.propose(), search.propose()
    search.feedback(Feedback(late.id, late.dna, None, None, (0.8,)))
    search.feedback(Feedback(early.id, early.dna, None, None, (0.9,)))
    assert rewards(search) == [0.6, 0.8, 0.9]


def test_of_equals_the_first_drawn_is_the_parent():
    search = searching([2, 0, 0, 2])
    search._population = type(search._population)([(0.5, dna) for _, dna in search._population], maxlen=3)
    assert [search.propose().dna[""] for _ in range(2)] == [3, 1]


def test_the_first_ones_are_random_until_so_many_have_a_result():
    search = RegularizedEvolution(4, 2, mutation=NextLetter()).start(SPACE, seed=0)
    pending = [search.propose() for _ in range(20)]
    assert len({proposal.dna for proposal in pending}) == 6
    for _ in range(4):
        search.feedback(Feedback(None, SPACE.dna({"": 2}), None, None, (1.0,)))
    assert {search.propose().dna[""] for _ in range(20)} == {3}


def test_a_child_differs_from_its_parent():
    search = RegularizedEvolution(2, 1, mutation=Uniform()).start(SPACE, seed=0)
    for _ in range(2):
        search.feedback(Feedback(None, SPACE.dna({"": 3}), None, None, (1.0,)))
    assert all(search.propose().dna[""] != 3 for _ in range(20))


def test_the_state_is_small_json():
    search = searching([0, 1])
    assert len(json.dumps(search.state_dict())) < 400


@pytest.mark.parametrize("name", ["population_size", "tournament_size"])
def test_sizes_below_one_are_refused(name):
    with pytest.raises(SettingError, match=rf"RegularizedEvolution\.{name}"):
        RegularizedEvolution(**{name: 0})
