"""The contract catches algorithms that break it; each is planted here with one defect."""

from __future__ import annotations

import random

import pytest

import mutandis as mu
from mutandis.algorithms import Algorithm, Search, settings
from mutandis.hyper import DNA, Proposal, Rng
from mutandis.testing import AlgorithmContract, answer, contract_spaces, reward_of, run, trace_of

SPACES = contract_spaces()


class Plain(Search):
    """A correct search: random draws, a count, a best."""

    def __init__(self, settings, space, seed):
        self.settings, self.space, self.rng, self.count, self.best = settings, space, Rng(seed), 0, None

    def draw(self):
        return self.space.random(self.rng)

    def propose(self):
        self.count += 1
        return Proposal(self.count - 1, self.draw())

    def feedback(self, feedback):
        if feedback.rewards is not None:
            self.best = max(self.best or 0.0, feedback.reward)

    def state_dict(self):
        return {"rng": self.rng.state(), "count": self.count, "best": self.best}

    def load_state_dict(self, state):
        self.rng.set_state(state["rng"])
        self.count, self.best = state["count"], state["best"]


@settings
class Planted(Algorithm):
    search: type = Plain

    def start(self, space, *, seed, num_objectives=1):
        return self.search(self, space, seed)


class IgnoresTheSeed(Plain):
    def __init__(self, settings, space, seed):
        super().__init__(settings, space, 0)


class UsesTheGlobalGenerator(Plain):
    def draw(self):
        return self.space.random(random.randrange(10**6))


class DependsOnNothingRepeatable(Plain):
    def draw(self):
        return self.space.random(id(object()) + random.getrandbits(60))


class ForgetsItsGenerator(Plain):
    def load_state_dict(self, state):
        self.count = state["count"]


class ProposesIllegalDNAs(Plain):
    def draw(self):
        dna = super().draw()
        return DNA(self.space, tuple(10**6 if isinstance(value, int) else value for value in dna.values))


class CrashesOnFailures(Plain):
    def feedback(self, feedback):
        self.best = max(self.best or 0.0, feedback.rewards[0])


class CrashesOnForeignResults(Plain):
    def __init__(self, settings, space, seed):
        super().__init__(settings, space, seed)
        self.pending = {}

    def propose(self):
        proposal = super().propose()
        self.pending[proposal.id] = proposal
        return proposal

    def feedback(self, feedback):
        del self.pending[feedback.id]


class NumbersFromOne(Plain):
    def propose(self):
        proposal = super().propose()
        return Proposal(proposal.id + 1, proposal.dna)


class WaitsForAnswers(Plain):
    def propose(self):
        if self.count > 3 and self.best is None:
            raise RuntimeError("nothing was answered")
        return super().propose()


class ChangesItsSettings(Plain):
    def feedback(self, feedback):
        object.__setattr__(self.settings, "search", WaitsForAnswers)


class KeepsTextOfObjects(Plain):
    def state_dict(self):
        return {**super().state_dict(), "last": self.space}


def check(search, name, space="choice", **arguments):
    """Runs one test of the contract on one space."""

    class Contract(AlgorithmContract):
        algorithm = Planted(search)

    getattr(Contract(), name)(SPACES[space], **arguments)


@pytest.mark.parametrize(
    ("search", "name", "arguments"),
    [
        (IgnoresTheSeed, "test_other_seed_gives_other_proposals", {}),
        (UsesTheGlobalGenerator, "test_global_generators_stay_untouched", {}),
        (UsesTheGlobalGenerator, "test_same_seed_gives_same_proposals", {}),
        (DependsOnNothingRepeatable, "test_same_seed_gives_same_proposals", {}),
        (ForgetsItsGenerator, "test_a_run_resumes_exactly_through_json", {"stop": 7}),
        (ForgetsItsGenerator, "test_a_run_resumes_with_pending_proposals", {}),
        (ProposesIllegalDNAs, "test_proposals_fit_the_space", {}),
        (ProposesIllegalDNAs, "test_silence_is_taken", {}),
        (CrashesOnFailures, "test_failed_trials_are_taken", {}),
        (CrashesOnFailures, "test_only_failed_trials_are_taken", {}),
        (CrashesOnForeignResults, "test_foreign_results_are_taken", {}),
        (NumbersFromOne, "test_ids_count_from_zero_without_a_gap", {}),
        (WaitsForAnswers, "test_silence_is_taken", {}),
        (ChangesItsSettings, "test_settings_are_not_changed_by_a_run", {}),
        (KeepsTextOfObjects, "test_a_run_resumes_exactly_through_json", {"stop": 1}),
    ],
)
def test_a_planted_defect_is_caught(search, name, arguments):
    random.seed(1)  # noqa: TID251 - the planted algorithms use the generator that the contract forbids
    with pytest.raises((AssertionError, mu.MutandisError, LookupError, TypeError, RuntimeError, ValueError)):
        check(search, name, **arguments)


class TestTheCorrectOne(AlgorithmContract):
    algorithm = Planted()


def test_a_reward_depends_on_every_active_decision():
    space = SPACES["choice"]
    assert len({reward_of(dna) for dna in space.enumerate()}) > 3


def test_a_trace_is_what_was_proposed():
    algorithm, space = Planted(), SPACES["int"]
    expected = [dna.to_numbers() for dna in run(algorithm.start(space.bare(), seed=1), 5)]
    assert trace_of(algorithm, space, 5) == expected


def test_an_answer_carries_the_number_of_its_proposal():
    proposal = Proposal(4, SPACES["int"].random(0))
    assert (answer(proposal, 2.0).id, answer(proposal, 2.0).rewards) == (4, (2.0,))
