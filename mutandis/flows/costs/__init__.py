"""Costs of children: measured on a child, predicted for a DNA, expected under a policy."""

from __future__ import annotations

from mutandis.flows.costs.fit import fit_cost as fit_cost
from mutandis.flows.costs.measures import measure as measure
from mutandis.flows.costs.model import CostModel as CostModel

__all__ = ["CostModel", "fit_cost", "measure"]
