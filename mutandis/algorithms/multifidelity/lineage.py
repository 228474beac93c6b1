"""Lineages: what a trial was trained with from the first step on, through all that it inherited from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mutandis.errors import SettingError
from mutandis.hyper import DNA


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a training under constant decisions.

    Attributes:
        start: How long was trained before, in the unit of the algorithm's settings.
        stop: How long is trained at its end.
        dna: The decisions.
    """

    start: float
    stop: float
    dna: DNA


def schedule(records: Iterable[Any], last: int) -> list[Stretch]:
    """Returns with what decisions a trial was trained, first to last: the result of a population-based training.

        loop = mu.sample(program, mu.algorithms.PBT(interval=1, max_fidelity=20))
        for child, feedback in loop:
            ...
        for part in mu.algorithms.multifidelity.schedule(loop.study.trials, loop.study.best.id):
            print(f"epochs {part.start} to {part.stop}: {part.dna}")

    To train anew by the schedule, start with the first part's child and rebind what differs where a part begins.

    Args:
        records: Proposals (`id`, `dna`, `fidelity`, `inherit`) or trials (`id`, `dna`, `fidelity`, `parent`), at
            least those that the last one descends from.
        last: The id of the last one.

    Returns:
        One stretch for every change of the decisions, without a gap from 0 on.

    Raises:
        SettingError: a record that is needed is missing, has no fidelity, or descends from itself.
    """
    known = {record.id: record for record in records}
    found: list[Stretch] = []
    seen: set[int] = set()
    number: int | None = last
    while number is not None:
        record = known.get(number)
        if record is None or record.fidelity is None or number in seen:
            raise SettingError(
                "cannot follow a lineage",
                at=f"record {number}",
                got=record,
                expected="a record with a fidelity, and ancestors that are earlier records",
                fix="pass all proposals of one search, or all trials of its study",
            )
        seen.add(number)
        parent: int | None = record.parent if hasattr(record, "parent") else record.inherit
        start = 0.0 if parent is None or parent not in known else known[parent].fidelity or 0.0
        found.append(Stretch(start, record.fidelity, record.dna))
        number = parent
    return _joined(reversed(found))


def _joined(parts: Iterable[Stretch]) -> list[Stretch]:
    """Returns the parts with neighbours of equal decisions made one."""
    made: list[Stretch] = []
    for part in parts:
        if made and made[-1].dna == part.dna:
            made[-1] = Stretch(made[-1].start, part.stop, part.dna)
        else:
            made.append(part)
    return made
