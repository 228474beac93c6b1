"""Costs in the loss: known answers of each form, and gradients by finite differences through every algorithm."""

from __future__ import annotations

import math

import pytest
import torch
from oneshot_probe import TRIPLE, probed, vector

import mutandis as mu
from mutandis.algorithms import DARTS, DSNAS, GDAS, RSPS, SNAS, TAS, FBNetV2, ProxylessNAS, ResourceConstrained, TuNAS
from mutandis.algorithms.oneshot import TableCost
from mutandis.algorithms.oneshot.tables.policy import Policy
from mutandis.errors import DecisionError, SettingError
from mutandis.hyper import Rng

COST = TableCost({"": [10.0, 2.0, 0.0]})
LOGITS = [[0.0, 0.5, -0.5]]
CONDITIONAL = mu.space({"x": mu.oneof(["a", {"z": mu.oneof([1, 2])}], name="x")})


def total(form, loss, expected, cheapest=None, **settings):
    """Returns the whole loss at an expected cost, and the cost of the most likely child."""

    class Fixed:
        def __call__(self, dna):
            return cheapest

        def expected(self, policy, tables):
            return vector(expected)[0]

    made = ResourceConstrained(DARTS(), Fixed(), form=form, **settings)
    policy = Policy(TRIPLE, Rng(0))
    return float(made.total(vector(loss)[0], policy, policy.tables))


def test_a_linear_cost_has_its_known_answer():
    search, seen = probed(ResourceConstrained(DARTS(), COST), LOGITS)
    chosen = search.policy()
    search.feedback(chosen, loss=0.0 * chosen[0].weights.sum())
    assert seen.last[0] == pytest.approx([1.8170883505, -1.0559709142, -0.7611174363], abs=1e-8)
    policy = search.policy_tables
    assert float(COST.expected(policy, policy.tables)) == pytest.approx(4.0849196393, abs=1e-8)


def test_a_relative_cost_has_its_known_answer():
    assert total("relative", 2.0, 100.0, budget=80.0, weight=0.1) == pytest.approx(2.025, abs=1e-12)


def test_a_power_of_the_cost_has_its_known_answer():
    found = total("power", 2.0, 100.0, budget=80.0, weight=0.2, exponent=0.3)
    assert found == pytest.approx(0.4060048231, abs=1e-9)


@pytest.mark.parametrize(
    ("cost", "term"), [(106.0, 4.7874917428), (105.0, 0.0), (100.0, 0.0), (95.0, 0.0), (94.0, -4.7874917428)]
)
def test_a_band_pulls_only_outside(cost, term):
    assert total("band", 1.0, 120.0, cost, budget=100.0) == pytest.approx(1.0 + term, abs=1e-8)
    assert total("band", 1.0, 120.0, cost, budget=100.0, weight=2.0) == pytest.approx(1.0 + 2 * term, abs=1e-8)


FORMS = [("linear", {}), ("relative", {"budget": 3.0}), ("power", {"budget": 3.0}), ("band", {"budget": 3.0})]


@pytest.mark.parametrize(("form", "settings"), FORMS)
@pytest.mark.parametrize(
    "algorithm",
    [DARTS(), GDAS(), SNAS(), DSNAS(), ProxylessNAS(), ProxylessNAS(paths="all"), FBNetV2(warmup=0.0), TAS()],
)
@pytest.mark.parametrize("is_backward_first", [False, True])
def test_the_gradient_of_the_whole_is_right(algorithm, form, settings, is_backward_first):
    constrained = ResourceConstrained(algorithm, COST, form=form, weight=0.7, **settings)

    def gradient(made):
        search, seen = probed(made, LOGITS)
        chosen = search.policy()
        read = chosen[0].gate if hasattr(chosen[0], "gate") else chosen[0].weights
        loss = 3.0 + read.sum() ** 2
        if is_backward_first:
            loss.backward()
        search.feedback(chosen, loss=loss)
        return float(loss.detach()), search.policy_tables, vector(*(seen.last[0] or [0.0] * 3))

    loss, policy, plain = gradient(algorithm)
    _, _, found = gradient(constrained)

    def whole(value):
        return float(constrained.total(vector(value)[0], policy, policy.tables))

    factor = (whole(loss + 1e-6) - whole(loss - 1e-6)) / 2e-6
    through = []
    for i in range(3):
        policy.tables[0][i] += 1e-6
        above = whole(loss)
        policy.tables[0][i] -= 2e-6
        below = whole(loss)
        policy.tables[0][i] += 1e-6
        through.append((above - below) / 2e-6)
    assert found.tolist() == pytest.approx((factor * plain + vector(*through)).tolist(), abs=1e-6)
    assert any(abs(slope) > 1e-3 for slope in through)


