"""Algorithms that say how long each trial trains: successive halving, and population-based training."""

from __future__ import annotations

import importlib
from typing import Any

from mutandis.algorithms.multifidelity.asha import ASHA as ASHA
from mutandis.algorithms.multifidelity.hyperband import Hyperband as Hyperband
from mutandis.algorithms.multifidelity.lineage import Stretch as Stretch
from mutandis.algorithms.multifidelity.lineage import schedule as schedule
from mutandis.algorithms.multifidelity.pbt import PBT as PBT

_LAZY = {
    "BOHB": "mutandis.algorithms.multifidelity.bohb",
    "KernelDensity": "mutandis.algorithms.multifidelity.bohb",
}
"""Names whose modules load numpy, by module; imported when they are first touched."""


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


__all__ = ["ASHA", "BOHB", "Hyperband", "KernelDensity", "PBT", "Stretch", "schedule"]
