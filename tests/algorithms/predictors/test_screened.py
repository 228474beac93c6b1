"""Screening: which candidate is tried, what the wrapped algorithm hears, and that it pays."""

from __future__ import annotations

import json
import math
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats
from tables import TOPOLOGY, needs_topology

import mutandis as mu
from mutandis.algorithms import Algorithm, Grid, Random, RegularizedEvolution, Search
from mutandis.algorithms.predictors import GPPredictor, Predictor, Regressor, RidgeEnsemble, Screened
from mutandis.algorithms.predictors.screened import expected_improvement
from mutandis.errors import SettingError, SpaceExhausted
from mutandis.hyper import Feedback, Proposal
from mutandis.testing import answer, run

LINE = mu.space(mu.oneof(list(range(40)))).bare()
WIDE = mu.space([mu.oneof(list(range(4))) for _ in range(8)]).bare()


class Known(Predictor):
    """Predicts the value of the first decision, with a deviation that falls with it; keeps what it was told."""

    told: list = []

    def start(self, space, *, seed):
        outer = self

        class It(Regressor):
            def fit(self, dnas, rewards):
                outer.told.append(([dna.values[0] for dna in dnas], list(rewards)))

            def predict(self, dnas):
                mean = np.array([float(dna.values[0]) for dna in dnas])
                return mean, 1.0 + 2.0 * (39.0 - mean)

            def scores(self):
                return np.array([0.0])

        self.told.clear()
        return It()


class Spied(Algorithm):
    """A grid that keeps what it was told, by number."""

    told: list = []

    def start(self, space, *, seed, num_objectives=1):
        search = Grid().start(space, seed=seed)
        self.told.clear()
        search.feedback = lambda feedback: self.told.append((feedback.id, feedback.dna.values[0], feedback.rewards))
        return search


def screened(algorithm=None, predictor=None, *, space=LINE, seed=0, **settings):
    plain = {"num_initial": 2, "num_candidates": 8, "num_new": 4, "random_share": 0.0, "acquisition": "mean"}
    made = Screened(algorithm or Grid(), predictor or Known(), **{**plain, **settings})
    return made.start(space, seed=seed)


def taken(search, count):
    return [dna.values[0] for dna in run(search, count)]


def test_the_wrapped_algorithm_is_followed_first_then_the_best_of_the_pool_is_tried():
    assert taken(screened(), 6) == [0, 1, 5, 9, 13, 17]


def test_candidates_that_were_not_taken_compete_again():
    search = screened(num_candidates=40, num_new=20)
    assert taken(search, 24) == [0, 1, 21, *range(39, 21, -1), 20, 19, 18]


@pytest.mark.parametrize(("acquisition", "expected"), [("mean", 5), ("ucb", 2), ("ei", 2)])
def test_the_acquisition_weighs_mean_and_deviation(acquisition, expected):
    assert taken(screened(acquisition=acquisition), 3)[-1] == expected


def test_thompson_sampling_draws():
    assert len({taken(screened(acquisition="thompson", seed=seed), 3)[-1] for seed in range(12)}) > 2


def test_expected_improvement_is_the_integral_of_the_gain():
    mean, deviation, best = np.array([0.3, -1.0, 2.0]), np.array([0.5, 2.0, 1e-3]), 0.7
    draws = stats.norm.ppf((np.arange(200_000) + 0.5) / 200_000)
    expected = [np.maximum(m + s * draws - best, 0).mean() for m, s in zip(mean, deviation, strict=True)]
    assert expected_improvement(mean, deviation, best) == pytest.approx(expected, rel=1e-4)


def test_the_wrapped_algorithm_hears_of_results_and_of_what_fell_out_of_the_pool():
    spied = Spied()
    search = screened(spied, num_candidates=6, num_new=4)
    assert taken(search, 4) == [0, 1, 5, 9]
    results = [told for told in spied.told if told[2] is not None]
    dropped = [told for told in spied.told if told[2] is None]
    assert [number for number, _, _ in results] == [0, 1, 5, 9]
    assert dropped == [(2, 2, None)]  # The oldest of the three that were left makes room for the fourth new one.


def test_failed_trials_are_not_learnt_from_and_not_repeated():
    known = Known()
    search = screened(predictor=known)
    made = []
    for number in range(8):
        proposal = search.propose()
        made.append(proposal.dna.values[0])
        search.feedback(Feedback(proposal.id, proposal.dna) if number % 2 else answer(proposal))
    assert len(set(made)) == 8
    assert all(set(seen) <= set(made[::2]) for seen, _ in known.told)


@pytest.mark.parametrize("reward", [math.inf, -math.inf])
def test_infinite_rewards_are_not_learnt_from(reward):
    known = Known()
    search = screened(predictor=known, num_initial=1)
    search.feedback(Feedback(None, LINE.dna_at(39), None, None, (reward,)))
    taken(search, 3)
    assert known.told and all(39 not in seen for seen, _ in known.told)
    json.dumps(search.state_dict(), allow_nan=False)


def test_pending_trials_count_as_median_ones():
    known = Known()
    search = screened(predictor=known)
    first = [search.propose() for _ in range(2)]
    for proposal, reward in zip(first, (1.0, 4.0), strict=True):
        search.feedback(answer(proposal, reward))
    pending = search.propose()
    search.feedback(answer(Proposal(99, LINE.dna_at(30)), 9.0))
    search.propose()
    assert known.told[-1] == ([0, 1, 30, pending.dna.values[0]], [1.0, 4.0, 9.0, 4.0])


