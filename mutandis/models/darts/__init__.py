"""DARTS' space of cells for images as annotated programs (Liu et al. 2019, arXiv 1806.09055)."""

from __future__ import annotations

from mutandis.models.darts.genotypes import DARTS_V1 as DARTS_V1
from mutandis.models.darts.genotypes import DARTS_V2 as DARTS_V2
from mutandis.models.darts.genotypes import OPERATIONS as OPERATIONS
from mutandis.models.darts.genotypes import Genotype as Genotype
from mutandis.models.darts.genotypes import derive_genotype as derive_genotype
from mutandis.models.darts.genotypes import genotype as genotype
from mutandis.models.darts.genotypes import node_edges as node_edges
from mutandis.models.darts.genotypes import parse_genotype as parse_genotype
from mutandis.models.darts.networks import Edge as Edge
from mutandis.models.darts.networks import Network as Network
from mutandis.models.darts.operations import Operation as Operation
from mutandis.models.darts.programs import cell_program as cell_program
from mutandis.models.darts.programs import genotype_of as genotype_of
from mutandis.models.darts.programs import network_of as network_of
from mutandis.models.darts.programs import supernet_program as supernet_program

__all__ = [
    "DARTS_V1", "DARTS_V2", "Edge", "Genotype", "Network", "OPERATIONS", "Operation", "cell_program",
    "derive_genotype", "genotype", "genotype_of", "network_of", "node_edges", "parse_genotype", "supernet_program",
]  # fmt: skip
