"""Patience: a trial that no longer gets better is complete."""

from __future__ import annotations

import pytest

from mutandis.algorithms.schedulers import Directive, Patience
from mutandis.errors import SettingError
from mutandis.testing import SchedulerContract


class TestPatience(SchedulerContract):
    scheduler = Patience(3, min_delta=0.05)


class TestWithWarmup(SchedulerContract):
    scheduler = Patience(2, warmup=10)


def ends_at(settings, *rewards):
    """Returns the step, from 1, at which a trial with these rewards ends, or None."""
    pacing = settings.start(seed=0, num_objectives=len(rewards[0]) if isinstance(rewards[0], tuple) else 1)
    for step, found in enumerate(rewards, 1):
        if pacing.report(0, step, found if isinstance(found, tuple) else (found,)) is Directive.COMPLETE:
            return step
    return None


def test_a_trial_ends_so_many_steps_after_its_best():
    assert ends_at(Patience(2), 1, 2, 3, 2, 2.5, 9) == 5


def test_an_improvement_begins_the_count_anew():
    assert ends_at(Patience(3), 1, 0, 0, 2, 0, 0, 0) == 7


def test_an_equal_reward_is_no_improvement():
    assert ends_at(Patience(2), 1, 1, 1) == 3


def test_an_improvement_must_be_larger_than_the_least_difference():
    assert ends_at(Patience(2, min_delta=0.5), 1, 1.5, 1.4, 9) == 3
    assert ends_at(Patience(2, min_delta=0.5), 1, 1.6, 1.4, 9) is None


def test_small_improvements_add_up_from_the_last_that_counted():
    assert ends_at(Patience(2, min_delta=0.5), 1, 1.4, 1.8, 2.2, 2.6, 3.0) is None


def test_patience_counts_steps_and_not_reports():
    pacing = Patience(10).start(seed=0)
    answers = [pacing.report(0, step, (1.0,)) for step in (5, 10, 14, 15)]
    assert answers == [*[Directive.CONTINUE] * 3, Directive.COMPLETE]


def test_nobody_ends_during_the_warmup():
    assert ends_at(Patience(1, warmup=5), 1, 1, 1, 1, 1, 1) == 5


def test_an_improvement_of_any_objective_counts():
    assert ends_at(Patience(2), (1, 1), (1, 2), (2, 0), (0, 3), (0, 0), (0, 0)) == 6


def test_trials_do_not_share_their_patience():
    pacing = Patience(2).start(seed=0)
    for step in (1, 2):
        pacing.report(0, step, (1.0,))
    assert pacing.report(1, 3, (1.0,)) is Directive.CONTINUE
    assert pacing.report(0, 3, (1.0,)) is Directive.COMPLETE


def test_a_number_that_is_not_finite_is_no_improvement():
    assert ends_at(Patience(2), float("nan"), float("inf"), float("nan")) == 3


def test_ended_trials_leave_nothing_behind():
    pacing = Patience(5).start(seed=0)
    empty = len(str(pacing.state_dict()))
    for trial in range(100):
        pacing.report(trial, 1, (1.0,))
        pacing.finish(trial, (1.0,))
    assert len(str(pacing.state_dict())) <= empty + 2


@pytest.mark.parametrize("make", [lambda: Patience(0), lambda: Patience(1, -1), lambda: Patience(1, 0, -1)])
def test_impossible_settings_are_refused(make):
    with pytest.raises(SettingError, match="cannot use a setting"):
        make()
