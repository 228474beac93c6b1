"""The contract of an algorithm, as a pytest class: inherit it and say what `algorithm` is.

    class TestMine(mutandis.testing.AlgorithmContract):
        algorithm = Mine()

Every test runs on every space of `contract_spaces()`; a space that the algorithm refuses at `start` with a
`SettingError` is skipped, for that is how it says what it cannot do.
"""

from __future__ import annotations

import json
import os
import pickle
import random
import subprocess
import sys
from typing import Any, ClassVar

import numpy as np
import pytest

from mutandis.algorithms.base import Algorithm, Search
from mutandis.errors import SettingError, SpaceExhausted
from mutandis.hyper import DNA, Feedback, Proposal, SearchSpace
from mutandis.symbolic.compare import equal
from mutandis.testing.spaces import contract_spaces

NUM_TRIALS = 40
SPACES = contract_spaces()

_PROGRAM = """
import pickle, sys
from mutandis.testing.algorithm_contract import trace_of
algorithm, space = pickle.loads(bytes.fromhex(sys.argv[1]))
print(trace_of(algorithm, space))
"""


def reward_of(dna: DNA) -> float:
    """Returns a reward that depends on every active decision of a DNA and on nothing else."""
    total = 0.0
    for number, value in enumerate(dna.to_numbers()):
        total += (number + 1) * (float(value) if isinstance(value, (int, float)) else float(len(str(value))))
    return total


def trace_of(algorithm: Algorithm, space: SearchSpace, num_trials: int = NUM_TRIALS, seed: int = 1) -> list[list[Any]]:
    """Returns the decisions of a whole run, each answered at once."""
    search = algorithm.start(space.bare(), seed=seed)
    return [dna.to_numbers() for dna in run(search, num_trials)]


def run(search: Search, num_trials: int) -> list[DNA]:
    """Runs a search for some trials, or until it is exhausted, and returns what it proposed."""
    made: list[DNA] = []
    for _ in range(num_trials):
        try:
            proposal = search.propose()
        except SpaceExhausted:
            break
        made.append(proposal.dna)
        search.feedback(answer(proposal))
    return made


def answer(proposal: Proposal, reward: float | None = None) -> Feedback:
    """Returns the feedback for a proposal."""
    value = reward_of(proposal.dna) if reward is None else reward
    return Feedback(proposal.id, proposal.dna, {"reward": value}, proposal.fidelity, (value,))


