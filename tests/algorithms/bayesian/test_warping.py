"""Warping of rewards: ranks for bad ones, room for good ones."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from mutandis.algorithms.bayesian.warping import half_rank, log_warped, warped


def test_the_good_half_stays_as_it_is():
    rewards = np.array([5.0, 1.0, 3.0, -1000.0, 4.0])
    assert half_rank(rewards)[[0, 2, 4]].tolist() == [5.0, 3.0, 4.0]


def test_the_bad_half_moves_to_quantiles_of_a_normal_distribution():
    rewards = np.array([5.0, 1.0, 3.0, -1000.0, 4.0])
    spread = np.sqrt((0 + 1 + 4) / 3)
    expected = 3.0 + spread * norm.ppf([0.5 * 1.5 / 2.5, 0.5 * 0.5 / 2.5])
    assert half_rank(rewards)[[1, 3]] == pytest.approx(expected)


def test_equal_rewards_stay_equal():
    made = half_rank(np.array([0.0, 0.0, 1.0, 2.0, 2.0, 3.0]))
    assert made[0] == made[1]


def test_half_of_the_best_and_one_bad_reward_are_told_apart():
    made = half_rank(np.array([2.0, 2.0, 2.0, 1.0]))
    assert made[3] < 2.0


def test_the_log_runs_from_one_half_down_to_minus_one_half_and_stretches_the_top():
    made = log_warped(np.array([0.0, 1.0, 2.0]))
    assert made == pytest.approx([-0.5, 0.5 - np.log(1.25) / np.log(1.5), 0.5])
    assert made[2] - made[1] > made[1] - made[0]


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e300])
def test_the_order_stays_and_the_unit_of_the_reward_plays_no_part(scale):
    rewards = np.random.default_rng(0).normal(size=31)
    made = warped(rewards * scale)
    assert np.argsort(made).tolist() == np.argsort(rewards).tolist()
    assert made == pytest.approx(warped(rewards))
    assert made.min() == -0.5
    assert made.max() == 0.5


def test_equal_rewards_all_over_become_zeros():
    assert warped(np.array([3.0, 3.0, 3.0])).tolist() == [0.0, 0.0, 0.0]
