"""REINFORCE: known answers of the update, what counts as an answer, and how well it searches."""

from __future__ import annotations

import functools
import json
import math
import statistics

import numpy as np
import pytest
from tables import TOPOLOGY, needs_topology

import mutandis as mu
from mutandis.algorithms import Deduped, Reinforce
from mutandis.algorithms.policies.answers import MOST_PENDING
from mutandis.algorithms.policies.categorical import probabilities
from mutandis.algorithms.policies.reinforce import Adam
from mutandis.errors import SettingError
from mutandis.hyper import Feedback
from mutandis.models.tabular import load_topology
from mutandis.testing import answer, run

PAIR = mu.space([mu.oneof([0, 1, 2]), mu.oneof([0, 1, 2])]).bare()
CONDITIONAL = mu.space({"x": mu.oneof(["a", {"z": mu.oneof([1, 2])}])}).bare()


def started(space=PAIR, drawn=(), logits=None, seed=0, **settings):
    """Returns a search with logits 0, or given ones, whose proposals were drawn with these options."""
    search = Reinforce(**settings).start(space, seed=seed)
    state = search.state_dict()
    state["logits"] = logits or [[0.0] * len(table) for table in state["logits"]]
    state["pending"] = [[n, padded(options, space), list(options), 0.0] for n, options in enumerate(drawn)]
    search.load_state_dict(state)
    return search


def padded(values, space):
    return [*values, *[None] * (len(space.points) - len(values))]


def tell(search, number, values, reward, space=PAIR):
    rewards = None if reward is None else (reward,)
    search.feedback(Feedback(number, mu.DNA(space, tuple(padded(values, space))), None, None, rewards))


def logits(search):
    return search.state_dict()["logits"]


def play(search, reward, trials):
    for _ in range(trials):
        proposal = search.propose()
        search.feedback(answer(proposal, reward(proposal.dna)))


def test_the_first_reward_is_its_own_baseline_and_moves_nothing():
    search = started(drawn=[(0, 2)])
    tell(search, 0, (0, 2), 80.0)
    assert logits(search) == [[0.0] * 3, [0.0] * 3]


def test_updates_have_the_known_answers():
    search = started(drawn=[(0, 2), (1, 2), (0, 0)])
    tell(search, 0, (0, 2), 80.0)
    tell(search, 1, (1, 2), 90.0)
    assert logits(search)[0] == pytest.approx([-0.0074413682, 0.0074413682, -0.0074413682], abs=1e-8)
    tell(search, 2, (0, 0), 70.0)
    assert logits(search)[0] == pytest.approx([-0.0150155125, 0.0160311468, -0.0042619257], abs=1e-8)
    assert logits(search)[1] == pytest.approx([-0.0150155125, -0.0042619257, 0.0160311468], abs=1e-8)
    total, weight = search.state_dict()["baseline"]
    assert total / weight == pytest.approx(79.6309963099631, abs=1e-10)


def test_the_gradient_of_the_second_update_has_the_known_answer():
    search = started(drawn=[(0, 2), (1, 2)])
    tell(search, 0, (0, 2), 80.0)
    tell(search, 1, (1, 2), 90.0)
    count, first, second = search.state_dict()["adam"][0]
    assert count == 2
    assert [m / 0.1 for m in first] == pytest.approx([1.5789473684, -3.1578947368, 1.5789473684], abs=1e-8)
    assert [v / 0.001 for v in second] == pytest.approx([1.5789473684**2, 3.1578947368**2, 1.5789473684**2], abs=1e-7)


def test_adam_moves_by_the_learning_rate_at_first():
    numbers = [1.0, 1.0, 1.0]
    Adam(3, 0.1).step(numbers, [5.0, -0.001, 0.0])
    assert numbers == pytest.approx([0.9, 1.1, 1.0], abs=1e-5)


def test_logits_start_small_and_random():
    found = [logit for seed in range(50) for table in logits(Reinforce().start(PAIR, seed=seed)) for logit in table]
    assert statistics.stdev(found) == pytest.approx(1e-3, rel=0.2)
    assert abs(statistics.mean(found)) < 4e-3 / math.sqrt(len(found))


