"""Maximisers: known maxima of spaces of each kind."""

from __future__ import annotations

import numpy as np
import pytest

import mutandis as mu
from mutandis.algorithms.bayesian.features import Features
from mutandis.algorithms.bayesian.maximise import Maximiser, with_hidden_genes
from mutandis.hyper import space


def maximum(program, reward, seed=0):
    """Returns the best DNA for a reward that is linear or quadratic in the features."""
    bare = space(program).bare()
    features = Features(bare)

    def slope(point):
        step = 1e-7
        value = reward(point[None])[0]
        return value, (reward(point + step * np.eye(len(point))) - value) / step

    found = Maximiser(features).best(reward, slope, np.empty((0, features.num_units)), np.random.default_rng(seed))
    scores = reward(features.encode(found))
    assert (np.diff(scores) <= 0).all()
    return bare.from_unit(found[0].tolist())


def test_a_continuous_maximum_is_found_to_many_digits():
    target = np.array([0.123456, 0.98, 0.5])
    program = [mu.floatv(0.0, 1.0) for _ in range(3)]
    found = maximum(program, lambda x: -((x - target) ** 2).sum(axis=1))
    assert found.values == pytest.approx(target, abs=1e-5)


def test_a_maximum_on_the_border_is_found():
    assert maximum([mu.floatv(0.0, 1.0)] * 2, lambda x: x[:, 0]).values[0] == 1.0


def test_a_mixed_maximum_is_found():
    program = [mu.oneof(list(range(6))) for _ in range(6)] + [mu.floatv(0.0, 1.0), mu.intv(0, 100)]
    weights = np.random.default_rng(4).normal(size=36)
    found = maximum(program, lambda x: x[:, :36] @ weights - (x[:, 36] - 0.3) ** 2 - (x[:, 37] - 0.7) ** 2)
    assert list(found.values[:6]) == weights.reshape(6, 6).argmax(axis=1).tolist()
    assert found.values[6:] == pytest.approx((0.3, 70), abs=1e-4)


def test_the_best_order_of_nine_is_found():
    found = maximum(mu.permutate(list(range(9))), lambda x: x @ np.arange(9))
    assert found.values[0] == (0, 1, 2, 3, 4, 5, 6, 7, 8)


def test_a_maximum_below_a_choice_is_found():
    program = mu.oneof([{"x": mu.floatv(0.0, 1.0)}, {"y": mu.floatv(0.0, 1.0)}, "none"])
    found = maximum(program, lambda x: x[:, 1] - 10 * (x[:, -2] - 0.25) ** 2 * x[:, -1])
    assert found.values[0] == 1
    assert found.values[2] == pytest.approx(0.25, abs=1e-3)


def test_a_small_space_is_ranked_whole():
    bare = space([mu.oneof([1, 2, 3]), mu.oneof([1, 2])]).bare()
    features = Features(bare)
    found = Maximiser(features).best(lambda x: x[:, 0], None, np.empty((0, 2)), np.random.default_rng(0))
    assert len({bare.from_unit(place.tolist()) for place in found}) == 6
    assert bare.from_unit(found[0].tolist()).values[0] == 0


def test_hidden_genes_are_drawn_and_active_ones_kept():
    bare = space(mu.oneof([{"x": mu.floatv(0.0, 1.0)}, "none"])).bare()
    features = Features(bare)
    places = np.array([[0.25, 0.75], [0.75, 0.5]])
    made = with_hidden_genes(features, places, np.random.default_rng(0))
    assert made[0].tolist() == [0.25, 0.75]
    assert made[1, 0] == 0.75
    assert made[1, 1] != 0.5
