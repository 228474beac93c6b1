"""The rules, without any store."""

from __future__ import annotations

import pytest

from mutandis.flows.studies.stores.ledger import LeaseLost, Ledger
from mutandis.flows.studies.stores.records import Claimed, Finished, Lease, Opened, Released, Reported, StudyHeader


def claimed(number=0, attempt=1, worker="w", losses=0):
    return Claimed(number, attempt, worker, 60.0, losses, {"n": number})


def lease(number=0, attempt=1, worker="w", losses=0):
    return Lease(number, attempt, worker, 60.0, losses, {"n": number})


def ledger_of(*events):
    ledger = Ledger()
    for i, event in enumerate(events):
        ledger.apply(event, i + 1)
    return ledger


def test_a_claim_runs_until_it_is_finished():
    ledger = ledger_of(Opened(StudyHeader(seed=4)), claimed(0), claimed(1), Reported(0, 1, 1, {}), Finished(0, 1, {}))
    assert (ledger.running, ledger.next_number, ledger.cursor) == ({1: lease(1)}, 2, 5)
    assert ledger.header.seed == 4


def test_only_the_latest_attempt_holds():
    ledger = ledger_of(claimed(), claimed(attempt=2, worker="v"))
    assert ledger.holds(lease(attempt=2)) and not ledger.holds(lease())
    assert ledger.next_number == 1


def test_what_was_given_back_holds_no_more_until_it_is_claimed_again():
    ledger = ledger_of(claimed(), Released(0, 1))
    assert not ledger.holds(lease()) and ledger.released == {0}
    ledger.apply(claimed(attempt=2), 3)
    assert ledger.holds(lease(attempt=2)) and ledger.released == set()


def test_what_was_given_back_and_ended_leaves_nothing():
    ledger = ledger_of(claimed(), Released(0, 1), Finished(0, 1, {}))
    assert ledger.running == {} and ledger.released == set()


def test_events_of_unknown_trials_change_nothing():
    ledger = ledger_of(claimed(), Finished(7, 1, {}), Released(8, 1))
    assert ledger.running == {0: lease()} and ledger.next_number == 1 and ledger.released == set()


@pytest.mark.parametrize(("events", "number", "got"), [
    ([claimed(), Finished(0, 1, {})], 0, "a trial that has ended"),
    ([claimed()], 1, "a trial that was never claimed"),
    ([claimed(), claimed(attempt=2, worker="v")], 0, "attempt 1, but v took it over as attempt 2"),
    ([claimed(), Released(0, 1)], 0, "a trial that was given back"),
])  # fmt: skip
def test_a_lease_that_is_over_is_refused_with_the_reason(events, number, got):
    with pytest.raises(LeaseLost) as error:
        ledger_of(*events).check(lease(number), "finish")
    assert error.value.got == repr(got) and error.value.problem == "cannot finish a trial"


def test_a_retry_counts_a_loss_and_a_trial_that_was_given_back_does_not():
    assert ledger_of(claimed()).retry(lease(), "v", 9.0, 1.0) == Claimed(0, 2, "v", 9.0, 1, {"n": 0}, 1.0)
    assert ledger_of(claimed(), Released(0, 1)).retry(lease(), "v", 9.0, 1.0).losses == 0


@pytest.mark.parametrize(("losses", "reason"), [(0, "its worker was lost"), (2, "its worker was lost 3 times")])
def test_giving_up_says_how_often_it_was_lost(losses, reason):
    event = Ledger().give_up(lease(attempt=3, losses=losses), 1.0)
    assert event == Finished(0, 3, {"state": "failed", "reason": reason}, 1.0)