def test_what_was_not_active_keeps_its_logits_and_its_moments():
    search = started(CONDITIONAL, drawn=[(1, 0), (1, 1), (0,), (0,)])
    tell(search, 0, (1, 0), 1.0, CONDITIONAL)
    tell(search, 1, (1, 1), 5.0, CONDITIONAL)
    before = search.state_dict()
    tell(search, 2, (0,), 9.0, CONDITIONAL)
    tell(search, 3, (0,), 2.0, CONDITIONAL)
    after = search.state_dict()
    assert before["adam"][1][0] == 2
    assert (after["logits"][1], after["adam"][1]) == (before["logits"][1], before["adam"][1])
    assert after["logits"][0] != before["logits"][0]


@pytest.mark.parametrize(
    ("number", "values", "reward"),
    [(None, (0, 1), 5.0), (7, (0, 1), 5.0), (1, (0, 1), 5.0), (1, (1, 1), None), (1, (1, 1), math.inf)],
    ids=["nobody asked", "unknown", "another DNA", "failed", "infinite"],
)
def test_what_the_policy_cannot_learn_from_is_left_aside(number, values, reward):
    search = started(drawn=[(0, 2), (1, 1)])
    tell(search, 0, (0, 2), 1.0)
    before = search.state_dict()
    tell(search, number, values, reward)
    after = search.state_dict()
    assert [after[key] for key in ("logits", "adam", "baseline")] == [before[k] for k in ("logits", "adam", "baseline")]


def test_results_count_in_the_order_in_which_they_come():
    first, second = started(drawn=[(0, 2), (1, 2)]), started(drawn=[(1, 2), (0, 2)])
    tell(first, 0, (0, 2), 1.0)
    tell(first, 1, (1, 2), 2.0)
    tell(second, 1, (0, 2), 1.0)
    tell(second, 0, (1, 2), 2.0)
    assert logits(first) == logits(second) != [[0.0] * 3] * 2


def test_unordered_picks_are_learnt_in_the_order_they_were_drawn_in():
    space = mu.space(mu.manyof(2, list("abc"), ordered=False)).bare()
    search = started(space, logits=[[0.0, 1.0, 2.0]])
    state = search.state_dict()
    state["pending"] = [[n, [[0, 2]], list(options), 0.0] for n, options in enumerate([(2, 0), (0, 2)])]
    moved = []
    for number in (0, 1):
        search.load_state_dict({**state, "baseline": [0.5, 0.5]})
        search.feedback(Feedback(number, space.dna({"": [0, 2]}), None, None, (2.0,)))
        moved.append(search.state_dict()["adam"][0][1])
    up = 2.0 - (0.9 * 0.5 + 0.1 * 2.0) / (0.9 * 0.5 + 0.1)
    assert moved[0] == pytest.approx([-0.1 * up * g for g in (0.6410280055, -0.9757870497, 0.3347590442)], abs=1e-8)
    assert moved[0] != pytest.approx(moved[1], abs=1e-3)


def test_silence_does_not_fill_the_state():
    search = Reinforce().start(PAIR, seed=0)
    for _ in range(MOST_PENDING + 50):
        search.propose()
    assert len(search.state_dict()["pending"]) == MOST_PENDING


def test_the_state_does_not_grow_with_the_results():
    search = Reinforce().start(PAIR, seed=0)
    sizes = []
    for _ in range(2):
        run(search, 300)
        sizes.append(len(json.dumps(search.state_dict())))
    assert sizes[1] < sizes[0] + 50


def test_entropy_is_paid_for_the_unlikely():
    search = started(drawn=[(0, 2)], logits=[[0.0, 1.0, 2.0], [0.0, 0.0, 0.0]], entropy_weight=0.5)
    state = search.state_dict()
    search.load_state_dict({**state, "baseline": [1.0, 1.0]})
    tell(search, 0, (0, 2), 1.0)
    reward = 1.0 - 0.5 * (math.log(probabilities([0.0, 1.0, 2.0])[0]) + math.log(1 / 3))
    assert search.state_dict()["baseline"] == pytest.approx([0.9 + 0.1 * reward, 1.0], abs=1e-12)
    advantage = reward - (0.9 + 0.1 * reward)
    assert search.state_dict()["adam"][1][1] == pytest.approx(
        [-0.1 * advantage * g for g in (-1 / 3, -1 / 3, 2 / 3)], abs=1e-12
    )


