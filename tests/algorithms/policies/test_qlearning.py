"""Q-learning: known answers of the update, its order, what a state is, and what is explored when."""

from __future__ import annotations

import collections
import json
import math
import statistics

import pytest

import mutandis as mu
from mutandis.algorithms import QLearning, Random
from mutandis.algorithms.evolution import Linear, StepWise
from mutandis.algorithms.policies.qlearning import exploration, updated
from mutandis.errors import SettingError
from mutandis.hyper import Feedback
from mutandis.testing import answer, contract_spaces, reward_of, run

PAIR = mu.space([mu.oneof([0, 1, 2]), mu.oneof([0, 1])]).bare()
TRIPLE = mu.space([mu.oneof([0, 1]), mu.oneof([0, 1]), mu.oneof([0, 1])]).bare()


def started(space=PAIR, seed=0, **settings):
    chosen = {"epsilon": 0.0, "learning_rate": 0.5, "num_replays": 1, "initial_value": 0.0, **settings}
    return QLearning(**chosen).start(space, seed=seed)


def tell(search, dna, reward, number=None):
    search.feedback(Feedback(number, dna, None, None, None if reward is None else (reward,)))


def values(search):
    return {tuple(key): dict(map(tuple, row)) for key, row in search.state_dict()["values"]}


def test_a_value_has_the_known_answer():
    assert updated(0.5, 0.1, 0.0 + 1.0 * 0.8) == pytest.approx(0.53, abs=1e-12)


def test_steps_are_updated_from_the_last_to_the_first():
    search = started()
    tell(search, PAIR.dna({"[0]": 2, "[1]": 1}), 1.0)
    assert values(search) == {(1, 0, 2): {1: 0.5}, (0,): {2: 0.25}}


def test_the_target_is_the_best_of_the_next_state_not_the_one_that_was_taken():
    search = started(memory_size=1)
    tell(search, PAIR.dna({"[0]": 2, "[1]": 1}), 1.0)
    tell(search, PAIR.dna({"[0]": 2, "[1]": 0}), -1.0)
    assert values(search)[1, 0, 2] == {1: 0.5, 0: -0.5}
    assert values(search)[0,] == {2: 0.5 * 0.25 + 0.5 * 0.5}


def test_the_future_is_discounted():
    search = started(discount=0.5)
    tell(search, PAIR.dna({"[0]": 2, "[1]": 1}), 1.0)
    assert values(search)[0,] == {2: 0.5 * 0.5 * 0.5}


def test_only_legal_options_count_for_the_target():
    space = mu.space(mu.permutate(list("ab"))).bare()
    search = started(space, initial_value=9.0, learning_rate=1.0)
    tell(search, space.dna({"": [1, 0]}), 1.0)
    assert values(search) == {(1, 0, 1): {0: 1.0}, (0,): {1: 1.0}}  # The 9 of picking b again plays no part.


def test_untouched_options_count_with_their_first_value():
    search = started(initial_value=0.75, learning_rate=1.0)
    tell(search, PAIR.dna({"[0]": 0, "[1]": 0}), 0.25)
    assert values(search) == {(1, 0, 0): {0: 0.25}, (0,): {0: 0.75}}


def test_the_first_value_is_the_mean_of_the_rewards_unless_given():
    search = started(initial_value=None, memory_size=1)
    tell(search, PAIR.dna({"[0]": 0, "[1]": 0}), 80.0)
    assert values(search) == {(1, 0, 0): {0: 80.0}, (0,): {0: 80.0}}
    tell(search, PAIR.dna({"[0]": 1, "[1]": 0}), 60.0)
    assert values(search)[1, 0, 1] == {0: 0.5 * 70 + 0.5 * 60}


def test_a_state_is_the_depth_and_the_last_step():
    search = started(TRIPLE, learning_rate=1.0)
    tell(search, TRIPLE.dna_at(0b011), 1.0)
    tell(search, TRIPLE.dna_at(0b110), 2.0)
    assert set(values(search)) <= {(0,), (1, 0, 0), (1, 0, 1), (2, 1, 1)}
    assert (2, 1, 1) in values(search)


