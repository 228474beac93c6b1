"""Studies by path, and what they remember of the command line."""

from __future__ import annotations

import argparse
import dataclasses

import pytest
from cli_studies import make_study

import mutandis as mu
from mutandis.cli.studies import COMMAND, merged, open_study, recall, remember
from mutandis.errors import StorageError
from mutandis.flows.studies.stores import open_store

OPTIONS = {
    "target": "t.py:p", "objective": None, "objectives": ("a", "-b"), "algorithm": "REA", "settings": [("x", "1")],
    "scheduler": None, "scheduler_settings": [], "seed": 0, "deterministic": None, "trials": 9, "trial_timeout": None,
    "memory_bytes": None, "max_failures": None, "workers": 2, "executor": None,
}  # fmt: skip
NOTHING = {key: [] if key.endswith("settings") else None for key in OPTIONS}


def options(**changes):
    return argparse.Namespace(**{**NOTHING, **changes})


def message(*arguments, **keywords):
    with pytest.raises(StorageError) as caught:
        open_study(*arguments, **keywords)
    return str(caught.value)


def test_a_file_that_is_missing_suggests_its_neighbours_and_is_not_made(folder):
    (folder / "search.db").write_text("something")
    (folder / "serch.jsonl").touch()
    (folder / "serch.db.db").mkdir()
    assert message("serch.db") == (
        "cannot find a study\n  at:       serch.db\n  expected: a file that a study wrote; did you mean 'search.db'?\n"
        "  fix:      check the path; mutandis run SCRIPT:PROGRAM --study FILE makes one"
    )
    assert message("no/such.db").startswith("cannot find a study")
    assert not (folder / "serch.db").exists()


@pytest.mark.parametrize("where", [".", "holds"])
def test_a_folder_names_a_study_that_it_holds(folder, where):
    (folder / where).mkdir(exist_ok=True)
    for name in ("two.jsonl", "one.db"):
        (folder / where / name).write_text("something")
    assert message(where).splitlines()[2:4] == [
        "  got:      'a folder' (str)",
        f"  expected: a file that a study wrote, such as {(folder / where / 'one.db').relative_to(folder)}",
    ]


@pytest.mark.parametrize("where", ["sqlite:///typo.db", "typo.db", "typo.jsonl", "no/typo.db"])
def test_no_address_of_a_file_that_is_missing_makes_it(folder, where):
    assert message(where).startswith(
        f"cannot find a study\n  at:       {where}\n  expected: a file that a study wrote\n"
    )
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(("name", "got"), [("empty.db", "an empty file"), ("empty.jsonl", "an empty file"),
                                           ("folder.db", "a folder")])  # fmt: skip
def test_what_holds_no_study_is_told_and_kept(folder, name, got):
    if got == "a folder":
        (folder / name).mkdir()
    else:
        (folder / name).touch()
    assert message(name) == (
        f"cannot find a study\n  at:       {name}\n  got:      '{got}' (str)\n  expected: a file that a study wrote\n"
        "  fix:      check the path; mutandis run SCRIPT:PROGRAM --study FILE makes one"
    )
    assert got == "a folder" or (folder / name).stat().st_size == 0


def test_a_store_without_studies_is_told(folder):
    open_store("s.db").close()
    assert "got:      'a store without any' (str)" in message("s.db")


def test_the_only_study_of_a_file_needs_no_name(folder):
    study = mu.Study("s.db", name="mine")
    for _, feedback in mu.sample({"x": mu.boolv()}, mu.algorithms.Random(), trials=2, study=study):
        feedback(1)
    assert open_study("s.db").name == "mine" and len(open_study("s.db")) == 2


def test_one_of_several_studies_is_named(folder):
    for name in ("first", "second"):
        for _, feedback in mu.sample({"x": mu.boolv()}, mu.algorithms.Random(), trials=1,
                                     study=mu.Study("s.db", name=name)):  # fmt: skip
            feedback(1)
    assert open_study("s.db", "second").name == "second"
    assert message("s.db", "secnd") == (
        "cannot find a study\n  at:       s.db\n  got:      'secnd' (str)\n"
        "  expected: one of first, second; did you mean 'second'?\n  fix:      name it: --name NAME"
    )
    assert "got:      'study' (str)" in message("s.db")


def test_what_is_remembered_is_recalled_by_another_process(folder):
    study = make_study("s.db")
    assert recall(study) == {}
    remember(study, argparse.Namespace(**OPTIONS), "/home")
    assert recall(mu.Study("s.db")) == {
        "target": "t.py:p", "objectives": ["a", "-b"], "algorithm": "REA", "settings": [["x", "1"]], "seed": 0,
        "trials": 9, "workers": 2, "folder": "/home",
    }  # fmt: skip


def test_the_same_is_noted_once_and_other_notes_stay(folder):
    study = make_study("s.db")
    header = study.archive.header
    study.archive.log.amend(dataclasses.replace(header, notes={"other": 1}))
    remember(study, argparse.Namespace(**OPTIONS), "/home")
    cursor = study.archive.log.read().cursor
    remember(study, argparse.Namespace(**OPTIONS), "/home")
    assert study.archive.log.read().cursor == cursor
    assert set(mu.Study("s.db").archive.header.notes) == {"other", COMMAND}


def test_what_is_said_now_comes_before_what_is_recorded():
    recorded = {"target": "t.py:p", "objectives": ["a"], "trials": 9, "workers": 2, "seed": 5}
    made = merged(options(workers=4, seed=0), recorded)
    assert (made.target, made.objectives, made.trials, made.workers, made.seed) == ("t.py:p", ("a",), 9, 4, 0)


def test_settings_are_added_unless_the_algorithm_is_another():
    recorded = {"algorithm": "REA", "settings": [["a", "1"]]}
    assert merged(options(settings=[("b", "2")]), recorded).settings == [("a", "1"), ("b", "2")]
    other = merged(options(algorithm="TPE", settings=[("b", "2")]), recorded)
    assert (other.algorithm, other.settings) == ("TPE", [("b", "2")])


def test_a_study_in_memory_remembers_nothing():
    assert recall(mu.Study()) == {}
