"""Wrappers: no DNA twice, and only what a predicate allows."""

from __future__ import annotations

import json

import pytest

import mutandis as mu
from mutandis.algorithms import Constrained, Deduped, Grid, HillClimb, Random, RegularizedEvolution
from mutandis.errors import SettingError, SpaceExhausted
from mutandis.hyper import Feedback, Proposal
from mutandis.testing import run

SMALL = mu.space([mu.oneof([1, 2, 3]), mu.oneof([1, 2, 3])])


class Stuck(mu.algorithms.Algorithm):
    """Proposes the same DNA for ever."""

    def start(self, space, *, seed, num_objectives=1):
        search = Random().start(space, seed=seed)
        search.propose = lambda: Proposal(0, space.dna_at(0))
        return search


def is_odd(dna):
    return sum(dna.to_numbers()) % 2 == 1


@pytest.mark.parametrize("algorithm", [Random(), RegularizedEvolution(3, 2), HillClimb(), Grid()])
def test_a_deduped_search_proposes_every_dna_once_and_ends(algorithm):
    search = Deduped(algorithm, retries=2).start(SMALL.bare(), seed=0)
    found = run(search, 99)
    assert len(found) == len(set(found)) == 9
    with pytest.raises(SpaceExhausted):
        search.propose()


def test_what_was_never_answered_is_not_proposed_again():
    search = Deduped(Random(), retries=1).start(SMALL.bare(), seed=0)
    assert len({search.propose().dna for _ in range(9)}) == 9


def test_the_draws_in_place_of_repetitions_resume_through_json():
    space = mu.space([mu.oneof(list(range(99))), mu.oneof(list(range(99)))]).bare()
    first, second = (Deduped(Stuck(), retries=1).start(space, seed=0) for _ in range(2))
    run(first, 120)  # More than the 100 draws that a fresh generator would spend on what was seen.
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert run(first, 5) == run(second, 5)


def test_what_came_from_elsewhere_is_not_proposed_again():
    search = Deduped(Random()).start(SMALL.bare(), seed=0)
    known = [SMALL.bare().dna_at(i) for i in range(8)]
    for dna in known:
        search.feedback(Feedback(None, dna, None, None, (1.0,)))
    assert search.propose().dna == SMALL.bare().dna_at(8)


def test_a_deduped_continuous_space_does_not_end():
    assert len(set(run(Deduped(Random()).start(mu.space(mu.floatv(0.0, 1.0)).bare(), seed=0), 200))) == 200


def test_a_continuous_space_of_two_numbers_ends_all_the_same():
    narrow = mu.space(mu.floatv(1.0, 1.0000000000000002)).bare()
    search = Deduped(Random()).start(narrow, seed=0)
    run(search, 2)
    with pytest.raises(SpaceExhausted) as error:
        search.propose()
    assert str(error.value) == (
        "cannot propose: no new DNA was found in 100 random draws\n"
        "  got:      2 (int)\n"
        "  expected: a space with more than a few values"
    )


def test_a_constrained_grid_ends_with_the_grid():
    search = Constrained(Grid(), is_odd).start(SMALL.bare(), seed=0)
    assert len(run(search, 99)) == 4
    with pytest.raises(SpaceExhausted, match="every DNA of the grid was proposed"):
        search.propose()


def test_a_deduped_search_is_the_wrapped_one_without_repetitions():
    plain = run(RegularizedEvolution(4, 2).start(SMALL.bare(), seed=5), 4)
    deduped = run(Deduped(RegularizedEvolution(4, 2)).start(SMALL.bare(), seed=5), len(set(plain)))
    assert deduped == list(dict.fromkeys(plain))


def test_the_error_of_a_used_up_space_tells_everything():
    search = Deduped(Random()).start(mu.space(mu.oneof([1, 2])).bare(), seed=0)
    run(search, 9)
    with pytest.raises(SpaceExhausted) as error:
        search.propose()
    assert str(error.value) == (
        "cannot propose: every DNA of the space was proposed\n  got:      2 (int)\n  expected: at most 2 proposals"
    )


def test_a_constrained_search_proposes_only_what_is_allowed():
    assert all(map(is_odd, run(Constrained(Random(), is_odd).start(SMALL.bare(), seed=0), 50)))


