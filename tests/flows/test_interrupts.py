"""Whether Ctrl-C came."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from mutandis.flows.interrupts import Interrupts


@pytest.fixture(autouse=True)
def _usual_handler():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_control_c_is_noted_and_does_what_it_does():
    interrupts = Interrupts()
    assert not interrupts.came
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    assert interrupts.came
    interrupts.close()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_of_the_program_stays():
    heard = []
    before = signal.signal(signal.SIGINT, lambda *_: heard.append(1))
    try:
        interrupts = Interrupts()
        os.kill(os.getpid(), signal.SIGINT)
        interrupts.close()
        assert heard == [1] and not interrupts.came
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_handler_that_came_later_stays():
    interrupts = Interrupts()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    interrupts.close()
    try:
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def test_other_threads_touch_no_handler():
    made = []
    thread = threading.Thread(target=lambda: made.append(Interrupts()))
    thread.start()
    thread.join()
    made[0].close()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (1, 0, 2)])
def test_several_note_it_and_are_closed_in_any_order(order):
    several = [Interrupts() for _ in range(3)]
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    assert [one.came for one in several] == [True] * 3
    for place in order:
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        several[place].close()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
