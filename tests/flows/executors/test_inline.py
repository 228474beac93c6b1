"""Jobs in this process."""

from __future__ import annotations

import os

import pytest

from mutandis.errors import SettingError
from mutandis.flows.executors import Inline
from mutandis.testing.executor_contract import work


def test_a_job_runs_in_this_process():
    with Inline().open(work, lambda key, data: None) as pool:
        pool.submit(0, ("sleep", 0.0))
        assert pool.wait()[0].value == os.getpid()


def test_an_interrupt_goes_through():
    def interrupted(payload, talk):
        raise KeyboardInterrupt

    with Inline().open(interrupted, lambda key, data: None) as pool:
        pool.submit(0, None)
        with pytest.raises(KeyboardInterrupt):
            pool.wait()


def test_a_limit_is_refused_with_the_way_out():
    with pytest.raises(SettingError) as error:
        Inline().open(work, lambda key, data: None, timeout=3.0)
    assert str(error.value) == (
        "cannot run inline\n"
        "  at:       timeout\n"
        "  got:      3.0 (float)\n"
        "  expected: one worker without limits, since jobs run in this process\n"
        '  fix:      leave timeout out, or use executor="processes"'
    )
