"""Ray on this machine alone, for tests: nothing reaches beyond the loopback, and nothing is reported anywhere."""

from __future__ import annotations

import os

import pytest


def need_ray():
    """Returns the module of Ray, or skips the test where it is not installed."""
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # A simulated cluster stays on the loopback.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # Else a token is left in the home directory.
    pytest.importorskip("cloudpickle", reason='needs pip install "mutandis[ray]"')
    return pytest.importorskip("ray", reason='needs pip install "mutandis[ray]"')


def unreadable_in(pid):
    """Is called where an `Unreadable` is unpickled."""
    if os.getpid() == pid:
        raise ValueError("not here")
    return Unreadable(pid)


class Unreadable:
    """It can be unpickled everywhere but in one process."""

    def __init__(self, pid):
        self.pid = pid

    def __reduce__(self):
        return unreadable_in, (self.pid,)
