"""Factorised policies: probabilities over active decisions, Plackett-Luce for picks, exact gradients."""

from __future__ import annotations

import collections
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mutandis as mu
from mutandis.algorithms.policies.categorical import CategoricalPolicy, drawn, probabilities
from mutandis.algorithms.sequences import Codec
from mutandis.hyper import Rng
from mutandis.testing import contract_spaces

CONDITIONAL = mu.space({"x": mu.oneof(["a", {"z": mu.oneof([1, 2])}])})
ORDER = mu.space(mu.manyof(2, list("abc")))


def policy(space, logits=None, **settings):
    made = CategoricalPolicy(Codec(space, **settings))
    for table, values in zip(made.logits, logits or [], strict=False):
        table[:] = values
    return made


def random_policy(space, seed=0):
    made, rng = policy(space, bins=4), Rng(seed)
    for table in made.logits:
        table[:] = [rng.gauss(0.0, 1.0) for _ in table]
    return made


def sampled(made, space, seed=0, bins=4):
    rng = Rng(seed)
    return Codec(space, bins).walk(made.chooser(rng), rng)


def conditional():
    made = policy(CONDITIONAL, [[0.0, 1.0], [0.5, 0.0]])
    return made, {options: Codec(CONDITIONAL).trace(options) for options in [(0,), (1, 0), (1, 1)]}


def test_inactive_decisions_take_no_part_in_the_probability():
    made, steps = conditional()
    found = [made.log_prob(steps[options]) for options in steps]
    assert found == pytest.approx([-1.3132616875, -0.7873386717, -1.2873386717], abs=1e-8)
    assert sum(map(math.exp, found)) == pytest.approx(1.0, abs=1e-12)


def test_the_entropy_of_the_steps_has_the_entropy_of_the_policy_as_its_mean():
    made, steps = conditional()
    assert made.entropy(steps[0,]) == pytest.approx(0.5822031089, abs=1e-8)
    assert made.entropy(steps[1, 0]) == made.entropy(steps[1, 1]) == pytest.approx(1.2450504274, abs=1e-8)
    mean = sum(math.exp(made.log_prob(taken)) * made.entropy(taken) for taken in steps.values())
    assert mean == pytest.approx(1.0667833275, abs=1e-8)
    assert mean == pytest.approx(-sum(math.exp(lp) * lp for lp in map(made.log_prob, steps.values())), abs=1e-12)


def test_distinct_picks_follow_plackett_and_luce():
    made, trace = policy(ORDER, [[0.0, 1.0, 2.0]]), Codec(ORDER).trace
    assert made.log_prob(trace((2, 0))) == pytest.approx(-1.720867652, abs=1e-8)
    assert made.gradient(trace((2, 0)))[0] == pytest.approx([0.6410280055, -0.9757870497, 0.3347590442], abs=1e-8)


def test_a_set_has_the_probability_of_all_its_orders():
    made, trace = policy(ORDER, [[0.0, 1.0, 2.0]]), Codec(ORDER).trace
    chances = {(a, b): math.exp(made.log_prob(trace((a, b)))) for a in range(3) for b in range(3) if a != b}
    assert sum(chances.values()) == pytest.approx(1.0, abs=1e-12)
    assert chances[0, 2] + chances[2, 0] == pytest.approx(0.2447284711, abs=1e-8)
    included = [sum(chance for picks, chance in chances.items() if c in picks) for c in range(3)]
    assert included == pytest.approx([0.2981137702, 0.7552715289, 0.9466147008], abs=1e-8)


