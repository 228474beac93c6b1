"""Schedules from the records of a search."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

import mutandis as mu
from mutandis.algorithms.multifidelity import Stretch, schedule
from mutandis.errors import SettingError
from mutandis.hyper import DNA, Proposal

SPACE = mu.space(mu.intv(0, 9, name="x")).bare()


def dna(x):
    return SPACE.dna({"x": x})


def proposal(number, x, fidelity, inherit=None):
    return Proposal(number, dna(x), fidelity, inherit)


RECORDS = [proposal(0, 1, 5.0), proposal(1, 2, 5.0), proposal(2, 3, 10.0, 0), proposal(3, 3, 15.0, 2),
           proposal(4, 9, 20.0, 3), proposal(5, 2, 10.0, 1)]  # fmt: skip


def test_a_schedule_follows_what_was_inherited():
    assert schedule(RECORDS, 5) == [Stretch(0.0, 10.0, dna(2))]
    assert schedule(RECORDS, 2) == [Stretch(0.0, 5.0, dna(1)), Stretch(5.0, 10.0, dna(3))]


def test_equal_decisions_one_after_the_other_are_one_stretch():
    assert schedule(reversed(RECORDS), 4) == [
        Stretch(0.0, 5.0, dna(1)),
        Stretch(5.0, 15.0, dna(3)),
        Stretch(15.0, 20.0, dna(9)),
    ]


@dataclass
class Trial:
    id: int
    dna: DNA
    fidelity: float
    parent: int | None


def test_trials_name_their_parent():
    trials = [Trial(7, dna(1), 1.0, None), Trial(8, dna(2), 2.0, 7)]
    assert schedule(trials, 8) == [Stretch(0.0, 1.0, dna(1)), Stretch(1.0, 2.0, dna(2))]


@pytest.mark.parametrize(
    ("records", "last"),
    [
        ([], 0),
        ([proposal(0, 1, None)], 0),
        ([proposal(1, 1, 2.0, 0)], 1),
        ([proposal(0, 1, 2.0, 1), proposal(1, 1, 1.0, 0)], 0),
    ],
)
def test_a_lineage_that_cannot_be_followed_is_refused(records, last):
    with pytest.raises(SettingError) as caught:
        schedule(records, last)
    assert [line for line in str(caught.value).splitlines() if "got:" not in line and " at:" not in line] == [
        "cannot follow a lineage",
        "  expected: a record with a fidelity, and ancestors that are earlier records",
        "  fix:      pass all proposals of one search, or all trials of its study",
    ]
