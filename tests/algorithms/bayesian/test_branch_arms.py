from __future__ import annotations

import math

import pytest

import mutandis as mu
from mutandis.algorithms.bayesian.branch_arms import Branches, Step
from mutandis.hyper import Rng

FLAT = mu.space({"x": mu.floatv(0.0, 1.0), "k": mu.oneof([1, 2, 3])}).bare()
INNER = mu.oneof([{"y": mu.floatv(0.0, 1.0)}, "plain"])
TREE = mu.space(mu.oneof(["nothing", {"x": mu.floatv(0.0, 1.0)}, {"inner": INNER}])).bare()
SIDE = mu.space([mu.oneof(["skip", {"w": mu.intv(1, 9)}]) for _ in range(3)]).bare()


def dna_with(space, *wanted):
    """Returns a random DNA whose first choices take the candidates."""
    values = [None] * len(space.points)
    for index, candidate in wanted:
        values[index] = candidate
    return space.repair(values, lambda point: point.first())


def filled(*results, space=TREE):
    branches = Branches(space)
    for candidate, reward in results:
        branches.add(dna_with(space, (0, candidate)), reward)
    return branches


def steps_of(branches, count=400):
    return [branches.walk(Rng(seed, "walk")) for seed in range(count)]


def test_choices_without_decisions_below_them_are_no_arms():
    assert Branches(FLAT).choices == []
    assert [point.index for point in Branches(TREE).choices] == [0, 2]


def test_what_hangs_on_an_arm_is_found_through_other_choices():
    below = Branches(TREE).below
    assert below[(0, 0)] == frozenset()
    assert below[(0, 1)] == {1}
    assert below[(0, 2)] == {2, 3}
    assert below[(2, 0)] == {3}


@pytest.mark.parametrize(
    ("rewards", "expected"),
    [
        ([], math.inf),
        ([1.0, 1.0], math.inf),
        ([None, None, 3.0], math.inf),
        ([1.0, 2.0, 3.0], 4.0),  # Best of three 3, of the first two 2.
        ([1.0, 2.0, 3.0, 2.0], 4.0),
        ([5.0, 1.0, 1.0, 1.0], 5.0),
        ([1.0, 1.0, 1.0, 1.0, 9.0, None], 17.0),
    ],
)
def test_the_score_of_an_arm_extrapolates_the_last_doubling(rewards, expected):
    assert filled(*((1, reward) for reward in rewards)).score((0, 1)) == expected


def test_nothing_is_walked_before_there_is_a_result():
    assert filled((1, None), (2, None)).walk(Rng(0)) == []


def test_nothing_is_walked_in_a_flat_space():
    branches = Branches(FLAT)
    branches.add(FLAT.random(0), 1.0)
    assert branches.walk(Rng(0)) == []


def test_half_of_the_steps_go_to_an_arm_with_too_few_trials():
    first = [steps[0] for steps in steps_of(filled(*[(1, 1.0)] * 20, *[(2, 0.0)] * 20))]
    forced = [step for step in first if step.is_forced]
    assert {step.arm for step in forced} == {(0, 0)}
    assert len(forced) / len(first) == pytest.approx(0.5, abs=0.07)
    assert {step.arm for step in first if not step.is_forced} == {(0, 1)}


def test_the_arm_of_fewest_trials_is_forced_first():
    branches = filled(*[(1, 1.0)] * 30, (0, 0.0), (0, 0.0), (2, 0.0))
    assert {steps[0].arm for steps in steps_of(branches) if steps[0].is_forced} == {(0, 2)}


def test_pending_trials_count_as_trials():
    branches = filled(*[(1, 1.0)] * 30, (0, 0.0), (0, 0.0), (2, 0.0))
    for _ in range(2):
        branches.expect(dna_with(TREE, (0, 2)))
    assert branches.num_trials((0, 2)) == 3
    assert {steps[0].arm for steps in steps_of(branches) if steps[0].is_forced} == {(0, 0)}
    branches.expect(dna_with(TREE, (0, 2)), -1)
    assert branches.num_trials((0, 2)) == 2


def test_an_arm_with_enough_trials_is_forced_while_it_may_overtake():
    rising = [(2, 0.01 * trial) for trial in range(30)]
    branches = filled(*[(1, 0.4)] * 30, *rising, *[(0, 0.0)] * 30)
    assert branches.score((0, 2)) > branches.score((0, 1)) > branches.score((0, 0))
    assert {steps[0].arm for steps in steps_of(branches) if steps[0].is_forced} == {(0, 2)}


def test_an_arm_that_cannot_overtake_is_left_alone():
    branches = filled(*[(1, 0.9)] * 30, *[(2, 0.1)] * 30, *[(0, 0.0)] * 30)
    assert not any(step.is_forced for steps in steps_of(branches) for step in steps[:1])


def test_the_walk_goes_on_below_an_arm_that_stands_alone():
    branches = filled(*[(2, 1.0)] * 4, *[(1, 0.0)] * 30, *[(0, 0.0)] * 30)
    walks = steps_of(branches)
    assert [Step((0, 2), True, False), Step((2, 0), True, False)] in walks
    assert [Step((0, 2), True, False), Step((2, 1), True, True)] in walks


def test_choices_side_by_side_are_forced_one_at_a_time():
    branches = Branches(SIDE)
    for seed in range(20):
        branches.add(dna_with(SIDE, (0, 0), (2, 0), (4, 0)), float(seed))
    walks = steps_of(branches)
    assert {len(steps) for steps in walks} == {0, 1}
    assert {steps[0] for steps in walks if steps} == {Step((index, 1), False, True) for index in (0, 2, 4)}
