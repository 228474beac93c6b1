"""Hyper values, search spaces and DNA, and the records that algorithms speak."""

from __future__ import annotations

from mutandis.hyper.arithmetic import Arithmetic as Arithmetic
from mutandis.hyper.arithmetic import Derived as Derived
from mutandis.hyper.arithmetic import derive as derive
from mutandis.hyper.dna import DNA as DNA
from mutandis.hyper.points import Point as Point
from mutandis.hyper.programs.dynamic import TracedProgram as TracedProgram
from mutandis.hyper.programs.dynamic import trace as trace
from mutandis.hyper.records import Feedback as Feedback
from mutandis.hyper.records import Proposal as Proposal
from mutandis.hyper.rng import Rng as Rng
from mutandis.hyper.rng import as_rng as as_rng
from mutandis.hyper.rng import uniform_at as uniform_at
from mutandis.hyper.space import SearchSpace as SearchSpace
from mutandis.hyper.space import space as space
from mutandis.hyper.values import BoolV as BoolV
from mutandis.hyper.values import Evolve as Evolve
from mutandis.hyper.values import FloatV as FloatV
from mutandis.hyper.values import HyperValue as HyperValue
from mutandis.hyper.values import IntV as IntV
from mutandis.hyper.values import ManyOf as ManyOf
from mutandis.hyper.values import OneOf as OneOf
from mutandis.hyper.values import Permutate as Permutate
from mutandis.hyper.values import Subset as Subset
from mutandis.hyper.values import boolv as boolv
from mutandis.hyper.values import evolve as evolve
from mutandis.hyper.values import floatv as floatv
from mutandis.hyper.values import intv as intv
from mutandis.hyper.values import manyof as manyof
from mutandis.hyper.values import oneof as oneof
from mutandis.hyper.values import permutate as permutate
from mutandis.hyper.values import subset as subset

__all__ = [
    "DNA", "Arithmetic", "BoolV", "Derived", "Evolve", "Feedback", "FloatV", "HyperValue", "IntV", "ManyOf", "OneOf",
    "Permutate", "Point", "Proposal", "Rng", "SearchSpace", "Subset", "TracedProgram", "as_rng", "boolv", "derive",
    "evolve", "floatv", "intv", "manyof", "oneof", "permutate", "space", "subset", "trace", "uniform_at",
]  # fmt: skip
