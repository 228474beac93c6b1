"""Costs of children: measured on a child, predicted for a DNA, expected under a policy."""

from __future__ import annotations

from mutandis.flows.costs.fit import fit_cost as fit_cost
from mutandis.flows.costs.learnt import learn_cost as learn_cost
from mutandis.flows.costs.measures import measure as measure
from mutandis.flows.costs.model import CostModel as CostModel
from mutandis.flows.costs.tables import measure_table as measure_table
from mutandis.flows.costs.tables import operations as operations
from mutandis.flows.costs.tables import read_table as read_table
from mutandis.flows.costs.tables import table_cost as table_cost

__all__ = ["CostModel", "fit_cost", "learn_cost", "measure", "measure_table", "operations", "read_table", "table_cost"]
