"""The Gaussian-process bandit: settings, start, pending and failed points, limits, behaviour."""

from __future__ import annotations

import json
import math
import statistics
import sys

import pytest

import mutandis as mu
from mutandis.algorithms import GaussianProcess, Random
from mutandis.algorithms.bayesian import gp
from mutandis.errors import MissingDependency, SettingError
from mutandis.hyper import Feedback
from mutandis.testing import answer

PLANE = mu.space([mu.floatv(0.0, 1.0, name="x"), mu.floatv(0.0, 1.0, name="y")]).bare()


def drive(search, reward, trials):
    """Runs a search and returns its rewards in order."""
    rewards = []
    for _ in range(trials):
        proposal = search.propose()
        rewards.append(reward(proposal.dna))
        search.feedback(answer(proposal, rewards[-1]))
    return rewards


def bowl(dna):
    return -((dna["x"] - 0.3) ** 2) - (dna["y"] - 0.8) ** 2


def test_the_first_proposal_is_the_default_of_the_space():
    space = mu.space(
        [mu.floatv(1e-4, 1.0, scale="log"), mu.intv(1, 8, default=2), mu.oneof(["a", "b", "c"], default="b")]
    )
    first = GaussianProcess().start(space.bare(), seed=7).propose().dna
    assert first == space.default()
    assert first.values == (pytest.approx(1e-2), 2, 1)


@pytest.mark.parametrize("kind", ["ucb", "ei"])
def test_a_bowl_is_found_to_three_digits(kind):
    search = GaussianProcess(kind, num_initial=4).start(PLANE, seed=0)
    assert max(drive(search, bowl, 25)) > -1e-5


def test_pending_points_are_not_proposed_again_nor_their_neighbourhood():
    search = GaussianProcess(num_initial=4).start(PLANE, seed=1)
    drive(search, bowl, 12)
    out = [search.propose().dna for _ in range(8)]
    gaps = [math.dist(a.values, b.values) for i, a in enumerate(out) for b in out[:i]]
    assert min(gaps) > 1e-3


def test_failed_points_are_avoided_without_a_label():
    search = GaussianProcess(num_initial=4).start(PLANE, seed=1)
    drive(search, bowl, 12)
    failed = []
    for _ in range(6):
        proposal = search.propose()
        failed.append(proposal.dna)
        search.feedback(Feedback(proposal.id, proposal.dna))
    assert len(set(failed)) == 6
    assert len(search._results) == 12


def test_an_infinite_reward_counts_as_a_failure():
    search = GaussianProcess(num_initial=2).start(PLANE, seed=0)
    for reward in (float("inf"), float("-inf"), 1.0, 2.0):
        search.feedback(answer(search.propose(), reward))
    json.dumps(search.state_dict(), allow_nan=False)
    assert search.propose().dna in {search._pending[4]}


def test_a_finite_space_is_tried_without_a_repeat_and_then_again():
    space = mu.space([mu.oneof(["a", "b", "c"]), mu.intv(0, 3)]).bare()
    search = GaussianProcess(num_initial=3).start(space, seed=0)
    made = []
    for _ in range(15):
        proposal = search.propose()
        made.append(proposal.dna)
        search.feedback(answer(proposal))
    assert len(set(made[:12])) == 12
    assert set(made[12:]) <= set(made[:12])


def test_foreign_results_are_learnt_from():
    search = GaussianProcess(num_initial=1).start(PLANE, seed=0)
    search.propose()
    for seed in range(20):
        dna = PLANE.random(seed)
        search.feedback(Feedback(None, dna, rewards=(bowl(dna),)))
    found = search.propose().dna
    assert bowl(found) > -0.02


def test_the_model_holds_the_newest_and_the_best_of_the_others():
    search = GaussianProcess(max_points=4).start(PLANE, seed=0)
    dnas = [PLANE.random(seed) for seed in range(7)]
    for dna, reward in zip(dnas, [5.0, 1.0, 9.0, 2.0, 0.0, 7.0, 3.0], strict=True):
        search.feedback(Feedback(None, dna, rewards=(reward,)))
    assert [reward for reward, _ in search._chosen()] == [5.0, 9.0, 7.0, 3.0]


