"""Uniform paths: RSPS and SPOS."""

from __future__ import annotations

import collections
import json

import pytest
import torch
from toy_supernet import BEST, combine, run_shared, successes

import mutandis as mu
from mutandis.algorithms import (
    RSPS,
    SPOS,
    Constrained,
    Deduped,
    Grid,
    HillClimb,
    Random,
    RegularizedEvolution,
)
from mutandis.algorithms.oneshot.selections import selections_of
from mutandis.errors import SettingError

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


def test_a_path_runs_its_candidates_and_trains_them_alone():
    weights = [[torch.tensor(x, requires_grad=True) for x in row] for row in ([1.0, 2.0], [10.0, 20.0])]

    def output(chosen):
        return sum(combine(chosen[i], [lambda w=w: w for w in row]) for i, row in enumerate(weights))

    outputs = {dna.values: float(output(selections_of(dna)).detach()) for dna in PAIR.enumerate()}
    assert outputs == {(0, 0): 11.0, (1, 0): 12.0, (0, 1): 21.0, (1, 1): 22.0}
    output(selections_of(PAIR.dna_at(2))).backward()
    assert PAIR.dna_at(2).values == (1, 0)
    assert [[w.grad is not None for w in row] for row in weights] == [[False, True], [True, False]]


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


COST = {values: float(i) for i, values in enumerate(sorted(dna.values for dna in PAIR.enumerate()))}


def test_paths_are_uniform_over_bins_of_cost():
    # Costs are 0, 1, 2 and 3; the bins hold three of them, one, and none.
    search = SPOS(cost_bins=(-0.5, 2.5, 3.5), bin_tries=200).start_shared(PAIR, seed=0, cost=lambda d: COST[d.values])
    found = collections.Counter(COST[search.weights().dna(PAIR).values] for _ in range(900))
    assert found[3.0] / 900 == pytest.approx(1 / 2, abs=0.06)
    assert all(found[cost] / 900 == pytest.approx(1 / 6, abs=0.05) for cost in (0.0, 1.0, 2.0))


def test_where_a_bin_holds_nothing_any_path_will_do():
    asked = []
    search = SPOS(cost_bins=(8.0, 9.0), bin_tries=7).start_shared(PAIR, seed=0, cost=lambda d: asked.append(d) or 1.0)
    assert search.weights().dna(PAIR) in set(PAIR.enumerate())
    assert len(asked) == 7


def test_edges_of_a_bin_belong_to_it():
    search = SPOS(cost_bins=(3.0, 4.0)).start_shared(PAIR, seed=0, cost=lambda d: COST[d.values])
    assert {COST[search.weights().dna(PAIR).values] for _ in range(20)} == {3.0}


def test_bins_need_a_cost():
    with pytest.raises(SettingError) as caught:
        SPOS(cost_bins=(1, 2)).start_shared(PAIR, seed=0)
    assert str(caught.value) == (
        "cannot draw by cost\n  at:       SPOS.cost_bins\n  got:      (1, 2) (tuple)\n"
        "  expected: a cost to weigh paths with\n  fix:      pass cost= too"
    )


@pytest.mark.parametrize("edges", [(1,), (2, 1), (1, 1)])
def test_edges_that_make_no_bin_are_refused(edges):
    with pytest.raises(SettingError) as caught:
        SPOS(cost_bins=edges)
    assert str(caught.value) == (
        f"cannot use a setting\n  at:       SPOS.cost_bins\n  got:      {edges!r} (tuple)\n"
        "  expected: two or more edges, each above the one before\n  fix:      write cost_bins=(290, 300, 310)"
    )


def test_open_ended_programs_are_drawn_too():
    space = mu.space(mu.evolve([1], lambda program, rng: [*program, 2])).bare()
    search = RSPS().start_shared(space, seed=0)
    assert isinstance(search.weights().dna(space).values[0], str)


@pytest.mark.parametrize("algorithm", [RSPS(), SPOS()])
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
