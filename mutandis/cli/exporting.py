"""`mutandis export`, `report` and `dashboard`: a study for other tools and other people."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mutandis import integrations
from mutandis.cli import output
from mutandis.cli.entry import DONE
from mutandis.cli.records import study_record
from mutandis.cli.studies import open_study
from mutandis.cli.targets import import_place
from mutandis.errors import SettingError, StorageError
from mutandis.flows import Study
from mutandis.plots import save_report


def export(options: argparse.Namespace) -> int:
    """Writes a study as CSV or JSON, or into a storage of Optuna.

    Raises:
        SettingError: the folder to write to is not there.
        StorageError: the file or the storage cannot be written to.
        MissingDependency: Optuna is asked for and not installed.
    """
    study = open_study(options.study, options.name)
    if options.optuna is not None:
        try:
            integrations.export_to_optuna(study, options.optuna)
        except StorageError as error:
            error.add_note("another address is another storage: --optuna sqlite:///other.db")
            raise
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
        SettingError: no trial has ended, or the folder to write to is not there.
        StorageError: the file cannot be written to.
    """
    for place in options.imports:
        import_place(place)
    study = open_study(options.study, options.name)
    with _saving(options.output) as path:
        save_report(study, path)
    output.show_text(str(path))
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
        output.show_text(text, end="")
        return
    with _saving(where) as path:
        path.write_text(text, encoding="utf-8")
    output.note(f"wrote {where}")


@contextmanager
def _saving(where: str) -> Iterator[Path]:
    path = _target(where)
    try:
        yield path
    except OSError as error:
        raise StorageError("cannot write a file", at=where, got=error, expected="a place with room, and the right to "
                           "write there", fix="name another file") from error  # fmt: skip


def _target(where: str) -> Path:
    path = Path(os.path.expanduser(where))
    if not path.parent.is_dir() or path.is_dir():
        raise SettingError("cannot write a file", at=where, expected="a file in a folder that is there",
                           fix=f"make the folder first: mkdir -p {path.parent}" if not path.is_dir() else
                           f"name a file: {path / 'report.html'}")  # fmt: skip
    return path


__all__ = ["as_csv", "dashboard", "export", "report"]
