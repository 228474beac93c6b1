"""Who is lost: provably dead processes, and heartbeats that stand still."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from mutandis.flows.studies.stores import leases
from mutandis.flows.studies.stores.leases import Watch, is_gone, this_worker
from mutandis.flows.studies.stores.records import Lease

LEASE = Lease(0, 1, "far away", 8.0, 0, {})
NAME = "from mutandis.flows.studies.stores.leases import this_worker; print(this_worker(), flush=True)"


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def watch(clock):
    return Watch(clock)


def look(watch, clock, at, beats, lease=LEASE):
    clock.now = at
    watch.look([lease], {(lease.number, lease.attempt): beats})
    return watch.is_stale(lease)


def test_a_counter_that_stands_still_for_the_lease_is_stale(watch, clock):
    assert [look(watch, clock, at, 5) for at in (100, 102, 104, 106, 107.9, 108)] == [False] * 5 + [True]


def test_a_counter_that_moves_begins_anew(watch, clock):
    assert [look(watch, clock, 2 * i, 5) for i in range(4)] == [False] * 4
    assert not look(watch, clock, 8, 6)
    assert [look(watch, clock, at, 6) for at in (10, 12, 14, 16)] == [False, False, False, True]


def test_a_counter_that_went_back_counts_as_a_move(watch, clock):
    assert [look(watch, clock, 2 * i, 5) for i in range(4)] == [False] * 4
    assert not look(watch, clock, 8, 0)


def test_a_watcher_that_slept_has_seen_only_a_quarter_of_the_lease(watch, clock):
    assert [look(watch, clock, at, 5) for at in (0, 1000, 2000, 3000, 4000)] == [False] * 4 + [True]


def test_a_lease_that_nobody_looked_at_is_not_stale(watch):
    assert not watch.is_stale(LEASE)


def test_attempts_are_watched_one_by_one(watch, clock):
    assert [look(watch, clock, 2 * i, 0) for i in range(4)] == [False] * 4
    assert not look(watch, clock, 8, 0, Lease(0, 2, "far away", 8.0, 1, {}))


def test_what_has_ended_is_no_longer_watched(watch, clock):
    look(watch, clock, 0, 5)
    watch.look([], {})
    assert watch._seen == {}


def test_this_process_is_not_gone():
    _, pid, start, _ = this_worker().split(":")
    assert pid == str(os.getpid()) and int(start) > 0
    assert not is_gone(this_worker())


def test_a_process_is_gone_as_soon_as_it_is_killed_even_before_it_is_waited_for():
    process = subprocess.Popen(
        [sys.executable, "-c", NAME + "; input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    name = process.stdout.readline().decode().strip()
    assert not is_gone(name)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # A zombie now.
    assert is_gone(name)
    process.communicate()
    assert is_gone(name)


def test_a_stale_lease_of_a_dead_process_needs_no_look(watch):
    done = subprocess.run([sys.executable, "-c", NAME], capture_output=True, text=True, check=True)
    assert watch.is_stale(Lease(0, 1, done.stdout.strip(), 8.0, 0, {}))


def test_a_number_that_another_process_got_afterwards_does_not_hide_the_death():
    host, pid, start, boot = this_worker().split(":")
    assert is_gone(f"{host}:{pid}:{int(start) - 1}:{boot}")


@pytest.mark.parametrize("change", [
    lambda host, pid, start, boot: f"{host}x:999999999:{start}:{boot}",
    lambda host, pid, start, boot: f"{host}:999999999:{start}:00000000",
    lambda host, pid, start, boot: f"{host}:999999999:{start}:",
    lambda host, pid, start, boot: f"{host}:999999999::{boot}",
    lambda host, pid, start, boot: f"{host}:x:{start}:{boot}",
    lambda host, pid, start, boot: "a name",
    lambda host, pid, start, boot: "",
], ids=["host", "boot", "no boot", "no start", "no pid", "name", "empty"])  # fmt: skip
def test_what_cannot_be_proven_is_not_claimed(change):
    assert not is_gone(change(*this_worker().split(":")))


def test_a_system_that_does_not_tell_proves_nothing(monkeypatch):
    monkeypatch.setattr(leases, "_boot", lambda: "")
    monkeypatch.setattr(leases, "_started", lambda pid: None)
    assert this_worker().endswith(f":{os.getpid()}::")
    assert not is_gone(this_worker())
