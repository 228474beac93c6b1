"""GNAS: sweeps over a layered tree, one reward per attribute."""

from __future__ import annotations

import itertools
import json
import random

import pytest

import mutandis as mu
from mutandis.algorithms import GNAS
from mutandis.errors import SettingError, SpaceExhausted
from mutandis.hyper import Feedback

REWARDS = [[[0.6, 0.7], [0.65, 0.5]], [[0.5, 0.55], [0.8, 0.9]], [[0.7, 0.6], [0.4, 0.45]]]  # Attribute, block, parent.


def tree(num_heads, num_blocks, num_parents):
    """Returns the space of a tree of two layers, and the decisions by layer."""
    heads = [mu.oneof(list(range(num_blocks)), name=f"head {n}") for n in range(num_heads)]
    blocks = [mu.oneof(list(range(num_parents)), name=f"block {b}") for b in range(num_blocks)]
    return mu.space([heads, blocks]).bare(), (tuple(p.name for p in heads), tuple(p.name for p in blocks))


def rewards_of(dna, reward, num_heads):
    values = dna.values
    return tuple(reward(n, values[n], values[num_heads + values[n]]) for n in range(num_heads))


def searched(algorithm, space, reward, num_heads, budget=200):
    """Returns the trees after each proposal and the number of trials until nothing changed."""
    search = algorithm.start(space, seed=0, num_objectives=num_heads)
    trace = [[list(row) for row in search._parents]]
    for trials in range(budget):
        try:
            proposal = search.propose()
        except SpaceExhausted:
            return trace, trials
        rewards = rewards_of(proposal.dna, reward, num_heads)
        search.feedback(Feedback(proposal.id, proposal.dna, None, None, rewards))
        trace.append([list(row) for row in search._parents])
    raise AssertionError("it does not end")


def mean(parents, reward):
    heads, blocks = parents
    return sum(reward(n, b, blocks[b]) for n, b in enumerate(heads)) / len(heads)


def table(n, b, i):
    return REWARDS[n][b][i]


def test_a_sweep_takes_the_steps_of_the_published_procedure():
    space, layers = tree(3, 2, 2)
    trace, trials = searched(GNAS(layers), space, table, 3)
    assert trials == 8  # Two sweeps of two and two, the second of which changes nothing.
    assert trace[0] == [[0, 0, 0], [0, 0]]
    assert mean(trace[0], table) == pytest.approx(0.6)
    assert trace[2] == [[1, 1, 0], [0, 0]]
    assert mean(trace[2], table) == pytest.approx(0.7166666667)
    assert trace[4] == trace[8] == [[1, 1, 0], [0, 0]]


def test_it_may_end_in_a_strict_local_optimum():
    found = [[1, 1, 0], [0, 0]]
    best = max(
        (mean([list(h), list(b)], table), list(h), list(b))
        for h in itertools.product((0, 1), repeat=3)
        for b in itertools.product((0, 1), repeat=2)
    )
    assert best == (pytest.approx(0.7333333333), [0, 1, 0], [1, 1])
    others = [[h, found[1]] for h in itertools.product((0, 1), repeat=3) if list(h) != found[0]]
    assert all(mean(other, table) < mean(found, table) for other in others)
    assert mean([found[0], [1, 0]], table) < mean(found, table)
    assert mean([found[0], [0, 1]], table) < mean(found, table)


def additive(seed):
    """Returns a reward that adds up over the edges of a path, and the best mean there is."""
    draw = random.Random(seed)
    u = [[draw.random() for _ in range(3)] for _ in range(5)]
    for _ in range(45):  # The measured tables drew some more before.
        draw.random()
    w = [[draw.random() for _ in range(3)] for _ in range(3)]
    best = max(
        sum(max(u[n][b] + w[b][q[b]] for b in range(3)) for n in range(5)) / 5
        for q in itertools.product(range(3), repeat=3)
    )
    return lambda n, b, i: u[n][b] + w[b][i], best


def share_solved(judge):
    space, layers = tree(5, 3, 3)
    solved = 0
    for seed in range(200):
        reward, best = additive(seed)
        trace, _ = searched(GNAS(layers, judge=judge), space, reward, 5)
        solved += abs(mean(trace[-1], reward) - best) < 1e-12
    return solved / 200


def test_where_rewards_add_up_own_descendants_often_lead_to_the_best_tree():
    assert share_solved("own") == pytest.approx(111 / 200, abs=0.02)  # Measured elsewhere on the same tables.


def test_where_rewards_add_up_judging_by_all_always_does():
    assert share_solved("all") == 1.0


