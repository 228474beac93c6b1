"""Search algorithms: settings that start searches over points, whatever program these come from."""

from __future__ import annotations

import importlib
from typing import Any

from mutandis.algorithms import evolution as evolution
from mutandis.algorithms import multifidelity as multifidelity
from mutandis.algorithms import oneshot as oneshot
from mutandis.algorithms import predictors as predictors
from mutandis.algorithms import schedulers as schedulers
from mutandis.algorithms.base import Algorithm as Algorithm
from mutandis.algorithms.base import Search as Search
from mutandis.algorithms.base import settings as settings
from mutandis.algorithms.evolution import NSGA2 as NSGA2
from mutandis.algorithms.evolution import Evolution as Evolution
from mutandis.algorithms.evolution import HillClimb as HillClimb
from mutandis.algorithms.evolution import LocalSearch as LocalSearch
from mutandis.algorithms.evolution import RegularizedEvolution as RegularizedEvolution
from mutandis.algorithms.greedy_tree import GNAS as GNAS
from mutandis.algorithms.grid import Grid as Grid
from mutandis.algorithms.multifidelity import ASHA as ASHA
from mutandis.algorithms.multifidelity import PBT as PBT
from mutandis.algorithms.multifidelity import Hyperband as Hyperband
from mutandis.algorithms.policies.qlearning import QLearning as QLearning
from mutandis.algorithms.policies.reinforce import Reinforce as Reinforce
from mutandis.algorithms.random_search import Random as Random
from mutandis.algorithms.wrappers import Constrained as Constrained
from mutandis.algorithms.wrappers import Deduped as Deduped

_LAZY: dict[str, str] = {
    "CMAES": "mutandis.algorithms.bayesian.cma",
    "GaussianProcess": "mutandis.algorithms.bayesian.gp",
    "TPE": "mutandis.algorithms.bayesian.tpe",
    "NSGA3": "mutandis.algorithms.evolution.nsga3",
    "BOHB": "mutandis.algorithms.multifidelity.bohb",
    "ENAS": "mutandis.algorithms.oneshot.enas",
    "DSNAS": "mutandis.algorithms.oneshot.gates",
    "ProxylessNAS": "mutandis.algorithms.oneshot.gates",
    "GDAS": "mutandis.algorithms.oneshot.gumbel",
    "SNAS": "mutandis.algorithms.oneshot.gumbel",
    "DARTS": "mutandis.algorithms.oneshot.mixtures",
    "SETN": "mutandis.algorithms.oneshot.mixtures",
    "ResourceConstrained": "mutandis.algorithms.oneshot.resources",
    "OnceForAll": "mutandis.algorithms.oneshot.shrinking",
    "RSPS": "mutandis.algorithms.oneshot.single_path",
    "SPOS": "mutandis.algorithms.oneshot.single_path",
    "FBNetV2": "mutandis.algorithms.oneshot.sizes",
    "TAS": "mutandis.algorithms.oneshot.sizes",
    "TuNAS": "mutandis.algorithms.oneshot.tunas",
    "Optuna": "mutandis.algorithms.optuna_samplers",
    "PolicyRNN": "mutandis.algorithms.policies.recurrent",
    "NAO": "mutandis.algorithms.predictors.nao",
    "PNAS": "mutandis.algorithms.predictors.progressive",
    "Screened": "mutandis.algorithms.predictors.screened",
}
"""Names whose modules load torch, numpy or scipy, by module; imported when they are first touched."""


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        from mutandis.errors import closest

        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{closest(name, __all__)}")
    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})


__all__ = [
    "Algorithm",
    "ASHA",
    "BOHB",
    "CMAES",
    "Constrained",
    "DARTS",
    "Deduped",
    "DSNAS",
    "ENAS",
    "Evolution",
    "FBNetV2",
    "GaussianProcess",
    "GDAS",
    "GNAS",
    "Grid",
    "HillClimb",
    "Hyperband",
    "LocalSearch",
    "NAO",
    "NSGA2",
    "NSGA3",
    "OnceForAll",
    "Optuna",
    "PBT",
    "PNAS",
    "PolicyRNN",
    "ProxylessNAS",
    "QLearning",
    "Random",
    "RegularizedEvolution",
    "Reinforce",
    "ResourceConstrained",
    "RSPS",
    "Screened",
    "Search",
    "SETN",
    "SNAS",
    "SPOS",
    "TAS",
    "TPE",
    "TuNAS",
    "evolution",
    "multifidelity",
    "oneshot",
    "predictors",
    "schedulers",
    "settings",
]
