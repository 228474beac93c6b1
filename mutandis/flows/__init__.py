"""Flows: the loops that join a program, an algorithm and a study."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mutandis.flows.feedback import TrialFeedback as TrialFeedback
from mutandis.flows.sample import Sampling as Sampling
from mutandis.flows.sample import sample as sample
from mutandis.flows.search import search as search
from mutandis.flows.studies import Study as Study
from mutandis.flows.studies import Trial as Trial
from mutandis.flows.usual import Flow as Flow
from mutandis.flows.usual import Joint as Joint
from mutandis.flows.usual import Nested as Nested
from mutandis.flows.usual import Phased as Phased
from mutandis.flows.usual import Sequential as Sequential

if TYPE_CHECKING:
    from mutandis.flows.costs import CostModel as CostModel
    from mutandis.flows.costs import fit_cost as fit_cost
    from mutandis.flows.costs import measure as measure
    from mutandis.flows.oneshot import OneShotResult as OneShotResult
    from mutandis.flows.oneshot import one_shot as one_shot
    from mutandis.flows.supernet import lowering_report as lowering_report

_LAZY = {
    **dict.fromkeys(("CostModel", "fit_cost", "measure"), "mutandis.flows.costs"),
    **dict.fromkeys(("OneShotResult", "one_shot"), "mutandis.flows.oneshot"),
    "lowering_report": "mutandis.flows.supernet",
}
"""Names whose modules load torch, by module; imported when they are first touched."""


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


__all__ = [
    "CostModel", "Flow", "Joint", "Nested", "OneShotResult", "Phased", "Sampling", "Sequential", "Study", "Trial",
    "TrialFeedback",
    "fit_cost",
    "lowering_report",
    "measure",
    "one_shot",
    "sample",
    "search",
]  # fmt: skip
