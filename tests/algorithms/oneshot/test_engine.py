"""The search behind losses: whose gradient, which answers count, and what is left alone."""

from __future__ import annotations

import math

import pytest
import torch
from oneshot_probe import TRIPLE, probed, vector

import mutandis as mu
from mutandis.algorithms import DARTS, GDAS
from mutandis.algorithms.oneshot.engine import MOST_WAITING, one
from mutandis.errors import SettingError


def loss_of(chosen):
    return (chosen[0].weights * vector(2, -1, 0)).sum()


def test_weights_get_no_gradient_from_a_policy_step():
    search, seen = probed(DARTS(), [[0.0] * 3])
    weight = torch.tensor(2.0, requires_grad=True)
    chosen = search.policy()
    search.feedback(chosen, loss=weight * loss_of(chosen))
    assert weight.grad is None
    assert seen.last[0] is not None


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_teaches_nothing(loss):
    search, seen = probed(DARTS(), [[0.0] * 3])
    chosen = search.policy()
    search.feedback(chosen, loss=loss * loss_of(chosen))
    search.feedback(search.policy())
    assert seen.gradients == []


def test_a_gradient_that_is_not_finite_teaches_nothing():
    search = DARTS().start_shared(TRIPLE, seed=0)
    before = search.policy_tables.state()
    chosen = search.policy()
    search.feedback(chosen, loss=(0.0 * chosen[0].weights).sqrt().sum())
    assert search.policy_tables.state() == before


def test_a_loss_that_hangs_on_nothing_moves_nothing():
    search, seen = probed(DARTS(), [[0.0] * 3])
    search.feedback(search.policy(), loss=torch.tensor(1.0))
    assert seen.last == [None]


def test_each_answer_counts_once_and_foreign_ones_not_at_all():
    search, seen = probed(DARTS(), [[0.0] * 3])
    other = probed(DARTS(), [[0.0] * 3])[0].policy()
    chosen = search.policy()
    search.feedback(other, loss=loss_of(other))
    search.feedback(search.weights(), loss=torch.tensor(1.0))
    assert seen.gradients == []
    loss = loss_of(chosen)
    search.feedback(chosen, loss=loss)
    search.feedback(chosen, loss=loss)
    assert len(seen.gradients) == 1


def test_draws_may_wait_while_the_policy_moves():
    search = DARTS(learning_rate=0.5).start_shared(TRIPLE, seed=0)
    first, second = search.policy(), search.policy()
    search.feedback(second, loss=loss_of(second))
    before = search.policy_tables.state()
    search.feedback(first, loss=loss_of(first))
    assert search.policy_tables.state() != before


def test_the_oldest_draws_are_forgotten():
    search, seen = probed(DARTS(), [[0.0] * 3])
    first = search.policy()
    kept = [search.policy() for _ in range(MOST_WAITING)]
    search.feedback(first, loss=loss_of(first))
    assert seen.gradients == []
    search.feedback(kept[0], loss=loss_of(kept[0]))
    assert len(seen.gradients) == 1


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_draws_carry_gradients_in_every_mode_of_the_loop(mode):
    search, seen = probed(GDAS(), [[0.0] * 3])
    with mode():
        chosen = search.policy()
    search.feedback(chosen, loss=chosen[0].weights.sum())
    assert any(abs(slope) > 1e-6 for slope in seen.last[0])


def test_decisions_that_are_not_active_rest():
    space = mu.space({"x": mu.oneof(["a", {"z": mu.oneof([1, 2])}])})
    search, seen = probed(GDAS(), [[9.0, 0.0], [0.0, 0.0]], space=space)
    chosen = search.policy()
    assert list(chosen) == [0]
    search.feedback(chosen, loss=chosen[0].weights.sum())
    assert seen.last[1] is None


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [({"reward": 1.0}, "loss=, a scalar tensor"), ({"virtual": object()}, "loss=, a scalar tensor")],
)
def test_outcomes_of_another_kind_are_refused(outcome, expected):
    search, _ = probed(DARTS(), [[0.0] * 3])
    with pytest.raises(SettingError) as caught:
        search.feedback(search.policy(), **outcome)
    assert str(caught.value) == (
        f"cannot learn from an outcome\n  at:       DARTS.feedback\n  got:      '{next(iter(outcome))}=' (str)\n"
        f"  expected: {expected}\n  fix:      look at search.needs for what to pass"
    )


def test_a_second_order_search_wants_a_virtual_step():
    search, _ = probed(DARTS(order=2), [[0.0] * 3])
    with pytest.raises(SettingError, match="expected: virtual=, a Virtual"):
        search.feedback(search.policy(), loss=torch.tensor(1.0))


@pytest.mark.parametrize(
    ("value", "shown", "fix"),
    [(mu.intv(1, 3), "int in [1, 3]", "write the values as mu.oneof([...])"),
     (mu.floatv(0.0, 1.0, step=0.5), "float in [0.0, 1.0] step 0.5", "write the values as mu.oneof([...])")],
)  # fmt: skip
def test_ranges_with_steps_are_refused(value, shown, fix):
    with pytest.raises(SettingError) as caught:
        DARTS().start_shared(mu.space({"x": value}), seed=0)
    assert str(caught.value) == (
        f"cannot relax a decision\n  at:       ['x']\n  got:      {shown!r} (str)\n"
        f"  expected: what DARTS has a gradient for: choices and continuous ranges\n  fix:      {fix}"
    )


def test_rules_without_a_temperature_have_the_temperature_one():
    assert one(0.3) == 1.0


@pytest.mark.parametrize(
    ("settings", "name"),
    [({"learning_rate": -1.0}, "learning_rate"), ({"beta1": 1.0}, "beta1"), ({"weight_decay": -1.0}, "weight_decay"),
     ({"init_std": -1.0}, "init_std")],
)  # fmt: skip
def test_numbers_of_the_policy_are_checked(settings, name):
    with pytest.raises(SettingError, match=rf"at:       DARTS\.{name}\n"):
        DARTS(**settings)
