"""Performance predictors, and the searches that lean on them; loaded when they are first touched."""

from __future__ import annotations

import importlib
from typing import Any

_ROOM = "mutandis.algorithms.predictors"
_LAZY = {
    "Encoding": f"{_ROOM}.encoding",
    "GPPredictor": f"{_ROOM}.gaussian",
    "NAO": f"{_ROOM}.nao",
    "PNAS": f"{_ROOM}.progressive",
    "Predictor": f"{_ROOM}.predictor",
    "Regressor": f"{_ROOM}.predictor",
    "RidgeEnsemble": f"{_ROOM}.ridge",
    "Screened": f"{_ROOM}.screened",
    "kendall_tau": f"{_ROOM}.ranks",
    "normal_scores": f"{_ROOM}.ranks",
    "spearman_rho": f"{_ROOM}.ranks",
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
