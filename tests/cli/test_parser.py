"""The commands and their options."""

from __future__ import annotations

import pytest

from mutandis.cli.parser import make_parser, with_joined_values

COMMANDS = ["run", "resume", "show", "best", "importances", "report", "export", "dashboard", "space", "algorithms"]


def parse(*argv):
    return make_parser().parse_args(with_joined_values(argv))


def test_all_options_of_run_are_read():
    options = parse(
        "run", "t.py:p", "--objective", "t.py:f", "--objectives", "accuracy,-latency_ms", "--algorithm", "REA",
        "--set", "population_size=50", "--set", "tournament_size=5", "--scheduler", "ASHA", "--scheduler-set",
        "min_fidelity=1", "--seed", "3", "--deterministic", "--trials", "100", "--timeout", "1h", "--trial-timeout",
        "10m", "--memory", "4GB", "--max-failures", "5", "--workers", "4", "--executor", "ray", "--study", "s.db",
        "--name", "n", "--json",
    )  # fmt: skip
    assert vars(options) == {
        "command": "run", "traceback": False, "target": "t.py:p", "objective": "t.py:f",
        "objectives": ("accuracy", "-latency_ms"), "algorithm": "REA",
        "settings": [("population_size", "50"), ("tournament_size", "5")], "scheduler": "ASHA",
        "scheduler_settings": [("min_fidelity", "1")], "seed": 3, "deterministic": True, "trials": 100,
        "timeout": 3600.0, "trial_timeout": 600.0, "memory_bytes": 4 * 10**9, "max_failures": 5, "workers": 4,
        "executor": "ray", "study": "s.db", "name": "n", "json": True,
    }  # fmt: skip


def test_what_was_not_said_is_none_so_that_resume_knows():
    options = vars(parse("resume", "s.db"))
    said = {"command", "traceback", "study", "json", "settings", "scheduler_settings", "imports"}
    assert {name for name, value in options.items() if value is not None} == said


def test_a_minus_may_come_first_in_objectives():
    assert parse("run", "t.py:p", "--objectives", "-loss").objectives == ("-loss",)
    assert parse("run", "t.py:p", "--objectives", "-loss,accuracy", "--trials", "3").objectives == ("-loss", "accuracy")


@pytest.mark.parametrize("argv", [["--objectives", "--trials"], ["--objectives", "-"], ["--trials", "-3"]])
def test_other_arguments_are_not_joined(argv):
    assert with_joined_values(argv) == argv


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_a_summary(call, command):
    code, out, err = call(command, "--help")
    assert (code, err) == (0, "") and f"usage: mutandis {command}" in out
    assert command in call("--help")[1]


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (
            ("run", "t.py:p", "--memory", "much"),
            "argument --memory: 'much' is no size; write 4GB, 512MiB or a number of",
        ),
        (("run", "t.py:p", "--set", "size"), "argument --set: 'size' is no setting; write NAME=VALUE, such as"),
        (("run", "t.py:p", "--timeout", "soon"), "argument --timeout: 'soon' is no length of time; write 90 (seconds)"),
        (("run", "t.py:p", "--trials", "0"), "argument --trials: '0' is no whole number of at least 1"),
        (("export", "s.db", "--csv", "a", "--json", "b"), "argument --json: not allowed with argument --csv"),
        (("best", "s.db", "--format", "yaml"), "argument --format: invalid choice: 'yaml'"),
        (("dashboard", "s.db", "--port", "70000"), "argument --port: '70000' is no port: a number from 1 to 65535"),
    ],
)
def test_a_wrong_value_is_named(call, argv, reason):
    code, out, err = call(*argv)
    assert code == 2 and out == "" and reason in err
