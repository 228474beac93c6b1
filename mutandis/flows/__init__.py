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
    from mutandis.flows.costs import learn_cost as learn_cost
    from mutandis.flows.costs import measure as measure
    from mutandis.flows.costs import measure_table as measure_table
    from mutandis.flows.costs import read_table as read_table
    from mutandis.flows.costs import table_cost as table_cost
    from mutandis.flows.distillation import Distillation as Distillation
    from mutandis.flows.distillation import distillation_loss as distillation_loss
    from mutandis.flows.oneshot import OneShotResult as OneShotResult
    from mutandis.flows.oneshot import one_shot as one_shot
    from mutandis.flows.oneshot import split as split
    from mutandis.flows.oneshot import steps as steps
    from mutandis.flows.oneshot.fitting import lowering_report as lowering_report

_LAZY = {
    **dict.fromkeys(
        ("CostModel", "fit_cost", "learn_cost", "measure", "measure_table", "read_table", "table_cost"),
        "mutandis.flows.costs",
    ),
    **dict.fromkeys(("Distillation", "distillation_loss"), "mutandis.flows.distillation"),
    **dict.fromkeys(("OneShotResult", "one_shot", "split", "steps"), "mutandis.flows.oneshot"),
    "lowering_report": "mutandis.flows.oneshot.fitting",
}
"""Names whose modules load torch, by module; imported when they are first touched."""


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


__all__ = [
    "CostModel", "Distillation", "Flow", "Joint", "Nested", "OneShotResult", "Phased", "Sampling", "Sequential",
    "Study", "Trial", "TrialFeedback",
    "distillation_loss",
    "fit_cost",
    "learn_cost",
    "lowering_report",
    "measure",
    "measure_table",
    "one_shot",
    "read_table",
    "sample",
    "search",
    "split",
    "steps",
    "table_cost",
]  # fmt: skip
