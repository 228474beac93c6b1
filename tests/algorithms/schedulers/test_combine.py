"""Several schedulers at once: the strongest answer wins."""

from __future__ import annotations

import pytest

from mutandis.algorithms.schedulers import ASHA, AnyOf, Directive, Median, Patience, SuccessiveHalving
from mutandis.errors import SettingError
from mutandis.testing import SchedulerContract


class TestPatienceWithinASHA(SchedulerContract):
    scheduler = AnyOf((ASHA(1, 27), Patience(4)))


class TestMedianAndPatience(SchedulerContract):
    scheduler = AnyOf((Median(min_trials=2), Patience(4)))


class TestOneMember(SchedulerContract):
    scheduler = AnyOf((ASHA(1, 27, variant="stop"),))


def test_the_first_that_ends_a_trial_ends_it():
    pacing = AnyOf((Patience(5), Patience(2))).start(seed=0)
    assert [pacing.report(0, step, (1.0,)) for step in (1, 2, 3)] == [
        Directive.CONTINUE, Directive.CONTINUE, Directive.COMPLETE,
    ]  # fmt: skip


def test_stopping_is_stronger_than_pausing():
    pacing = AnyOf((ASHA(1, 9), Median(min_trials=1))).start(seed=0)
    assert pacing.report(0, 1, (1.0,)) is Directive.PAUSE
    pacing.finish(0, (1.0,))
    assert pacing.report(1, 1, (0.0,)) is Directive.STOP


def test_completing_is_stronger_than_pausing():
    pacing = AnyOf((ASHA(3, 9), Patience(2))).start(seed=0)
    assert [pacing.report(0, step, (1.0,)) for step in (1, 2, 3)][-1] is Directive.COMPLETE


def test_the_shortest_plan_is_planned():
    assert AnyOf((ASHA(1, 9, variant="stop"), ASHA(4, 16, variant="stop"))).start(seed=0).begin(0) == 9
    assert AnyOf((Median(), Patience(1))).start(seed=0).begin(0) is None


def test_promotions_of_a_member_are_passed_on():
    pacing = AnyOf((Patience(20), ASHA(1, 9, 2))).start(seed=0)
    for trial in (0, 1):
        pacing.begin(trial)
        pacing.report(trial, 1, (float(trial),))
        pacing.pause(trial)
    assert [pacing.promote(), pacing.promote()] == [1, None]


def test_the_last_call_is_passed_on():
    pacing = AnyOf((Patience(20), SuccessiveHalving(9, 1, 9))).start(seed=0)
    pacing.report(0, 1, (1.0,))
    pacing.pause(0)
    assert [pacing.promote(), pacing.promote(last=True)] == [None, 0]


def test_it_pauses_where_a_member_does():
    assert AnyOf((Median(), ASHA(1, 9))).pauses
    assert not AnyOf((Median(), Patience(1))).pauses


def test_two_that_pause_are_refused():
    with pytest.raises(SettingError) as error:
        AnyOf((ASHA(1, 9), Median(), SuccessiveHalving(3, 1, 9)))
    assert str(error.value) == (
        "cannot combine two schedulers that pause\n"
        "  at:       AnyOf.members\n"
        "  got:      (ASHA(min_fidelity=1, max_fidelity=9, eta=3, variant='promote'), SuccessiveHalving(num_trials=3, "
        "min_fidelity=1, max_fidelity=9, eta=3)) (tuple)\n"
        "  expected: at most one of them, since each waits for trials to rest on its own rungs\n"
        "  fix:      use variant='stop' for all but one"
    )


@pytest.mark.parametrize("members", [(), [Median()], Median()])
def test_no_tuple_of_members_is_refused(members):
    with pytest.raises(SettingError, match="a tuple of schedulers"):
        AnyOf(members)


def test_a_member_that_is_no_scheduler_is_refused():
    with pytest.raises(SettingError) as error:
        AnyOf((Median,))
    assert "write Median(...), not the class" in str(error.value)
