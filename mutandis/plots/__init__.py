"""Pictures of a study: one HTML page, its charts, and which decisions matter."""

from __future__ import annotations

from mutandis.plots.importance import importances as importances
from mutandis.plots.page import report as report
from mutandis.plots.page import save_report as save_report

__all__ = ["importances", "report", "save_report"]