def test_a_predicate_that_refuses_everything_is_reported():
    search = Constrained(Random(), lambda dna: False, retries=10).start(SMALL.bare(), seed=0)
    with pytest.raises(SpaceExhausted) as error:
        search.propose()
    assert str(error.value) == (
        "cannot propose: the predicate refuses everything\n"
        "  got:      10 (int)\n"
        "  expected: one allowed DNA among so many proposals\n"
        "  fix:      loosen the predicate, or raise Constrained.retries"
    )


def test_the_wrapped_search_gets_its_own_numbers_back():
    told = []

    class Spy(mu.algorithms.Algorithm):
        def start(self, space, *, seed, num_objectives=1):
            search = Random().start(space, seed=seed)
            search.feedback = lambda feedback: told.append((feedback.id, feedback.rewards))
            return search

    search = Constrained(Spy(), is_odd).start(SMALL.bare(), seed=0)
    for _ in range(6):
        proposal = search.propose()
        search.feedback(Feedback(proposal.id, proposal.dna, None, None, (1.0,)))
    assert [number for number, _ in told] == sorted({number for number, _ in told})  # Each once, in order.
    assert sum(rewards is not None for _, rewards in told) == 6
    assert len(told) > 6  # The refused ones are told of as failures.


@pytest.mark.parametrize("wrapper", [Deduped(Random()), Constrained(Random(), is_odd)])
def test_a_wrapper_weighs_as_many_objectives_as_what_it_wraps(wrapper):
    assert wrapper.objectives == "many"
    with pytest.raises(SettingError):
        Deduped(HillClimb()).start(SMALL.bare(), seed=0, num_objectives=2)


def test_a_wrapper_within_a_wrapper_resumes_through_json():
    algorithm = Deduped(Constrained(RegularizedEvolution(3, 2), is_odd))
    first, second = (algorithm.start(SMALL.bare(), seed=0) for _ in range(2))
    run(first, 2)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert run(first, 9) == run(second, 9)


@pytest.mark.parametrize(
    "make", [lambda: Deduped(Random(), retries=0), lambda: Constrained(Random(), is_odd, retries=0)]
)
def test_no_retries_are_refused(make):
    with pytest.raises(SettingError, match="retries"):
        make()


HALVING = mu.algorithms.Hyperband(1, 9, eta=3, brackets=(2,))
LARGE = mu.space([mu.oneof(list(range(20))), mu.oneof(list(range(20)))]).bare()


def trained(algorithm, trials):
    """Returns the proposals of a run in which larger indices are better and longer training changes nothing."""
    search = algorithm.start(LARGE, seed=0)
    made = []
    for _ in range(trials):
        proposal = search.propose()
        made.append(proposal)
        reward = (float(LARGE.index_of(proposal.dna)),)
        search.feedback(Feedback(proposal.id, proposal.dna, None, proposal.fidelity, reward))
    return made


@pytest.mark.parametrize("wrapper", [Deduped(HALVING), Constrained(HALVING, is_odd)])
def test_a_trial_goes_on_behind_a_wrapper(wrapper):
    made = trained(wrapper, 13)
    going_on = [p for p in made if p.inherit is not None]
    assert len(going_on) >= 4
    for proposal in going_on:
        before = made[proposal.inherit]
        assert before.dna == proposal.dna
        assert before.fidelity == proposal.fidelity / 3


def test_longer_training_is_no_repetition_but_the_same_length_is():
    made = trained(Deduped(HALVING, retries=50), 60)
    pairs = [(p.dna, p.fidelity) for p in made]
    assert len(pairs) == len(set(pairs))
    assert len({dna for dna, _ in pairs}) < len(pairs)


def test_what_goes_on_behind_a_wrapper_resumes_through_json():
    for algorithm in (Deduped(HALVING), Constrained(HALVING, is_odd)):
        first, second = (algorithm.start(LARGE, seed=0) for _ in range(2))
        run(first, 10)
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        for _ in range(4):
            ours, theirs = first.propose(), second.propose()
            assert (ours.dna, ours.fidelity, ours.inherit) == (theirs.dna, theirs.fidelity, theirs.inherit)
