"""Costs in the loss: the expected cost of the policy pulls on its logits.

Linear: Jin, Wang, Slocum, Yang, Dai, Yan, Feng: RC-DARTS, 2019, arXiv 1912.12814 (as a penalty). Relative and
power: Cai, Zhu, Han: ProxylessNAS, ICLR 2019, arXiv 1812.00332, Sec. 3.3.1 and reference code. Band: Dong, Yang: TAS,
NeurIPS 2019, arXiv 1905.09717, eq. (7).

*Notation*: L = loss, E = expected cost of the policy, R = `budget`, F = cost of its most likely DNA, w = `weight`,
b = `exponent`, t = `tolerance`,

    linear    L + w E
    relative  L + w (E - R) / R
    power     w L (log E / log R)^b
    band      L + w log E if F > (1 + t) R, L - w log E if F < (1 - t) R, else L; TAS has w = 2 and t = 0.05.

*Departures*: E is over the whole policy, also for two paths, where the code of ProxylessNAS takes the two alone. The
released code of TAS tolerates nothing above R, and below it t times the cost of the largest child; here is the paper's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from mutandis.algorithms.base import need_instance, need_number, need_one_of, settings
from mutandis.algorithms.oneshot.derive import most_likely
from mutandis.algorithms.oneshot.engine import PolicySearch
from mutandis.algorithms.oneshot.protocol import Cost, OneShot, SharedSearch
from mutandis.algorithms.oneshot.tables.parts import Tables
from mutandis.algorithms.oneshot.tables.policy import Policy
from mutandis.errors import SettingError
from mutandis.hyper import DNA, SearchSpace

FORMS = ("linear", "relative", "power", "band")


class ExpectedCost(Protocol):
    """A cost with an expectation under a policy. Write your own where costs do not add up, such as C_in times C_out."""

    def __call__(self, dna: DNA) -> float:
        """Returns the cost of one child."""
        ...

    def expected(self, policy: Policy, tables: Tables) -> Tensor:
        """Returns the expected cost, without dimensions, differentiable in the tables.

        `policy.expected`, `policy.chances` and `policy.reach` are what it is made of.
        """
        ...


@settings
class TableCost:
    """A cost that adds up over the active decisions.

    Args:
        costs: By path or name of the decision, the cost of each candidate; decisions that are not named cost nothing.
        base: What every child costs.

    Raises:
        SettingError: a cost is not a finite number.
    """

    costs: Mapping[str, Sequence[float]]
    base: float = 0.0

    def __post_init__(self) -> None:
        need_number("TableCost.base", self.base)
        for path, row in self.costs.items():
            for cost in row:
                need_number(f"TableCost.costs[{path!r}]", cost)

    def rows(self, space: SearchSpace) -> dict[int, Sequence[float]]:
        """Returns the costs by index of the decision.

        Raises:
            DecisionError: a path is no decision.
            SettingError: a decision has another number of candidates.
        """
        made: dict[int, Sequence[float]] = {}
        for path, row in self.costs.items():
            point = space.point(path)
            if not point.num_candidates or len(row) != point.num_candidates:
                raise SettingError("cannot read costs", at=f"TableCost.costs[{path!r}]", got=f"{len(row)} costs",
                                   expected=f"{point.num_candidates}, one per candidate",
                                   fix="leave ranges out, or write them as mu.oneof([...])")  # fmt: skip
            made[point.index] = row
        return made

    def __call__(self, dna: DNA) -> float:
        """Returns the cost of a DNA."""
        total = [float(self.base)]
        for index, row in self.rows(dna.space).items():
            value = dna.values[index]
            if value is not None:
                total += [row[i] for i in value] if isinstance(value, tuple) else [row[value]]
        return math.fsum(total)

    def expected(self, policy: Policy, tables: Tables) -> Tensor:
        """Returns the expected cost of a policy, with its gradient."""
        return policy.expected(self.rows(policy.space), tables) + self.base


@settings
class ResourceConstrained(OneShot):
    """Another algorithm that learns from a loss, with the expected cost in it.

        ResourceConstrained(TAS(), TableCost({"width": [2, 4, 6, 8]}), form="band", budget=4, weight=2.0)

    Args:
        algorithm: The algorithm.
        cost: What children cost.
        form: `linear`, `relative`, `power` or `band`; see above.
        budget: R > 0, above 1 for `power`; not for `linear`.
        weight: w > 0.
        exponent: b, for `power`.
        tolerance: t, in [0, 1), for `band`.

    Raises:
        SettingError: a number is out of its range, a word unknown, or the budget missing.
    """

    algorithm: OneShot
    cost: ExpectedCost
    form: str = "linear"
    budget: float | None = None
    weight: float = 1.0
    exponent: float = 0.3
    tolerance: float = 0.05

    def __post_init__(self) -> None:
        need_instance("ResourceConstrained.algorithm", self.algorithm, OneShot, "ResourceConstrained(DARTS(), cost)")
        need_one_of("ResourceConstrained.form", self.form, FORMS)
        need_number("ResourceConstrained.weight", self.weight, above=0.0)
        need_number("ResourceConstrained.exponent", self.exponent, above=0.0)
        need_number("ResourceConstrained.tolerance", self.tolerance, low=0.0, below=1.0)
        if self.form != "linear":
            need_number("ResourceConstrained.budget", self.budget, above=1.0 if self.form == "power" else 0.0)
        elif self.budget is not None:
            raise SettingError("cannot use a setting", at="ResourceConstrained.budget", got=self.budget,
                               expected="None for form='linear', which only has a weight",
                               fix="write form='relative' or form='band'")  # fmt: skip

    @property
    def weighs_cost(self) -> bool:
        """Whether the `cost` of `start_shared` changes anything."""
        return self.algorithm.weighs_cost

    def start_shared(self, space: SearchSpace, *, seed: int, cost: Cost | None = None) -> SharedSearch:
        """Begins a run of the algorithm with the cost in its loss.

        Raises:
            SettingError: the algorithm does not learn from a loss, or refuses the space; the costs do not fit it.
        """
        search = self.algorithm.start_shared(space, seed=seed, cost=cost)
        if not isinstance(search, PolicySearch) or (search.needs.is_virtual and self.form == "power"):
            raise SettingError("cannot constrain an algorithm", at="ResourceConstrained.algorithm",
                               got=self.algorithm, expected="one that learns from a loss that it is given",
                               fix="use DARTS(), or TuNAS(target=...), which weighs costs itself")  # fmt: skip
        self.cost.expected(search.policy_tables, search.policy_tables.tables)  # Costs that do not fit fail now.
        search.constrain(self.total)
        return search

    def total(self, loss: Tensor, policy: Policy, tables: Tables) -> Tensor:
        """Returns the loss with the cost in it."""
        expected = self.cost.expected(policy, tables)
        if self.form == "linear":
            return loss + self.weight * expected
        budget = float(self.budget or 0.0)
        if self.form == "relative":
            return loss + self.weight * (expected - budget) / budget
        if self.form == "power":
            return self.weight * loss * (torch.log(expected) / math.log(budget)) ** self.exponent
        found = self.cost(most_likely(policy))
        sign = float(found > (1.0 + self.tolerance) * budget) - float(found < (1.0 - self.tolerance) * budget)
        return loss + sign * self.weight * torch.log(expected)


__all__ = ["ExpectedCost", "ResourceConstrained", "TableCost"]
