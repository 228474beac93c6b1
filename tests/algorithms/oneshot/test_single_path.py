"""Uniform paths: RSPS, SPOS and progressive shrinking."""

from __future__ import annotations

import collections
import json

import pytest
from toy_supernet import BEST, run_shared, successes

import mutandis as mu
from mutandis.algorithms import (
    RSPS,
    SPOS,
    Constrained,
    Deduped,
    Grid,
    HillClimb,
    OnceForAll,
    Random,
    RegularizedEvolution,
)
from mutandis.algorithms.oneshot.selections import selections_of
from mutandis.algorithms.oneshot.single_path import descending, num_open
from mutandis.errors import DecisionError, SettingError

PAIR = mu.space([mu.oneof(["a", "b"]), mu.oneof([10, 20])]).bare()
SIZES = mu.space({"kernel": mu.oneof([3, 7, 5], name="kernel"), "depth": mu.intv(2, 4, name="depth"),
                  "act": mu.oneof(["relu", "gelu"], name="act")}).bare()  # fmt: skip
EVOLUTION = Deduped(RegularizedEvolution(population_size=20, tournament_size=5))


def value(dna):
    return 10.0 * dna.values[0] + dna.values[1]


def test_paths_are_uniform_and_want_nothing_back():
    search = RSPS().start_shared(PAIR, seed=0)
    counts = collections.Counter(search.weights().dna(PAIR).values for _ in range(800))
    assert len(counts) == 4 and all(150 < count < 250 for count in counts.values())
    assert (search.needs.data, search.needs.outcome, search.needs.draws) == ("none", "none", 0)
    assert (search.entropy(), search.probabilities()) == ({}, {})


def test_there_is_no_policy_step():
    with pytest.raises(SettingError) as caught:
        RSPS().start_shared(PAIR, seed=0).policy()
    assert str(caught.value) == (
        "cannot take a policy step\n  at:       RSPS.policy\n  got:      'no policy' (str)\n"
        "  expected: weight steps only, then derive(evaluate)\n"
        "  fix:      look at search.needs.draws, which is 0"
    )


def test_outcomes_are_refused_and_silence_is_not():
    search = RSPS().start_shared(PAIR, seed=0)
    search.feedback(search.weights())
    with pytest.raises(SettingError) as caught:
        search.feedback(search.weights(), reward=1.0)
    assert str(caught.value) == (
        "cannot learn from an outcome\n  at:       RSPS.feedback\n  got:      'an outcome' (str)\n"
        "  expected: no feedback at all\n  fix:      look at search.needs for what to pass"
    )


def test_rsps_measures_as_many_random_children_as_it_says():
    asked = []
    search = RSPS(num_candidates=50).start_shared(mu.space(mu.intv(0, 10**9)), seed=0)
    best = search.derive(lambda dna: asked.append(dna) or dna.values[0])
    assert len(asked) == 50
    assert best.values[0] == max(dna.values[0] for dna in asked)


@pytest.mark.parametrize("algorithm", [EVOLUTION, Random(), Grid(), HillClimb(), Deduped(Random())])
def test_spos_searches_by_any_algorithm_and_measures_each_child_once(algorithm):
    asked = []
    search = SPOS(algorithm, num_trials=40).start_shared(PAIR, seed=0)
    assert search.derive(lambda dna: asked.append(dna) or value(dna)).values == (1, 1)
    assert len(asked) == len(set(asked)) <= 4


def test_spos_obeys_a_constraint_of_its_search():
    cheap = Constrained(RegularizedEvolution(population_size=4, tournament_size=2), lambda dna: dna.values[0] == 0)
    assert SPOS(cheap, num_trials=30).start_shared(PAIR, seed=0).derive(value).values == (0, 1)


def test_a_failure_reaches_the_search_without_a_reward():
    heard = []

    class Spy(type(Random().start(PAIR, seed=0))):
        def feedback(self, feedback):
            heard.append((feedback.dna.values[0], feedback.rewards))

    class Listening(mu.algorithms.Algorithm):
        def start(self, space, *, seed, num_objectives=1):
            return Spy(space, seed)

    search = SPOS(Listening(), num_trials=20).start_shared(PAIR, seed=0)
    search.derive(lambda dna: float("nan") if dna.values[0] else 1.0)
    assert set(heard) == {(1, None), (0, (1.0,))}


def test_spos_tells_its_search_of_failures():
    search = SPOS(EVOLUTION, num_trials=30).start_shared(PAIR, seed=0)
    assert search.derive(lambda dna: None if dna.values[0] else value(dna)).values == (0, 1)


