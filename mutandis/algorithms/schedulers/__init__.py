"""Schedulers: how long each trial goes on. `mu.sample(..., scheduler=mu.algorithms.schedulers.ASHA(1, 81))`."""

from __future__ import annotations

from mutandis.algorithms.schedulers.asha import ASHA as ASHA
from mutandis.algorithms.schedulers.base import Directive as Directive
from mutandis.algorithms.schedulers.base import Pacing as Pacing
from mutandis.algorithms.schedulers.base import Scheduler as Scheduler
from mutandis.algorithms.schedulers.combine import AnyOf as AnyOf
from mutandis.algorithms.schedulers.halving import SuccessiveHalving as SuccessiveHalving
from mutandis.algorithms.schedulers.hyperband import Hyperband as Hyperband
from mutandis.algorithms.schedulers.median import Median as Median
from mutandis.algorithms.schedulers.median import Percentile as Percentile
from mutandis.algorithms.schedulers.patience import Patience as Patience

__all__ = [
    "ASHA", "AnyOf", "Directive", "Hyperband", "Median", "Pacing", "Patience", "Percentile", "Scheduler",
    "SuccessiveHalving",
]  # fmt: skip
