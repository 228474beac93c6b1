"""The contract catches algorithms that break it; each is planted here with one defect."""

from __future__ import annotations

import inspect
import random

import pytest

from mutandis.algorithms import Algorithm, Search, settings
from mutandis.errors import DecisionError, MutandisError, SettingError, SpaceExhausted
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
        self.check_objectives(num_objectives)
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


class LosesItsGenerator(Plain):
    def state_dict(self):
        return {**super().state_dict(), "rng": Rng(0).state()}


class WantsAnswersInOrder(Plain):
    answered = 0

    def feedback(self, feedback):
        assert feedback.id == self.answered, "out of order"
        self.answered += 1


class DependsOnTheHashSeed(Plain):
    def draw(self):
        return self.space.random(hash(f"proposal {self.count}") % 10**9)


class StartsOver(Plain):
    def propose(self):
        if self.count == 5:
            self.count = 0
            raise SpaceExhausted("cannot propose: that was all")
        return super().propose()


class GivesUpAtOnce(Plain):
    def propose(self):
        raise SpaceExhausted("cannot propose: nothing comes to mind")


class NeedsTheProgram(Plain):
    def draw(self):
        return self.space.dna(self.space.materialize(super().draw()))


class KeepsObjectsInItsState(Plain):
    def state_dict(self):
        return {**super().state_dict(), "last": self.space}


def check(search, name, arguments):
    """Runs one test of the contract on the choices, or on no space where `arguments` is None."""

    class Contract(AlgorithmContract):
        algorithm = Planted(search)

    test = getattr(Contract(), name)
    if arguments is None:
        test()
    else:
        test(SPACES["choice"], **arguments)


@pytest.mark.parametrize(
    ("search", "name", "arguments", "caught"),
    [
        (IgnoresTheSeed, "test_other_seed_gives_other_proposals", {}, AssertionError),
        (UsesTheGlobalGenerator, "test_global_generators_stay_untouched", {}, AssertionError),
        (UsesTheGlobalGenerator, "test_same_seed_gives_same_proposals", {}, AssertionError),
        (DependsOnNothingRepeatable, "test_same_seed_gives_same_proposals", {}, AssertionError),
        (DependsOnTheHashSeed, "test_proposals_are_the_same_in_another_process", None, AssertionError),
        (ForgetsItsGenerator, "test_a_run_resumes_exactly_through_json", {"stop": 7}, AssertionError),
        (ForgetsItsGenerator, "test_a_run_resumes_with_pending_proposals", {}, AssertionError),
        (LosesItsGenerator, "test_a_run_resumes_exactly_through_json", {"stop": 7}, AssertionError),
        (KeepsObjectsInItsState, "test_a_run_resumes_exactly_through_json", {"stop": 1}, TypeError),
        (ProposesIllegalDNAs, "test_proposals_fit_the_space", {}, DecisionError),
        (ProposesIllegalDNAs, "test_silence_is_taken", {}, DecisionError),
        (NeedsTheProgram, "test_proposals_fit_the_space", {}, MutandisError),
        (GivesUpAtOnce, "test_proposals_fit_the_space", {}, AssertionError),
        (StartsOver, "test_every_proposal_of_a_used_up_search_says_so", {}, pytest.fail.Exception),
        (CrashesOnFailures, "test_failed_trials_are_taken", {}, TypeError),
        (CrashesOnFailures, "test_only_failed_trials_are_taken", {}, TypeError),
        (CrashesOnForeignResults, "test_foreign_results_are_taken", {}, KeyError),
        (WantsAnswersInOrder, "test_late_and_unordered_answers_are_taken", {}, AssertionError),
        (NumbersFromOne, "test_ids_count_from_zero_without_a_gap", {}, AssertionError),
        (WaitsForAnswers, "test_silence_is_taken", {}, RuntimeError),
        (ChangesItsSettings, "test_settings_are_not_changed_by_a_run", {}, AssertionError),
    ],
)
def test_a_planted_defect_is_caught(search, name, arguments, caught):
    random.seed(1)  # noqa: TID251 - the planted algorithms use the generator that the contract forbids
    with pytest.raises(caught):
        check(search, name, arguments)


def test_a_dependence_on_the_hash_seed_is_not_mistaken_for_a_crash():
    with pytest.raises(AssertionError) as error:
        check(DependsOnTheHashSeed, "test_proposals_are_the_same_in_another_process", None)
    assert "Traceback" not in str(error.value)


def test_a_refused_space_is_skipped_with_its_reason():
    class Refuses(Plain):
        def __init__(self, settings, space, seed):
            raise SettingError("cannot search at all", at="space", got=space, expected="another", fix="use another")

    class Contract(AlgorithmContract):
        algorithm = Planted(Refuses)

    class Request:
        param = "choice"

    with pytest.raises(pytest.skip.Exception, match="refused at start: cannot search at all"):
        inspect.unwrap(AlgorithmContract.space)(Contract(), Request())


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
