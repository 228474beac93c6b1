"""Algorithms of trials on shared weights."""

from __future__ import annotations

import json

import pytest
import torch
from listed import Listed, numbered

import mutandis as mu
from mutandis.algorithms.oneshot import DARTS, DSNAS, SPOS, ProxylessNAS, ResourceConstrained, TableCost, TuNAS
from mutandis.errors import SettingError
from mutandis.flows.oneshot.sampled import SampledSearch, need_weighed

SPACE = mu.space({"x": mu.oneof(list(range(6)), name="x")}).bare()


def test_the_policy_step_takes_the_path_of_the_weight_step():
    search = SampledSearch(mu.algorithms.Random(), SPACE, 0, 3)
    for _ in range(10):
        trained, rewarded = search.weights(), search.policy()
        assert trained.dna(SPACE) == rewarded.dna(SPACE)
        search.feedback(rewarded, reward=1.0)


def test_rewards_reach_the_search_once():
    told = []
    search = SampledSearch(Listed(numbered(3), told), SPACE, 0, 3)
    for reward in (0.5, float("nan")):
        search.weights()
        chosen = search.policy()
        search.feedback(chosen, reward=reward)
        search.feedback(chosen, reward=9.0)
    assert [(number, reward) for number, _, _, reward in told] == [(0, 0.5), (1, None)]


def test_the_end_measures_further_proposals_and_returns_the_best():
    told = []
    search = SampledSearch(Listed(numbered(6), told), SPACE, 0, 4)
    search.weights()
    search.feedback(search.policy(), reward=9.0)
    assert search.derive(lambda dna: -abs(dna.values[0] - 3)) == SPACE.dna({"x": 3})
    assert [reward for *_, reward in told] == [9.0, -2, -1, 0, -1]


def test_an_exhausted_search_trains_random_paths_and_measures_them():
    search = SampledSearch(Listed(()), SPACE, 0, 30)
    assert {search.weights().dna(SPACE).values[0] for _ in range(60)} == set(range(6))
    search.feedback(search.policy(), reward=1.0)
    assert search.derive(lambda dna: dna.values[0]).values == (5,)


def test_a_search_goes_on_from_its_state():
    first = SampledSearch(mu.algorithms.RegularizedEvolution(4, 2), SPACE, 5, 3)
    for i in range(9):
        first.weights()
        first.feedback(first.policy(), reward=float(i % 4))
    second = SampledSearch(mu.algorithms.RegularizedEvolution(4, 2), SPACE, 5, 3)
    second.load_state_dict(json.loads(json.dumps(first.state_dict(), allow_nan=False)))
    for i in range(9):
        assert first.weights().dna(SPACE) == second.weights().dna(SPACE)
        for search in (first, second):
            search.feedback(search.policy(), reward=float(i % 3))
    assert first.entropy() == first.probabilities() == {}


def test_a_loss_is_refused():
    search = SampledSearch(mu.algorithms.Random(), SPACE, 0, 3)
    with pytest.raises(SettingError, match="cannot learn from an outcome"):
        search.feedback(search.policy(), loss=torch.zeros(()))


def test_nothing_to_measure_with_is_refused():
    with pytest.raises(SettingError, match="cannot derive a result"):
        SampledSearch(mu.algorithms.Random(), SPACE, 0, 3).derive()


COST = TableCost({"op": [1.0, 2.0]})


@pytest.mark.parametrize("algorithm", [TuNAS(), SPOS(cost_bins=(1.0, 2.0)), DSNAS(limit=1.0),
                                       ProxylessNAS(rule="reinforce"), ResourceConstrained(DSNAS(limit=1.0), COST)],
                         ids=lambda a: type(a).__name__)  # fmt: skip
def test_a_cost_is_for_algorithms_that_weigh_it(algorithm):
    need_weighed(algorithm, COST, "here")


@pytest.mark.parametrize("algorithm", [DARTS(), SPOS(), DSNAS(), ProxylessNAS(), ResourceConstrained(DARTS(), COST)],
                         ids=lambda a: type(a).__name__)  # fmt: skip
def test_a_cost_that_would_change_nothing_is_refused(algorithm):
    need_weighed(algorithm, None, "here")
    name = type(algorithm).__name__
    with pytest.raises(SettingError) as error:
        need_weighed(algorithm, COST, "one_shot.cost")
    assert str(error.value) == (
        "cannot weigh a cost\n"
        "  at:       one_shot.cost\n"
        f"  got:      {COST!r} (TableCost)\n"
        f"  expected: None for {name} as it is set\n"
        f"  fix:      set what {name} weighs costs by, if it can, or give it to ResourceConstrained(algorithm, cost)"
    )