def test_a_second_order_step_takes_a_cost_too():
    class Flat:
        learning_rate = 0.1

        def weights(self):
            return [vector(1.0)]

        def stepped(self, gradients):
            return self.weights()

        def loss(self, selections, data, weights):
            return selections[0].weights[0] * 0.0 + weights[0][0] * 0.0

    search, seen = probed(ResourceConstrained(DARTS(order=2), COST), LOGITS)
    search.feedback(search.policy(), virtual=Flat())
    assert seen.last[0] == pytest.approx([1.8170883505, -1.0559709142, -0.7611174363], abs=1e-8)


def test_a_cost_adds_up_over_active_decisions():
    cost = TableCost({"x": [1.0, 2.0], CONDITIONAL.points[1].path: [10.0, 20.0]}, base=100.0)
    costs = [cost(dna) for dna in CONDITIONAL.bare().enumerate()]
    assert costs == [101.0, 112.0, 122.0]
    policy = Policy(CONDITIONAL, Rng(0), init_std=1.0)
    wanted = sum(math.exp(policy.log_prob(dna)) * cost(dna) for dna in policy.space.enumerate())
    assert float(cost.expected(policy, policy.tables)) == pytest.approx(wanted, abs=1e-10)


def test_picks_cost_what_each_costs():
    space = mu.space(mu.manyof(2, ["a", "b", "c"], distinct=False))
    assert TableCost({"": [1.0, 10.0, 100.0]})(space.dna({"": [1, 1]})) == 20.0


@pytest.mark.parametrize("value", [mu.oneof([1, 2]), mu.floatv(0.0, 1.0)])
def test_costs_that_do_not_fit_are_refused_at_the_start(value):
    space = mu.space(value)
    with pytest.raises(SettingError) as caught:
        ResourceConstrained(DARTS(), COST).start_shared(space, seed=0)
    assert str(caught.value) == (
        "cannot read costs\n  at:       TableCost.costs['']\n  got:      '3 costs' (str)\n"
        f"  expected: {space.points[0].num_candidates}, one per candidate\n"
        "  fix:      leave ranges out, or write them as mu.oneof([...])"
    )


def test_costs_of_unknown_decisions_are_refused_at_the_start():
    with pytest.raises(DecisionError):
        ResourceConstrained(DARTS(), TableCost({"nowhere": [1.0]})).start_shared(TRIPLE, seed=0)


@pytest.mark.parametrize("algorithm", [TuNAS(), RSPS()])
def test_algorithms_without_a_loss_are_refused(algorithm):
    with pytest.raises(SettingError) as caught:
        ResourceConstrained(algorithm, COST).start_shared(TRIPLE, seed=0)
    message = str(caught.value)
    assert message.startswith("cannot constrain an algorithm\n  at:       ResourceConstrained.algorithm\n  got:      ")
    assert message.endswith(
        "expected: one that learns from a loss that it is given\n"
        "  fix:      use DARTS(), or TuNAS(target=...), which weighs costs itself"
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"form": "cube"}, "form\n  got:      'cube' (str)\n"
         "  expected: 'linear' or 'relative' or 'power' or 'band'\n  fix:      write 'linear'"),
        ({"form": "band"}, "budget\n  got:      None (NoneType)\n  expected: a finite number > 0\n"
         "  fix:      give a number within these bounds"),
        ({"form": "power", "budget": 1.0}, "budget\n  got:      1.0 (float)\n  expected: a finite number > 1\n"
         "  fix:      give a number within these bounds"),
        ({"budget": 3.0}, "budget\n  got:      3.0 (float)\n"
         "  expected: None for form='linear', which only has a weight\n"
         "  fix:      write form='relative' or form='band'"),
    ],
)  # fmt: skip
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(SettingError) as caught:
        ResourceConstrained(DARTS(), COST, **settings)
    assert str(caught.value) == "cannot use a setting\n  at:       ResourceConstrained." + message


def test_a_cost_that_is_no_number_is_refused():
    with pytest.raises(SettingError) as caught:
        TableCost({"x": [1.0, math.nan]})
    assert str(caught.value) == (
        "cannot use a setting\n  at:       TableCost.costs['x']\n  got:      nan (float)\n"
        "  expected: a finite number\n  fix:      give a number"
    )


def test_a_large_weight_leads_to_the_cheapest_child():
    search = ResourceConstrained(DARTS(learning_rate=0.05), COST, weight=5.0).start_shared(TRIPLE, seed=0)
    for _ in range(60):
        chosen = search.policy()
        search.feedback(chosen, loss=(chosen[0].weights * vector(0.0, 1.0, 2.0)).sum())
    assert search.derive().values == (2,)
    assert torch.is_tensor(search.policy_tables.tables[0])
