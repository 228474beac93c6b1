from __future__ import annotations

import itertools
import json

import pytest

import mutandis as mu
from mutandis.algorithms.bayesian.tpe import TPE, num_good
from mutandis.errors import SettingError
from mutandis.hyper import Feedback
from mutandis.symbolic import clone

SHARED = mu.floatv(0.0, 1.0, name="shared")
FLOAT = mu.space({"x": mu.floatv(0.0, 1.0)}).bare()
TREE = mu.space(mu.oneof([{"far": mu.floatv(0.0, 1.0)}, {"near": [mu.floatv(0.0, 1.0) for _ in range(3)]}])).bare()
SIDE = mu.space([mu.oneof(["skip", {"w": mu.floatv(0.0, 1.0)}]) for _ in range(4)]).bare()


def answered(search, count, reward_of):
    """Runs a search and returns what it proposed."""
    made = []
    for _ in range(count):
        proposal = search.propose()
        made.append(proposal.dna)
        reward = reward_of(proposal.dna)
        search.feedback(Feedback(proposal.id, proposal.dna, None, None, None if reward is None else (reward,)))
    return made


def told(search, *results, space=FLOAT):
    for value, reward in results:
        dna = space.repair([value], lambda point: point.first())
        search.feedback(Feedback(None, dna, None, None, None if reward is None else (reward,)))


@pytest.mark.parametrize(("count", "good"), [(0, 0), (1, 1), (10, 1), (11, 2), (20, 2), (21, 3), (250, 25), (999, 25)])
def test_the_number_of_good_trials_is_known(count, good):
    assert num_good(count) == good


def test_a_parabola_is_found_from_nearly_every_seed():
    found = []
    for seed in range(10):
        made = answered(TPE().start(FLOAT, seed=seed), 60, lambda dna: -((dna.values[0] - 0.3) ** 2))
        found.append(min(abs(dna.values[0] - 0.3) for dna in made))
    assert sum(distance < 0.02 for distance in found) >= 9


@pytest.mark.parametrize("is_joint", [True, False])
def test_proposals_gather_where_good_trials_are(is_joint):
    made = answered(TPE(multivariate=is_joint).start(FLOAT, seed=0), 80, lambda dna: -abs(dna.values[0] - 0.8))
    assert sum(abs(dna.values[0] - 0.8) < 0.1 for dna in made[40:]) > 25


def test_the_first_proposals_are_those_of_random_draws_until_enough_have_finished():
    search = TPE(num_startup=3).start(FLOAT, seed=0)
    other = TPE(num_startup=99).start(FLOAT, seed=0)
    told(search, (0.1, None), (0.2, 1.0), (0.3, 2.0))
    assert search.propose().dna == other.propose().dna
    told(search, (0.4, 0.0))
    assert search.propose().dna != other.propose().dna


@pytest.mark.parametrize(("is_joint", "low", "high"), [(True, 45, 60), (False, 0, 44)])
def test_only_a_joint_density_knows_which_values_go_together(is_joint, low, high):
    space = mu.space([mu.oneof([0, 1]), mu.oneof([0, 1]), mu.floatv(0.0, 1.0)]).bare()
    search = TPE(multivariate=is_joint, constant_liar=False).start(space, seed=0)
    for number in range(200):
        pair = [(0, 0), (1, 1), (0, 1), (1, 0)][number % 4]
        dna = space.repair([*pair, number / 200], lambda point: point.first())
        search.feedback(Feedback(None, dna, None, None, (float(pair[0] == pair[1]),)))
    found = [search.propose().dna.values for _ in range(60)]
    assert low <= sum(values[0] == values[1] for values in found) <= high


def test_pending_trials_keep_proposals_apart():
    def spread(algorithm):
        search = algorithm.start(FLOAT, seed=1)
        told(search, *[(i / 20, -abs(i / 20 - 0.5)) for i in range(20)])
        values = sorted(search.propose().dna.values[0] for _ in range(12))
        return sum(after - before for before, after in itertools.pairwise(values)) / len(values)

    assert spread(TPE()) > 3 * spread(TPE(constant_liar=False))


def test_only_the_newest_pending_trials_are_remembered():
    search = TPE().start(FLOAT, seed=0)
    for _ in range(150):
        search.propose()
    assert [number for number, _ in search.state_dict()["pending"]] == list(range(50, 150))


def test_failed_trials_count_as_bad_where_asked():
    def near_the_failures(algorithm):
        search = algorithm.start(FLOAT, seed=0)
        told(search, *[(i / 20, -abs(i / 20 - 0.33)) for i in range(21)], *[(0.3 + i / 1000, None) for i in range(60)])
        return sum(abs(search.propose().dna.values[0] - 0.33) < 0.1 for _ in range(60))

    assert near_the_failures(TPE(failed_are_bad=True, constant_liar=False)) < 0.5 * near_the_failures(
        TPE(constant_liar=False)
    )


def test_failed_trials_are_as_if_they_had_not_been_otherwise():
    one, other = TPE().start(FLOAT, seed=0), TPE().start(FLOAT, seed=0)
    told(one, *[(i / 20, i) for i in range(20)])
    told(other, *[(i / 20, i) for i in range(20)], (0.5, None), (0.6, None))
    assert one.propose().dna == other.propose().dna


@pytest.mark.parametrize("reward", [float("inf"), float("-inf"), float("nan")])
def test_rewards_that_are_no_numbers_count_as_failures(reward):
    search = TPE().start(FLOAT, seed=0)
    told(search, (0.5, reward))
    assert json.loads(json.dumps(search.state_dict(), allow_nan=False))["trials"] == [[None, [0.5]]]


