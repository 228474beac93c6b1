"""`mutandis export`, `report` and `dashboard`: a study for other tools and other people."""

from __future__ import annotations

import argparse
import csv
import io
import json
from pathlib import Path

from mutandis import integrations
from mutandis.cli import output
from mutandis.cli.entry import DONE
from mutandis.cli.records import study_record
from mutandis.cli.studies import open_study
from mutandis.cli.targets import import_place
from mutandis.errors import SettingError
from mutandis.flows import Study
from mutandis.plots import save_report


def export(options: argparse.Namespace) -> int:
    """Writes a study as CSV or JSON, or into a storage of Optuna.

    Raises:
        SettingError: the folder to write to is not there.
        MissingDependency: Optuna is asked for and not installed.
    """
    study = open_study(options.study, options.name)
    if options.optuna is not None:
        integrations.export_to_optuna(study, options.optuna)
        output.note(f"{len(study)} trials are in {options.optuna}")
    elif options.csv is not None:
        _write(options.csv, as_csv(study))
    else:
        record = output.plain(study_record(study, study.trials))
        _write(options.json, json.dumps(record, indent=2, allow_nan=False) + "\n")
    return DONE


def report(options: argparse.Namespace) -> int:
    """Writes a study as one HTML page.

    Raises:
        SettingError: no trial has a reward, or the folder to write to is not there.
    """
    for place in options.imports:
        import_place(place)
    study = open_study(options.study, options.name)
    output.show_text(str(save_report(study, _target(options.output))))
    return DONE


def dashboard(options: argparse.Namespace) -> int:
    """Serves optuna-dashboard over a study until Ctrl-C.

    Raises:
        MissingDependency: optuna-dashboard is not installed.
    """
    study = open_study(options.study, options.name)
    serve = integrations.dashboard  # Says here already what is not installed.
    output.note(f"http://{options.host}:{options.port}/  (Ctrl-C ends it)")
    serve(study, host=options.host, port=options.port)
    return DONE


def as_csv(study: Study) -> str:
    """Returns the rows of a study as CSV: a column for everything that some trial has."""
    rows = study.rows()
    heads = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, heads or ["id"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _write(where: str, text: str) -> None:
    if where == "-":
        print(text, end="")
        return
    _target(where).write_text(text, encoding="utf-8")
    output.note(f"wrote {where}")


def _target(where: str) -> Path:
    path = Path(where)
    if not path.parent.is_dir() or path.is_dir():
        raise SettingError("cannot write a file", at=where, expected="a file in a folder that is there",
                           fix=f"make the folder first: mkdir -p {path.parent}" if not path.is_dir() else
                           f"name a file: {path / 'report.html'}")  # fmt: skip
    return path


__all__ = ["as_csv", "dashboard", "export", "report"]
