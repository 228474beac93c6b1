"""A script to search, a study that was made before, and the command line as a function."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cli_studies import make_study

from mutandis.cli import main

SCRIPT = """
import mutandis as mu

@mu.symbolize
class Trainer:
    def __init__(self, x, kind="a"):
        self.x, self.kind = x, kind

    def run(self):
        return -float((self.x - 7) ** 2)

program = Trainer(mu.intv(0, 20), mu.oneof(["a", "b"]))
decided = Trainer(3)
space = {"x": mu.intv(0, 20)}
number = 3

def build():
    return program

def nothing():
    pass

def of_something(width):
    return program

def traced():
    x = mu.intv(0, 20, name="x")
    return -abs(x - 7)

def deciding():
    x = mu.oneof([1, 2], name="x")
    return 10 if x == 1 else 20

def score(child):
    return -abs(child["x"] - 7)

def two(child):
    return {"accuracy": -abs(child["x"] - 7), "cost": child["x"]}

def fails(child):
    raise ValueError("never")

if __name__ == "__main__":
    raise SystemExit("imported as the main module")
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty current directory; what is imported from it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    path, loaded = list(sys.path), set(sys.modules)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - loaded:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def script(folder):
    """The path of `train.py`, in the current directory."""
    path = folder / "train.py"
    path.write_text(SCRIPT)
    return path


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """The path of a study of two objectives with 12 trials, of which one was skipped; only to be read."""
    path = tmp_path_factory.mktemp("made") / "made.db"
    make_study(path)
    return str(path)


@pytest.fixture
def call(capsys):
    """Runs a command in this process and returns (exit code, standard output, standard error)."""

    def called(*argv):
        capsys.readouterr()
        code = main([str(argument) for argument in argv])
        return (code, *capsys.readouterr())

    return called


@pytest.fixture
def spawn(folder):
    """Runs a command as a process of its own and returns it when it has ended."""

    def spawned(*argv):
        command = [sys.executable, "-m", "mutandis", *map(str, argv)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=Path.cwd(), check=False)

    return spawned