def test_a_block_without_descendants_keeps_its_parent():
    space, layers = tree(1, 3, 2)
    trace, _ = searched(GNAS(layers), space, lambda n, b, i: float(b == 2) + i, 1)
    assert trace[-1] == [[2], [0, 0, 1]]


def test_a_tie_keeps_the_parent():
    space, layers = tree(2, 2, 2)
    trace, trials = searched(GNAS(layers), space, lambda n, b, i: 1.0, 2)
    assert trace[-1] == [[0, 0], [0, 0]]
    assert trials == 4


def test_a_failed_candidate_is_no_parent():
    space, layers = tree(2, 2, 2)
    search = GNAS(layers).start(space, seed=0, num_objectives=2)
    for rewards in (None, (0.1, 0.1)):
        proposal = search.propose()
        search.feedback(Feedback(proposal.id, proposal.dna, None, None, rewards))
    assert search._parents[0] == [1, 1]


def test_late_and_foreign_results_of_other_rounds_change_nothing():
    space, layers = tree(2, 2, 2)
    search = GNAS(layers).start(space, seed=0, num_objectives=2)
    first = [search.propose() for _ in range(3)]  # The third repeats one that is not answered.
    for proposal in first[:2]:
        search.feedback(Feedback(proposal.id, proposal.dna, None, None, (1.0, 1.0)))
    search.feedback(Feedback(first[2].id, first[2].dna, None, None, (9.0, 9.0)))
    search.feedback(Feedback(None, space.dna_at(3), None, None, (9.0, 9.0)))
    assert search._parents == [[0, 0], [0, 0]]
    assert search.state_dict()["results"] == []


def test_one_reward_is_shared_by_all_heads():
    space, layers = tree(2, 2, 2)
    search = GNAS(layers).start(space, seed=0)
    for reward in (1.0, 2.0):
        proposal = search.propose()
        search.feedback(Feedback(proposal.id, proposal.dna, None, None, (reward,)))
    assert search._parents[0] == [1, 1]


def test_a_run_resumes_within_a_round():
    space, layers = tree(5, 3, 3)
    reward, _ = additive(3)
    first, second = (GNAS(layers, judge="all").start(space, seed=0, num_objectives=5) for _ in range(2))

    def go_on(search, count):
        made = []
        for _ in range(count):
            proposal = search.propose()
            made.append(proposal.dna.values)
            rewards = rewards_of(proposal.dna, reward, 5)
            search.feedback(Feedback(proposal.id, proposal.dna, None, None, rewards))
        return made

    go_on(first, 7)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert go_on(first, 10) == go_on(second, 10)


def test_it_runs_in_the_loop_with_an_objective_per_attribute():
    heads = [mu.oneof([0, 1], name=f"head {n}") for n in range(3)]
    blocks = [mu.oneof([0, 1], name=f"block {b}") for b in range(2)]
    algorithm = GNAS((("head 0", "head 1", "head 2"), ("block 0", "block 1")))
    loop = mu.sample([heads, blocks], algorithm, objectives=("smile", "glasses", "beard"))
    for (chosen, parents), feedback in loop:
        rewards = [table(n, b, parents[b]) for n, b in enumerate(chosen)]
        feedback(dict(zip(("smile", "glasses", "beard"), rewards, strict=True)))
    assert len(loop.study) == 8


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ((("head 0", "head 1"), ("block 0",)), "2 decisions, one per candidate of the layer before"),
        ((("head 0", "x"),), "choices of equally many candidates"),
    ],
)
def test_layers_that_do_not_fit_are_refused(layers, expected):
    heads = [mu.oneof([0, 1], name=f"head {n}") for n in range(2)]
    space = mu.space([heads, mu.oneof([0, 1], name="block 0"), mu.floatv(0.0, 1.0, name="x")]).bare()
    with pytest.raises(SettingError) as error:
        GNAS(layers).start(space, seed=0)
    assert expected in error.value.expected
    assert error.value.fix == "list the decisions of each layer of a layered tree, or use another algorithm"


def test_another_number_of_objectives_is_refused():
    space, layers = tree(3, 2, 2)
    with pytest.raises(SettingError, match="one objective, or 3, one for each head"):
        GNAS(layers).start(space, seed=0, num_objectives=2)


def test_an_unknown_decision_is_refused_by_name():
    space, _ = tree(3, 2, 2)
    with pytest.raises(SettingError, match="not 'haed 0'; did you mean 'head 0'"):
        GNAS((("haed 0",),)).start(space, seed=0)


@pytest.mark.parametrize("settings", [{"layers": ()}, {"layers": ("head 0",)}, {"layers": (("a",),), "judge": "some"}])
def test_wrong_settings_are_refused(settings):
    with pytest.raises(SettingError, match=r"GNAS\."):
        GNAS(**settings)
