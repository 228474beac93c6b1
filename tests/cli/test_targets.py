"""From `train.py:program` to the object."""

from __future__ import annotations

import pickle
import sys

import pytest

import mutandis as mu
from mutandis.cli.targets import absolute, folder_of, import_place, load, load_function, load_program, split_target
from mutandis.errors import SettingError
from mutandis.hyper import TracedProgram


def message(function, *arguments):
    with pytest.raises(SettingError) as caught:
        function(*arguments)
    return str(caught.value)


def test_a_script_is_imported_under_its_own_name_so_that_what_it_defines_can_be_pickled(script):
    program = load("train.py:program")
    assert type(program).__module__ == "train"
    assert mu.equal(pickle.loads(pickle.dumps(program)), program)
    assert sys.path[0] == str(script.parent)


def test_a_script_elsewhere_is_found_by_its_path(script, tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert load(f"{script}:number") == 3
    assert load("train:number") == 3  # It is a module from now on.


def test_a_module_of_the_current_directory_is_found(script):
    assert load("train:number") == 3


def test_a_module_is_looked_for_in_a_folder_that_is_named(script, tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert import_place("train", folder=str(script.parent)).number == 3


def test_a_script_inside_a_package_has_the_name_of_the_package(folder):
    inner = folder / "package" / "inner"
    inner.mkdir(parents=True)
    for place in (inner, inner.parent):
        (place / "__init__.py").touch()
    (inner / "script.py").write_text("from . import sibling\nvalue = sibling.value\n")
    (inner / "sibling.py").write_text("value = 5\n")
    assert load("package/inner/script.py:value") == 5
    assert "package.inner.script" in sys.modules


def test_a_name_may_have_dots(script):
    assert load("train.py:decided.x") == 3


def test_a_script_is_imported_once(script):
    assert import_place("train.py") is import_place("./train.py")


@pytest.mark.parametrize("text", ["train.py", "train.py:", ":program", "train.py:a b", ""])
def test_a_target_without_both_parts_is_refused(text):
    assert message(split_target, text) == (
        f"cannot read a target\n  at:       {text or '(the root)'}\n"
        "  expected: SCRIPT.py:NAME or package.module:NAME\n  fix:      write train.py:program"
    )


def test_a_script_that_is_missing_suggests_its_neighbours(script):
    assert message(load, "trian.py:program") == (
        "cannot find a script\n  at:       trian.py\n  expected: a file; did you mean 'train.py'?\n"
        f"  fix:      check the path; it is looked for below {script.parent}"
    )


def test_a_module_that_is_missing_is_refused(folder):
    assert message(load, "no.such:program") == (
        f"cannot find a module\n  at:       no.such\n  expected: a module below {folder}, or an installed one\n"
        "  fix:      write a path for a script: train.py:program"
    )


def test_a_module_that_a_script_misses_is_its_own_error(folder):
    (folder / "needy.py").write_text("import no_such_module\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        load("needy:program")


def test_a_name_that_is_missing_suggests_others_and_lists_the_programs(script):
    assert message(load, "train.py:progam") == (
        "cannot find a name\n  at:       train.py:progam\n  got:      'progam' (str)\n"
        "  expected: a name at the top level of train; did you mean 'program'?; the programs there are program, "
        "decided\n"
        '  fix:      define it there, outside of `if __name__ == "__main__":`'
    )


@pytest.mark.parametrize(("name", "expected"), [("json.py", "a name that no other module has"),
                                                ("a.b.py", "a name that can be imported")])  # fmt: skip
def test_a_script_whose_name_leads_elsewhere_is_refused(folder, name, expected):
    import json  # noqa: F401

    (folder / name).touch()
    assert message(load, f"{name}:x") == (
        f"cannot import a script under its own name\n  at:       {folder / name}\n"
        f"  got:      '{name[:-3]}' (str)\n  expected: {expected}\n  fix:      rename the script"
    )


def test_a_program_may_be_an_object_a_dict_or_what_a_function_returns(script):
    program = load("train.py:program")
    assert load_program("train.py:program") is program
    assert load_program("train.py:build") is program
    assert load_program("train.py:space") is load("train.py:space")


@pytest.mark.parametrize(("name", "size"), [("traced", 21), ("deciding", 2)])
def test_a_function_that_decides_as_it_runs_is_traced(script, name, size):
    program = load_program(f"train.py:{name}")
    space = mu.space(program)
    assert isinstance(program, TracedProgram) and space.size == size and space.points[0].key == "x"


def test_a_function_that_needs_arguments_is_refused(script):
    assert message(load_program, "train.py:of_something") == (
        "cannot get a program from a function\n  at:       train.py:of_something\n"
        "  got:      'a function of width' (str)\n"
        "  expected: a function without arguments that returns the program\n"
        "  fix:      bind its arguments: program = mu.bind(function, ...)"
    )


def test_a_function_that_returns_nothing_is_refused(script):
    assert message(load_program, "train.py:nothing") == (
        "cannot get a program from a function\n  at:       train.py:nothing\n  got:      None (NoneType)\n"
        "  expected: a function that returns the program\n"
        "  fix:      return it; one that decides as it runs is program = mu.trace(function)"
    )


def test_an_objective_is_something_that_can_be_called(script):
    assert load_function("train.py:score")({"x": 6}) == -1
    assert message(load_function, "train.py:number") == (
        "cannot use an objective\n  at:       train.py:number\n  got:      3 (int)\n"
        "  expected: a function of the child\n  fix:      name a function"
    )


def test_a_target_can_be_made_independent_of_the_current_directory(folder):
    assert absolute("a/train.py:program") == f"{folder}/a/train.py:program"
    assert absolute("a.train:program") == "a.train:program"
    assert folder_of("a/train.py:program") == f"{folder}/a"
    assert folder_of("a.train:program") == str(folder)
