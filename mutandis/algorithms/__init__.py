"""Search algorithms: settings that start searches over points, whatever program these come from."""

from __future__ import annotations

import importlib
from typing import Any

from mutandis.algorithms import evolution as evolution
from mutandis.algorithms.base import Algorithm as Algorithm
from mutandis.algorithms.base import Search as Search
from mutandis.algorithms.base import settings as settings
from mutandis.algorithms.evolution import NSGA2 as NSGA2
from mutandis.algorithms.evolution import Evolution as Evolution
from mutandis.algorithms.evolution import HillClimb as HillClimb
from mutandis.algorithms.evolution import LocalSearch as LocalSearch
from mutandis.algorithms.evolution import RegularizedEvolution as RegularizedEvolution
from mutandis.algorithms.grid import Grid as Grid
from mutandis.algorithms.random_search import Random as Random
from mutandis.algorithms.wrappers import Constrained as Constrained
from mutandis.algorithms.wrappers import Deduped as Deduped

_LAZY: dict[str, str] = {}
"""Names whose modules load torch, numpy or scipy, by module; imported when they are first touched."""


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        from mutandis.errors import closest

        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{closest(name, __all__)}")
    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})


__all__ = [
    "Algorithm",
    "Constrained",
    "Deduped",
    "Evolution",
    "Grid",
    "HillClimb",
    "LocalSearch",
    "NSGA2",
    "Random",
    "RegularizedEvolution",
    "Search",
    "evolution",
    "settings",
]
