"""Trials as frozen trials of Optuna, and back.

| here                 | Optuna                                                                              |
|----------------------|-------------------------------------------------------------------------------------|
| completed            | COMPLETE                                                                            |
| stopped, paused      | PRUNED, with the values that it had; where it went on, that is a trial of its own   |
| failed               | FAIL                                                                                |
| skipped, abandoned   | FAIL: Optuna has no state for a trial that ended without a result                   |
| running              | RUNNING                                                                             |
| rewards              | values, as they were measured; the directions of the study have the sign            |
| curve                | intermediate values of the first objective; steps are rounded down, the last counts |
| metrics              | user attributes of the same names                                                   |
| the rest             | user attributes that begin with `mutandis:`, the state as it is called here included |
| started, seconds     | the times of start and end; 1970 where nobody knows when it began                   |
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from mutandis.flows import Trial
from mutandis.flows.studies.objectives import Objective
from mutandis.flows.studies.trial import ABANDONED, COMPLETED, FAILED, PAUSED, RUNNING, SKIPPED, STOPPED
from mutandis.integrations.optuna_params import Parameters, need_optuna

PREFIX = "mutandis:"
"""How user attributes begin that are no metrics."""

PROGRAMS = PREFIX + "programs"
"""The user attribute with the texts of open-ended decisions."""

_STATES = {
    COMPLETED: "COMPLETE", STOPPED: "PRUNED", PAUSED: "PRUNED", FAILED: "FAIL", SKIPPED: "FAIL", ABANDONED: "FAIL",
    RUNNING: "RUNNING",
}  # fmt: skip
_BACK = {"COMPLETE": COMPLETED, "PRUNED": STOPPED, "FAIL": FAILED}
_FIELDS = ("state", "seconds", "worker", "attempt", "reason", "fidelity", "parent")
_UNKNOWN = datetime.fromtimestamp(0)
_NUMBERS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def to_frozen(trial: Trial, parameters: Parameters, objectives: tuple[Objective, ...], *, id: int) -> Any:
    """Returns a trial as a `optuna.trial.FrozenTrial`.

    Args:
        trial: The record.
        parameters: The parameters of its space.
        objectives: The objectives of its study.
        id: The id that a storage gives it; its number is that of the trial.
    """
    optuna = need_optuna()
    params, distributions, texts = parameters.write(trial.dna)
    state = optuna.trial.TrialState[_STATES[trial.state]]
    start = _UNKNOWN if trial.started is None else datetime.fromtimestamp(trial.started)  # Optuna's have no time zone.
    has_values = trial.rewards is not None and _STATES[trial.state] in ("COMPLETE", "PRUNED")
    return optuna.trial.FrozenTrial(
        number=trial.id,
        trial_id=id,
        state=state,
        value=None,
        values=list(trial.rewards or ()) if has_values else None,
        datetime_start=start,
        datetime_complete=start + timedelta(seconds=trial.seconds) if state.is_finished() else None,
        params=params,
        distributions=distributions,
        user_attrs=_attributes(trial, texts),
        system_attrs={},
        intermediate_values=_intermediate(trial, objectives),
    )


def _attributes(trial: Trial, texts: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {name: _written(value) for name, value in (trial.metrics or {}).items()}
    for name in _FIELDS:
        if (value := getattr(trial, name)) is not None:
            found[PREFIX + name] = value
    if texts:
        found[PROGRAMS] = dict(texts)
    return found


def _written(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)  # JSON lacks nan, and browsers refuse it.


def _intermediate(trial: Trial, objectives: tuple[Objective, ...]) -> dict[int, float]:
    name = objectives[0].name if objectives else ""
    return {math.floor(step): metrics[name] for step, metrics in trial.curve if name in metrics}


def from_frozen(frozen: Any, parameters: Parameters, objectives: tuple[Objective, ...], *, id: int) -> Trial:
    """Returns a finished trial of Optuna as a record; what `to_frozen` wrote beside the values comes back.

    Args:
        frozen: The trial of Optuna, which has ended.
        parameters: The parameters of the space that it shall belong to.
        objectives: The objectives of the study that it shall belong to.
        id: The number that it gets.

    Raises:
        DecisionError: its parameters do not fit the space.
    """
    attributes = dict(frozen.user_attrs)
    dna = parameters.read(frozen.params, attributes.get(PROGRAMS) or {})
    own = {name: attributes[PREFIX + name] for name in _FIELDS if PREFIX + name in attributes}
    state = _BACK[frozen.state.name]
    if _STATES.get(own.get("state", "")) == frozen.state.name:
        state = own["state"]
    curve = tuple((step, {objectives[0].name: value}) for step, value in sorted(frozen.intermediate_values.items()))
    seconds = 0.0 if frozen.duration is None else frozen.duration.total_seconds()
    is_known = frozen.datetime_start is not None and frozen.datetime_start != _UNKNOWN
    return Trial(
        id,
        dna,
        **{"seconds": seconds, **own, "state": state},
        rewards=None if frozen.values is None else tuple(map(float, frozen.values)),
        metrics=_metrics(attributes),
        curve=curve,
        started=frozen.datetime_start.timestamp() if is_known else None,
    )


def _metrics(attributes: Mapping[str, Any]) -> dict[str, float] | None:
    found = {}
    for name, value in attributes.items():
        if isinstance(value, str):
            value = _NUMBERS.get(value)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and not name.startswith(PREFIX):
            found[name] = float(value)
    return found or None


__all__ = ["PREFIX", "PROGRAMS", "from_frozen", "to_frozen"]