def test_spos_needs_a_measure_and_recalibrated_norms():
    search = SPOS(num_trials=3).start_shared(PAIR, seed=0)
    assert search.needs.norm == "recalibrate"
    with pytest.raises(SettingError, match="cannot derive a result"):
        search.derive()


def test_spos_refuses_at_the_start_what_its_search_refuses():
    space = mu.space(mu.evolve([1], lambda program, rng: [*program, 2]))
    with pytest.raises(SettingError):
        SPOS(mu.algorithms.Reinforce()).start_shared(space, seed=0)


def test_open_ended_programs_are_drawn_too():
    space = mu.space(mu.evolve([1], lambda program, rng: [*program, 2])).bare()
    search = RSPS().start_shared(space, seed=0)
    assert isinstance(search.weights().dna(space).values[0], str)


@pytest.mark.parametrize(
    ("num_sizes", "done", "count"),
    [(4, -0.1, 1), (4, 0.0, 2), (4, 0.3, 2), (4, 0.34, 3), (4, 0.67, 4), (4, 1.0, 4), (4, 3.0, 4), (1, 0.0, 1),
     (2, 0.0, 2)],
)  # fmt: skip
def test_sizes_open_one_after_the_other(num_sizes, done, count):
    assert num_open(num_sizes, done) == count


@pytest.mark.parametrize(("name", "values"), [("kernel", [1, 2, 0]), ("depth", [4, 3, 2])])
def test_sizes_come_largest_first(name, values):
    assert descending(SIZES.point(name)) == values


def seen(search, fraction):
    search.progress(fraction)
    drawn = [search.weights().dna(SIZES).values for _ in range(60)]
    return [sorted({values[i] for values in drawn}) for i in range(3)]


def test_stages_open_their_decisions_in_turn():
    search = OnceForAll((("kernel",), ("depth",)), warmup=0.2).start_shared(SIZES, seed=0)
    assert seen(search, 0.1) == [[1], [4], [0, 1]]
    assert seen(search, 0.2) == [[1, 2], [4], [0, 1]]
    assert seen(search, 0.45) == [[0, 1, 2], [4], [0, 1]]
    assert seen(search, 0.61) == [[0, 1, 2], [3, 4], [0, 1]]
    assert seen(search, 1.0) == [[0, 1, 2], [2, 3, 4], [0, 1]]


def test_shrinking_ends_with_a_search():
    search = OnceForAll((("kernel",),), search=EVOLUTION, num_trials=60).start_shared(SIZES, seed=0)
    assert search.derive(lambda dna: -abs(dna.values[0] - 2) - dna.values[1]).values[:2] == (2, 2)


def test_only_sizes_shrink():
    with pytest.raises(SettingError) as caught:
        OnceForAll((("act",),)).start_shared(SIZES, seed=0)
    assert str(caught.value) == (
        "cannot shrink a decision\n  at:       ['act']\n  got:      'one of [relu, gelu]' (str)\n"
        "  expected: a choice among numbers, or a range of whole or stepped numbers\n"
        "  fix:      name only decisions about sizes in OnceForAll.stages"
    )
    with pytest.raises(DecisionError):
        OnceForAll((("nowhere",),)).start_shared(SIZES, seed=0)


@pytest.mark.parametrize("algorithm", [RSPS(), SPOS(), OnceForAll((("kernel",),))])
def test_a_run_resumes_exactly(algorithm):
    first, second = (algorithm.start_shared(SIZES, seed=3) for _ in range(2))
    first.progress(0.4)
    for _ in range(5):
        first.weights()
    second.load_state_dict(json.loads(json.dumps(first.state_dict(), allow_nan=False)))
    assert [first.weights().dna(SIZES) for _ in range(9)] == [second.weights().dna(SIZES) for _ in range(9)]
    assert first.derive(value) == second.derive(value)


def test_wrong_settings_are_refused():
    with pytest.raises(SettingError) as caught:
        SPOS(RegularizedEvolution)
    assert str(caught.value).endswith("fix:      write RegularizedEvolution(...), not the class")


def test_paths_have_the_number_of_no_draw():
    assert selections_of(PAIR.random(0)).number == RSPS().start_shared(PAIR, seed=0).weights().number == -1


def test_spos_solves_the_toy_supernet():
    assert run_shared(SPOS(EVOLUTION, num_trials=150), 600, 0) == BEST


@pytest.mark.slow
def test_nine_of_ten_seeds_solve_the_toy_supernet():
    assert successes(SPOS(EVOLUTION, num_trials=150), 600, range(10)) >= 9


@pytest.mark.slow
def test_a_hundred_random_children_cover_a_third_of_the_space():
    # 1 - (255/256)^100 = 0.32 of the seeds draw the best child at all.
    assert 1 <= successes(RSPS(), 600, range(10)) <= 7
