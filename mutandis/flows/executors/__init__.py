"""Executors: where the trials of a search run."""

from __future__ import annotations

from mutandis.flows.executors.base import Executor as Executor
from mutandis.flows.executors.base import Outcome as Outcome
from mutandis.flows.executors.base import Pool as Pool
from mutandis.flows.executors.base import Talk as Talk
from mutandis.flows.executors.inline import Inline as Inline
from mutandis.flows.executors.processes import Processes as Processes
from mutandis.flows.executors.ray_cluster import Ray as Ray

__all__ = ["Executor", "Inline", "Outcome", "Pool", "Processes", "Ray", "Talk"]
