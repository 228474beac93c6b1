"""What all media share."""

from __future__ import annotations

import os
import threading

import pytest

from mutandis.errors import SettingError
from mutandis.flows.studies.stores.medium import ProcessLock, need_durability, need_seconds


def test_a_lock_lets_one_thread_in_and_that_one_again():
    lock, entered = ProcessLock(), threading.Event()

    def enter():
        with lock:
            entered.set()

    thread = threading.Thread(target=enter)
    with lock, lock:
        thread.start()
        assert not entered.wait(0.05)
    thread.join()
    assert entered.is_set()


def test_a_lock_that_another_process_left_closed_begins_anew(monkeypatch):
    lock = ProcessLock()
    holder = threading.Thread(target=lock.__enter__)
    holder.start()
    holder.join()
    monkeypatch.setattr(os, "getpid", lambda: -1)
    entered = threading.Thread(target=lock.__enter__)
    entered.start()
    entered.join(1)
    assert not entered.is_alive()


def test_an_unknown_durability_is_refused():
    with pytest.raises(SettingError) as error:
        need_durability("paper")
    assert str(error.value) == (
        "cannot open a store\n  at:       durability\n  got:      'paper' (str)\n"
        "  expected: 'process' (results survive kill -9) or 'power' (they survive a power cut too)\n"
        "  fix:      leave durability out, or write durability='power'"
    )


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), True, None, "60"])
def test_a_lease_is_a_number_of_seconds(value):
    with pytest.raises(SettingError, match="a number of seconds above 0"):
        need_seconds("lease", value)
