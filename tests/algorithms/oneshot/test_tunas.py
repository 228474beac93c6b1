"""TuNAS: known rewards, warm-ups and step sizes; one sample for weights and policy; the constrained toy."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from oneshot_probe import TRIPLE, probed
from toy_supernet import BEST, SPACE, phi, run_shared, successes

import mutandis as mu
from mutandis.algorithms import TuNAS
from mutandis.algorithms.oneshot import Index, Mixture, TableCost, Value
from mutandis.algorithms.oneshot.tables import normals
from mutandis.algorithms.oneshot.tunas import replace_chance, step_scale
from mutandis.algorithms.policies.answers import Baseline
from mutandis.errors import SettingError
from mutandis.testing import contract_spaces

STILL = {"delay": 0.0, "op_warmup": 0.0, "size_warmup": 0.0}


@pytest.mark.parametrize(("fraction", "chance"), [(0.0, 1.0), (0.125, 0.5), (0.25, 0.0), (0.6, 0.0)])
def test_decisions_are_replaced_less_and_less(fraction, chance):
    assert replace_chance(fraction, 0.25) == pytest.approx(chance, abs=1e-12)
    assert replace_chance(fraction, 0.0) == 0.0


@pytest.mark.parametrize(("step", "scale"), [(99, 0.0), (100, 1.0), (250, 3.1622776602), (400, 10.0)])
def test_the_step_size_waits_and_then_grows(step, scale):
    assert step_scale(step / 400, 0.25, 10.0) == pytest.approx(scale, abs=1e-9)


def test_the_baseline_is_an_average_without_bias():
    baseline = Baseline(0.95)
    assert [baseline.add(r) for r in (1.0, 0.0, 1.0)] == pytest.approx([1, 0.4871794872, 0.6669588081], abs=1e-9)


def test_the_chance_of_a_replaced_decision_is_a_mixture():
    rho = 0.3
    assert math.log(rho) == pytest.approx(-1.2039728043, abs=1e-9)
    search, seen = probed(TuNAS(**STILL), [[0.0, 0.0, 0.0, 0.0]], space=mu.space(mu.oneof(list("abcd"))))
    search.feedback(search.policy(), reward=1.0)
    chosen = search.policy()
    search.feedback(chosen, reward=0.0)
    k = chosen[0].index
    (advantage,) = [0.0 - 0.95 * 0.05 / (0.05 + 0.95 * 0.05)]
    # d log((1 - rho) p_k) = d log p_k: what a decision is replaced with does not move its own logits.
    assert seen.last[0][k] == pytest.approx(-advantage * 0.75, abs=1e-9)
    assert math.log(1 - rho) + math.log(0.25) == pytest.approx(-1.7429693051, abs=1e-9)


def test_the_policy_is_asked_about_the_path_that_was_trained():
    search, seen = probed(TuNAS(**STILL), [[0.0] * 3])
    trained = search.weights()
    assert search.policy() is trained
    assert search.policy() is not trained
    search.feedback(trained, reward=1.0)
    search.feedback(trained, reward=5.0)
    assert len(seen.gradients) == 1


def test_the_gradient_is_that_of_the_score():
    search, seen = probed(TuNAS(**STILL), [[0.0, 0.5, -0.5]], uniform=[0.5, 0.5])
    search.feedback(search.policy(), reward=1.0)
    search.feedback(search.policy(), reward=0.0)
    advantage = 0.0 - 0.4871794872
    score = [-0.3071958857, 0.4935196089, -0.1863237232]
    assert seen.gradients[0][0] == pytest.approx([0.0, 0.0, 0.0], abs=1e-12)
    assert seen.last[0] == pytest.approx([-advantage * s for s in score], abs=1e-8)


def test_inactive_decisions_take_no_part():
    space = mu.space({"x": mu.oneof(["a", {"z": mu.oneof([1, 2])}])})
    search, seen = probed(TuNAS(**STILL), [[9.0, 0.0], [0.0, 0.0]], space=space)
    for reward in (1.0, 0.0):
        chosen = search.policy()
        assert list(chosen) == [0]
        search.feedback(chosen, reward=reward)
    assert seen.last[1] is None


def test_a_cost_lowers_the_reward():
    cost = TableCost({"": [1.0, 2.0, 4.0]})
    search, _ = probed(TuNAS(target=2.0, **STILL), [[0.0, 0.0, 9.0]], cost=cost)
    chosen = search.policy()
    assert search._advantage(0.8, chosen.dna(TRIPLE)) == pytest.approx(0.0, abs=1e-12)
    assert search._baseline.value == pytest.approx(0.8 - 0.1 * 1.0, abs=1e-12)


@pytest.mark.parametrize(("target", "cost", "fix"), [(2.0, None, "pass cost= too"),
                                                     (None, lambda dna: 1.0, "set TuNAS(target=...)")])  # fmt: skip
def test_a_cost_and_a_target_go_together(target, cost, fix):
    with pytest.raises(SettingError) as caught:
        TuNAS(target=target).start_shared(TRIPLE, seed=0, cost=cost)
    got = "2.0 (float)" if target else "None (NoneType)"
    assert str(caught.value) == (
        f"cannot weigh a cost\n  at:       TuNAS.target\n  got:      {got}\n"
        f"  expected: a target together with a cost, or neither\n  fix:      {fix}"
    )


def test_a_target_needs_shared_weights():
    with pytest.raises(SettingError) as caught:
        TuNAS(target=2.0).start(TRIPLE, seed=0)
    assert str(caught.value) == (
        "cannot weigh a cost\n  at:       TuNAS.target\n  got:      2.0 (float)\n"
        "  expected: None for a search by trials, whose loop knows the costs\n"
        "  fix:      put the cost into the reward that the loop gives"
    )


def test_at_the_start_sizes_are_largest_and_other_choices_are_means():
    space = mu.space([mu.oneof([8, 64, 16]), mu.oneof(["a", "b"]), mu.intv(1, 3), mu.floatv(0.0, 1.0),
                      mu.manyof(2, ["a", "b"])])  # fmt: skip
    chosen = TuNAS().start_shared(space, seed=0).weights()
    assert chosen[0] == Index(1)
    assert isinstance(chosen[1], Mixture) and chosen[1].weights.tolist() == [0.5, 0.5]
    assert isinstance(chosen[2], Value) and chosen[2].value == 3
    assert isinstance(chosen[3].value, float)
    assert sorted(chosen[4].value) == [0, 1]


def test_replaced_decisions_open_all_that_is_below_them():
    space = mu.space({"x": mu.oneof(["a", {"z": mu.oneof(["b", "c"])}])})
    assert list(TuNAS().start_shared(space, seed=0).weights()) == [0, 1]


def test_rewards_of_replaced_decisions_are_left_aside():
    search, seen = probed(TuNAS(), [[0.0] * 3], fraction=0.1)
    search.noise.uniform = iter([0.59, 0.61, 0.5]).__next__
    for reward, used in ((1.0, False), (1.0, True)):
        search.feedback(search.policy(), reward=reward)
        assert (search._baseline.value is not None) == used
    assert seen.gradients == []


def test_the_scale_reaches_the_optimizer():
    search, seen = probed(TuNAS(), [[0.0] * 3], fraction=0.625)
    search.feedback(search.policy(), reward=1.0)
    assert seen.scales == [pytest.approx(10**0.5, abs=1e-12)]


def test_a_usual_reward_moves_nothing_since_adam_has_no_momentum():
    search = TuNAS(learning_rate=0.1, **STILL).start_shared(TRIPLE, seed=0)
    for reward in (1.0, 0.0, 1.0):
        search.feedback(search.policy(), reward=reward)
    before = search.policy_tables.state()[0]
    search.feedback(search.policy(), reward=search._baseline.value)
    assert search.policy_tables.state()[0] == pytest.approx(before, abs=1e-9)


def test_a_normal_range_closes_in_on_what_is_rewarded():
    space = mu.space({"lr": mu.floatv(1e-4, 1.0, scale="log")})
    search = TuNAS(learning_rate=0.02, growth=1.0, ranges="normal", **STILL).start_shared(space, seed=0)
    width = float(normals.parameters(search.policy_tables.tables[0])[1])
    for _ in range(500):
        chosen = search.policy()
        search.feedback(chosen, reward=-abs(math.log10(chosen[0].value) + 3.0))
    assert search.derive().values[0] == pytest.approx(1e-3, rel=0.5)
    assert float(normals.parameters(search.policy_tables.tables[0])[1]) < 0.5 * width
    assert search.probabilities() == {} and search.entropy()["['lr']"] < -0.5


@pytest.mark.parametrize("name", [name for name in contract_spaces() if name != "empty"])
def test_every_space_but_open_ended_ones_is_learnt(name):
    space = contract_spaces()[name].bare()
    search = TuNAS(learning_rate=0.2, growth=1.0, **STILL).start_shared(space, seed=0)
    before = search.policy_tables.state()
    with torch.no_grad():
        for number in range(8):
            chosen = search.policy()
            assert space.dna(chosen.dna(space).to_json()) == chosen.dna(space)
            search.feedback(chosen, reward=float(number % 3))
    assert search.policy_tables.state() != before
    assert space.dna(search.derive().to_json()) == search.derive()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"op_warmup": 0.5},
            "TuNAS.op_warmup\n  got:      0.5 (float)\n  expected: a finite number >= 0 and <= 0.25\n",
        ),
        ({"exponent": 0.0}, "TuNAS.exponent\n  got:      0.0 (float)\n  expected: a finite number < 0\n"),
        ({"delay": 1.0}, "TuNAS.delay\n  got:      1.0 (float)\n  expected: a finite number >= 0 and < 1\n"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(SettingError) as caught:
        TuNAS(**settings)
    wanted = "cannot use a setting\n  at:       " + message + "  fix:      give a number within these bounds"
    assert str(caught.value) == wanted


def test_large_sets_are_refused_before_training():
    large, order = (mu.space(mu.manyof(8, list(range(9)), ordered=ordered)) for ordered in (False, True))
    assert TuNAS().start_shared(order, seed=0).probabilities() == {}
    with pytest.raises(SettingError, match="cannot sum over the orders of picks"):
        TuNAS().start_shared(large, seed=0)


def test_the_toy_supernet_is_solved():
    assert run_shared(TuNAS(learning_rate=0.03, growth=1.0), 1500, 0) == BEST


@pytest.mark.slow
def test_nine_of_ten_seeds_solve_the_toy_supernet():
    assert successes(TuNAS(learning_rate=0.03, growth=1.0), 2000, range(10)) >= 9


def optimum(target, beta):
    """Returns the best child by enumeration, operation i costing i + 1."""
    table = torch.corrcoef(phi(torch.linspace(-1, 1, 20001)[:, None])[:, 0].T)

    def score(child):
        quality = sum(float(table[op, BEST[layer]]) ** 2 for layer, op in enumerate(child)) / 4
        return quality + beta * abs((sum(child) + 4) / target - 1)

    return max(itertools.product(range(4), repeat=4), key=score)


@pytest.mark.slow
def test_a_target_leads_to_the_constrained_optimum():
    cost = TableCost({point.path: [1.0, 2.0, 3.0, 4.0] for point in SPACE.points})
    algorithm = TuNAS(target=7.0, exponent=-0.5, learning_rate=0.03, growth=1.0)
    assert optimum(7.0, -0.5) == (0, 1, 0, 3)
    assert sum(run_shared(algorithm, 2500, seed, cost=cost) == (0, 1, 0, 3) for seed in range(6)) >= 5
