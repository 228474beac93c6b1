"""Flows: the loops that join a program, an algorithm and a study."""

from __future__ import annotations

from mutandis.flows.feedback import TrialFeedback as TrialFeedback
from mutandis.flows.sample import Sampling as Sampling
from mutandis.flows.sample import sample as sample
from mutandis.flows.studies import Study as Study
from mutandis.flows.studies import Trial as Trial

__all__ = [
    "Sampling",
    "Study",
    "Trial",
    "TrialFeedback",
    "sample",
]
