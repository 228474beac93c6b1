"""`mutandis export`, `report` and `dashboard`."""

from __future__ import annotations

import csv
import io
import json

import pytest

import mutandis as mu
from mutandis import integrations
from mutandis.cli.exporting import as_csv


def test_csv_has_a_row_per_trial_and_a_column_for_everything(call, made):
    code, out, err = call("export", made, "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert (code, err, len(rows)) == (0, "", 12)
    for row, expected in zip(rows, mu.Study(made).rows(), strict=True):
        assert {name: value for name, value in row.items() if value} == {k: str(v) for k, v in expected.items()}


def test_csv_of_nothing_is_its_head():
    assert as_csv(mu.Study()) == "id\n"


def test_json_has_everything(call, made):
    record = json.loads(call("export", made, "--json")[1])
    assert len(record["trials"]) == 12 and record["trials"][3]["state"] == "skipped"
    assert record["space"] == mu.Study(made).space.fingerprint


@pytest.mark.parametrize("form", ["--csv", "--json"])
def test_a_file_gets_what_standard_output_would(call, made, tmp_path, form):
    target = tmp_path / "out"
    assert call("export", made, form, target) == (0, "", f"wrote {target}\n")
    assert target.read_text() == call("export", made, form)[1]


def test_a_folder_that_is_missing_is_refused(call, made, folder):
    assert call("export", made, "--csv", "no/out.csv") == (
        1, "",
        "error: cannot write a file\n  at:       no/out.csv\n  expected: a file in a folder that is there\n"
        "  fix:      make the folder first: mkdir -p no\n",
    )  # fmt: skip
    assert call("report", made, "-o", folder)[2].endswith(f"fix:      name a file: {folder}/report.html\n")


@pytest.mark.parametrize("argv", [("export", "--csv"), ("export", "--json"), ("report", "-o")])
def test_a_place_that_takes_no_file_is_told(call, made, argv):
    code, out, err = call(argv[0], made, argv[1], "/proc/out")
    assert (code, out) == (1, "")
    assert err.startswith("error: cannot write a file\n  at:       /proc/out\n  got:      ")
    assert err.endswith("  fix:      name another file\n")


def test_a_file_may_stand_at_home(call, made, folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    assert call("export", made, "--csv=~/out.csv") == (0, "", "wrote ~/out.csv\n")
    assert (folder / "out.csv").exists()


@pytest.mark.parametrize("address", ["bad", "sqlite:///no/such/folder/optuna.db"])
def test_a_storage_of_optuna_that_cannot_be_opened_is_told(call, made, address):
    pytest.importorskip("optuna")
    code, out, err = call("export", made, "--optuna", address)
    assert (code, out) == (1, "")
    assert err.startswith(f"error: cannot use a storage of Optuna\n  at:       {address}\n  got:      ")
    assert "another address is another storage: --optuna sqlite:///other.db\n" in err


def test_optuna_gets_the_trials(call, made, tmp_path):
    optuna = pytest.importorskip("optuna")
    url = f"sqlite:///{tmp_path}/optuna.db"
    code, out, err = call("export", made, "--optuna", url)
    assert (code, out) == (0, "") and err.endswith(f"12 trials are in {url}\n")
    assert len(optuna.load_study(study_name="study", storage=url).trials) == 12


def test_a_report_is_one_page(call, made, folder):
    assert call("report", made) == (0, "report.html\n", "")
    assert (folder / "report.html").read_text() == mu.plots.report(mu.Study(made))
    assert call("report", made, "-o", "other.html")[1] == "other.html\n"


def test_the_dashboard_serves_the_study_where_it_is_told_to(call, made, monkeypatch):
    served = []
    monkeypatch.setattr(
        integrations, "dashboard", lambda study, **where: served.append((len(study), where)), raising=False
    )
    assert call("dashboard", made, "--port", 9000) == (0, "", "http://127.0.0.1:9000/  (Ctrl-C ends it)\n")
    assert served == [(12, {"host": "127.0.0.1", "port": 9000})]
