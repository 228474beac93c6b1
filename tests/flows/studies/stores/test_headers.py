"""What a study is about, and the way back to its programs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import mutandis as mu
from mutandis.errors import StorageError
from mutandis.flows.studies.stores import header_of, open_store, space_of

PROGRAM = {"layers": [mu.oneof([1, {"width": mu.intv(1, 9)}]), 3], "rate": mu.floatv(1e-4, 1.0, scale="log")}
ALGORITHM = mu.algorithms.RegularizedEvolution(10, 3)


def test_a_header_tells_all_of_a_search():
    space = mu.space(PROGRAM)
    header = header_of(space, algorithm=ALGORITHM, objectives=("a", "-b"), seed=3)
    assert (header.fingerprint, header.objectives, header.seed) == (space.fingerprint, ("a", "-b"), 3)
    assert [point["path"] for point in header.points] == [point.path for point in space.points]
    assert mu.from_json(header.algorithm) == ALGORITHM
    assert header.notes == {}


def test_a_child_is_rebuilt_from_the_record_in_another_process(tmp_path):
    space, path = mu.space(PROGRAM), tmp_path / "study.jsonl"
    dna = space.random(1)
    with open_store(path) as store:
        log = store.open("study", header_of(space, algorithm=ALGORITHM))
        log.claim({"dna": dna.to_json()})
    code = (
        "import sys; from mutandis.flows.studies.stores import open_store, space_of\n"
        "log = open_store(sys.argv[1]).open('study'); space = space_of(log.header)\n"
        "print(space.materialize(space.dna(log.trials()[0].proposal['dna'])), space.fingerprint)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{space.materialize(dna)} {space.fingerprint}"


def test_the_python_of_a_header_rebuilds_the_program():
    header = header_of(mu.space(PROGRAM), algorithm=ALGORITHM)
    names = {}
    exec(header.python, names)
    assert mu.space(names["program"]).fingerprint == header.fingerprint


def test_what_cannot_be_written_is_left_out_with_the_reason():
    space = mu.space({"f": lambda: 1, "x": mu.oneof([1, 2])})
    header = header_of(space, algorithm=mu.algorithms.Constrained(mu.algorithms.Random(), lambda dna: True))
    assert (header.program, header.python, header.algorithm) == (None, None, None)
    assert sorted(header.notes["unwritten"]) == ["algorithm", "program", "python"]
    with pytest.raises(StorageError) as error:
        space_of(header)
    assert "at:       ['f']" in error.value.__notes__[0]


def test_a_space_without_a_program_has_none_to_rebuild():
    header = header_of(mu.space(PROGRAM).bare(), algorithm=ALGORITHM)
    assert header.program is None and header.notes == {}
    with pytest.raises(StorageError) as error:
        space_of(header)
    assert str(error.value) == (
        "cannot rebuild the program of a study\n  at:       program\n"
        "  expected: a study that searched a program which can be written as JSON\n"
        "  fix:      build the children with the script that searched"
    )
