"""Trials and studies as rows, facts and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mutandis.cli import output
from mutandis.flows import Study, Trial
from mutandis.flows.studies.stores.sql import without_password

_LONGEST = 80
"""How many characters of a reason stand in a table."""


def trial_record(study: Study, trial: Trial) -> dict[str, Any]:
    """Returns all that is known of a trial, under the names that `mu.Trial` has for it.

    `rewards` are by objective as they were measured, `decisions` as people read them, `dna` as machines do.
    """
    names = [objective.name for objective in study.objectives]
    return {
        "id": trial.id,
        "state": trial.state,
        "rewards": None if trial.rewards is None else dict(zip(names, trial.rewards, strict=True)),
        "decisions": trial.dna.literals(),
        "dna": trial.dna.to_json(),
        "metrics": trial.metrics,
        "curve": [{"step": step, "metrics": metrics} for step, metrics in trial.curve],
        "seconds": trial.seconds,
        "fidelity": trial.fidelity,
        "parent": trial.parent,
        "attempt": trial.attempt,
        "worker": trial.worker,
        "started": trial.started,
        "reason": trial.reason,
    }


def study_record(study: Study, trials: Sequence[Trial]) -> dict[str, Any]:
    """Returns what a study is, and some of its trials, as JSON has it."""
    best = study.best
    return {
        "name": study.name,
        "objectives": [str(objective) for objective in study.objectives],
        "space": None if study.space is None else study.space.fingerprint,
        "counts": study.counts(),
        "best": None if best is None else best.id,
        "trials": [trial_record(study, trial) for trial in trials],
    }


def study_facts(study: Study, where: str | None = None) -> dict[str, object]:
    """Returns what people want to know of a study first, by name.

    Args:
        study: The study.
        where: Where it is kept.
    """
    states = ", ".join(f"{count} {state}" for state, count in study.counts().items())
    facts: dict[str, object] = {
        "study": shown_name(study, where),
        "trials": f"{len(study)} ({states})" if states else "none yet",
    }
    if study.objectives:
        facts["objectives"] = ", ".join(
            o.name + (" (smaller is better)" if o.sign < 0 else "") for o in study.objectives
        )
    if study.space is not None:
        facts["decisions"] = len(study.space.points)
    if len(study):
        facts["work"] = duration(sum(trial.seconds for trial in study.trials))
    if study.set_aside:
        facts["set aside"] = f"{len(study.set_aside)} trials of an earlier program"
    if study.best is not None:
        facts["best"] = str(study.best)
    if len(study.objectives) > 1:
        facts["front"] = f"{len(study.front)} trials"
    return facts


def show_trials(study: Study, trials: Sequence[Trial], *, title: str | None = None) -> None:
    """Prints a table of trials; the best one of the study stands out."""
    columns: list[tuple[str, list[object]]] = [
        ("trial", [t.id for t in trials]),
        ("state", [t.state for t in trials]),
        ("at", [t.fidelity for t in trials]),
    ]
    for place, objective in enumerate(study.objectives):
        columns.append((objective.name, [None if t.rewards is None else t.rewards[place] for t in trials]))
    columns += [
        ("seconds", [round(t.seconds, 3) for t in trials]),
        ("reason", [None if t.reason is None else _brief(t.reason) for t in trials]),
        ("decisions", [str(t.dna) for t in trials]),
    ]
    shown = [(head, values) for head, values in columns if any(value is not None for value in values)]
    best = study.best
    marked = next((i for i, trial in enumerate(trials) if best is not None and trial.id == best.id), None)
    rows = list(zip(*(values for _, values in shown), strict=True))
    output.show_table([head for head, _ in shown], rows, title=title, marked=marked)


def shown_name(study: Study, where: str | None) -> str:
    """Returns how people call a study: where it is kept, with its name where that says more."""
    if where is None:
        return "in memory"
    where = without_password(where)
    return where if study.name == "study" else f"{where} ({study.name})"


def _brief(reason: str) -> str:
    """Returns the beginning of a reason, which may be a whole story; `--json` has it all."""
    text = " ".join(reason.split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def duration(seconds: float) -> str:
    """Returns a length of time in the unit that suits it."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 3600 else f"{seconds / 3600:.3g} h"


__all__ = ["duration", "show_trials", "shown_name", "study_facts", "study_record", "trial_record"]
