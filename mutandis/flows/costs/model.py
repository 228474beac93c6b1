"""The cost of a DNA without its child, and the exact expectation under a policy.

Let every decision have a value, also where it is inactive and does not matter. The cost is then a function of
independent variables, and a sum of terms of few variables each,

    cost(x) = base + sum over terms c of T_c[x_c],

a term for each set of decisions that act together, such as the widths of two neighbouring layers, whose product the
cost of a layer is. Since decisions are independent under a policy, also where some are inactive, the expectation is

    E = base + sum over c of sum over v of T_c[v] times the product over i in c of p_i(v_i),

which is exact and has a gradient in every p. (A sum over layers of expected width times expected width is neither,
where one decision is for both.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mutandis.algorithms.oneshot.tables.policy import Policy
from mutandis.errors import SettingError
from mutandis.hyper import DNA, Point, SearchSpace


@dataclass(frozen=True, slots=True, eq=False)
class Term:
    """A part of a cost that a few decisions make together.

    Attributes:
        indices: The decisions, by their place in the space.
        table: `[n_i for i in indices]` float64, the part for each combination of their values.
    """

    indices: tuple[int, ...]
    table: Tensor


class CostModel:
    """What children cost, as a sum of tables; made by `fit_cost`.

    It goes wherever a cost goes: `one_shot(..., cost=model)` and `ResourceConstrained(algorithm, model)`.

    Args:
        space: The space.
        base: The cost of the child that the tables start from.
        terms: The tables.
        values: By index of a decision in a term, its raw values in the order of the tables.
        error: See below.
        num_builds: See below.

    Attributes:
        space: The points.
        base: In the unit of the cost, as all costs are.
        terms: The tables.
        error: The largest error seen on random children that no table was made from, relative to the largest of
            their costs; 0 where all agree to the last digits.
        num_builds: How many children were measured.
    """

    def __init__(self, space: SearchSpace, base: float, terms: Sequence[Term],
                 values: Mapping[int, Sequence[Any]], *, error: float, num_builds: int) -> None:  # fmt: skip
        self.space = space.bare()
        self.base = base
        self.terms = tuple(terms)
        self.error = error
        self.num_builds = num_builds
        self._values = {index: tuple(row) for index, row in values.items()}
        self._places = {index: {value: i for i, value in enumerate(row)} for index, row in self._values.items()}

    @property
    def is_exact(self) -> bool:
        """Whether all children that were held against the tables agree with them."""
        return self.error == 0.0

    def __repr__(self) -> str:
        sizes = ", ".join("x".join(map(str, term.table.shape)) for term in self.terms)
        return f"CostModel(base={self.base:g}, tables=[{sizes}], error={self.error:.2g})"

    def __call__(self, dna: DNA) -> float:
        """Returns the cost of a child, without building it.

        Raises:
            DecisionError: the DNA is of another space.
        """
        values = self.space.own(dna).values
        parts = [self.base]
        for term in self.terms:
            places = [0 if values[i] is None else self._place(i, values[i]) for i in term.indices]
            parts.append(float(term.table[tuple(places)]))
        return math.fsum(parts)

    def _place(self, index: int, value: Any) -> int:
        return self._places[index][value]

    def expected(self, policy: Mapping[str, Tensor] | Policy, tables: Sequence[Tensor] | None = None) -> Tensor:
        """Returns the exact expectation of the cost, without dimensions, float64, with its gradient.

        Args:
            policy: By name or path, `[n]`, the chance of each value of a decision, as if it were active; decisions
                that the cost does not depend on may be missing. Or the policy of an algorithm.
            tables: For the policy of an algorithm, the tables to hang the gradient on.

        Raises:
            DecisionError: there is no such decision.
            SettingError: the chances of a decision are missing, or not one per value.
        """
        needed = dict.fromkeys(index for term in self.terms for index in term.indices)
        if isinstance(policy, Policy):
            chances = {index: self._chances(policy, index, tables) for index in needed}
        else:
            chances = self._given(policy, list(needed))
        total = torch.tensor(self.base, dtype=torch.float64)
        for term in self.terms:
            part = term.table
            for index in reversed(term.indices):
                part = part @ chances[index]
            total = total + part
        return total

    def _given(self, chances: Mapping[str, Tensor], needed: Sequence[int]) -> dict[int, Tensor]:
        found = {self.space.point(key).index: row for key, row in chances.items()}
        for index in needed:
            row, count = found.get(index), len(self._values[index])
            if row is None or tuple(row.shape) != (count,):
                raise _misfit(self.space.points[index], None if row is None else tuple(row.shape), count)
        return {index: row.to("cpu", torch.float64) for index, row in found.items()}

    def _chances(self, policy: Policy, index: int, tables: Sequence[Tensor] | None) -> Tensor:
        part = policy.parts[index]
        point = part.point
        if part.kind == "value":
            raise _misfit(point, "a smooth value", len(self._values[index]))
        if point.kind == "choice":
            return policy.chances(part, tables)
        rows = [torch.zeros((), dtype=torch.float64)] * len(self._values[index])
        for value, chance in policy.outcomes(part, tables):
            is_set = point.kind == "many" and not point.ordered
            place = self._place(index, tuple(sorted(value)) if is_set else value)
            rows[place] = rows[place] + chance
        return torch.stack(rows)


def _misfit(point: Point, got: Any, count: int) -> SettingError:
    return SettingError("cannot take the expectation of a cost", at=point.path, got=got,
                        expected=f"the chances of its values, as a tensor of shape ({count},)",
                        fix="pass {path: probabilities} for each decision that the cost depends on")  # fmt: skip


__all__ = ["CostModel", "Term"]
