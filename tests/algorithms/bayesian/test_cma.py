"""CMA-ES: starts, generations out of order, foreign results, restarts, quality."""

from __future__ import annotations

import json
import math
import statistics
from itertools import pairwise

import pytest

import mutandis as mu
from mutandis.algorithms import CMAES, Random
from mutandis.errors import SettingError
from mutandis.hyper import Feedback
from mutandis.testing import answer

TEN = mu.space([mu.floatv(-5.0, 10.0) for _ in range(10)]).bare()


def sphere(dna):
    return -sum((value - 2.0) ** 2 for value in dna.values)


def rosenbrock(dna):
    x = dna.values
    return -sum(100 * (b - a * a) ** 2 + (1 - a) ** 2 for a, b in pairwise(x))


def drive(search, reward, trials):
    """Runs a search and returns its rewards in order."""
    rewards = []
    for _ in range(trials):
        proposal = search.propose()
        rewards.append(reward(proposal.dna))
        search.feedback(answer(proposal, rewards[-1]))
    return rewards


def test_the_first_generation_lies_around_the_default_of_the_space():
    space = mu.space([mu.floatv(0.0, 1.0, default=0.9) for _ in range(8)]).bare()
    search = CMAES(sigma=0.01).start(space, seed=0)
    assert all(value == pytest.approx(0.9, abs=0.06) for value in search.propose().dna.values)


def test_a_random_start_depends_on_the_seed():
    starts = [CMAES(sigma=1e-6, start_at="random").start(TEN, seed=seed).propose().dna for seed in range(2)]
    assert abs(starts[0].values[0] - starts[1].values[0]) > 0.1


@pytest.mark.parametrize("order", [lambda made: made, lambda made: made[::-1], lambda made: made[5:] + made[:5]])
def test_a_generation_does_not_depend_on_the_order_of_its_results(order):
    search = CMAES(population_size=10).start(TEN, seed=0)
    for proposal in order([search.propose() for _ in range(10)]):
        search.feedback(answer(proposal, sphere(proposal.dna)))
    expected = CMAES(population_size=10).start(TEN, seed=0)
    drive(expected, sphere, 10)
    assert search.propose().dna == expected.propose().dna


def test_failed_trials_are_left_out_of_a_generation():
    search = CMAES(population_size=4).start(TEN, seed=0)
    for _ in range(9):
        proposal = search.propose()
        search.feedback(Feedback(proposal.id, proposal.dna))
    assert search._generation == []
    drive(search, sphere, 3)
    assert len(search._generation) == 3


def test_the_best_foreign_result_takes_the_place_of_the_worst_once():
    with_help, alone = (CMAES(population_size=6).start(TEN, seed=0) for _ in range(2))
    good = TEN.from_unit([7 / 15] * 10)
    with_help.feedback(Feedback(None, TEN.random(0), rewards=(sphere(TEN.random(0)),)))
    with_help.feedback(Feedback(None, good, rewards=(sphere(good),)))
    for search in (with_help, alone):
        drive(search, sphere, 6)
    assert with_help._foreign is None
    gaps = [math.dist(search._engine._inner.mean, [7 / 15] * 10) for search in (with_help, alone)]
    assert gaps[0] < gaps[1]


def test_a_foreign_result_that_is_no_better_waits():
    search = CMAES(population_size=6).start(TEN, seed=0)
    search.feedback(Feedback(None, TEN.random(0), rewards=(-1e9,)))
    other = CMAES(population_size=6).start(TEN, seed=0)
    for each in (search, other):
        drive(each, sphere, 6)
    assert search.propose().dna == other.propose().dna
    assert search._foreign is not None


def test_convergence_starts_anew_with_twice_the_population():
    search = CMAES(population_size=6).start(mu.space([mu.floatv(-1.0, 1.0)]).bare(), seed=0)
    drive(search, lambda dna: -abs(dna.values[0]), 1500)
    assert search._epoch >= 1
    assert search._engine.population_size == 6 * 2**search._epoch


