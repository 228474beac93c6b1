"""`mutandis show`, `best` and `importances`: what a study holds."""

from __future__ import annotations

import argparse
from typing import Any

from mutandis.cli import output
from mutandis.cli.entry import DONE
from mutandis.cli.records import show_trials, study_facts, study_record, trial_record
from mutandis.cli.studies import open_study, recall
from mutandis.cli.targets import import_place, split_target
from mutandis.errors import MutandisError, SettingError, closest
from mutandis.flows import Study, Trial
from mutandis.plots import importances as shares_of
from mutandis.symbolic.code import to_python
from mutandis.symbolic.describe import describe

_BAR = 30


def show(options: argparse.Namespace) -> int:
    """Shows how far a study is, and its best trials, its front or all trials."""
    study = open_study(options.study, options.name)
    if options.all:
        trials, title = study.trials, "all trials"
    elif options.front:
        trials, title = study.front, "the front"
    else:
        trials, title = study.top(options.top), f"the {options.top} best"
    if options.json:
        output.show_json(study_record(study, trials))
        return DONE
    output.show_facts(study_facts(study, options.study))
    if trials:
        output.show_text("")
        show_trials(study, trials, title=title)
    return DONE


def best(options: argparse.Namespace) -> int:
    """Shows the best trial of a study.

    Raises:
        SettingError: no trial has a reward.
        SchemaError: the program of the study names what is not imported.
    """
    for place in options.imports:
        import_place(place)
    study = open_study(options.study, options.name)
    trial = best_of(study)
    if options.format == "json":
        output.show_json(trial_record(study, trial))
    elif options.format == "python":
        output.show_code(to_python(_child(study, trial)))
    elif options.format == "tree":
        output.show_text(describe(_child(study, trial)))
    else:
        _show_best(study, trial)
    return DONE


def importances(options: argparse.Namespace) -> int:
    """Shows which share of the variance of an objective each decision explains.

    Raises:
        SettingError: there is no such objective, or no trial has a reward.
    """
    study = open_study(options.study, options.name)
    best_of(study)
    names = [objective.name for objective in study.objectives]
    if options.of is not None and options.of.lstrip("-") not in names:
        raise SettingError("cannot find an objective", at="--of", got=options.of,
                           expected=f"one of {', '.join(names)}{closest(options.of, names)}",
                           fix="leave it out for the first")  # fmt: skip
    place = 0 if options.of is None else names.index(options.of.lstrip("-"))
    shares = shares_of(study, objective=place)
    if options.json:
        output.show_json(shares)
        return DONE
    rows = [(name, round(share, 3), "#" * round(_BAR * share)) for name, share in shares.items()]
    output.show_table(("decision", "share", ""), rows, title=f"the share of the variance of {names[place]}")
    return DONE


def best_of(study: Study) -> Trial:
    """Returns the best trial.

    Raises:
        SettingError: no trial has a reward.
    """
    found = study.best
    if found is None:
        raise SettingError("cannot show the best trial", at=study.name, got=study.counts() or "no trials",
                           expected="at least one trial with a reward", fix="run the search first")  # fmt: skip
    return found


def _show_best(study: Study, trial: Trial) -> None:
    facts: dict[str, object] = {"trial": trial.id, "state": trial.state}
    for objective, reward in zip(study.objectives, trial.rewards or (), strict=True):
        facts[objective.name] = reward
    facts.update((name, value) for name, value in (trial.metrics or {}).items() if name not in facts)
    facts["seconds"] = round(trial.seconds, 3)
    output.show_facts(facts)
    output.show_text("")
    output.show_table(("decision", "value"), list(trial.dna.literals().items()))


def _child(study: Study, trial: Trial) -> Any:
    """Returns the program of a trial; where that cannot be, the error says what to import."""
    try:
        return trial.child()
    except MutandisError as error:
        target = recall(study).get("target")
        place = "SCRIPT.py" if target is None else split_target(target)[0]
        error.add_note(f"import what defines the program: --import {place}")
        raise


__all__ = ["best", "best_of", "importances", "show"]
