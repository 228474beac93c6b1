"""BOHB: its sizes, what its model learns from, and what it finds."""

from __future__ import annotations

import json
import statistics

import pytest

import mutandis as mu
from mutandis.algorithms import ASHA, BOHB, Deduped, Hyperband, Random
from mutandis.algorithms.multifidelity import KernelDensity
from mutandis.algorithms.multifidelity.bohb import split_sizes
from mutandis.errors import SettingError
from mutandis.hyper import Feedback

LINE = mu.space(mu.floatv(0.0, 1.0, name="x")).bare()


def told(search, x, reward, fidelity=None, space=LINE):
    search.feedback(Feedback(None, space.dna({"x": x}), None, fidelity, None if reward is None else (reward,)))


def model(**changes):
    return KernelDensity(**{"num_samples": 8, "random_fraction": 0, **changes}).start(LINE, seed=0)


def sizes(search):
    """Returns the fidelity of the model and the numbers of good and bad results."""
    if not search._has_model():
        return None
    fidelity = min(search._results)
    return fidelity, *map(len, search._split(fidelity))


@pytest.mark.parametrize(
    ("count", "d", "expected"), [(10, 2, (3, 8)), (20, 2, (3, 17)), (100, 2, (15, 85)), (100, 6, (15, 85))]
)
def test_the_numbers_of_good_and_bad_results_are_the_known_ones(count, d, expected):
    assert split_sizes(count, d + 1, 15) == expected


def test_of_ten_results_on_two_axes_three_are_good_and_seven_bad():
    space = mu.space([mu.floatv(0.0, 1.0, name="x"), mu.floatv(0.0, 1.0)]).bare()
    search = KernelDensity().start(space, seed=0)
    for seed in range(10):
        dna = space.random(seed)
        search.feedback(Feedback(None, dna, None, None, (-dna["x"],)))
    assert sizes(search) == (0.0, 3, 7)


def test_there_is_a_model_with_one_more_good_and_bad_result_than_axes():
    search = model()
    for count in range(1, 5):
        assert sizes(search) is None
        told(search, count / 10, -count)
    assert sizes(search) == (0.0, 2, 2)


def test_failed_results_are_bad_and_do_not_make_the_good():
    search = model(min_points=3)
    for _ in range(9):
        told(search, 0.9, None)
    for count in range(3):
        assert sizes(search) is None
        told(search, 0.1, count)
    good, bad = search._split(0.0)
    assert [dna["x"] for dna in good] == [0.1] * 3
    assert [dna["x"] for dna in bad] == [0.9] * 9


def test_the_good_are_the_best_in_their_order_and_equals_by_arrival():
    search = model(min_points=2)
    for x, reward in ((0.1, 1.0), (0.2, 3.0), (0.3, 3.0), (0.4, 2.0), (0.5, None)):
        told(search, x, reward)
    good, bad = search._split(0.0)
    assert [dna["x"] for dna in good] == [0.2, 0.3]
    assert [dna["x"] for dna in bad] == [0.4, 0.1, 0.5]


def test_the_model_is_of_the_largest_fidelity_with_enough_results_and_smaller_ones_are_forgotten():
    search = model()
    for fidelity in (1.0, 3.0, 9.0):
        for count in range(3):
            told(search, 0.5, count, fidelity)
    assert sizes(search) is None
    told(search, 0.5, 0.0, 3.0)
    assert sizes(search) == (3.0, 2, 2)
    told(search, 0.5, 0.0, 1.0)
    assert sorted(search._results) == [3.0, 9.0]
    told(search, 0.5, 0.0, 9.0)
    assert sizes(search) == (9.0, 2, 2)
    assert sorted(search._results) == [9.0]


def test_proposals_are_near_the_good_and_far_from_the_bad():
    search = model(num_samples=64)
    for number in range(40):
        x = number / 40
        told(search, x, -abs(x - 0.7))
    drawn = [search.propose().dna["x"] for _ in range(40)]
    assert statistics.fmean(drawn) == pytest.approx(0.7, abs=0.05)
    assert max(abs(x - 0.7) for x in drawn) < 0.2


@pytest.mark.parametrize(("fraction", "low", "high"), [(0.0, 0, 0), (0.5, 70, 130), (1.0, 150, 200)])
def test_a_fraction_of_the_proposals_is_random(fraction, low, high):
    search = model(random_fraction=fraction, num_samples=16, min_bandwidth=0.01)
    for number in range(40):
        told(search, number / 40, -abs(number / 40 - 0.5))
    far = sum(abs(search.propose().dna["x"] - 0.5) > 0.1 for _ in range(200))
    assert low <= far <= high


def test_a_new_result_changes_the_model():
    first, second = model(), model()
    for search in (first, second):
        for number in range(8):
            told(search, number / 8, -number)
        search.propose()
    told(first, 0.95, 50.0)
    told(first, 0.95, 50.0)
    assert max(first.propose().dna["x"] for _ in range(20)) > 0.7 > max(second.propose().dna["x"] for _ in range(20))