def test_two_regimes_take_turns():
    search = CMAES(population_size=6, restarts="bipop").start(mu.space([mu.floatv(-1.0, 1.0)]).bare(), seed=0)
    drive(search, lambda dna: -abs(dna.values[0]), 3000)
    assert min(search._spent.values()) > 0
    assert search._epoch > search._doublings >= 1


def test_without_restarts_the_first_distribution_goes_on():
    search = CMAES(population_size=6, restarts="none").start(mu.space([mu.floatv(-1.0, 1.0)]).bare(), seed=0)
    drive(search, lambda dna: -abs(dna.values[0]), 1500)
    assert search._epoch == 0


def test_a_run_resumes_exactly_over_a_restart():
    space = mu.space([mu.floatv(-1.0, 1.0)]).bare()
    first = CMAES(population_size=6).start(space, seed=0)
    drive(first, lambda dna: -abs(dna.values[0]), 1500)
    second = CMAES(population_size=6).start(space, seed=0)
    second.load_state_dict(json.loads(json.dumps(first.state_dict(), allow_nan=False)))
    traces = [[search.propose().dna for _ in range(5)] for search in (first, second)]
    assert traces[0] == traces[1]


def test_infinite_rewards_are_ordered_like_others():
    search = CMAES(population_size=4).start(TEN, seed=0)
    for reward in (float("inf"), float("-inf"), 0.0):
        search.feedback(answer(search.propose(), reward))
    json.dumps(search.state_dict(), allow_nan=False)
    drive(search, sphere, 20)


@pytest.mark.parametrize(
    ("settings", "name", "expected"),
    [
        ({"population_size": 3}, "population_size", "an int >= 4"),
        ({"sigma": 0.0}, "sigma", "a finite number > 0 and <= 1"),
        ({"sigma": 1.5}, "sigma", "a finite number > 0 and <= 1"),
        ({"start_at": "middle"}, "start_at", "'default' or 'random'"),
        ({"restarts": "often"}, "restarts", "'none' or 'ipop' or 'bipop'"),
    ],
)
def test_settings_out_of_range_are_refused(settings, name, expected):
    with pytest.raises(SettingError) as error:
        CMAES(**settings)
    assert error.value.at == f"CMAES.{name}"
    assert error.value.expected == expected


def test_rosenbrock_in_ten_dimensions_is_solved_far_better_than_by_chance():
    found = [-max(drive(CMAES().start(TEN, seed=seed), rosenbrock, 200)) for seed in range(10)]
    chance = [-max(drive(Random().start(TEN, seed=seed), rosenbrock, 200)) for seed in range(10)]
    assert statistics.mean(found) < 1200  # Optuna's sampler: 589 over 20 seeds.
    assert statistics.mean(found) < statistics.mean(chance) / 20


def test_a_mixed_space_is_solved():
    space = mu.space([mu.floatv(0.0, 1.0), mu.intv(0, 20), mu.oneof(["a", "b", "c", "d"]), mu.boolv()]).bare()

    def reward(dna):
        x, n, op, flag = dna.values
        return -((x - 0.3) ** 2) - ((n - 13) / 20) ** 2 - 0.2 * (op != 2) - 0.2 * flag

    best = [max(drive(CMAES().start(space, seed=seed), reward, 200)) for seed in range(5)]
    assert statistics.median(best) > -1e-3


def told_to(search):
    """Returns the list that receives what the engine of a search is told."""
    told, tell = [], search._engine.tell
    search._engine.tell = lambda made: (told.append([loss for loss, _ in made]), tell(made))[1]
    return told


def test_an_injected_result_replaces_the_worst_of_its_generation():
    search = CMAES(population_size=4).start(TEN, seed=0)
    told = told_to(search)
    search.feedback(Feedback(None, TEN.random(0), rewards=(9.0,)))
    for reward in (3.0, 1.0, 4.0, 2.0):
        search.feedback(answer(search.propose(), reward))
    assert sorted(told[0]) == [-9.0, -4.0, -3.0, -2.0]


def test_a_result_from_before_a_restart_is_no_member_of_the_new_generation():
    search = CMAES(population_size=4).start(TEN, seed=0)
    late = search.propose()
    search._restart()
    search.feedback(answer(late, 1.0))
    assert search._generation == []
    assert search._foreign[0] == -1.0
