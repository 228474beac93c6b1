"""Ranks: known answers, ties, and orders that rounding does not change."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mutandis.algorithms.predictors.ranks import kendall_tau, normal_scores, order, ranks, spearman_rho

TIED = ([1.0, 2.0, 2.0, 5.0, -1.0], [3.0, 1.0, 4.0, 4.0, 0.0])


def test_one_pair_exchanged_twice_gives_the_known_answers():
    assert kendall_tau([1, 2, 3, 4, 5], [2, 1, 3, 5, 4]) == pytest.approx(0.6, abs=1e-15)
    assert spearman_rho([1, 2, 3, 4, 5], [2, 1, 3, 5, 4]) == pytest.approx(0.8, abs=1e-15)


def test_correlations_with_ties_are_those_of_scipy():
    assert kendall_tau(*TIED) == pytest.approx(stats.kendalltau(*TIED).statistic)
    assert spearman_rho(*TIED) == pytest.approx(stats.spearmanr(*TIED).statistic)


@pytest.mark.parametrize("correlation", [kendall_tau, spearman_rho])
def test_a_constant_orders_nothing(correlation):
    assert correlation([1, 1, 1], [1, 2, 3]) == 0.0


def test_ties_share_their_mean_rank():
    assert ranks([7.0, 3.0, 7.0, 9.0]).tolist() == [1.5, 0.0, 1.5, 3.0]


def test_normal_scores_are_quantiles_in_the_same_order():
    expected = stats.norm.ppf([2.5 / 3, 0.5 / 3, 1.5 / 3])
    assert normal_scores([5.0, -1e300, 4.0]) == pytest.approx(expected, abs=1e-12)


def test_equal_rewards_have_equal_scores_between_those_of_their_places():
    scores = normal_scores([1.0, 2.0, 2.0, 3.0])
    assert scores[1] == scores[2] == pytest.approx(0.0, abs=1e-12)
    assert scores[0] == pytest.approx(stats.norm.ppf(1 / 8))


def test_a_single_number_has_the_score_of_the_middle():
    assert normal_scores([3.0]).tolist() == [0.0]


def test_what_differs_by_rounding_only_keeps_its_order():
    assert order(np.array([1.0, 3.0, 3.0 + 1e-12, 2.0])).tolist() == [1, 2, 3, 0]
    assert order(np.zeros(3)).tolist() == [0, 1, 2]


def test_the_order_of_small_numbers_counts_by_their_own_size():
    assert order(np.array([1e-12, 3e-12, 2e-12])).tolist() == [1, 2, 0]