@pytest.mark.parametrize(
    ("program", "sizes"),
    [
        (mu.manyof(3, list("abcd")), [4]),
        (mu.manyof(3, list("abcd"), ordered=False), [4]),
        (mu.manyof(3, list("abcd"), ordered=False, distinct=False), [4]),
        (mu.manyof(3, list("abcd"), distinct=False), [4, 4, 4]),
        (mu.subset(list("abcd"), min=1, max=2), [2, 4]),
        ([mu.oneof([1, 2]), mu.manyof(2, list("abc")), mu.manyof(2, list("abc")), mu.intv(1, 9)], [2, 3, 3, 9]),
    ],
)
def test_picks_share_a_table_where_their_place_does_not_matter(program, sizes):
    made = policy(mu.space(program))
    assert [len(table) for table in made.logits] == sizes
    assert {made.table(slot) for slot in Codec(mu.space(program)).slots} == set(range(len(sizes)))


def test_a_step_of_the_gradient_is_one_minus_the_probability():
    space = mu.space(mu.oneof([1, 2, 3]))
    found = policy(space).gradient(Codec(space).trace([0]))[0]
    assert [0.1 * g for g in found] == pytest.approx([0.0666666667, -0.0333333333, -0.0333333333], abs=1e-8)


@pytest.mark.parametrize("name", [name for name in contract_spaces() if name != "empty"])
def test_the_gradient_is_the_derivative_of_the_log_probability(name):
    space = contract_spaces()[name]
    made = random_policy(space)
    _, steps = sampled(made, space, seed=3)
    gradient = made.gradient(steps)
    for number, table in enumerate(made.logits):
        for i, value in enumerate(table):
            table[i] = value + 1e-6
            above = made.log_prob(steps)
            table[i] = value - 1e-6
            slope = (above - made.log_prob(steps)) / 2e-6
            table[i] = value
            assert gradient.get(number, [0.0] * len(table))[i] == pytest.approx(slope, abs=1e-7)


def test_tables_of_inactive_decisions_have_no_gradient():
    made, steps = conditional()
    assert list(made.gradient(steps[0,])) == [0]
    assert list(made.gradient(steps[1, 1])) == [0, 1]


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=6), st.data())
def test_probabilities_sum_to_one_over_what_is_legal(logits, data):
    legal = data.draw(st.lists(st.booleans(), min_size=len(logits), max_size=len(logits)).filter(any))
    found = probabilities(logits, tuple(legal))
    assert sum(found) == pytest.approx(1.0, abs=1e-12)
    assert [p > 0 for p in found] == legal


def test_large_logits_do_not_overflow():
    assert probabilities([1000.0, 0.0, 1000.0]) == [0.5, 0.0, 0.5]
    assert probabilities([1000.0, -1000.0, -1000.0], (False, True, True)) == [0.0, 0.5, 0.5]


def test_what_is_all_but_impossible_has_no_probability():
    space = mu.space(mu.oneof([1, 2]))
    made = policy(space, [[0.0, 2000.0]])
    assert made.log_prob(Codec(space).trace([0])) == -math.inf
    assert made.entropy(Codec(space).trace([0])) == 0.0


@pytest.mark.parametrize(
    ("place", "option"), [(0.0, 1), (0.2499, 1), (0.25, 3), (0.999, 3), (math.nextafter(1.0, 0.0), 3)]
)
def test_an_option_is_drawn_by_its_share_and_never_an_impossible_one(place, option):
    assert drawn([0.0, 0.25, 0.0, 0.75, 0.0], place) == option


def test_rounding_never_draws_an_impossible_option():
    assert drawn([0.5, 0.4999999, 0.0], math.nextafter(1.0, 0.0)) == 1


@pytest.mark.parametrize("name", ["choice", "permutation", "subset", "conditional"])
def test_steps_are_drawn_with_their_probability(name):
    space = contract_spaces()[name]
    made, codec, rng = random_policy(space, seed=1), Codec(space, 4), Rng(2)
    trials = 4000
    counts = collections.Counter(codec.walk(made.chooser(rng), rng)[1] for _ in range(trials))
    for steps, count in counts.most_common(5):
        chance = math.exp(made.log_prob(steps))
        assert abs(count - trials * chance) < 4.5 * math.sqrt(trials * chance * (1 - chance))
