"""How a decision is cut into tables of numbers, and what is drawn from the tables of one decision.

A part is of one of four kinds: `options` (one table of logits over finitely many options), `picks` (tables for several
picks), and, for continuous ranges, `value` (one number a that a smooth value depends on) or `normal` (see `normals`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mutandis.algorithms.oneshot.selections import Subset
from mutandis.algorithms.oneshot.tables.relaxations import (
    Noise,
    order_weights,
    ordered_log_prob,
    set_weights,
    soft_sample,
    straight_through,
    top_picks,
)
from mutandis.errors import SettingError
from mutandis.hyper import Point

Tables = Sequence[Tensor]
MOST_OUTCOMES = 20_000


@dataclass(frozen=True, slots=True)
class Part:
    """The tables of one decision.

    Attributes:
        point: The decision.
        kind: `options`, `picks`, `value` or `normal`.
        tables: Indices of its tables; of picks, that of their number comes first where it varies.
        values: The raw value of each option (`options`).
    """

    point: Point
    kind: str
    tables: tuple[int, ...]
    values: tuple[Any, ...] = ()

    @property
    def has_count(self) -> bool:
        """Whether the number of picks varies, and so has a table."""
        return self.kind == "picks" and self.point.k_min != self.point.k_max

    def pick_table(self, place: int) -> int:
        """Returns the table of pick number `place`."""
        own = self.tables[1:] if self.has_count else self.tables
        return own[0] if _shares_its_table(self.point) else own[place]


def cut(point: Point, *, continuous: str, most: int) -> tuple[str, list[int], tuple[Any, ...]]:
    """Returns the kind of part of a point, the lengths of its tables, and the raw values of its options.

    Raises:
        SettingError: the decision is open-ended.
    """
    if point.kind == "choice":
        return "options", [point.num_candidates], tuple(range(point.num_candidates))
    if point.kind == "many":
        count = [] if point.k_min == point.k_max else [point.k_max - point.k_min + 1]
        num_tables = 1 if _shares_its_table(point) else point.k_max
        return "picks", count + [point.num_candidates] * num_tables, ()
    if point.kind == "custom":
        raise SettingError("cannot relax a decision", at=point.path, got=point.describe(),
                           expected="decisions among candidates or within ranges",
                           fix="use an algorithm that rewrites programs, such as RegularizedEvolution()")  # fmt: skip
    if not point.is_finite and continuous != "options":
        return continuous, [1 if continuous == "value" else 2], ()
    if point.is_finite and point.num_steps <= most:
        values = [point.at(position) for position in range(point.num_steps)]
    else:
        values = list(dict.fromkeys(point.from_unit((i + 0.5) / most) for i in range(most)))
    return "options", [len(values)], tuple(values)


def _shares_its_table(point: Point) -> bool:
    return point.distinct or not point.ordered


def nearest(part: Part, value: Any) -> int:
    """Returns the option of a part that a raw value is, or is nearest to in the unit interval."""
    if part.point.kind == "choice":
        return int(value)
    place = part.point.to_unit(value)[0]
    return min(range(len(part.values)), key=lambda i: abs(part.point.to_unit(part.values[i])[0] - place))


def smooth_value(point: Point, number: Tensor) -> Tensor:
    """Returns low + (high - low) sigmoid(a), or low (high / low)^sigmoid(a) on a log scale; within the range.

    Args:
        point: A continuous range.
        number: a, without dimensions.
    """
    share = torch.sigmoid(number)
    if point.scale == "log":
        value = torch.exp(math.log(point.low) + (math.log(point.high) - math.log(point.low)) * share)
    else:
        value = point.low + (point.high - point.low) * share
    return value.clamp(point.low, point.high)


def draw_picks(part: Part, tables: Tables, noise: Noise, temperature: float) -> Subset:
    """Draws picks; their weights are 1 and carry the gradient of a relaxed draw, that of their number none."""
    point = part.point
    k = point.k_min
    if part.has_count:
        k += noise.option(torch.softmax(tables[part.tables[0]], 0).tolist())
    if point.distinct:
        table = tables[part.pick_table(0)]
        keys = torch.log_softmax(table, 0) + noise.gumbel(len(table))
        picks = top_picks(keys, k)
        if point.ordered:
            return Subset(picks, order_weights(keys, picks, temperature))
        picks = tuple(sorted(picks))
        return Subset(picks, set_weights(keys, picks, temperature))
    drawn = []
    for place in range(k):
        soft = soft_sample(tables[part.pick_table(place)], noise.gumbel(point.num_candidates), temperature)
        index = top_picks(soft, 1)[0]
        drawn.append((index, straight_through(soft, index)[index]))
    if not point.ordered:
        drawn.sort(key=lambda pair: pair[0])
    weights = torch.stack([weight for _, weight in drawn]) if drawn else torch.zeros(0, dtype=torch.float64)
    return Subset(tuple(index for index, _ in drawn), weights)


def sequence_log_prob(part: Part, tables: Tables, picks: Sequence[int]) -> Tensor:
    """Returns the log-probability that picks are drawn in this order, their number included."""
    total = torch.zeros((), dtype=torch.float64)
    if part.has_count:
        total = total + torch.log_softmax(tables[part.tables[0]], 0)[len(picks) - part.point.k_min]
    if part.point.distinct:
        return total + ordered_log_prob(tables[part.pick_table(0)], picks)
    for place, pick in enumerate(picks):
        total = total + torch.log_softmax(tables[part.pick_table(place)], 0)[pick]
    return total


def picks_log_prob(part: Part, tables: Tables, picks: Sequence[int]) -> Tensor:
    """Returns the log-probability of picks; that of a set adds up the orders that lead to it.

    Raises:
        SettingError: there are more than 20000 orders.
    """
    if part.point.ordered:
        return sequence_log_prob(part, tables, picks)
    check_orders(part.point, math.factorial(len(picks)))
    orders = set(itertools.permutations(picks))
    return torch.logsumexp(torch.stack([sequence_log_prob(part, tables, order) for order in sorted(orders)]), 0)


def num_orders(point: Point) -> int:
    """Returns in how many orders the picks of a point can be drawn."""
    n, counts = point.num_candidates, range(point.k_min, point.k_max + 1)
    return sum(math.perm(n, k) if point.distinct else n**k for k in counts)


def orders_of(point: Point) -> list[tuple[int, ...]]:
    """Returns every order in which the picks of a point can be drawn.

    Raises:
        SettingError: there are more than 20000.
    """
    check_orders(point, num_orders(point))
    n, counts = point.num_candidates, range(point.k_min, point.k_max + 1)
    found: list[tuple[int, ...]] = []
    for k in counts:
        found += itertools.permutations(range(n), k) if point.distinct else itertools.product(range(n), repeat=k)
    return found


def check_orders(point: Point, count: int) -> None:
    """Refuses to sum over too many orders of picks.

    Raises:
        SettingError: there are more than 20000.
    """
    if count > MOST_OUTCOMES:
        raise SettingError("cannot sum over the orders of picks", at=point.path, got=count,
                           expected=f"at most {MOST_OUTCOMES} orders",
                           fix="pick fewer, or from fewer candidates")  # fmt: skip


__all__ = ["MOST_OUTCOMES", "Part", "Tables", "check_orders", "cut", "draw_picks", "nearest", "num_orders", "orders_of",
           "picks_log_prob", "sequence_log_prob", "smooth_value"]  # fmt: skip
