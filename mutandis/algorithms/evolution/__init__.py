"""Evolution: selectors, mutators, crossovers, and the algebra that puts them together."""

from __future__ import annotations

from mutandis.algorithms.evolution.crossovers import AverageCrossover as AverageCrossover
from mutandis.algorithms.evolution.crossovers import BlendCrossover as BlendCrossover
from mutandis.algorithms.evolution.crossovers import Crossover as Crossover
from mutandis.algorithms.evolution.crossovers import CycleCrossover as CycleCrossover
from mutandis.algorithms.evolution.crossovers import KPointCrossover as KPointCrossover
from mutandis.algorithms.evolution.crossovers import OrderCrossover as OrderCrossover
from mutandis.algorithms.evolution.crossovers import PartiallyMapped as PartiallyMapped
from mutandis.algorithms.evolution.crossovers import SimulatedBinaryCrossover as SimulatedBinaryCrossover
from mutandis.algorithms.evolution.crossovers import UniformCrossover as UniformCrossover
from mutandis.algorithms.evolution.engine import Evolution as Evolution
from mutandis.algorithms.evolution.hill_climb import HillClimb as HillClimb
from mutandis.algorithms.evolution.local_search import LocalSearch as LocalSearch
from mutandis.algorithms.evolution.mutators import Local as Local
from mutandis.algorithms.evolution.mutators import Mutator as Mutator
from mutandis.algorithms.evolution.mutators import Swap as Swap
from mutandis.algorithms.evolution.mutators import Uniform as Uniform
from mutandis.algorithms.evolution.nsga2 import NSGA2 as NSGA2
from mutandis.algorithms.evolution.operations import Operation as Operation
from mutandis.algorithms.evolution.population import Context as Context
from mutandis.algorithms.evolution.population import Individual as Individual
from mutandis.algorithms.evolution.regularized import RegularizedEvolution as RegularizedEvolution
from mutandis.algorithms.evolution.schedules import Cosine as Cosine
from mutandis.algorithms.evolution.schedules import Exponential as Exponential
from mutandis.algorithms.evolution.schedules import Linear as Linear
from mutandis.algorithms.evolution.schedules import Schedule as Schedule
from mutandis.algorithms.evolution.schedules import StepWise as StepWise
from mutandis.algorithms.evolution.selectors import Bottom as Bottom
from mutandis.algorithms.evolution.selectors import First as First
from mutandis.algorithms.evolution.selectors import Last as Last
from mutandis.algorithms.evolution.selectors import Proportional as Proportional
from mutandis.algorithms.evolution.selectors import RandomSample as RandomSample
from mutandis.algorithms.evolution.selectors import Top as Top
from mutandis.algorithms.evolution.selectors import Tournament as Tournament

__all__ = [
    "NSGA2",
    "AverageCrossover",
    "BlendCrossover",
    "Bottom",
    "Context",
    "Cosine",
    "Crossover",
    "CycleCrossover",
    "Evolution",
    "Exponential",
    "First",
    "HillClimb",
    "Individual",
    "KPointCrossover",
    "Last",
    "Linear",
    "Local",
    "LocalSearch",
    "Mutator",
    "Operation",
    "OrderCrossover",
    "PartiallyMapped",
    "Proportional",
    "RandomSample",
    "RegularizedEvolution",
    "Schedule",
    "SimulatedBinaryCrossover",
    "StepWise",
    "Swap",
    "Top",
    "Tournament",
    "Uniform",
    "UniformCrossover",
]
