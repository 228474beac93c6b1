"""`mutandis show`, `best` and `importances`."""

from __future__ import annotations

import json

import pytest

import mutandis as mu


@pytest.fixture
def study(made):
    return mu.Study(made)


def numbers(out):
    """Returns the numbers of the trials of the last table."""
    lines = out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.split()[:2] == ["trial", "state"])
    return [int(line.split()[0]) for line in lines[start + 1 :]]


@pytest.mark.parametrize(("argv", "expected"), [
    ((), lambda study: study.top(10)), (("--top", 3), lambda study: study.top(3)),
    (("--all",), lambda study: study.trials), (("--front",), lambda study: study.front),
])  # fmt: skip
def test_show_lists_trials(call, made, study, argv, expected):
    code, out, err = call("show", made, *argv)
    assert (code, err) == (0, "") and out.startswith(f"study       {made}\ntrials      12 (11 completed, 1 skipped)\n")
    assert numbers(out) == [trial.id for trial in expected(study)]
    record = json.loads(call("show", made, *argv, "--json")[1])
    assert [trial["id"] for trial in record["trials"]] == numbers(out) and record["counts"]["completed"] == 11


def test_best_is_a_table_by_default(call, made, study):
    code, out, err = call("best", made)
    facts, _, decisions = out.partition("\n\n")
    found = dict(line.split(maxsplit=1) for line in facts.splitlines())
    assert (code, err) == (0, "") and found["trial"] == str(study.best.id)
    assert float(found["cost"]) == study.best.rewards[1] and "reward" in found
    assert [line.split() for line in decisions.splitlines()] == [
        ["decision", "value"], *([name, str(value)] for name, value in study.best.dna.literals().items())
    ]  # fmt: skip


def test_best_as_json_is_the_record(call, made, study):
    record = json.loads(call("best", made, "--format", "json")[1])
    assert record["decisions"] == study.best.dna.literals() and record["id"] == study.best.id
    assert call("best", made, "--json")[1] == call("best", made, "--format", "json")[1]


def test_best_as_python_is_code_that_rebuilds_the_child(call, made, study):
    scope = {}
    exec(call("best", made, "--format", "python")[1], scope)
    assert scope["program"] == study.best.child()


def test_best_as_a_tree_is_the_description(call, made, study):
    assert call("best", made, "--format", "tree")[1] == mu.describe(study.best.child()) + "\n"


def test_a_program_of_classes_of_a_script_needs_its_import(script, call, spawn):
    assert call("run", "train.py:program", "--trials", 4, "--study", "s.db", "--executor", "inline")[0] == 0
    failed = spawn("best", "s.db", "--format", "python")
    assert failed.returncode == 1 and failed.stderr.startswith("error: cannot use a name from JSON")
    assert failed.stderr.endswith(f"import what defines the program: --import {script}\n")
    done = spawn("best", "s.db", "--format", "python", "--import", "train.py")
    assert done.returncode == 0 and done.stdout.startswith("from train import Trainer\n\nprogram = Trainer(")
    assert spawn("best", "s.db").returncode == 0


@pytest.mark.parametrize("command", ["best", "importances"])
def test_a_study_without_rewards_has_no_best(folder, call, command):
    study = mu.Study("s.db")
    for _, feedback in mu.sample({"x": mu.boolv()}, mu.algorithms.Random(), trials=2, study=study):
        feedback.skip()
    code, out, err = call(command, "s.db")
    assert (code, out) == (1, "") and "expected: at least one trial with a reward" in err
    assert call("show", "s.db")[0] == 0
    assert call("report", "s.db") == (0, "report.html\n", "")  # It tells why.


@pytest.mark.parametrize("command", ["show", "best", "importances", "report", "resume", "dashboard"])
def test_a_study_that_is_not_there_is_an_error_without_a_traceback(folder, call, command):
    code, out, err = call(command, "none.db")
    assert (code, out) == (1, "") and err.startswith("error: cannot find a study\n  at:       none.db\n")


def test_importances_are_shares_by_decision(call, made, study):
    shares = mu.plots.importances(study)
    assert json.loads(call("importances", made, "--json")[1]) == shares
    lines = call("importances", made)[1].splitlines()
    assert lines[0] == "the share of the variance of accuracy" and [x.split()[0] for x in lines[2:]] == list(shares)
    assert json.loads(call("importances", made, "--of", "-cost", "--json")[1]) == mu.plots.importances(
        study, objective=1
    )


def test_an_objective_that_is_not_there_is_refused(call, made):
    assert call("importances", made, "--of", "acuracy")[2] == (
        "error: cannot find an objective\n  at:       --of\n  got:      'acuracy' (str)\n"
        "  expected: one of accuracy, cost; did you mean 'accuracy'?\n  fix:      leave it out for the first\n"
    )
