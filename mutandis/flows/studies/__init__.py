"""Trial records and the studies that keep them."""

from __future__ import annotations

from mutandis.flows.studies.study import Study as Study
from mutandis.flows.studies.trial import Trial as Trial

__all__ = [
    "Study",
    "Trial",
]