def test_hyper_parameters_are_fitted_when_a_tenth_more_results_have_come(monkeypatch):
    counts = []
    fitted = gp.fit
    monkeypatch.setattr(gp, "fit", lambda *args: (counts.append(len(args[3])), fitted(*args))[1])
    drive(GaussianProcess(num_initial=20).start(PLANE, seed=0), bowl, 32)
    assert counts == [20, 22, 24, 26, 28, 30]


@pytest.mark.parametrize(
    ("settings", "name", "expected"),
    [
        ({"acquisition": "pi"}, "acquisition", "'ucb' or 'ei'"),
        ({"exploration": -1.0}, "exploration", "a finite number >= 0"),
        ({"exploration": float("nan")}, "exploration", "a finite number >= 0"),
        ({"num_initial": 0}, "num_initial", "an int >= 1"),
        ({"max_points": 1}, "max_points", "an int >= 2"),
    ],
)
def test_settings_out_of_range_are_refused(settings, name, expected):
    with pytest.raises(SettingError) as error:
        GaussianProcess(**settings)
    assert error.value.at == f"GaussianProcess.{name}"
    assert error.value.expected == expected


def test_without_scipy_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(MissingDependency) as error:
        GaussianProcess().start(PLANE, seed=0)
    assert str(error.value) == (
        "cannot fit a Gaussian process\n"
        "  at:       GaussianProcess\n"
        "  expected: scipy and threadpoolctl\n"
        "  fix:      pip install 'mutandis[bayesian]'"
    )


SHIFTED = mu.space([mu.floatv(-5.0, 10.0, name="u"), mu.floatv(0.0, 15.0, name="v"), mu.oneof([0, 5, 10], name="c")])


def branin_with_a_shift(dna):
    u, v = dna["u"], dna["v"]
    bend = (v - 5.1 / (4 * math.pi**2) * u * u + 5 / math.pi * u - 6) ** 2
    return 0.397887 - bend - 10 * (1 - 1 / (8 * math.pi)) * math.cos(u) - 10 - (0, 5, 10)[dna["c"]]


def regrets(algorithm, seeds=10):
    return [-max(drive(algorithm.start(SHIFTED.bare(), seed=s), branin_with_a_shift, 40)) for s in range(seeds)]


def test_branin_with_a_shifting_choice_is_solved_better_than_by_chance():
    found = statistics.median(regrets(GaussianProcess()))
    assert found < 0.1  # A plain process with a grid of length scales reaches 0.98.
    assert found < statistics.median(regrets(Random())) / 10


def test_the_better_branch_of_a_conditional_space_is_found():
    tree = mu.oneof(
        [
            {"a": mu.floatv(0.0, 1.0, name="a"), "b": mu.floatv(0.0, 1.0, name="b")},
            {"c": mu.floatv(0.0, 1.0, name="c")},
            "flat",
        ],
        name="branch",
    )

    def reward(dna):
        if dna["branch"] == 0:
            return 1 - (dna["a"] - 0.7) ** 2 - (dna["b"] - 0.2) ** 2
        return 0.8 - (dna["c"] - 0.5) ** 2 if dna["branch"] == 1 else 0.5

    space = mu.space(tree).bare()
    best = [max(drive(GaussianProcess().start(space, seed=seed), reward, 35)) for seed in range(5)]
    chance = [max(drive(Random().start(space, seed=seed), reward, 35)) for seed in range(5)]
    assert statistics.median(best) > 0.9999
    assert statistics.median(best) > statistics.median(chance)


def test_a_rugged_reward_in_ten_dimensions_is_climbed_from_the_centre():
    space = mu.space([mu.floatv(-32.768, 32.768) for _ in range(10)]).bare()

    def ackley(dna):  # Its optimum is at x_i = 2 i - 9; the centre, which is tried first, has 13.7.
        z = [x - 2.0 * i + 9.0 for i, x in enumerate(dna.values)]
        bowl = -20 * math.exp(-0.2 * math.sqrt(sum(v * v for v in z) / 10))
        return -(bowl - math.exp(sum(math.cos(2 * math.pi * v) for v in z) / 10) + 20 + math.e)

    found = [-max(drive(GaussianProcess().start(space, seed=seed), ackley, 60)) for seed in range(3)]
    assert statistics.median(found) < 10.0
