"""The way from a header to children."""

from __future__ import annotations

import subprocess
import sys

import pytest

import mutandis as mu
from mutandis.algorithms import Random
from mutandis.errors import DecisionError, SchemaError, StorageError
from mutandis.flows.studies.origin import Origin
from mutandis.flows.studies.stores import header_of
from mutandis.testing import contract_spaces


@pytest.mark.parametrize("name", contract_spaces())
def test_the_decisions_are_those_of_the_space(name):
    space = contract_spaces()[name]
    bare = Origin(header_of(space, algorithm=Random())).bare
    assert bare.fingerprint == space.fingerprint
    for seed in range(5):
        dna = space.random(seed)
        again = bare.dna(dna.to_json())
        assert again == dna and again.literals() == dna.literals()


def test_children_are_built_from_the_header():
    space = mu.space([mu.oneof([1, {"width": mu.intv(1, 9)}])])
    origin = Origin(header_of(space, algorithm=Random()))
    assert origin.materialize(space.random(3)) == space.materialize(space.random(3))
    assert origin.space.fingerprint == space.fingerprint


def test_decisions_are_there_where_the_program_is_not():
    space = mu.space({"f": lambda: 1, "x": mu.oneof([1, 2])})
    origin = Origin(header_of(space, algorithm=Random()))
    assert origin.space is origin.bare
    with pytest.raises(StorageError, match="cannot rebuild the program of a study"):
        origin.materialize(space.default())


def test_an_open_ended_decision_cannot_be_drawn_from_a_record():
    space = mu.space(mu.evolve(mu.nn.ReLU(), lambda key, value, parent: value))
    point = Origin(header_of(space, algorithm=Random())).bare.points[0]
    with pytest.raises(DecisionError, match="cannot rewrite an open-ended decision"):
        point.rewriter.draw(None)
    with pytest.raises(DecisionError, match="cannot rewrite an open-ended decision"):
        point.rewriter.mutate("", None)


_TRAINERS = """
import mutandis as mu
@mu.symbolize
class Trainer:
    def __init__(self, width, act):
        self.width, self.act = width, act
"""

_SCRIPT = """
import sys, mutandis as mu
from trainers import Trainer
program = Trainer(mu.intv(1, 9), mu.oneof([mu.nn.ReLU(), mu.nn.GELU()]))
for child, feedback in mu.sample(program, mu.algorithms.Random(), trials=5, study=sys.argv[1]):
    feedback(child.width)
"""

_READER = """
import sys, mutandis as mu
study = mu.Study(sys.argv[1])
print(study.best.reward, "torch" in sys.modules)
child = study.best.child()
print(type(child).__name__, child.width == study.best.reward, type(child.act).__name__)
"""


def run(code, folder, *arguments):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False, timeout=120)


def test_the_best_child_is_rebuilt_in_a_process_without_the_script(tmp_path):
    (tmp_path / "trainers.py").write_text(_TRAINERS)
    path = tmp_path / "study.db"
    assert run(_SCRIPT, tmp_path, path).returncode == 0
    done = run("import trainers\n" + _READER, tmp_path, path)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.endswith("False")  # Torch is not needed to read.
    assert second.startswith("Trainer True ")
    done = run(_READER, tmp_path, path)
    assert len(done.stdout.splitlines()) == 1
    assert "mutandis.errors.SchemaError: cannot use a name from JSON" in done.stderr
    assert "'trainers:Trainer'" in done.stderr and "import the module that defines it" in done.stderr
    assert SchemaError.__name__ in done.stderr
