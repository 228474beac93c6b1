"""Decisions as tables: options of ranges, smooth values, picks with weights that are 1."""

from __future__ import annotations

import collections
import math

import pytest
import torch
from oneshot_probe import vector

import mutandis as mu
from mutandis.algorithms.oneshot.tables.parts import cut, nearest, orders_of, picks_log_prob, smooth_value
from mutandis.algorithms.oneshot.tables.policy import Policy
from mutandis.algorithms.oneshot.tables.relaxations import Noise
from mutandis.errors import SettingError
from mutandis.hyper import Rng


def policy(value, logits=None, **options):
    made = Policy(mu.space({"x": value}), Rng(0), **options)
    if logits is not None:
        made.set_state(logits)
    return made


def point(value):
    return mu.space({"x": value}).points[0]


@pytest.mark.parametrize(
    ("value", "continuous", "kind", "lengths", "values"),
    [
        (mu.oneof(list("abc")), "value", "options", [3], (0, 1, 2)),
        (mu.intv(2, 5), "value", "options", [4], (2, 3, 4, 5)),
        (mu.intv(0, 99), "value", "options", [4], (12, 37, 62, 87)),
        (mu.floatv(0.0, 1.0, step=0.5), "value", "options", [3], (0.0, 0.5, 1.0)),
        (mu.floatv(0.0, 1.0), "value", "value", [1], ()),
        (mu.floatv(0.0, 1.0), "normal", "normal", [2], ()),
        (mu.intv(2, 5), "normal", "options", [4], (2, 3, 4, 5)),
        (mu.floatv(0.0, 1.0), "options", "options", [4], (0.125, 0.375, 0.625, 0.875)),
        (mu.manyof(2, list("abc")), "value", "picks", [3], ()),
        (mu.manyof(2, list("abc"), distinct=False), "value", "picks", [3, 3], ()),
        (mu.manyof(2, list("abc"), distinct=False, ordered=False), "value", "picks", [3], ()),
        (mu.subset(list("abcd"), min=1, max=3), "value", "picks", [3, 4], ()),
    ],
)
def test_decisions_are_cut_into_tables(value, continuous, kind, lengths, values):
    assert cut(point(value), continuous=continuous, most=4) == (kind, lengths, values)


def test_options_of_a_log_range_are_even_in_the_logarithm():
    values = cut(point(mu.floatv(1e-4, 1.0, scale="log")), continuous="options", most=2)[2]
    assert values == pytest.approx([1e-3, 1e-1], rel=1e-12)


@pytest.mark.parametrize(("a", "value"), [(-800.0, 2.0), (0.0, 4.0), (math.log(3), 5.0), (800.0, 6.0)])
def test_a_smooth_value_fills_its_range(a, value):
    assert float(smooth_value(point(mu.floatv(2.0, 6.0)), vector(a)[0])) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize(("a", "value"), [(-800.0, 1e-4), (0.0, 1e-3), (math.log(3), 10**-2.5), (800.0, 1e-2)])
def test_a_smooth_value_on_a_log_scale_is_geometric(a, value):
    found = float(smooth_value(point(mu.floatv(1e-4, 1e-2, scale="log")), vector(a)[0]))
    assert found == pytest.approx(value, rel=1e-12)
    assert 1e-4 <= found <= 1e-2


def test_a_smooth_value_has_the_gradient_of_the_sigmoid():
    number = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(smooth_value(point(mu.floatv(2.0, 6.0)), number), number)
    share = 1 / (1 + math.exp(-0.3))
    assert float(slope) == pytest.approx(4.0 * share * (1 - share), abs=1e-12)


@pytest.mark.parametrize(("value", "option"), [(0.0, 0), (0.3, 1), (1.0, 3)])
def test_values_between_options_belong_to_the_nearest(value, option):
    assert nearest(policy(mu.floatv(0.0, 1.0), continuous="options", most=4).parts[0], value) == option


@pytest.mark.parametrize(
    "value",
    [mu.manyof(2, list("abc")), mu.manyof(2, list("abc"), ordered=False), mu.manyof(2, list("abc"), distinct=False),
     mu.manyof(2, list("abc"), distinct=False, ordered=False), mu.subset(list("abc"), min=0, max=2)],
)  # fmt: skip
def test_picks_are_drawn_with_their_probability_and_weights_that_are_one(value):
    made = policy(value, init_std=0.7)
    noise, trials = Noise(Rng(3)), 3000
    counts = collections.Counter()
    for _ in range(trials):
        chosen = made.select(0, made.tables, None, noise, 1.0)[0]
        assert chosen.weights.tolist() == pytest.approx([1.0] * len(chosen.indices), abs=1e-12)
        made.space.points[0].check(chosen.indices)
        assert made.space.points[0].ordered or list(chosen.indices) == sorted(chosen.indices)
        counts[chosen.indices] += 1
    for picks, count in counts.items():
        chance = math.exp(picks_log_prob(made.parts[0], made.tables, picks))
        assert abs(count - trials * chance) < 4.5 * math.sqrt(trials * chance * (1 - chance)) + 1


@pytest.mark.parametrize("value", [mu.manyof(2, list("abc")), mu.manyof(2, list("abc"), ordered=False),
                                   mu.manyof(2, list("abc"), distinct=False, ordered=False)])  # fmt: skip
def test_weights_of_picks_have_a_gradient(value):
    made = policy(value, init_std=0.5)
    leaves = made.leaves()
    chosen = made.select(0, leaves, None, Noise(Rng(1)), 1.0)[0]
    (slope,) = torch.autograd.grad(chosen.weights @ vector(1.0, 3.0), leaves)
    assert float(slope.abs().sum()) > 1e-3


def test_a_set_adds_up_its_orders():
    made = policy(mu.manyof(2, list("abc"), ordered=False), [[0.0, 1.0, 2.0]])
    assert math.exp(picks_log_prob(made.parts[0], made.tables, (0, 2))) == pytest.approx(0.2447284711, abs=1e-8)
    again = policy(mu.manyof(2, list("abc"), ordered=False, distinct=False), [[0.0, 0.0, 0.0]])
    assert math.exp(picks_log_prob(again.parts[0], again.tables, (1, 1))) == pytest.approx(1 / 9, abs=1e-12)
    assert math.exp(picks_log_prob(again.parts[0], again.tables, (0, 1))) == pytest.approx(2 / 9, abs=1e-12)


def test_too_many_orders_are_refused():
    with pytest.raises(SettingError) as caught:
        orders_of(point(mu.permutate(list(range(9)))))
    assert str(caught.value) == (
        "cannot sum over the orders of picks\n  at:       ['x']\n  got:      362880 (int)\n"
        "  expected: at most 20000 orders\n  fix:      pick fewer, or from fewer candidates"
    )


def test_open_ended_decisions_are_refused():
    with pytest.raises(SettingError) as caught:
        policy(mu.evolve([1], lambda program, rng: [*program, 2]))
    assert str(caught.value) == (
        "cannot relax a decision\n  at:       ['x']\n  got:      'a program, open-ended' (str)\n"
        "  expected: decisions among candidates or within ranges\n"
        "  fix:      use an algorithm that rewrites programs, such as RegularizedEvolution()"
    )
