"""Which decisions matter."""

from __future__ import annotations

import random

import pytest

import mutandis as mu
from mutandis.plots.importance import explained, grouped, importances, ranks


def test_equals_share_the_middle_of_their_places():
    assert ranks([5.0, 1.0, 5.0, 0.0]) == [2.5, 1.0, 2.5, 0.0]


def test_epsilon_squared_is_what_its_formula_says():
    # Groups (1, 2, 3) and (4, 5, 6): SS_total 17.5, SS_within 4, MS_within 1.
    assert explained([0, 0, 0, 1, 1, 1], [1, 2, 3, 4, 5, 6]) == pytest.approx((17.5 - 4 - 1) / 17.5)


@pytest.mark.parametrize(
    ("groups", "values"),
    [([0, 0, 0], [1, 2, 3]), ([0, 1, 2], [1, 2, 3]), ([0, 0, 1, 1], [7, 7, 7, 7]), ([0, 0, 1, 1], [1, 4, 2, 3])],
)
def test_what_explains_nothing_has_no_share(groups, values):
    assert explained(groups, values) == 0.0


def test_ranges_are_cut_into_quantiles_and_candidates_are_not():
    space = mu.space({"x": mu.floatv(0.0, 1.0), "op": mu.oneof(["a", "b", "c"])})
    values = [i / 40 for i in range(40)]
    assert grouped(space.points[0], values) == [i // 8 for i in range(40)]
    assert grouped(space.points[1], [2, 0, 2, 1]) == [0, 1, 0, 2]


@pytest.fixture(scope="module")
def study():
    draw = random.Random(0)
    program = {
        "lr": mu.floatv(1e-4, 1.0, scale="log"), "op": mu.oneof(["a", "b", "c"]), "noise": mu.intv(0, 100),
        "branch": mu.oneof(["plain", {"depth": mu.intv(1, 3)}]),
    }  # fmt: skip
    loop = mu.sample(program, mu.algorithms.Random(), trials=150)
    for child, feedback in loop:
        depth = child["branch"]["depth"] if isinstance(child["branch"], dict) else 0
        feedback({"a": 0.0, "b": 2.0, "c": 5.0}[child["op"]] + 0.3 * depth + 0.05 * draw.gauss(0, 1))
    return loop.study


def test_what_decides_the_reward_comes_first_and_noise_has_little(study):
    shares = importances(study)
    assert next(iter(shares)) == "['op']"
    assert shares["['op']"] > 0.8
    assert shares["['lr']"] < 0.1 > shares["['noise']"]
    assert list(shares.values()) == sorted(shares.values(), reverse=True)
    assert set(shares) == {point.key for point in study.space.points}


def test_a_decision_counts_where_it_was_active(study):
    inner = next(point.key for point in study.space.points if point.conditions)
    assert 0 <= importances(study)[inner] <= 1


def test_few_trials_say_nothing():
    loop = mu.sample({"op": mu.oneof(["a", "b"])}, mu.algorithms.Random(), trials=7)
    for child, feedback in loop:
        feedback(float(child["op"] == "a"))
    assert importances(loop.study) == {"['op']": 0.0}
    assert importances(mu.Study()) == {}


def test_another_objective_has_its_own_shares():
    program = {"a": mu.oneof([1, 2, 3]), "b": mu.oneof([1, 2, 3])}
    loop = mu.sample(program, mu.algorithms.Random(), trials=60, objectives=("one", "-two"))
    for child, feedback in loop:
        feedback({"one": child["a"], "two": child["b"]})
    assert next(iter(importances(loop.study))) == "['a']"
    assert next(iter(importances(loop.study, objective=1))) == "['b']"


class Counted(float):
    """A number that counts how often it is added."""

    times = 0

    def __radd__(self, other):
        Counted.times += 1
        return float(other) + float(self)


def test_the_cost_grows_with_the_number_of_trials_and_no_faster():
    explained([i % 2 for i in range(1000)], [Counted(i) for i in range(1000)])
    assert Counted.times <= 4000