def test_a_prefix_remembers_all_steps():
    search = started(TRIPLE, state="prefix", num_replays=20)
    tell(search, TRIPLE.dna_at(0b011), 1.0)
    tell(search, TRIPLE.dna_at(0b111), 2.0)
    assert set(values(search)) == {(0,), (1, 0), (1, 1), (2, 0, 1), (2, 1, 1)}


def test_only_a_prefix_tells_apart_what_came_before_the_last_step():
    def mean_of_the_end(state):
        search = started(TRIPLE, state=state, epsilon=Linear(1.0, 0.0, 300), num_replays=10, initial_value=None)
        for _ in range(500):
            proposal = search.propose()
            first, _, last = proposal.dna.values
            search.feedback(answer(proposal, float(first == last)))
        return search

    found = mean_of_the_end("prefix")
    chosen = collections.Counter(dna.values[0] == dna.values[2] for dna in run(found, 20))
    assert chosen[True] == 20
    table = values(mean_of_the_end("last"))
    assert len([key for key in table if key[0] == 2]) == 2  # It sees the middle step, which says nothing.


def test_without_exploration_the_best_is_taken():
    search = started(initial_value=0.0)
    tell(search, PAIR.dna({"[0]": 1, "[1]": 0}), 1.0)
    assert {search.propose().dna.values for _ in range(20)} == {(1, 0)}


def test_equals_are_taken_equally_often():
    search = started()
    counts = collections.Counter(search.propose().dna.values[0] for _ in range(3000))
    assert all(abs(counts[i] - 1000) < 4 * math.sqrt(3000 * 2 / 9) for i in range(3))


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0])
def test_so_often_a_step_explores(epsilon):
    search = started(epsilon=epsilon)
    tell(search, PAIR.dna({"[0]": 1, "[1]": 0}), 1.0)
    trials = 3000
    greedy = sum(search.propose().dna.values[0] == 1 for _ in range(trials)) / trials
    chance = 1 - epsilon + epsilon / 3
    assert abs(greedy - chance) <= 4 * math.sqrt(chance * (1 - chance) / trials)


def test_only_results_make_exploration_end():
    search = started(epsilon=StepWise(((0, 1.0), (2, 0.0))))
    tell(search, PAIR.dna({"[0]": 1, "[1]": 0}), 1.0)
    tell(search, PAIR.dna({"[0]": 0, "[1]": 0}), None)
    assert len({search.propose().dna.values for _ in range(60)}) == 6
    tell(search, PAIR.dna({"[0]": 1, "[1]": 0}), 1.0)
    assert {search.propose().dna.values for _ in range(20)} == {(1, 0)}


def test_a_result_counts_whoever_asked_for_it():
    asked, foreign = started(), started()
    dna = PAIR.dna({"[0]": 1, "[1]": 0})
    tell(asked, dna, 1.0, number=0)
    tell(foreign, dna, 1.0)
    assert values(asked) == values(foreign) != {}


@pytest.mark.parametrize("reward", [None, math.nan, math.inf, -math.inf])
def test_a_failed_or_infinite_result_teaches_nothing(reward):
    search = started()
    before = search.state_dict()
    tell(search, PAIR.dna({"[0]": 1, "[1]": 0}), reward)
    assert search.state_dict() == before


def test_so_many_results_are_replayed():
    one, many = started(learning_rate=0.1), started(learning_rate=0.1, num_replays=5)
    for search in (one, many):
        tell(search, PAIR.dna({"[0]": 1, "[1]": 0}), 1.0)
    assert values(one)[1, 0, 1][0] == pytest.approx(0.1, abs=1e-12)
    assert values(many)[1, 0, 1][0] == pytest.approx(1 - 0.9**5, abs=1e-12)


