"""`mutandis space` and `algorithms`."""

from __future__ import annotations

import json

import pytest

import mutandis as mu
from mutandis.cli.choices import algorithm_names, scheduler_names


def test_a_space_is_its_decisions_its_size_and_its_default_child(script, call):
    code, out, err = call("space", "train.py:program")
    assert (code, err) == (0, "")
    facts, table, child = out.split("\n\n")
    assert facts.splitlines()[:2] == ["decisions  2", "size       42"]
    assert [line.split()[0] for line in table.splitlines()] == ["decision", "x", "kind"]
    assert child == "the default child:\nTrainer(x=10)\n"


def test_a_space_as_json(script, call):
    record = json.loads(call("space", "train.py:program", "--json")[1])
    assert record["size"] == 42 and record["default"] == {"x": 10, "kind": "a"}
    assert [point["path"] for point in record["decisions"]] == ["x", "kind"]


def test_a_continuous_space_and_one_with_a_predicate_have_a_size(folder, call):
    (folder / "spaces.py").write_text(
        "import mutandis as mu\nwide = {'lr': mu.floatv(0.0, 1.0)}\n"
        "odd = mu.space({f'x{i}': mu.intv(0, 99) for i in range(4)}).require(lambda child: child['x0'] % 2 == 1)\n"
    )
    assert "size       continuous\n" in call("space", "spaces.py:wide")[1]
    assert json.loads(call("space", "spaces.py:wide", "--json")[1])["size"] is None
    assert "size       100000000\n" in call("space", "spaces.py:odd")[1]


def test_a_program_without_decisions_has_one_child(script, call):
    assert call("space", "train.py:decided")[1].startswith("decisions  0\nsize       1\n")


def test_what_is_no_program_is_refused(script, call):
    code, out, err = call("space", "train.py:missing")
    assert (code, out) == (1, "") and err.startswith("error: cannot find a name\n  at:       train.py:missing\n")


@pytest.mark.parametrize(("argv", "names"), [((), algorithm_names()), (("--schedulers",), scheduler_names())])
def test_all_are_listed_with_a_summary(call, argv, names):
    code, out, err = call("algorithms", *argv)
    assert (code, err) == (0, "") and [line.split()[0] for line in out.splitlines()[1:]] == list(names)
    assert "Random" in names or out
    listed = json.loads(call("algorithms", *argv, "--json")[1])
    assert [row["name"] for row in listed] == list(names) and all(row["summary"] for row in listed)


def test_short_names_are_listed(call):
    listed = {row["name"]: row["short"] for row in json.loads(call("algorithms", "--json")[1])}
    assert listed["RegularizedEvolution"] == "RE, REA" and listed["GaussianProcess"] == "BO, GP"


def test_the_settings_of_one_are_listed_with_types_and_defaults(call):
    out = call("algorithms", "rea")[1]
    assert out.startswith("RegularizedEvolution\n\nMutates the best of a random sample")
    assert "population_size  int      100\n" in out
    listed = json.loads(call("algorithms", "--schedulers", "Patience", "--json")[1])
    assert listed[0]["name"] == "steps" and listed[0]["type"] == "float"


def test_an_algorithm_that_needs_what_is_not_installed_says_so_in_the_list(call, monkeypatch):
    from mutandis.cli import describing
    from mutandis.errors import MissingDependency

    def needy(name):
        raise MissingDependency("cannot make it", fix="pip install it")

    monkeypatch.setattr(describing, "algorithm_class", needy)
    assert call("algorithms")[1].splitlines()[1].endswith("pip install it")
    assert mu.algorithms.Random
