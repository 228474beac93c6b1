"""The Gaussian process: closed forms by hand, limits, and what it learns."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

import mutandis as mu
from mutandis.algorithms.predictors.gaussian import GPPredictor, _kept, _milestone, log_likelihood
from mutandis.algorithms.predictors.ranks import kendall_tau, normal_scores
from mutandis.errors import SettingError

SPACE = mu.space([mu.oneof(list("abcd")) for _ in range(5)]).bare()


def reward(dna):
    a, b, c, d, _ = dna.values
    return 1.0 * a - 0.7 * b + 2.0 * (c == d)


def sample(count, start=0):
    return [SPACE.random(seed) for seed in range(start, start + count)]


def fitted(count=60, **settings):
    regressor = GPPredictor(**settings).start(SPACE, seed=0)
    dnas = sample(count)
    regressor.fit(dnas, [reward(dna) for dna in dnas])
    return regressor, dnas


def test_the_prediction_is_that_of_the_textbook():
    regressor, dnas = fitted(12, sweeps=0)
    scores = normal_scores([reward(dna) for dna in dnas])
    scores = scores - scores.mean()
    length = 1 / (2 * regressor._scales.factors[0] ** 2)

    def kernel(left, right):
        return np.array([[math.exp(-sum(x != y for x, y in zip(a.values, b.values, strict=True)) / length)
                          for b in right] for a in left])  # fmt: skip

    full = kernel(dnas, dnas) + regressor._scales.noise * np.eye(12)
    variance = (scores @ np.linalg.solve(full, scores) + 2) / 14
    new = sample(5, 500)
    cross = kernel(new, dnas)
    mean, deviation = regressor.predict(new)
    assert mean == pytest.approx(cross @ np.linalg.solve(full, scores), abs=1e-10)
    rest = 1 - np.diag(cross @ np.linalg.solve(full, cross.T))
    assert deviation == pytest.approx(np.sqrt(variance * rest), abs=1e-8)


def test_the_likelihood_is_that_of_a_normal_distribution_up_to_a_constant():
    rng = np.random.default_rng(0)
    found = []
    for _ in range(2):
        root = rng.standard_normal((5, 5))
        covariance, scores = root @ root.T + np.eye(5), rng.standard_normal(5)
        variance = (scores @ np.linalg.solve(covariance, scores) + 2) / 7
        exact = stats.multivariate_normal(np.zeros(5), variance * covariance).logpdf(scores)
        square = scores @ np.linalg.solve(covariance, scores)
        constant = -2.5 * math.log(2 * math.pi) - 0.5 * square / variance
        found.append(log_likelihood(covariance, scores) + constant - exact)
    assert found == pytest.approx([0.0, 0.0], abs=1e-9)


def test_it_orders_what_it_has_not_seen():
    regressor, _ = fitted(80)
    new = sample(200, 1000)
    assert kendall_tau(regressor.predict(new)[0], [reward(dna) for dna in new]) > 0.8


def test_weights_of_decisions_order_better_than_equal_ones():
    new = sample(200, 1000)
    truth = [reward(dna) for dna in new]
    even, weighted = (kendall_tau(fitted(50, sweeps=s)[0].predict(new)[0], truth) for s in (0, 2))
    assert weighted > even + 0.02


def test_a_decision_without_influence_has_the_smallest_weight():
    factors = fitted(120)[0]._scales.factors
    assert factors[-1] == factors.min() < 0.75 * factors[0]


def test_what_is_far_from_all_results_is_less_certain():
    regressor, dnas = fitted(40)
    near = regressor.predict(dnas)[1]
    far = regressor.predict(sample(40, 3000))[1]
    assert near.mean() < 0.6 * far.mean()


def test_a_fit_leaves_no_trace_in_the_next():
    used, dnas = fitted(30)
    used.fit(dnas, [-reward(dna) for dna in dnas])
    fresh = GPPredictor().start(SPACE, seed=5)
    fresh.fit(dnas, [-reward(dna) for dna in dnas])
    assert used.predict(dnas)[0].tolist() == fresh.predict(dnas)[0].tolist()


def test_other_dnas_with_the_same_rewards_are_another_fit():
    used, dnas = fitted(30)
    rewards = [reward(dna) for dna in dnas]
    used.fit(dnas[::-1], rewards)
    fresh = GPPredictor().start(SPACE, seed=0)
    fresh.fit(dnas[::-1], rewards)
    assert used.predict(dnas)[0].tolist() == fresh.predict(dnas)[0].tolist()


def test_equal_rewards_and_a_single_result_are_fitted():
    regressor = GPPredictor().start(SPACE, seed=0)
    for dnas in (sample(1), sample(9)):
        regressor.fit(dnas, [3.0] * len(dnas))
        mean, deviation = regressor.predict(sample(4, 50))
        assert np.isfinite(mean).all() and (deviation > 0).all()


@pytest.mark.parametrize(
    ("count", "expected"), [(1, 1), (7, 7), (8, 8), (9, 8), (10, 10), (11, 10), (12, 12), (99, 84), (101, 101)]
)
def test_hyper_parameters_are_chosen_when_results_have_grown_by_a_fifth(count, expected):
    assert _milestone(count) == expected


def test_the_latest_half_and_the_best_of_the_others_are_kept_in_their_order():
    rows = np.arange(8.0)[:, None]
    kept, rewards = _kept(rows, [9, 1, 8, 2, 7, 3, 0, 5], 4)
    assert kept[:, 0].tolist() == [0, 2, 6, 7]
    assert rewards.tolist() == [9, 8, 0, 5]


def test_more_results_than_are_kept_can_be_fitted():
    regressor, _ = fitted(60, max_results=20)
    assert len(regressor.scores()) == 20


@pytest.mark.parametrize("bad", [{"max_results": 1}, {"sweeps": -1}, {"sweeps": True}])
def test_settings_that_make_no_sense_are_refused(bad):
    with pytest.raises(SettingError, match=f"GPPredictor.{next(iter(bad))}"):
        GPPredictor(**bad)
