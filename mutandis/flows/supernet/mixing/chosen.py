"""Selections by what they are for: arms of choices, sizes of numbers, and values of decisions in other arms."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Any

from mutandis.errors import LoweringError
from mutandis.flows.supernet.lowering.dependencies import Dependencies
from mutandis.flows.supernet.mixing.mixer import need_sizes
from mutandis.flows.supernet.selections import Selection, decided_twice, need_arms
from mutandis.hyper import DNA, Point, SearchSpace


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a live program runs beside what its DNA says, by index of the decision.

    Attributes:
        arms: Selections of arms.
        numbers: Selections of sizes.
        below: Raw values of decisions that the DNA leaves out, since they stand in other arms.
    """

    arms: dict[int, Selection] = field(default_factory=dict)
    numbers: dict[int, Selection] = field(default_factory=dict)
    below: dict[int, Any] = field(default_factory=dict)


def chosen_of(space: SearchSpace, known: Dependencies, inside: Container[int], dna: DNA,
              selections: Mapping[str, Any]) -> Chosen:  # fmt: skip
    """Returns what selections are for; one of the only candidate is left out, since that is simply the child.

    Args:
        space: The space of the program.
        known: Knows which decisions are for numbers.
        inside: The decisions that stand in modules, by index.
        dna: What all other decisions are.
        selections: By name or path of the decision: selections, and raw values of decisions that the DNA leaves out.

    Raises:
        DecisionError: there is no such decision or candidate, or it is decided twice.
        LoweringError: a choice has no arms.
    """
    chosen = Chosen()
    for key, selection in selections.items():
        point = space.point(key)
        if not isinstance(selection, Selection):
            if dna.values[point.index] is not None:
                raise decided_twice(point, selection)
            chosen.below[point.index] = point.check(selection)
            continue
        is_number = known.is_number(point)
        (need_sizes if is_number else need_arms)(point, selection)
        if point.num_candidates == 1:
            continue
        if not is_number and point.index not in inside:
            raise _outside(point)
        (chosen.numbers if is_number else chosen.arms)[point.index] = selection
    return chosen


def _outside(point: Point) -> LoweringError:
    return LoweringError(
        "cannot run several arms of a choice at once",
        at=point.path,
        got="a choice outside of modules",
        expected="arms that are layers, whose outputs can be added up",
        fix="decide it in the DNA, or use an algorithm that takes one candidate at a time, such as ENAS(), "
            "TuNAS(op_warmup=0.0) or RegularizedEvolution()",
    )  # fmt: skip


__all__ = ["Chosen", "chosen_of"]
