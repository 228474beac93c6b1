"""Gumbel noise and what is drawn with it: known answers, straight-through values, gradients by finite differences."""

from __future__ import annotations

import collections
import itertools
import math

import pytest
import torch
from oneshot_probe import vector

from mutandis.algorithms.oneshot.tables.relaxations import (
    Noise,
    annealed,
    concrete_log_density,
    order_weights,
    ordered_log_prob,
    set_weights,
    soft_sample,
    soft_set,
    straight_through,
    top_picks,
)
from mutandis.hyper import Rng


def leaf(*numbers):
    return vector(*numbers).requires_grad_()


def test_picks_without_replacement_follow_plackett_and_luce():
    logits = leaf(0, 1, 2)
    value = ordered_log_prob(logits, (2, 0))
    (slope,) = torch.autograd.grad(value, logits)
    assert float(value.detach()) == pytest.approx(-1.720867652, abs=1e-8)
    assert slope.tolist() == pytest.approx([0.6410280055, -0.9757870497, 0.3347590442], abs=1e-8)


def test_a_set_has_the_probability_of_its_orders():
    logits = vector(0, 1, 2)
    chances = {picks: math.exp(ordered_log_prob(logits, picks)) for picks in itertools.permutations(range(3), 2)}
    assert sum(chances.values()) == pytest.approx(1.0, abs=1e-12)
    assert chances[0, 2] + chances[2, 0] == pytest.approx(0.2447284711, abs=1e-8)


def test_the_relaxed_set_is_that_of_xie_and_ermon_and_may_exceed_one():
    found = soft_set(vector(0, 1, 2), 2, 1.0)
    assert found.tolist() == pytest.approx([0.2574100953, 0.6223642355, 1.1202256692], abs=1e-8)
    assert float(found.sum()) == pytest.approx(2.0, abs=1e-8)


def test_weights_of_a_set_are_one_and_clamped_ones_have_no_gradient():
    keys = leaf(0, 1, 2)
    weights = set_weights(keys, (1, 2), 1.0)
    assert weights.tolist() == [1.0, 1.0]
    (slope,) = torch.autograd.grad(weights[1], keys, retain_graph=True)
    assert slope.tolist() == [0.0, 0.0, 0.0]
    (slope,) = torch.autograd.grad(weights[0], keys)
    (wanted,) = torch.autograd.grad(soft_set(keys, 2, 1.0)[1], keys)
    assert slope.tolist() == wanted.tolist() != [0.0, 0.0, 0.0]


def test_weights_of_an_order_are_one_with_the_gradient_of_each_draw():
    keys = leaf(0.3, 1.2, -0.4)
    weights = order_weights(keys, (1, 0), 0.5)
    assert weights.tolist() == [1.0, 1.0]
    (first,) = torch.autograd.grad(weights[0], keys, retain_graph=True)
    (second,) = torch.autograd.grad(weights[1], keys)
    (whole,) = torch.autograd.grad(torch.softmax(keys / 0.5, 0)[1], keys)
    (rest,) = torch.autograd.grad(torch.softmax(keys[[0, 2]] / 0.5, 0)[0], keys)
    assert first.tolist() == pytest.approx(whole.tolist(), abs=1e-12)
    assert second.tolist() == pytest.approx(rest.tolist(), abs=1e-12)


def test_no_picks_have_no_weights():
    assert order_weights(leaf(0, 1), (), 1.0).tolist() == []
    assert set_weights(leaf(0, 1), (), 1.0).tolist() == []


def test_a_straight_through_sample_is_one_hot_with_the_gradient_of_the_soft_one():
    logits = leaf(1, 0, -1)
    soft = soft_sample(logits, vector(-0.2, 1.5, 0.3), 1.0)
    hard = straight_through(soft, 1)
    assert soft.tolist() == pytest.approx([0.3089391989, 0.6221271482, 0.0689336529], abs=1e-8)
    assert hard.tolist() == pytest.approx([0.0, 1.0, 0.0], abs=1e-15)
    (slope,) = torch.autograd.grad(hard[1], logits, retain_graph=True)
    assert slope.tolist() == torch.autograd.grad(soft[1], logits)[0].tolist()


def test_the_concrete_density_has_its_known_answer():
    point = torch.softmax((vector(0, 0.5, -0.5) + vector(0.3, -0.1, 0.7)) / 0.5, 0)
    assert float(concrete_log_density(point, vector(0, 0.5, -0.5), 0.5)) == pytest.approx(-0.8111944239, abs=1e-8)


def test_the_concrete_density_stays_finite_at_a_corner():
    assert math.isfinite(concrete_log_density(vector(1, 0, 0), vector(0, 0, 0), 0.03))


def test_the_winner_does_not_depend_on_the_temperature():
    noise = vector(-0.2, 1.5, 0.3)
    winners = {top_picks(soft_sample(vector(1, 0, -1), noise, tau), 1) for tau in (10.0, 1.0, 0.1)}
    assert winners == {(1,)}


def test_largest_keys_come_first_and_ties_by_index():
    assert top_picks(vector(1, 3, 3, 2), 3) == (1, 2, 3)


def test_gumbel_numbers_have_the_mean_of_gumbel_numbers_and_draw_the_softmax():
    noise, logits = Noise(Rng(0)), vector(0, 1, -1)
    numbers = noise.gumbel(4000)
    assert float(numbers.mean()) == pytest.approx(0.5772, abs=0.08)
    assert bool(torch.isfinite(numbers).all())
    counts = collections.Counter(top_picks(logits + noise.gumbel(3), 1)[0] for _ in range(2000))
    for index, chance in enumerate(torch.softmax(logits, 0).tolist()):
        assert counts[index] / 2000 == pytest.approx(chance, abs=0.045)


@pytest.mark.parametrize("place", [0.0, 1.0 - 2.0**-53])
def test_gumbel_numbers_are_finite_at_the_ends_of_the_uniform_ones(place):
    rng = Rng(0)
    rng.random = lambda: place
    assert math.isfinite(Noise(rng).gumbel(1))


def test_distinct_options_are_drawn_in_proportion_to_what_is_left():
    noise = Noise(Rng(1))
    counts = collections.Counter(noise.distinct([0.2, 0.3, 0.5], 2) for _ in range(4000))
    assert set(counts) == set(itertools.permutations(range(3), 2))
    for (a, b), count in counts.items():
        chances = [0.2, 0.3, 0.5]
        assert count / 4000 == pytest.approx(chances[a] * chances[b] / (1 - chances[a]), abs=0.03)


@pytest.mark.parametrize(
    ("shape", "fraction", "value"),
    [("linear", 0, 10), ("linear", 125 / 249, 10 - 9.9 * 125 / 249), ("linear", 1, 0.1), ("cosine", 0.5, 5.05),
     ("cosine", 0.25, 10 - 9.9 * (1 - math.sqrt(0.5)) / 2), ("cosine", 1, 0.1)],
)  # fmt: skip
def test_temperatures_anneal(shape, fraction, value):
    assert annealed(10.0, 0.1, fraction, shape) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize(("epoch", "value"), [(0, 5.0), (1, 4.78), (10, 3.1881799), (90, 0.0871522)])
def test_a_temperature_may_fall_at_a_constant_rate(epoch, value):
    assert annealed(5.0, 5 * 0.956**90, epoch / 90, "exponential") == pytest.approx(5 * 0.956**epoch, rel=1e-12)
    assert 5 * 0.956**epoch == pytest.approx(value, abs=1e-4)