def test_the_predictor_is_fitted_at_the_rate_that_was_asked_for():
    known = Known()
    taken(screened(predictor=known, refit_every=3), 12)
    assert [len(seen) for seen, _ in known.told] == [2, 5, 8, 11]


def test_results_of_others_are_learnt_from_and_leave_the_pool():
    search = screened()
    taken(search, 3)  # The pool holds 2, 3 and 4.
    search.feedback(Feedback(None, LINE.dna_at(4), None, None, (1.0,)))
    found = taken(search, 37)
    assert 4 not in found and len(set(found)) == 36


@pytest.mark.parametrize("algorithm", [Grid(), Random(), RegularizedEvolution(3, 2)])
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_every_dna_is_proposed_once_then_the_space_is_used_up(algorithm, share):
    search = screened(algorithm, GPPredictor(sweeps=0), random_share=share, acquisition="ei")
    assert sorted(taken(search, 99)) == list(range(40))
    with pytest.raises(SpaceExhausted) as error:
        search.propose()
    assert str(error.value) == (
        "cannot propose: every DNA of the space was proposed\n  got:      40 (int)\n  expected: at most 40 proposals"
    )


def test_a_first_fit_does_not_wait_for_the_rate():
    assert len(taken(screened(num_initial=1, refit_every=9), 5)) == 5


def test_a_share_of_the_candidates_is_random():
    assert max(taken(screened(random_share=1.0), 4)[2:]) > 5 + 4


def test_a_resumed_run_waits_with_its_fit_as_the_first_one_does():
    algorithm = Screened(num_initial=4, num_candidates=10, num_new=5, refit_every=4)
    first, second = (algorithm.start(WIDE, seed=0) for _ in range(2))
    pending = [first.propose() for _ in range(6)]
    for proposal in pending[:5]:
        first.feedback(answer(proposal))
    run(first, 6)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for search in (first, second):
        search.feedback(answer(pending[5]))
    assert run(first, 12) == run(second, 12)


def test_a_resumed_run_fits_what_was_fitted_with_the_same_trials_pending():
    known = Known()
    first = screened(predictor=known, refit_every=9)
    pending = [first.propose() for _ in range(3)]
    for proposal in pending[:2]:
        first.feedback(answer(proposal, 1.0))
    first.propose()
    last = known.told[-1]
    assert last[0] == [0, 1, pending[2].dna.values[0]]
    state = json.loads(json.dumps(first.state_dict()))
    second = screened(predictor=known, refit_every=9)
    second.load_state_dict(state)
    second.propose()
    assert known.told == [last]


def interacting(dna):
    values = dna.values
    return float(sum(a == b for a, b in pairwise(values)) - 0.2 * values[0])


@pytest.mark.parametrize("predictor", [GPPredictor(), RidgeEnsemble()])
def test_it_finds_better_ones_than_the_algorithm_that_it_wraps(predictor):
    wrapped, alone = [], []
    for seed in range(4):
        for algorithm, found in ((Screened(predictor=predictor), wrapped), (RegularizedEvolution(10, 3), alone)):
            search = algorithm.start(WIDE, seed=seed)
            best = -9.0
            for _ in range(60):
                proposal = search.propose()
                best = max(best, interacting(proposal.dna))
                search.feedback(answer(proposal, interacting(proposal.dna)))
            found.append(best)
    assert np.mean(wrapped) > np.mean(alone) + 0.5


@needs_topology
@pytest.mark.slow
def test_it_beats_regularized_evolution_on_cells():
    from mutandis.models.tabular import load_topology

    space = mu.space([mu.oneof(list(range(5))) for _ in range(6)]).bare()
    table = load_topology(TOPOLOGY, "cifar100")
    values = table.results["valid", 12][table.rows]
    best = {}
    for name, algorithm in (("screened", Screened()), ("evolution", RegularizedEvolution(10, 3))):
        best[name] = []
        for seed in range(20):
            search, top = algorithm.start(space, seed=seed), 0.0
            for _ in range(100):
                proposal = search.propose()
                reward = float(values[int("".join(map(str, proposal.dna.values)), 5)])
                search.feedback(answer(proposal, reward))
                top = max(top, reward)
            best[name].append(top)
    assert np.mean(best["screened"]) > np.mean(best["evolution"]) + 0.6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"algorithm": Random}, "write Random(...), not the class"),
        ({"predictor": GPPredictor}, "write GPPredictor(...), not the class"),
        ({"num_initial": 0}, "an int >= 1"),
        ({"num_new": 0}, "an int >= 1"),
        ({"num_candidates": 9, "num_new": 10}, "an int >= 10"),
        ({"refit_every": 0}, "an int >= 1"),
        ({"random_share": 1.5}, "a finite number >= 0 and <= 1"),
        ({"random_share": True}, "a finite number >= 0 and <= 1"),
        ({"acquisition": "EI"}, "'ei' or 'ucb' or 'thompson' or 'mean'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(SettingError) as error:
        Screened(**settings)
    assert message in str(error.value)


def test_a_search_is_a_search():
    assert isinstance(screened(), Search)
