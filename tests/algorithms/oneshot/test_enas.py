"""ENAS: baselines with their known answers, the update, and the toy supernet."""

from __future__ import annotations

import json
import math

import pytest
from oneshot_probe import TRIPLE
from toy_supernet import BEST, run_shared, successes

import mutandis as mu
from mutandis.algorithms import ENAS
from mutandis.algorithms.oneshot import OptionPrior
from mutandis.algorithms.oneshot.enas import RunningBaseline
from mutandis.errors import SettingError

SMALL = {"hidden_size": 8, "num_layers": 1, "batch_size": 2, "num_steps": 3}
QUICK = ENAS(hidden_size=16, num_layers=1, learning_rate=0.01, batch_size=10, num_steps=4, baseline="debiased",
             baseline_decay=0.95)  # fmt: skip


def test_the_published_baseline_starts_at_zero():
    baseline = RunningBaseline("ema", 0.999, 100)
    rewards = (0.5, 0.6, 0.4)
    found = [baseline.add(r) for r in rewards]
    assert found == pytest.approx([0.0005, 0.0010995, 0.0014984005], abs=1e-12)
    advantages = [r - b for r, b in zip(rewards, found, strict=True)]
    assert advantages == pytest.approx([0.4995, 0.5989005, 0.3985015995], abs=1e-10)


def test_the_baseline_of_an_epoch_is_fixed_by_the_one_before():
    baseline = RunningBaseline("epoch", 0.99, 2)
    assert [baseline.add(r) for r in (0.4, 0.6)] == [0.4, 0.6]
    assert [baseline.add(r) for r in (0.6, 0.6)] == pytest.approx([0.501, 0.501], abs=1e-12)
    assert baseline.add(0.501) == pytest.approx(0.501, abs=1e-12)


def test_the_debiased_baseline_starts_at_the_first_reward():
    baseline = RunningBaseline("debiased", 0.95, 2)
    assert [baseline.add(r) for r in (1.0, 0.0, 1.0)] == pytest.approx([1, 0.4871794872, 0.6669588081], abs=1e-9)


@pytest.mark.parametrize("kind", ["ema", "debiased", "epoch"])
def test_a_baseline_goes_on_from_its_state(kind):
    first, second = RunningBaseline(kind, 0.9, 3), RunningBaseline(kind, 0.9, 3)
    for reward in (1.0, 2.0, 3.0, 4.0):
        first.add(reward)
    second.set_state(json.loads(json.dumps(first.state())))
    assert [first.add(r) for r in (0.5, 7.0, 1.0)] == [second.add(r) for r in (0.5, 7.0, 1.0)]


CELL = mu.space([mu.oneof(list("abcde"), name="op"), mu.oneof([0, 1], name="edge")])
LEANING = OptionPrior(("op",), start=(10, 10, 0, 0, 0), fixed=(0.25, 0.25, -0.25, -0.25, -0.25), tanh_reduce=2.5)


def test_logits_of_cells_lean_as_published():
    wide = ENAS(hidden_size=4, num_layers=1, temperature=1.0, tanh_constant=1.1, init_range=1e-6, priors=(LEANING,))
    controller = wide.start_shared(CELL, seed=0)._controller
    found = [float(controller.log_probs([controller._codec.steps(dna)]).exp().detach())
             for dna in CELL.bare().enumerate()]  # fmt: skip
    by_op = [found[2 * i] + found[2 * i + 1] for i in range(5)]
    # Logits (.69, .69, -.25, -.25, -.25), as 0.44 tanh(10) + 0.25 and 0.44 tanh(0) - 0.25.
    wanted = [0.3152700903, 0.3152700903, 0.1231532731, 0.1231532731, 0.1231532731]
    assert by_op == pytest.approx(wanted, abs=1e-6)
    assert found[0] == pytest.approx(found[1], abs=1e-5)  # The other decision does not lean.


def test_by_trials_it_leans_too():
    leaning = OptionPrior(("op",), fixed=(9.0, 0.0, 0.0, 0.0, 0.0))
    search = ENAS(hidden_size=4, num_layers=1, priors=(leaning,)).start(CELL, seed=0)
    assert sum(search.propose().dna.values[0] == 0 for _ in range(50)) >= 48


