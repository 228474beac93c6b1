"""What a study is about, written so that its trials can be rebuilt without the script that searched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mutandis.algorithms import Algorithm
from mutandis.errors import SchemaError, StorageError
from mutandis.flows.studies.stores.records import StudyHeader
from mutandis.hyper import SearchSpace, space
from mutandis.symbolic.code import to_python
from mutandis.symbolic.serial.documents import from_json, to_json
from mutandis.symbolic.serial.names import Allow


def header_of(
    searched: SearchSpace, *, algorithm: Algorithm, objectives: Sequence[str] = ("reward",), seed: int = 0
) -> StudyHeader:
    """Returns the header of a search.

    What cannot be written (a lambda in the program, say) is left out, with the reason in `notes["unwritten"]`: the
    search works all the same, and its trials can be rebuilt by the script alone.

    Args:
        searched: The space, with its program.
        algorithm: Settings of the search.
        objectives: Names, with a minus in front where smaller is better.
        seed: Seed of the search.
    """
    unwritten: dict[str, str] = {}

    def written(name: str, write: Callable[[Any], str], value: Any) -> str | None:
        try:
            return write(value)
        except SchemaError as error:
            unwritten[name] = str(error)
            return None

    program = searched.program
    return StudyHeader(
        fingerprint=searched.fingerprint,
        points=tuple(point.as_json() for point in searched.points),
        objectives=tuple(objectives),
        program=None if program is None else written("program", to_json, program),
        python=None if program is None else written("python", to_python, program),
        algorithm=written("algorithm", to_json, algorithm),
        seed=seed,
        notes={"unwritten": unwritten} if unwritten else {},
    )


def space_of(header: StudyHeader, *, allow: Allow = ()) -> SearchSpace:
    """Returns the space of a study, rebuilt from its header: `space_of(header).dna(decisions)` leads to a child.

    Args:
        header: The header.
        allow: Classes and functions that the program may name beside the registered ones: see `mu.from_json`.

    Raises:
        StorageError: the program was not written.
        SchemaError: the program names what may not be named.
    """
    if header.program is None:
        reason = header.notes.get("unwritten", {}).get("program")
        error = StorageError(
            "cannot rebuild the program of a study",
            at="program",
            expected="a study that searched a program which can be written as JSON",
            fix="build the children with the script that searched",
        )
        if reason is not None:
            error.add_note(f"when the study was made:\n{reason}")
        raise error
    return space(from_json(header.program, allow=allow))
