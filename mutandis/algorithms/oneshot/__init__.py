"""Algorithms that share weights between candidates; loaded when they are first touched."""

from __future__ import annotations

import importlib
from typing import Any

_ROOM = "mutandis.algorithms.oneshot"
_LAZY = {
    "Cost": f"{_ROOM}.protocol",
    "DARTS": f"{_ROOM}.mixtures",
    "DSNAS": f"{_ROOM}.gates",
    "ENAS": f"{_ROOM}.enas",
    "ExpectedCost": f"{_ROOM}.resources",
    "FBNetV2": f"{_ROOM}.sizes",
    "GDAS": f"{_ROOM}.gumbel",
    "Gate": f"{_ROOM}.selections",
    "Index": f"{_ROOM}.selections",
    "Mixture": f"{_ROOM}.selections",
    "Needs": f"{_ROOM}.protocol",
    "OnceForAll": f"{_ROOM}.shrinking",
    "OneShot": f"{_ROOM}.protocol",
    "OptionPrior": "mutandis.algorithms.policies.priors",
    "Phase": f"{_ROOM}.shrinking",
    "Policy": f"{_ROOM}.tables.policy",
    "ProxylessNAS": f"{_ROOM}.gates",
    "RSPS": f"{_ROOM}.single_path",
    "ResourceConstrained": f"{_ROOM}.resources",
    "SETN": f"{_ROOM}.mixtures",
    "SNAS": f"{_ROOM}.gumbel",
    "SPOS": f"{_ROOM}.single_path",
    "Selection": f"{_ROOM}.selections",
    "Selections": f"{_ROOM}.selections",
    "SharedSearch": f"{_ROOM}.protocol",
    "Subset": f"{_ROOM}.selections",
    "TAS": f"{_ROOM}.sizes",
    "TableCost": f"{_ROOM}.resources",
    "TopEdges": f"{_ROOM}.derive",
    "TopKEvolution": f"{_ROOM}.top_k",
    "TuNAS": f"{_ROOM}.tunas",
    "Value": f"{_ROOM}.selections",
    "Virtual": f"{_ROOM}.protocol",
    "selections_of": f"{_ROOM}.selections",
    "top_edges": f"{_ROOM}.derive",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        from mutandis.errors import closest

        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{closest(name, __all__)}")
    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})


__all__ = list(_LAZY)