def test_a_value_that_was_tried_is_passed_over_while_there_is_a_new_one():
    space = mu.space([mu.oneof(list(range(6))), mu.oneof(list(range(6)))]).bare()
    made = answered(TPE(num_startup=5).start(space, seed=0), 25, lambda dna: -sum(dna.values))
    assert len(set(made[5:])) == 20


def bumpy(dna):
    """The near branch is the better one, but three of four random trials in it are worse than all in the far one."""
    if dna.values[0] == 0:
        return -0.5 - 0.1 * dna.values[1]
    return -3 * sum((x - 0.2) ** 2 for x in dna.values[2:])


def test_the_better_branch_is_found_where_its_first_trials_are_poor():
    found = [max(map(bumpy, answered(TPE().start(TREE, seed=seed), 80, bumpy))) for seed in range(10)]
    assert min(found) > -0.1


def test_a_branch_that_cannot_win_gets_few_trials():
    def reward_of(dna):
        return -2.0 - dna.values[1] if dna.values[0] == 0 else -abs(sum(dna.values[2:]) - 1)

    made = answered(TPE().start(TREE, seed=0), 200, reward_of)
    assert 20 <= sum(dna.values[0] == 0 for dna in made) <= 60


def test_without_branches_hardly_any_proposal_leaves_the_best_branch():
    made = answered(TPE(branches=False).start(TREE, seed=0), 150, lambda dna: float(dna.values[0]))
    assert sum(dna.values[0] == 0 for dna in made[30:]) < 6


def test_of_choices_side_by_side_a_forced_one_changes_nothing_else_of_the_best_trial():
    search = TPE(num_startup=1).start(SIDE, seed=0)
    best = SIDE.repair([0, None, 0, None, 0, None, 0, None], lambda point: point.first())
    for _ in range(12):
        search.feedback(Feedback(None, best, None, None, (1.0,)))
    found = [search.propose().dna for _ in range(40)]
    changed = [dna for dna in found if sum(dna.values[index] == 1 for index in (0, 2, 4, 6)) == 1]
    assert len(changed) >= 15


def test_what_is_grafted_comes_from_the_trials_that_took_the_arm():
    search = TPE(num_startup=1, constant_liar=False).start(SIDE, seed=0)
    points = range(8)
    for number in range(40):  # The arm of the first choice is good near 0.9; the best trials do not take it.
        place = number / 40
        taken = [1, place, 0, None, 0, None, 0, None]
        reward = -abs(place - 0.9) - 5.0
        search.feedback(Feedback(None, SIDE.repair(taken, lambda point: point.first()), None, None, (reward,)))
    for _ in range(2000):  # So many that the arm is due by its number of trials.
        dna = SIDE.repair([0 if index % 2 == 0 else None for index in points], lambda point: point.first())
        search.feedback(Feedback(None, dna, None, None, (1.0,)))
    for index in (2, 4, 6):  # The others have trials enough.
        values = [1 if place == index else 0 if place % 2 == 0 else None for place in points]
        for _ in range(100):
            dna = SIDE.repair(values, lambda point: point.first())
            search.feedback(Feedback(None, dna, None, None, (0.0,)))
    found = [dna.values[1] for dna in (search.propose().dna for _ in range(60)) if dna.values[0] == 1]
    assert len(found) >= 15
    assert sum(place > 0.7 for place in found) > 0.6 * len(found)


def test_the_densities_of_a_branch_know_only_its_own_trials():
    space = mu.space(mu.oneof([{"x": SHARED}, {"x": SHARED}])).bare()
    search = TPE(constant_liar=False).start(space, seed=0)
    for number in range(30):  # Branch 0 is good near 0.1 and always worse; branch 1 is good near 0.9.
        place = number / 30
        for branch, wanted in ((0, 0.1), (1, 0.9)):
            dna = space.repair([branch, place], lambda point: point.first())
            reward = -abs(place - wanted) - 10.0 * (branch == 0)
            search.feedback(Feedback(None, dna, None, None, (reward,)))
    for _ in range(400):  # Branch 0 is due.
        dna = space.repair([1, 0.9], lambda point: point.first())
        search.feedback(Feedback(None, dna, None, None, (0.0,)))
    found = [dna.values[1] for dna in (search.propose().dna for _ in range(60)) if dna.values[0] == 0]
    assert len(found) >= 15
    assert sum(place < 0.4 for place in found) > 0.7 * len(found)


def test_a_search_goes_on_from_its_state_after_pending_failed_and_foreign_trials():
    first = TPE().start(SIDE, seed=5)
    answered(first, 30, lambda dna: None if dna.values[0] else float(dna.values[2]))
    held = [first.propose() for _ in range(3)]
    first.feedback(Feedback(None, SIDE.random(9), None, None, (0.5,)))
    second = TPE().start(SIDE, seed=5)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for search in (first, second):
        search.feedback(Feedback(held[1].id, held[1].dna, None, None, (3.0,)))
    assert answered(first, 30, lambda dna: 1.0) == answered(second, 30, lambda dna: 1.0)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (
            {"num_startup": 0},
            "cannot use a setting\n  at:       TPE.num_startup\n  got:      0 (int)\n  expected: an int >= 1\n"
            "  fix:      give a larger whole number",
        ),
        (
            {"multivariate": 1},
            "cannot use a setting\n  at:       TPE.multivariate\n  got:      1 (int)\n  expected: True or False\n"
            "  fix:      write TPE(multivariate=True)",
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, text):
    with pytest.raises(SettingError) as caught:
        TPE(**settings)
    assert str(caught.value) == text


def test_the_settings_are_symbolic():
    assert clone(TPE(num_startup=7)) == TPE(num_startup=7)