def test_old_results_are_replayed_too():
    search = started(num_replays=200, learning_rate=0.1)
    for number, reward in ((0, 1.0), (5, 3.0)):
        tell(search, PAIR.dna_at(number), reward)
    for number in (1, 2, 3, 4):
        tell(search, PAIR.dna_at(number), 0.0)
    assert values(search)[1, 0, 0][0] == pytest.approx(1.0, abs=1e-3)
    assert values(search)[0,] == pytest.approx({0: 1.0, 1: 0.0, 2: 3.0}, abs=1e-2)


def test_the_memory_keeps_the_newest():
    search = started(memory_size=3)
    for number in range(5):
        tell(search, PAIR.dna_at(number), float(number))
    assert [reward for _, reward in search.state_dict()["memory"]] == [2.0, 3.0, 4.0]


def test_the_state_leads_back_through_json():
    space = contract_spaces()["subset"].bare()
    first, second = started(space, epsilon=0.5, num_replays=3), started(space, epsilon=0.5, num_replays=3)
    run(first, 15)
    second.load_state_dict(json.loads(json.dumps(first.state_dict(), allow_nan=False)))
    assert second.state_dict() == json.loads(json.dumps(first.state_dict()))
    assert [dna.values for dna in run(first, 15)] == [dna.values for dna in run(second, 15)]


def test_exploration_is_that_of_the_paper():
    assert exploration().stages == (
        (0, 1.0), (1500, 0.9), (1600, 0.8), (1700, 0.7), (1800, 0.6), (1950, 0.5), (2100, 0.4), (2250, 0.3),
        (2400, 0.2), (2550, 0.1),
    )  # fmt: skip


@pytest.mark.parametrize("num_trials", [10, 11, 57, 300, 10_000])
def test_exploration_is_stretched(num_trials):
    stages = exploration(num_trials).stages
    assert stages[-1][1] == 0.1
    assert stages[-1][0] == round(num_trials * 2550 / 2700)
    assert exploration(num_trials)(num_trials // 3) == 1.0


def test_exploration_of_too_few_trials_is_refused():
    with pytest.raises(SettingError, match=r"exploration\.num_trials"):
        exploration(9)


@pytest.mark.parametrize("name", ["choice", "int", "permutation", "subset", "conditional", "shared"])
def test_it_learns(name):
    space = contract_spaces()[name].bare()
    rewards = {}
    for algorithm in (QLearning(exploration(400), learning_rate=0.2, num_replays=20), Random()):
        search = algorithm.start(space, seed=0)
        run(search, 400)
        rewards[algorithm] = statistics.mean(map(reward_of, run(search, 50)))
    taught, random = rewards.values()
    best = max(reward_of(space.random(seed)) for seed in range(300))
    assert taught > random + 0.5 * (best - random)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("epsilon", 1.5), ("epsilon", -0.1), ("epsilon", None), ("learning_rate", 0.0), ("learning_rate", 1.1),
     ("discount", 1.1), ("num_replays", 0), ("memory_size", 0), ("bins", 0), ("initial_value", math.nan)],
)  # fmt: skip
def test_a_setting_out_of_its_range_is_refused(setting, value):
    with pytest.raises(SettingError) as error:
        QLearning(**{setting: value})
    assert error.value.at == f"QLearning.{setting}"


def test_an_unknown_state_is_refused():
    with pytest.raises(SettingError) as error:
        QLearning(state="prefixes")
    assert str(error.value) == (
        "cannot use a setting\n"
        "  at:       QLearning.state\n"
        "  got:      'prefixes' (str)\n"
        "  expected: 'last' or 'prefix'; did you mean 'prefix'?\n"
        "  fix:      write 'last'"
    )


def test_an_open_ended_space_is_refused():
    with pytest.raises(SettingError, match="cannot cut a decision into steps"):
        QLearning().start(mu.space(mu.evolve([1], lambda program, rng: program)), seed=0)
