"""Rewards that weigh a cost, and REINFORCE by batches of them."""

from __future__ import annotations

import json

import pytest
from oneshot_probe import TRIPLE, Recorder, probed
from toy_supernet import BEST, run_shared, successes

import mutandis as mu
from mutandis.algorithms import ProxylessNAS
from mutandis.algorithms.oneshot import Index, TableCost, Value
from mutandis.algorithms.oneshot.rewards import shaped_reward
from mutandis.errors import SettingError

LOGITS = [[0.0, 0.5, -0.5]]
CHANCES = [0.3071958857, 0.5064803911, 0.1863237232]
QUICK = {"rule": "reinforce", "learning_rate": 0.03, "init_std": 0.0, "every": 1, "batch_size": 3}


@pytest.mark.parametrize(
    ("kind", "ratio", "reward"),
    [("mnas", 2.0, 0.7621103984), ("hard", 2.0, 0.7621103984), ("absolute", 2.0, 0.73),
     ("mnas", 0.5, 0.8397733469), ("hard", 0.5, 0.8), ("absolute", 0.5, 0.765)],
)  # fmt: skip
def test_rewards_have_their_known_answers(kind, ratio, reward):
    assert shaped_reward(kind, 0.8, ratio, -0.07) == pytest.approx(reward, abs=1e-9)


def answered(search, *rewards):
    """Answers as many draws, and returns the candidates that were drawn."""
    drawn = []
    for reward in rewards:
        chosen = search.policy()
        drawn.append(chosen[0].index)
        search.feedback(chosen, reward=reward)
    return drawn


def test_a_batch_moves_the_policy_towards_what_was_better_than_the_mean():
    search, seen = probed(ProxylessNAS("reinforce", batch_size=2), LOGITS, uniform=[0.5, 0.1])
    assert answered(search, 1.0, 0.0) == [1, 0]
    # -(1/2) [.5 (e1 - p) - .5 (e0 - p)].
    assert seen.gradients == [[pytest.approx([0.25, -0.25, 0.0], abs=1e-12)]]


def test_the_baseline_nearly_forgets_what_was_before():
    search, seen = probed(ProxylessNAS("reinforce", batch_size=2), LOGITS, uniform=[0.5] * 4)
    answered(search, 1.0, 0.0, 0.8, 0.6)
    assert search._baseline == pytest.approx(0.5 + 0.99 * 0.2, abs=1e-12)
    factor = -(0.7 - 0.698)
    expected = [factor * (float(i == 1) - p) for i, p in enumerate(CHANCES)]
    assert seen.last[0] == pytest.approx(expected, abs=1e-9)


def test_a_cost_lowers_the_reward():
    cost = TableCost({"": [40.0, 160.0, 80.0]})
    search, _ = probed(ProxylessNAS("reinforce", target=80.0, batch_size=9), LOGITS, uniform=[0.1, 0.5, 0.9], cost=cost)
    answered(search, 0.5, 0.5, 0.5)
    rewards = [reward for _, reward in search._batch]
    assert rewards == pytest.approx([0.5 * 2**0.1, 0.5 * 0.5**0.1, 0.5], abs=1e-12)


@pytest.mark.parametrize("reward", [None, float("nan"), float("inf")])
def test_failures_fill_no_batch(reward):
    search, seen = probed(ProxylessNAS("reinforce", batch_size=1), LOGITS)
    answered(search, reward)
    assert (seen.gradients, search._batch) == ([], [])


def test_each_answer_counts_once():
    search, seen = probed(ProxylessNAS("reinforce", batch_size=1), LOGITS)
    chosen = search.policy()
    search.feedback(chosen, reward=1.0)
    search.feedback(chosen, reward=1.0)
    search.feedback(search.weights(), reward=1.0)
    assert len(seen.gradients) == 1


def test_the_policy_rests_until_the_delay_is_over():
    search, seen = probed(ProxylessNAS("reinforce", batch_size=1, delay=0.25), LOGITS, fraction=0.2)
    answered(search, 1.0)
    search.progress(0.25)
    answered(search, 1.0)
    assert len(seen.gradients) == 1


def test_needs_are_those_of_rewards():
    needs = ProxylessNAS("reinforce", every=7).start_shared(TRIPLE, seed=0).needs
    assert (needs.outcome, needs.draws, needs.every, needs.selection, needs.probes) == ("reward", 10, 7, "index", False)


def test_a_half_full_batch_goes_on_from_its_state():
    first, second = (ProxylessNAS(**QUICK).start_shared(TRIPLE, seed=4) for _ in range(2))
    drawn = answered(first, 0.1, 0.9, 0.3, 0.2)
    second.load_state_dict(json.loads(json.dumps(first.state_dict(), allow_nan=False)))
    assert len(drawn) == 4 and len(second.state_dict()["batch"]) == 1
    assert answered(first, 0.5, 0.1, 0.2, 0.7) == answered(second, 0.5, 0.1, 0.2, 0.7)
    assert first.state_dict() == second.state_dict()


def test_all_but_open_ended_decisions_are_learnt_by_rewards():
    space = mu.space([mu.oneof(["a", "b"]), mu.intv(1, 3), mu.floatv(0.0, 1.0), mu.manyof(2, ["a", "b", "c"])])
    search = ProxylessNAS(**QUICK).start_shared(space, seed=0)
    chosen = search.policy()
    assert isinstance(chosen[0], Index) and all(isinstance(chosen[i], Value) for i in (1, 2, 3))
    before = search.policy_tables.state()
    for reward in (1.0, 0.0, 0.2):
        search.feedback(search.policy(), reward=reward)
    assert search.policy_tables.state() != before


@pytest.mark.parametrize(
    ("target", "cost", "fix"),
    [(2.0, None, "pass cost= too"), (None, lambda dna: 1.0, "set ProxylessNAS(target=...)")],
)
def test_a_cost_and_a_target_go_together(target, cost, fix):
    with pytest.raises(SettingError) as caught:
        ProxylessNAS("reinforce", target=target).start_shared(TRIPLE, seed=0, cost=cost)
    got = "2.0 (float)" if target else "None (NoneType)"
    assert str(caught.value) == (
        f"cannot weigh a cost\n  at:       ProxylessNAS.target\n  got:      {got}\n"
        f"  expected: a target together with a cost, or neither\n  fix:      {fix}"
    )


def test_the_result_is_the_most_likely_child():
    search, seen = probed(ProxylessNAS("reinforce"), LOGITS)
    assert search.derive().values == (1,) and isinstance(seen, Recorder)


def test_the_toy_supernet_is_solved():
    assert run_shared(ProxylessNAS(**QUICK), 1200, 0) == BEST


@pytest.mark.slow
def test_nine_of_ten_seeds_solve_the_toy_supernet():
    assert successes(ProxylessNAS(**QUICK), 1200, range(10)) >= 9
