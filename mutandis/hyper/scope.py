"""The scope in which hyper value functions return decided values instead of hyper values."""

from __future__ import annotations

import sys
from contextvars import ContextVar
from typing import Any, Protocol


class Decider(Protocol):
    """What decides hyper values while a function is traced or run."""

    def decide(self, value: Any, frame: Any) -> Any:
        """Returns the value decided for a hyper value that was made in `frame`."""
        ...


DECIDER: ContextVar[Decider | None] = ContextVar("mutandis_decider", default=None)


def decided(value: Any) -> Any:
    """Returns `value`, or what the running trace decides for it; called by the public functions only."""
    decider = DECIDER.get()
    return value if decider is None else decider.decide(value, sys._getframe(2))


__all__ = ["DECIDER", "Decider", "decided"]
