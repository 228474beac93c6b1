"""The queue of a pool, with members that end jobs when they are told to."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from mutandis.errors import ExecutorError
from mutandis.flows.executors.base import CANCELLED, RETURNED, Outcome
from mutandis.flows.executors.queued import QueuedPool


@dataclass(eq=False)
class Hand:
    key: int | None = None
    is_ready: bool = False


@dataclass
class Scripted(QueuedPool[Hand]):
    """Each look makes new members ready, and ends the oldest job."""

    looks: list[float | None] = field(default_factory=list)

    def _pickle(self, payload):
        return repr(payload).encode()

    def _start(self):
        return Hand()

    def _give(self, member, key, payload):
        member.key = key

    def _look(self, left):
        self.looks.append(left)
        for member in self._members:
            member.is_ready = True
        self._hand_out()
        busy = [member for member in self._members if member.key is not None]
        if busy:
            self._cancel(min(busy, key=lambda member: member.key), RETURNED)

    def _cancel(self, member, kind=CANCELLED):
        self._ended.append(Outcome(member.key, kind))
        member.key = None

    def close(self):
        self._is_closed = True


def keys(outcomes):
    return [(outcome.key, outcome.kind) for outcome in outcomes]


def test_members_start_as_jobs_come_and_no_more_than_there_may_be():
    pool = Scripted(2)
    counts = []
    for key in range(4):
        pool.submit(key, None)
        counts.append((len(pool._members), pool.num_free, pool.num_running))
    assert counts == [(1, 1, 1), (2, 0, 2), (2, 0, 3), (2, 0, 4)]


def test_jobs_are_done_in_their_order_and_members_are_kept():
    pool = Scripted(2)
    for key in range(4):
        pool.submit(key, None)
    assert [keys(pool.wait()) for _ in range(4)] == [[(key, RETURNED)] for key in range(4)]
    assert pool.wait() == [] and len(pool._members) == 2 and pool.num_free == 2


def test_a_wait_ends_with_its_time_and_says_how_much_is_left():
    pool = Scripted(1)
    pool.submit(0, None)
    assert pool.wait(-1.0) == [] and pool.looks == []
    assert keys(pool.wait(60.0)) == [(0, RETURNED)]
    assert 0.0 < pool.looks[0] <= 60.0
    pool.submit(1, None)
    pool.wait()
    assert pool.looks[1] is None


def test_a_job_is_cancelled_where_it_waits_and_where_it_runs():
    pool = Scripted(1)
    pool._members.append(Hand(is_ready=True))
    for key in range(3):
        pool.submit(key, None)
    pool.cancel(2)
    pool.cancel(0)
    pool.cancel(7)
    assert [(o.key, o.kind, o.reason) for o in pool.wait()] == [
        (2, CANCELLED, "it was cancelled"),
        (0, CANCELLED, None),
    ]
    assert keys(pool.wait()) == [(1, RETURNED)]


def test_a_closed_pool_takes_no_job():
    pool = Scripted(1)
    pool.close()
    with pytest.raises(ExecutorError) as error:
        pool.submit(0, None)
    assert str(error.value) == ("cannot submit a job\n  expected: an open pool\n  fix:      open another one")
