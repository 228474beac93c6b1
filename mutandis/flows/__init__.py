"""Flows: the loops that join a program, an algorithm and a study."""

from __future__ import annotations

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

__all__ = [
    "Flow", "Joint", "Nested", "Phased", "Sampling", "Sequential", "Study", "Trial", "TrialFeedback", "sample",
    "search",
]  # fmt: skip
