"""`python -m mutandis` and the console script are the same command line."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import mutandis as mu
from mutandis.cli import main

PROJECT = Path(__file__).parents[1] / "pyproject.toml"


def test_the_module_runs_as_a_script():
    done = subprocess.run([sys.executable, "-m", "mutandis", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"mutandis {mu.__version__}\n"


def test_its_exit_code_is_that_of_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "mutandis", "show", "no.db"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr


def test_the_console_script_leads_to_main():
    assert 'mutandis = "mutandis.cli:main"' in PROJECT.read_text()
    for script in entry_points(group="console_scripts", name="mutandis"):
        assert script.load() is main
