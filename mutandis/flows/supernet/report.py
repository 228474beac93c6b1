"""What becomes of each decision when weights are shared, as a table; and what cannot be, before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mutandis.errors import LoweringError
from mutandis.flows.supernet.lowering.dependencies import Dependencies
from mutandis.flows.supernet.lowering.facts import RECORD
from mutandis.flows.supernet.lowering.partition import Partition
from mutandis.hyper import Point


@dataclass(frozen=True, slots=True)
class Role:
    """What one decision does in the shared program.

    Attributes:
        decision: Its name or path.
        values: What it chooses among.
        arms: Places where it chooses between separate sets of weights.
        tensors: Modules whose tensors it cuts.
        wiring: Modules that exist or not, or stand elsewhere, by it (numbers only).
        settings: Attributes that it sets.
        late: Attributes that hang on it and are computed when they are read.
        is_outside: Whether it stands outside of the modules: what holds it is built anew for each DNA.
    """

    decision: str
    values: str
    arms: int
    tensors: int
    wiring: int
    settings: int
    late: int
    is_outside: bool

    def __str__(self) -> str:
        if self.is_outside:
            return "outside of the modules: the program around them is built for each DNA"
        said = []
        if self.arms:
            said.append(f"separate weights at {_places(self.arms)}")
        if self.tensors:
            said.append(f"a part of shared weights in {_modules(self.tensors)}")
        if self.wiring:
            said.append(f"{_modules(self.wiring)} there or not")
        if self.settings:
            said.append(f"{self.settings} setting{'s' * (self.settings != 1)}")
        if self.late:
            said.append(f"{self.late} attribute{'s' * (self.late != 1)} read late")
        return "; ".join(said) or "nothing that a module shows"


@dataclass(frozen=True, slots=True)
class LoweringReport:
    """What becomes of each decision; printed, a table.

    Attributes:
        roles: One per decision; empty when the program was refused.
        unproven: Modules of which it is not known which places of a tensor a smaller child should use.
        num_weights: Number of shared weights.
        refusal: Why the program cannot share weights, or None.
    """

    roles: tuple[Role, ...]
    unproven: tuple[str, ...]
    num_weights: int
    refusal: LoweringError | None = None

    @property
    def is_possible(self) -> bool:
        """Whether weights can be shared."""
        return self.refusal is None

    def __str__(self) -> str:
        if self.refusal is not None:
            return f"weights cannot be shared\n{self.refusal}"
        rows = [("decision", "values", "shared"), *((r.decision, r.values, str(r)) for r in self.roles)]
        widths = [max(len(row[column]) for row in rows) for column in range(2)]
        lines = [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c}" for a, b, c in rows]
        lines.append(f"{self.num_weights} shared weights; positions " + (
            f"unknown in {', '.join(self.unproven)}" if self.unproven else "proven"))  # fmt: skip
        return "\n".join(lines)


def roles(points: Sequence[Point], known: Dependencies, partition: Partition, inside: frozenset[int]) -> list[Role]:
    """Returns what each decision does."""
    return [_role(point, known, partition, point.index not in inside) for point in points]


def _role(point: Point, known: Dependencies, partition: Partition, is_outside: bool) -> Role:
    index, number = point.index, known.is_number(point)
    tags: dict[str, Any] = {path: {i for i, _ in partition.tags(path)} for path in known.paths}
    arms = [
        p for p in known.paths if index in tags[p] and index not in tags.get(p.rpartition(".")[0] if p else "-", ())
    ]
    facts = [(path, name) for (path, name), decisions in known.of.items() if index in decisions]
    attributes = [(p, n[1:]) for p, n in facts if n[0] == "." and n[1:] != RECORD]
    late = [entry for entry in attributes if entry[1] in partition.late.get(entry[0], ())]
    wiring = {p for p, n in facts if n == "exists"} if number else ()
    return Role(point.key or "(the root)", point.describe(), len(arms),
                sum(n == "tensors" for _, n in facts) if number else 0, len(wiring),
                len(attributes) - len(late), len(late), is_outside)  # fmt: skip


def _places(count: int) -> str:
    return f"{count} place{'s' * (count != 1)}"


def _modules(count: int) -> str:
    return f"{count} module{'s' * (count != 1)}"


__all__ = ["LoweringReport", "Role", "roles"]
