"""Results by number: what may be proposed when."""

from __future__ import annotations

import pytest

import mutandis as mu
from mutandis.errors import SearchError, SpaceExhausted
from mutandis.flows.studies import Trial
from mutandis.flows.turns import Turn
from mutandis.flows.window import WINDOW, Window

DNA = mu.space(mu.boolv()).default()


class Asked:
    """Notes how many results were known whenever it is asked, and is exhausted until there are enough."""

    def __init__(self, *exhausted):
        self.settled, self.known, self.exhausted = [], [], exhausted

    def settle(self, trial):
        self.settled.append(trial.id)

    def propose(self):
        self.known.append(len(self.settled))
        if len(self.settled) in self.exhausted:
            raise SpaceExhausted("cannot propose: not now")
        return Turn(DNA)


def test_a_trial_waits_for_exactly_the_results_that_are_its_own():
    asked = Asked()
    window = Window(asked.settle)
    for number in range(WINDOW):
        assert window.next_turn(number, asked.propose) is not None
    assert window.next_turn(WINDOW, asked.propose) is None
    for number in (3, 2, 1, 5):
        window.end(Trial(number, DNA))
    assert window.next_turn(WINDOW, asked.propose) is None
    window.end(Trial(0, DNA))
    assert window.next_turn(WINDOW, asked.propose) is not None
    assert window.next_turn(WINDOW + 1, asked.propose) is not None
    assert asked.settled == [0, 1]
    assert asked.known == [0] * WINDOW + [1, 2]


def test_results_are_taken_in_one_at_a_time_where_nothing_can_be_proposed():
    asked = Asked(0, 1)
    window = Window(asked.settle)
    for number in (2, 1):
        window.end(Trial(number, DNA))
    assert window.next_turn(3, asked.propose) is None
    assert window.next_turn(3, asked.propose) is None
    window.end(Trial(0, DNA))
    assert window.next_turn(3, asked.propose) is not None
    assert (asked.settled, asked.known) == ([0, 1], [0, 1, 2])


def test_who_has_nothing_left_is_not_asked_again():
    asked = Asked(0, 1, 2)
    window = Window(asked.settle)
    window.end(Trial(0, DNA))
    for _ in range(2):
        with pytest.raises(SpaceExhausted):
            window.next_turn(1, asked.propose)
    assert asked.known == [0, 1]
    window.end(Trial(1, DNA))  # Another run has made it.
    with pytest.raises(SpaceExhausted):
        window.next_turn(2, asked.propose)
    assert asked.known == [0, 1, 2]


def test_two_deterministic_loops_on_one_study_in_memory_do_not_wait_for_ever():
    study = mu.Study()
    first, second = (mu.sample(mu.intv(1, 99), mu.algorithms.Random(), study=study, deterministic=True)
                     for _ in range(2))  # fmt: skip
    _, feedback = next(first)
    for _ in range(WINDOW - 1):
        next(second)[1](1)
    with pytest.raises(SearchError) as error:
        next(second)
    assert str(error.value) == (
        "cannot go on: trials of another loop come first\n"
        "  at:       study\n"
        "  expected: a deterministic loop to be the only one that runs on a study in memory\n"
        "  fix:      end the other loop, give each its own study, or leave deterministic out"
    )
    feedback(1)