class AlgorithmContract:
    """What every algorithm must do on every space.

    Attributes:
        algorithm: The settings under test.
        is_seeded: Whether another seed must give other proposals.
    """

    algorithm: ClassVar[Algorithm]
    is_seeded: ClassVar[bool] = True

    @pytest.fixture(params=list(SPACES))
    def space(self, request: pytest.FixtureRequest) -> SearchSpace:
        """Every space of the contract that the algorithm accepts."""
        made = SPACES[request.param]
        try:
            self.algorithm.start(made.bare(), seed=0)
        except SettingError as error:
            pytest.skip(f"refused at start: {error.problem}")
        return made

    def _start(self, space: SearchSpace, seed: int = 1) -> Search:
        return self.algorithm.start(space.bare(), seed=seed)

    def test_proposals_fit_the_space(self, space: SearchSpace) -> None:
        """Every proposal is a checked DNA, with inactive decisions left out."""
        found = run(self._start(space), NUM_TRIALS)
        assert found, "nothing was proposed: refuse the space at start instead"
        for dna in found:
            assert space.dna(dna.to_json()) == dna
            space.materialize(dna)

    def test_same_seed_gives_same_proposals(self, space: SearchSpace) -> None:
        """A run is a function of settings, space, seed and answers."""
        assert trace_of(self.algorithm, space) == trace_of(self.algorithm, space)

    def test_other_seed_gives_other_proposals(self, space: SearchSpace) -> None:
        """The seed reaches the proposals, unless the method has no randomness."""
        if not self.is_seeded or space.size == 1:
            pytest.skip("nothing is drawn")
        traces = [trace_of(self.algorithm, space, seed=seed) for seed in range(4)]
        assert any(trace != traces[0] for trace in traces)

    def test_global_generators_stay_untouched(self, space: SearchSpace) -> None:
        """All randomness derives from the seed."""
        before = self._global_states()
        run(self._start(space), NUM_TRIALS)
        assert self._global_states() == before

    @staticmethod
    def _global_states() -> list[bytes]:
        states: list[Any] = [random.getstate(), np.random.get_state()]  # noqa: NPY002 - the states that must not move
        torch = sys.modules.get("torch")
        if torch is not None:
            states.append(torch.random.get_rng_state().numpy().tobytes())
        return [pickle.dumps(state) for state in states]

    @pytest.mark.parametrize("stop", [0, 1, 7, 23])
    def test_a_run_resumes_exactly_through_json(self, space: SearchSpace, stop: int) -> None:
        """A fresh search that loads the state goes on as the first one does."""
        first = self._start(space)
        run(first, stop)
        state = json.loads(json.dumps(first.state_dict()))
        second = self._start(space)
        second.load_state_dict(state)
        rest = NUM_TRIALS - stop
        assert [dna.values for dna in run(first, rest)] == [dna.values for dna in run(second, rest)]

    def test_a_run_resumes_with_pending_proposals(self, space: SearchSpace) -> None:
        """Answers to proposals from before the state was taken still count."""
        first = self._start(space)
        pending = self._propose(first, 5)
        state = json.loads(json.dumps(first.state_dict()))
        second = self._start(space)
        second.load_state_dict(state)
        for proposal in pending:
            first.feedback(answer(proposal))
            second.feedback(answer(proposal))
        assert [d.values for d in run(first, 20)] == [d.values for d in run(second, 20)]

    @staticmethod
    def _propose(search: Search, count: int) -> list[Proposal]:
        made: list[Proposal] = []
        for _ in range(count):
            try:
                made.append(search.propose())
            except SpaceExhausted:
                break
        return made

    def test_ids_count_from_zero_without_a_gap(self, space: SearchSpace) -> None:
        """The id of a proposal is its number."""
        proposals = self._propose(self._start(space), 10)
        assert [proposal.id for proposal in proposals] == list(range(len(proposals)))

    def test_late_and_unordered_answers_are_taken(self, space: SearchSpace) -> None:
        """Answers may come in any order, long after."""
        search = self._start(space)
        pending = self._propose(search, 12)
        for proposal in reversed(pending):
            search.feedback(answer(proposal))
        self._still_legal(search, space)

    def test_silence_is_taken(self, space: SearchSpace) -> None:
        """A search that is never answered goes on proposing."""
        search = self._start(space)
        for proposal in self._propose(search, NUM_TRIALS):
            assert space.dna(proposal.dna.to_json()) == proposal.dna

    def test_failed_trials_are_taken(self, space: SearchSpace) -> None:
        """A failed trial has no rewards; every second one failing is no reason to stop."""
        search = self._start(space)
        for number, proposal in enumerate(self._propose(search, 20)):
            search.feedback(Feedback(proposal.id, proposal.dna) if number % 2 else answer(proposal))
        self._still_legal(search, space)

    def test_only_failed_trials_are_taken(self, space: SearchSpace) -> None:
        """Nothing but failures leaves the search alive."""
        search = self._start(space)
        for proposal in self._propose(search, 20):
            search.feedback(Feedback(proposal.id, proposal.dna))
        self._still_legal(search, space)

    def test_foreign_results_are_taken(self, space: SearchSpace) -> None:
        """A result that was not asked for counts, or is left aside; it never breaks the search."""
        search = self._start(space)
        for seed in range(15):
            dna = space.bare().random(seed)
            search.feedback(Feedback(None, dna, None, None, (reward_of(dna),)))
        self._still_legal(search, space)

    def test_nan_counts_as_a_failure(self, space: SearchSpace) -> None:
        """A reward that is no number neither breaks the search nor gets into its state."""
        search = self._start(space)
        for proposal in self._propose(search, 10):
            search.feedback(answer(proposal, float("nan")))
        json.dumps(search.state_dict(), allow_nan=False)
        self._still_legal(search, space)

    def test_as_many_objectives_as_declared_are_taken(self, space: SearchSpace) -> None:
        """An algorithm for many objectives takes two rewards; one for a single objective says so at the start."""
        if self.algorithm.objectives != "many":
            with pytest.raises(SettingError):
                self.algorithm.start(space.bare(), seed=1, num_objectives=2)
            return
        search = self.algorithm.start(space.bare(), seed=1, num_objectives=2)
        for count in (NUM_TRIALS, 10, 10):
            for proposal in self._propose(search, count):
                assert space.dna(proposal.dna.to_json()) == proposal.dna
                value = reward_of(proposal.dna)
                search.feedback(Feedback(proposal.id, proposal.dna, None, proposal.fidelity, (value, -value)))

    def _still_legal(self, search: Search, space: SearchSpace) -> None:
        for dna in run(search, 10):
            assert space.dna(dna.to_json()) == dna

    def test_settings_are_not_changed_by_a_run(self, space: SearchSpace) -> None:
        """Settings are frozen; what changes is the search."""
        before = pickle.dumps(self.algorithm)
        run(self._start(space), 20)
        assert pickle.loads(before) == self.algorithm
        assert equal(pickle.loads(before), self.algorithm)

    def test_every_proposal_of_a_used_up_search_says_so(self, space: SearchSpace) -> None:
        """After `SpaceExhausted` a search stays exhausted."""
        search = self._start(space)
        if space.size > 100 or len(run(search, 200)) == 200:
            pytest.skip("it goes on")
        with pytest.raises(SpaceExhausted):
            search.propose()

    def test_proposals_are_the_same_in_another_process(self) -> None:
        """The hash seed of the process plays no part."""
        space = SPACES["conditional"]
        try:
            expected = trace_of(self.algorithm, space)
        except SettingError:
            space = SPACES["choice"]
            expected = trace_of(self.algorithm, space)
        payload = pickle.dumps((self.algorithm, space.bare())).hex()
        path = os.pathsep.join(path for path in sys.path if path)
        # All else stays: which kernels a numerical library picks may hang on the environment.
        environment = {**os.environ, "PYTHONHASHSEED": "77", "PYTHONPATH": path}
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM, payload], env=environment, capture_output=True, text=True, check=False
        )
        assert done.stdout.strip() == str(expected), done.stderr
