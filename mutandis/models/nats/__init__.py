"""NATS-Bench's two spaces as annotated programs (Dong et al. 2021, arXiv 2009.00437)."""

from __future__ import annotations

from mutandis.models.nats.codec import EDGES as EDGES
from mutandis.models.nats.codec import OPERATIONS as OPERATIONS
from mutandis.models.nats.codec import WIDTHS as WIDTHS
from mutandis.models.nats.codec import operations_of as operations_of
from mutandis.models.nats.codec import to_string as to_string
from mutandis.models.nats.codec import widths_of as widths_of
from mutandis.models.nats.networks import SizeNetwork as SizeNetwork
from mutandis.models.nats.networks import TopologyNetwork as TopologyNetwork
from mutandis.models.nats.networks import size_program as size_program
from mutandis.models.nats.networks import topology_program as topology_program
from mutandis.models.nats.operations import Operation as Operation

__all__ = [
    "EDGES", "OPERATIONS", "Operation", "SizeNetwork", "TopologyNetwork", "WIDTHS", "operations_of", "size_program",
    "to_string", "topology_program", "widths_of",
]  # fmt: skip