def test_entropy_keeps_equals_equal():
    search = started(logits=[[3.0, 0.0, 0.0], [0.0, 0.0, 3.0]], learning_rate=0.05, entropy_weight=1.0)
    play(search, lambda dna: 1.0, 1500)
    assert all(0.15 < p < 0.6 for table in logits(search) for p in probabilities(table))


def test_without_entropy_it_settles_on_the_best():
    search = Reinforce(learning_rate=0.1).start(PAIR, seed=3)
    play(search, lambda dna: dna.values[0] - dna.values[1], 400)
    first, second = map(probabilities, logits(search))
    assert first[2] > 0.95 and second[0] > 0.95


def test_orders_are_learnt():
    space = mu.space(mu.permutate(list("abcd"))).bare()
    search = Reinforce(learning_rate=0.1).start(space, seed=0)
    play(search, lambda dna: -sum(abs(c - want) for c, want in zip(dna[""], (2, 0, 3, 1), strict=True)), 600)
    assert [dna[""] for dna in run(search, 20)].count((2, 0, 3, 1)) >= 15


def test_ranges_are_learnt():
    space = mu.space({"lr": mu.floatv(1e-5, 1.0, scale="log"), "depth": mu.intv(1, 40)}).bare()
    search = Reinforce(learning_rate=0.1).start(space, seed=0)
    play(search, lambda dna: -abs(math.log10(dna.values[0]) + 3) - abs(dna.values[1] - 30) / 10, 600)
    for dna in run(search, 10):
        assert abs(math.log10(dna.values[0]) + 3) < 0.7 and abs(dna.values[1] - 30) < 7


def test_a_wrapper_that_replaces_proposals_does_not_mislead_it():
    search = Deduped(Reinforce(learning_rate=0.5), retries=1).start(PAIR, seed=0)
    assert len(set(run(search, 9))) == 9


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        ("learning_rate", 0.0, "a finite number > 0"),
        ("learning_rate", math.inf, "a finite number > 0"),
        ("baseline_decay", 1.0, "a finite number > 0 and < 1"),
        ("baseline_decay", 0, "a finite number > 0 and < 1"),
        ("entropy_weight", -0.1, "a finite number >= 0"),
        ("entropy_weight", True, "a finite number >= 0"),
        ("entropy_weight", "0.1", "a finite number >= 0"),
        ("bins", 0, "an int >= 1"),
    ],
)
def test_a_setting_out_of_its_range_is_refused(setting, value, expected):
    with pytest.raises(SettingError) as error:
        Reinforce(**{setting: value})
    assert (error.value.at, error.value.expected) == (f"Reinforce.{setting}", expected)


def test_an_open_ended_space_is_refused():
    with pytest.raises(SettingError, match="cannot cut a decision into steps"):
        Reinforce().start(mu.space(mu.evolve([1], lambda program, rng: program)), seed=0)


CELLS = mu.space([mu.oneof(list(range(5))) for _ in range(6)]).bare()
REFERENCE = {
    "cifar10": [(80.61, 2.48), (83.80, 0.53), (84.37, 0.29)],
    "cifar100": [(53.80, 3.83), (59.28, 1.10), (60.62, 0.57)],
    "imagenet16": [(31.38, 3.13), (36.15, 1.01), (37.47, 0.56)],
}
"""Best validation accuracy after 12 epochs at 10, 100 and 300 trials: 500 runs of the reference code (NATS-Bench)."""


@functools.cache
def curves(dataset, seeds=150):
    table = load_topology(TOPOLOGY, dataset)
    accuracy = table.results["valid", 12][table.rows].tolist()
    found = []
    for seed in range(seeds):
        best: list[float] = []
        search = Reinforce().start(CELLS, seed=seed)
        for _ in range(300):
            proposal = search.propose()
            reward = accuracy[functools.reduce(lambda code, value: code * 5 + value, proposal.dna.values, 0)]
            search.feedback(answer(proposal, reward))
            best.append(max([reward, *best[-1:]]))
        found.append([best[9], best[99], best[299]])
    return np.array(found)


@needs_topology
@pytest.mark.parametrize("dataset", list(REFERENCE))
def test_it_searches_as_the_reference_code_does(dataset):
    found = curves(dataset)
    for values, (mean, deviation) in zip(found.T, REFERENCE[dataset], strict=True):
        error = math.sqrt(deviation**2 / 500 + values.var() / len(values))
        assert abs(values.mean() - mean) < 3 * error
        assert 0.7 < values.std() / deviation < 1.4