def test_brackets_are_those_of_the_reference_code_for_nats_bench():
    space = mu.space([mu.oneof(list(range(5))) for _ in range(6)]).bare()
    search = BOHB(1, 12, num_samples=4, random_fraction=0, min_bandwidth=0.3).start(space, seed=0)
    made = []
    for _ in range(9 + 3 + 1 + 3 + 1 + 3):
        proposal = search.propose()
        made.append(proposal.fidelity)
        search.feedback(
            Feedback(proposal.id, proposal.dna, None, proposal.fidelity, (float(sum(proposal.dna.values)),))
        )
    expected = [4 / 3] * 9 + [4] * 3 + [12] + [4] * 3 + [12] + [12] * 3
    assert made == pytest.approx(expected)


def test_the_brackets_of_the_paper_can_be_had():
    search = BOHB(1, 12, bracket_sizes="paper", resume="retrain").start(LINE, seed=0)
    made = []
    for _ in range(9 + 3 + 1 + 5):
        proposal = search.propose()
        made.append((proposal.fidelity, proposal.inherit))
        search.feedback(Feedback(proposal.id, proposal.dna, None, None, (proposal.dna["x"],)))
    assert [fidelity for fidelity, _ in made[13:]] == [4.0] * 5
    assert {inherit for _, inherit in made} == {None}


def best_of(algorithm, space, value, seed, budget):
    """Returns the best true value among those trained in full for a budget of training."""
    search = algorithm.start(space, seed=seed)
    spent, best, fidelities = 0.0, float("-inf"), {None: 0.0}
    while spent < budget:
        proposal = search.propose()
        fidelity = proposal.fidelity or 27.0
        fidelities[proposal.id] = fidelity
        spent += fidelity - fidelities[proposal.inherit]
        reward = value(proposal.dna) - 1 / fidelity
        if fidelity == 27.0:
            best = max(best, reward)
        search.feedback(Feedback(proposal.id, proposal.dna, None, fidelity, (reward,)))
    return best


BOWL = mu.space([*(mu.floatv(-1.0, 1.0) for _ in range(3)), mu.oneof(list(range(4)), name="c")]).bare()


def bowl(dna):
    return -sum((x - 0.3) ** 2 for x in dna.values[:3]) - 0.3 * (dna["c"] != 2)


@pytest.mark.parametrize(
    "algorithm",
    [
        BOHB(1, 27, num_samples=16),
        ASHA(1, 27, 3, sampler=KernelDensity(16)),
        Hyperband(1, 27, sampler=Deduped(KernelDensity(16))),
    ],
    ids=["brackets", "asynchronous", "wrapped"],
)
def test_the_model_finds_better_than_random_search_for_the_same_training(algorithm):
    seeds = range(4)
    ours = [best_of(algorithm, BOWL, bowl, seed, 27 * 50) for seed in seeds]
    plain = [best_of(Random(), BOWL, bowl, seed, 27 * 50) for seed in seeds]
    assert statistics.fmean(ours) > statistics.fmean(plain) + 0.05


def test_open_ended_programs_are_refused_at_the_start():
    space = mu.space(mu.evolve([1, 2], lambda tree, rng: tree)).bare()
    with pytest.raises(SettingError, match="cannot estimate a density of open-ended programs"):
        BOHB(1, 9).start(space, seed=0)


def test_a_model_that_waits_for_the_next_fidelity_goes_on_from_json():
    first, second = model(), model()
    for number in range(9):
        told(first, number / 10, number, 1.0)
    told(first, 0.33, 5.0, 3.0)
    second.load_state_dict(json.loads(json.dumps(first.state_dict(), allow_nan=False)))
    for search in (first, second):
        for number in range(3):
            told(search, number / 7, number, 3.0)
    assert [first.propose() for _ in range(5)] == [second.propose() for _ in range(5)]


@pytest.mark.parametrize("cls", [BOHB, KernelDensity])
@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("num_samples", 0),
        ("random_fraction", -0.1),
        ("random_fraction", 1.1),
        ("bandwidth_factor", 0),
        ("min_bandwidth", 0),
        ("top_percent", 0),
        ("top_percent", 100),
        ("min_points", 0),
    ],
)
def test_settings_of_the_model_out_of_range_are_refused(cls, setting, value):
    given = {"min_fidelity": 1, "max_fidelity": 9} if cls is BOHB else {}
    with pytest.raises(SettingError) as caught:
        cls(**given, **{setting: value})
    assert caught.value.at == f"{cls.__name__}.{setting}"


@pytest.mark.parametrize(
    ("setting", "value"),
    [("min_fidelity", 0), ("max_fidelity", 0.5), ("eta", 1), ("bracket_sizes", "x"), ("resume", "x"), ("patience", 0)],
)
def test_settings_of_the_brackets_out_of_range_are_refused(setting, value):
    with pytest.raises(SettingError) as caught:
        BOHB(**{"min_fidelity": 1, "max_fidelity": 9, setting: value})
    assert caught.value.at == f"BOHB.{setting}"
