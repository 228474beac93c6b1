"""Fitting in: studies in Optuna's tools, trials in experiment trackers, searches around Lightning and DDP.

Each name is loaded when it is first touched, and says then what is not installed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mutandis.errors import closest

if TYPE_CHECKING:
    from mutandis.integrations.distributed import distributed_sample as distributed_sample
    from mutandis.integrations.lightning import LightningCallback as LightningCallback
    from mutandis.integrations.optuna_exchange import Imported as Imported
    from mutandis.integrations.optuna_exchange import export_to_optuna as export_to_optuna
    from mutandis.integrations.optuna_exchange import import_from_optuna as import_from_optuna
    from mutandis.integrations.optuna_view import dashboard as dashboard
    from mutandis.integrations.optuna_view import optuna_storage as optuna_storage
    from mutandis.integrations.optuna_view import to_optuna as to_optuna
    from mutandis.integrations.trackers import MLflow as MLflow
    from mutandis.integrations.trackers import TensorBoard as TensorBoard
    from mutandis.integrations.trackers import WeightsAndBiases as WeightsAndBiases

_LAZY = {
    **dict.fromkeys(("dashboard", "optuna_storage", "to_optuna"), "mutandis.integrations.optuna_view"),
    **dict.fromkeys(("Imported", "export_to_optuna", "import_from_optuna"), "mutandis.integrations.optuna_exchange"),
    **dict.fromkeys(("Callback", "MLflow", "TensorBoard", "WeightsAndBiases"), "mutandis.integrations.trackers"),
    "LightningCallback": "mutandis.integrations.lightning",
    "distributed_sample": "mutandis.integrations.distributed",
}

__all__ = [
    "Callback", "Imported", "LightningCallback", "MLflow", "TensorBoard", "WeightsAndBiases", "dashboard",
    "distributed_sample", "export_to_optuna", "import_from_optuna", "optuna_storage", "to_optuna",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'mutandis.integrations' has no attribute {name!r}{closest(name, _LAZY)}")
    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
