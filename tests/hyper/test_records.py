"""What algorithms and flows say to each other."""

from __future__ import annotations

import dataclasses
import pickle

import pytest

import mutandis as mu
from mutandis.hyper import Feedback, Proposal


@pytest.fixture
def dna():
    return mu.space(mu.oneof([1, 2])).default()


def test_a_proposal_asks_for_nothing_more_by_default(dna):
    proposal = Proposal(3, dna)
    assert (proposal.id, proposal.dna, proposal.fidelity, proposal.inherit) == (3, dna, None, None)


@pytest.mark.parametrize(("rewards", "reward"), [((1.5, 2.0), 1.5), ((0.0,), 0.0), (None, None)])
def test_the_reward_of_feedback_is_the_first_or_none(dna, rewards, reward):
    assert Feedback(0, dna, rewards=rewards).reward == reward


def test_feedback_without_a_proposal_has_no_number(dna):
    assert Feedback(None, dna, {"loss": 1.0}).id is None


@pytest.mark.parametrize("kind", [Proposal, Feedback])
def test_records_cannot_be_changed(dna, kind):
    with pytest.raises(dataclasses.FrozenInstanceError):
        kind(0, dna).id = 1


@pytest.mark.parametrize("kind", [Proposal, Feedback])
def test_records_compare_and_pickle(dna, kind):
    assert pickle.loads(pickle.dumps(kind(0, dna))) == kind(0, dna) != kind(1, dna)
