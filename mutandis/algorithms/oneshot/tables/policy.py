"""One differentiable policy over a space: tables of logits whose draws are selections.

- A choice, and a range, has one table of logits A over its options; p = softmax(A). The options of a range are its
  legal values if there are at most `most`, else so many places spread evenly over it (over its logarithm).
- A continuous range can have one number a instead, and then has a value that depends on it smoothly:
  low + (high - low) sigmoid(a), or low (high / low)^sigmoid(a) on a log scale; or a normal distribution over its unit
  interval, cut off at both ends (see `normals`), whose densities stand for chances.
- Several picks have one table per pick, or one for all where they are distinct or their order does not matter, and a
  table for their number where it varies. Distinct picks are the largest of A + g, i.e. drawn without replacement.

Decisions are independent of each other given that they are active, so that with P(d) = the probability that d is
active the entropy is the sum of P(d) H(d), and the expectation of a sum of costs the sum of P(d) E(cost of d). Only
active decisions count. P is exact: a product along the line of choices above d, or, where d hangs on several
choices, a sum over all their values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mutandis.algorithms.oneshot.selections import Index, Selection, Selections, Value, is_reached
from mutandis.algorithms.oneshot.tables import normals
from mutandis.algorithms.oneshot.tables.parts import (
    MOST_OUTCOMES,
    Part,
    Tables,
    cut,
    draw_picks,
    nearest,
    num_orders,
    orders_of,
    picks_log_prob,
    sequence_log_prob,
    smooth_value,
)
from mutandis.algorithms.oneshot.tables.relaxations import Noise
from mutandis.errors import SettingError
from mutandis.hyper import DNA, Point, SearchSpace
from mutandis.hyper.rng import Rng

Choose = Callable[[Part, Tensor], Selection]


class Policy:
    """A distribution over the DNAs of a space.

    Args:
        space: The space.
        rng: Draws the first numbers of the tables.
        init_std: They are normal with this deviation around 0.
        continuous: What continuous ranges have: a smooth `value`, `options`, or a `normal` distribution.
        most: The largest number of options of a range.

    Attributes:
        space: The points.
        parts: The tables of each decision.
        tables: `[n]` float64 each; leaves without gradients, see `leaves`.

    Raises:
        SettingError: a decision is open-ended.
    """

    def __init__(
        self, space: SearchSpace, rng: Rng, *, init_std: float = 1e-3, continuous: str = "value", most: int = 16
    ) -> None:
        self.space = space.bare()
        self.tables: list[Tensor] = []
        self.parts: list[Part] = []
        for point in self.space.points:
            kind, lengths, values = cut(point, continuous=continuous, most=most)
            first = len(self.tables)
            for length in lengths:
                numbers = [init_std * rng.gauss(0.0, 1.0) for _ in range(length)]
                self.tables.append(torch.tensor(numbers, dtype=torch.float64))
            self.parts.append(Part(point, kind, tuple(range(first, len(self.tables))), values))

    def leaves(self) -> list[Tensor]:
        """Returns copies of the tables that take gradients, for one draw."""
        return [table.detach().clone().requires_grad_() for table in self.tables]

    def select(self, number: int, tables: Tables, choose: Choose, noise: Noise, temperature: float) -> Selections:
        """Draws selections, parents before children, for the decisions that become active.

        Args:
            number: Of the draw.
            tables: The tables to hang the gradient on.
            choose: Returns the selection of a decision with options, from its logits.
            noise: Draws the picks.
            temperature: Of the gradient of the picks.
        """
        made: dict[int, Selection] = {}
        for part in self.parts:
            point = part.point
            if not is_reached(point, made):
                continue
            if part.kind == "options":
                chosen = choose(part, tables[part.tables[0]])
                is_number = point.kind != "choice" and isinstance(chosen, Index)
                made[point.index] = Value(part.values[chosen.index]) if is_number else chosen  # type: ignore[union-attr]
            elif part.kind == "value":
                made[point.index] = Value(smooth_value(point, tables[part.tables[0]][0]))
            elif part.kind == "normal":
                place = normals.draw(tables[part.tables[0]], noise.uniform())
                made[point.index] = Value(point.from_unit(place))
            else:
                made[point.index] = draw_picks(part, tables, noise, temperature)
        return Selections(number, made)

    def log_prob(self, dna: DNA, tables: Tables | None = None) -> Tensor:
        """Returns the log-probability of a DNA, in nats, over its active decisions; smooth values count as certain.

        A value of a range that is no option counts as the nearest one; where the range is normal, its density counts.
        """
        tables = self.tables if tables is None else tables
        total = torch.zeros((), dtype=torch.float64)
        for part, value in zip(self.parts, self.space.own(dna).values, strict=True):
            if value is None or part.kind == "value":
                continue
            if part.kind == "options":
                total = total + torch.log_softmax(tables[part.tables[0]], 0)[nearest(part, value)]
            elif part.kind == "normal":
                total = total + normals.log_density(tables[part.tables[0]], part.point.to_unit(value)[0])
            else:
                total = total + picks_log_prob(part, tables, value)
        return total

    def chances(self, part: Part, tables: Tables | None = None) -> Tensor:
        """Returns the chance of each option or, for picks, of each candidate to be among them, `[n]`."""
        return self._shares(part, self.tables if tables is None else tables, set)

    def _shares(self, part: Part, tables: Tables, counted: Callable[[Any], Iterable[int]]) -> Tensor:
        if part.kind == "options":
            return torch.softmax(tables[part.tables[0]], 0)
        found = [torch.zeros((), dtype=torch.float64) for _ in range(part.point.num_candidates)]
        for value, chance in self.outcomes(part, tables):
            for candidate in counted(value):
                found[candidate] = found[candidate] + chance
        return torch.stack(found)

    def outcomes(self, part: Part, tables: Tables | None = None) -> Iterator[tuple[Any, Tensor]]:
        """Yields the raw values of a decision with their chances; of picks, each order in which they are drawn.

        Raises:
            SettingError: there are more than 20000 orders, or the decision is a continuous range without options.
        """
        tables = self.tables if tables is None else tables
        if part.kind in ("value", "normal"):
            raise SettingError("cannot list the values of a decision", at=part.point.path, got=part.point.describe(),
                               expected="finitely many values, or a policy that cuts ranges into some",
                               fix="write the values as mu.oneof([...])")  # fmt: skip
        if part.kind == "options":
            yield from zip(part.values, torch.softmax(tables[part.tables[0]], 0), strict=True)
        else:
            for picks in orders_of(part.point):
                yield picks, sequence_log_prob(part, tables, picks).exp()

    def reach(self, tables: Tables | None = None) -> list[Tensor]:
        """Returns the exact probability that each decision is active, with its gradient.

        Raises:
            SettingError: a decision hangs on choices with more than 20000 combinations of values.
        """
        tables = self.tables if tables is None else tables
        found: list[Tensor] = []
        for part in self.parts:
            conditions = part.point.conditions
            parents = {parent for parent, _ in conditions}
            if not parents:
                found.append(torch.ones((), dtype=torch.float64))
            elif len(parents) == 1:
                (parent,) = parents
                candidates = {candidate for _, candidate in conditions}
                found.append(found[parent] * self._takes(parent, candidates, tables))
            else:
                found.append(self._reach_of_several(part.point, tables))
        return found

    def _takes(self, parent: int, candidates: set[int], tables: Tables) -> Tensor:
        """Returns the chance that a decision, when active, takes one of some candidates."""
        part = self.parts[parent]
        if part.kind == "options":
            return torch.softmax(tables[part.tables[0]], 0)[sorted(candidates)].sum()
        hits = [chance for value, chance in self.outcomes(part, tables) if candidates & set(value)]
        return torch.stack(hits).sum() if hits else torch.zeros((), dtype=torch.float64)

    def _reach_of_several(self, point: Point, tables: Tables) -> Tensor:
        above = _ancestors(self.space, point)
        outcomes = [list(self.outcomes(self.parts[i], tables)) for i in above]
        count = math.prod(len(values) for values in outcomes)
        if count > MOST_OUTCOMES:
            raise SettingError("cannot weigh a decision", at=point.path, got=count,
                               expected=f"at most {MOST_OUTCOMES} combinations of the choices above it",
                               fix="let it hang on fewer choices")  # fmt: skip
        total = torch.zeros((), dtype=torch.float64)
        values: list[Any] = [None] * len(self.parts)

        def visit(place: int, weight: Tensor) -> None:
            nonlocal total
            if place == len(above):
                total = total + (weight if self.space.is_active(point, values) else 0.0)
                return
            is_active = self.space.is_active(above[place], values)
            for value, chance in outcomes[place] if is_active else [(None, 1.0)]:
                values[above[place]] = value
                visit(place + 1, weight * chance)

        visit(0, torch.ones((), dtype=torch.float64))
        return total

    def entropies(self, tables: Tables | None = None) -> list[Tensor]:
        """Returns the entropy of each decision over its raw values, in nats, given that it is active.

        That of a normal range is the differential one of its place in the unit interval, which is at most 0.
        """
        return [self._entropy_of(part, self.tables if tables is None else tables) for part in self.parts]

    def _entropy_of(self, part: Part, tables: Tables) -> Tensor:
        if part.kind == "normal":
            return normals.entropy(tables[part.tables[0]])
        chances = torch.stack(list(self._values(part, tables).values()))
        entropy: Tensor = torch.special.entr(chances).sum()
        return entropy

    def _values(self, part: Part, tables: Tables) -> dict[Any, Tensor]:
        """Returns the chance of each raw value of a decision that has finitely many; a smooth one has one value."""
        if part.kind == "value":
            return {None: torch.ones((), dtype=torch.float64)}
        sums: dict[Any, Tensor] = {}
        for value, chance in self.outcomes(part, tables):
            key = value if part.kind == "options" or part.point.ordered else tuple(sorted(value))
            sums[key] = sums[key] + chance if key in sums else chance
        return sums

    def divergence(self, other: Tables, tables: Tables | None = None) -> Tensor:
        """Returns the Kullback-Leibler divergence from the policy with other tables, exactly, in nats.

        Like the entropy it is a sum over decisions, each times the chance that it is active. Smooth values count as
        certain on both sides, and so add nothing.

        Args:
            other: The tables of the distribution that is compared with.
            tables: Those of this one; by default its own.

        Raises:
            SettingError: as for `reach` and `outcomes`.
        """
        tables = self.tables if tables is None else tables
        total = torch.zeros((), dtype=torch.float64)
        for part, reach in zip(self.parts, self.reach(tables), strict=True):
            if part.kind == "normal":
                own = normals.divergence(tables[part.tables[0]], other[part.tables[0]])
            else:
                theirs = self._values(part, other)
                own = sum((torch.xlogy(p, p) - torch.xlogy(p, theirs[value])
                           for value, p in self._values(part, tables).items()), total.new_zeros(()))  # fmt: skip
            total = total + reach * own
        return total

    def entropy(self, tables: Tables | None = None) -> Tensor:
        """Returns the entropy of the whole, exactly, in nats, with its gradient."""
        pairs = zip(self.reach(tables), self.entropies(tables), strict=True)
        return sum((reach * entropy for reach, entropy in pairs), torch.zeros((), dtype=torch.float64))

    def expected(self, costs: Mapping[int, Sequence[float]], tables: Tables | None = None) -> Tensor:
        """Returns the expectation of a cost that adds up over active decisions, with its gradient.

        Args:
            costs: By index of the decision, the cost of each option or, each time it is picked, of each candidate.
            tables: The tables to hang the gradient on.
        """
        tables = self.tables if tables is None else tables
        total = torch.zeros((), dtype=torch.float64)
        reach = self.reach(tables)
        for index, row in costs.items():
            chances = self._shares(self.parts[index], tables, tuple)
            total = total + reach[index] * (chances * torch.tensor(row, dtype=torch.float64)).sum()
        return total

    def entropy_by_path(self) -> dict[str, float]:
        """Returns the entropy of each decision, given that it is active, in nats; see `chances_by_path`."""
        return {part.point.path: float(self._entropy_of(part, self.tables)) for part in self.parts if _is_short(part)}

    def chances_by_path(self) -> dict[str, list[float]]:
        """Returns the chance of each option or picked candidate of each decision.

        Smooth values and normal ranges are left out, and picks in more than 20000 orders, whose sum would take long.
        """
        parts = [part for part in self.parts if part.kind in ("options", "picks") and _is_short(part)]
        return {part.point.path: self.chances(part).tolist() for part in parts}

    def state(self) -> list[list[float]]:
        """Returns the tables as JSON."""
        return [table.tolist() for table in self.tables]

    def set_state(self, state: list[list[float]]) -> None:
        """Goes on from a state."""
        for table, numbers in zip(self.tables, state, strict=True):
            table.copy_(torch.tensor(numbers, dtype=torch.float64))


def _is_short(part: Part) -> bool:
    return part.kind != "picks" or num_orders(part.point) <= MOST_OUTCOMES


def _ancestors(space: SearchSpace, point: Point) -> list[int]:
    """Returns the indices of all decisions that a point hangs on, directly or not, in their order."""
    found: set[int] = set()
    waiting = [parent for parent, _ in point.conditions]
    while waiting:
        index = waiting.pop()
        if index not in found:
            found.add(index)
            waiting.extend(parent for parent, _ in space.points[index].conditions)
    return sorted(found)


__all__ = ["Choose", "Policy"]
