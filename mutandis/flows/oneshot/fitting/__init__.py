"""What an algorithm can search of a shared program, found out before anything is trained."""

from __future__ import annotations

from mutandis.flows.oneshot.fitting.report import FitReport as FitReport
from mutandis.flows.oneshot.fitting.report import lowering_report as lowering_report

__all__ = ["FitReport", "lowering_report"]