def test_the_needs_say_how_many_draws_an_epoch_takes():
    needs = ENAS().start_shared(TRIPLE, seed=0).needs
    assert (needs.draws, needs.every, needs.outcome, needs.selection) == (1000, 0, "reward", "index")


def test_an_update_happens_after_a_batch_and_makes_the_better_likelier():
    search = ENAS(entropy_weight=0.0, baseline="debiased", learning_rate=0.05, **SMALL).start_shared(TRIPLE, seed=0)
    before = search.state_dict()["weights"]
    search.feedback(search.policy(), reward=1.0)
    assert search.state_dict()["weights"] == before
    search.feedback(search.policy(), reward=0.0)
    assert search.state_dict()["weights"] != before
    for _ in range(300):
        chosen = search.policy()
        search.feedback(chosen, reward=float(chosen[0].index == 2))
    assert sum(search.weights()[0].index == 2 for _ in range(50)) > 45
    assert next(iter(search.entropy().values())) < 0.5


@pytest.mark.parametrize(("weight", "is_moved"), [(0.0, False), (1.0, True)])
def test_entropy_enters_the_reward(weight, is_moved):
    space = mu.space([mu.oneof(list("abc")), mu.oneof(list("abc"))])
    search = ENAS(entropy_weight=weight, init_range=1.0, temperature=1.0, baseline="debiased", **SMALL)
    run = search.start_shared(space, seed=0)
    before = run._controller.weights.detach().clone()
    for _ in range(8):
        run.feedback(run.policy(), reward=0.5)
    assert (float((run._controller.weights.detach() - before).abs().max()) > 1e-6) == is_moved


@pytest.mark.parametrize("reward", [None, math.nan, -math.inf])
def test_failures_fill_no_batch(reward):
    search = ENAS(**SMALL).start_shared(TRIPLE, seed=0)
    before = search.state_dict()["weights"]
    for _ in range(5):
        search.feedback(search.policy(), reward=reward)
    assert search.state_dict()["weights"] == before


def test_the_gradient_is_cut():
    search = ENAS(max_norm=1e-9, learning_rate=1.0, epsilon=1.0, **SMALL).start_shared(TRIPLE, seed=0)
    before = search._controller.weights.detach().clone()
    for reward in (1.0, 3.0):
        search.feedback(search.policy(), reward=reward)
    assert float((search._controller.weights.detach() - before).abs().max()) < 1e-7


def test_the_entropy_starts_near_that_of_uniform_choices():
    space = mu.space([mu.oneof([1, 2, 3, 4]) for _ in range(3)])
    assert ENAS().start_shared(space, seed=0).entropy() == {"": pytest.approx(3 * math.log(4), abs=0.05)}


def test_the_entropy_does_not_move_the_draws():
    first, second = (ENAS(**SMALL).start_shared(TRIPLE, seed=0) for _ in range(2))
    first.entropy()
    assert [first.weights()[0].index for _ in range(9)] == [second.weights()[0].index for _ in range(9)]


def test_the_best_of_the_drawn_is_derived():
    search = ENAS(num_candidates=20, **SMALL).start_shared(TRIPLE, seed=0)
    assert search.derive(lambda dna: dna.values[0]).values == (2,)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"baseline": "x"}, "ENAS.baseline\n  got:      'x' (str)\n  expected: 'ema' or 'debiased' or 'epoch'\n"
         "  fix:      write 'ema'"),
        ({"max_norm": 0.0}, "ENAS.max_norm\n  got:      0.0 (float)\n  expected: a finite number > 0\n"
         "  fix:      give a number within these bounds"),
    ],
)  # fmt: skip
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(SettingError) as caught:
        ENAS(**settings)
    assert str(caught.value) == "cannot use a setting\n  at:       " + message


def test_the_toy_supernet_is_solved():
    assert run_shared(QUICK, 600, 0) == BEST


@pytest.mark.slow
def test_nine_of_ten_seeds_solve_the_toy_supernet():
    assert successes(QUICK, 1500, range(10)) >= 9
