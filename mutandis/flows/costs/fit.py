"""Tables of a cost from as few children as show what acts together with what.

At first the decisions are taken to act alone, which takes one child per candidate. Where random children cost
something else than the tables say, pairs of decisions are probed: i and j act together if changing both is not the sum
of changing each, with the others anywhere. Decisions that all act on each other get one table of all combinations.

A term that acts on a set of decisions makes all pairs of them act together, so that no term is missed if no pair is.
A pair may be missed where few of its combinations differ; then the random children tell, and it is probed again.

Tables start at the first value of each decision while decisions act alone, and else at a child that costs much: a small
depth would hide what the widths of later layers do. Two decisions may act together under some values of a third alone,
as the widths on both sides of layers that a depth leaves out; so pairs are probed under each value of a decision that
both act with. Not every set of decisions that act in pairs acts as a whole: one that does not is split.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, combinations, product, repeat
from typing import Any

import torch
from torch import Tensor

from mutandis.errors import SettingError
from mutandis.flows.costs.measures import Forward, call, need_measure
from mutandis.flows.costs.model import CostModel, Term
from mutandis.hyper import DNA, Point, Rng, SearchSpace, space

_ROUNDING = 1e-9
_ROUNDS = 4
_MOST_CONTEXTS = 12
_WHOLE_TRIES = 12
_MOST_VALUES = 1024


def fit_cost(
    program: Any, what: str | Callable[[Any], float], batch: Any = None, *, forward: Forward = call,
    is_additive: bool = False, tolerance: float = 0.0, num_checks: int = 24, most_builds: int = 5000, seed: int = 0,
) -> CostModel:  # fmt: skip
    """Finds what every child of a program costs, from few of them.

        cost = mu.flows.fit_cost(program, "flops", torch.zeros(1, 3, 32, 32))
        cost(dna), cost.expected({"width": probabilities})

    Takes one child per candidate where decisions act alone, and one per combination of those that act together, plus
    the children that find out which do. Shared programs are switched instead of built.

    Args:
        program: A program, its space, or what `share_weights` has made of it.
        what: A measure by name (see `measure`), or a function of the child.
        batch: What a child is called with.
        forward: Runs a child on the batch, where it is not called.
        is_additive: Takes decisions to act alone, without a look at pairs; for costs with noise.
        tolerance: The largest relative error on random children that is accepted; such a model is not `is_exact`.
        num_checks: How many random children are held against the tables.
        most_builds: The largest number of children.
        seed: Draws the children.

    Raises:
        SettingError: the tables do not fit, take too many children, or the cost depends on a continuous range.
    """
    made = space(program)
    if callable(what):
        measured = what
    else:
        found = need_measure(what, batch)
        measured = lambda child: found(child, batch, forward)  # noqa: E731
    return _Fit(made, measured, most_builds, Rng(seed, "cost")).run(is_additive, tolerance, num_checks)


class _Fit:
    """One search for the tables."""

    def __init__(self, made: SearchSpace, measured: Callable[[Any], float], most: int, rng: Rng) -> None:
        self._space, self._measured, self._most, self._rng = made, measured, most, rng
        self._known: dict[tuple[Any, ...], float] = {}
        self._values = {p.index: list(p.values()) for p in made.points if p.is_finite and p.size <= _MOST_VALUES}
        self._edges: set[tuple[int, int]] = set()
        self._start = {index: row[0] for index, row in self._values.items()}
        self._scale = 0.0

    def run(self, is_additive: bool, tolerance: float, num_checks: int) -> CostModel:
        checks = [self._space.bare().random(self._rng.derive("check", i)) for i in range(num_checks)]
        truth = [self._cost_of(dna) for dna in checks]
        self._refuse_other_points()
        alone = [(index,) for index in self._values if len(self._values[index]) > 1]
        model, error = self._model(alone, checks, truth)
        for number in range(0 if is_additive else _ROUNDS):
            if error <= _ROUNDING:
                break
            if number == 0:
                self._start_high()
            self._probe(number)
            sets = self._whole(cliques([i for (i,) in alone], self._edges))
            model, error = self._model(sets, checks, truth)
        if error > max(tolerance, _ROUNDING):
            raise SettingError(
                "cannot put a cost into tables",
                got=f"an error of {error:.2g}, relative to the costs, on {num_checks} random children",
                expected=f"at most {tolerance:.2g}",
                fix="pass tolerance= to accept it, or a cost function of your own where children cannot be compared",
            )
        return model

    def _cost_of(self, dna: DNA) -> float:
        found = self._known.get(dna.values)
        if found is None:
            if len(self._known) >= self._most:
                raise _too_many(self._most)
            found = self._known[dna.values] = float(self._measured(self._space.materialize(dna)))
            self._scale = max(self._scale, abs(found))
        return found

    def _cost(self, values: dict[int, Any]) -> float:
        """Returns the cost where some decisions have values, if they are active, and all others those of the start."""
        given = [values.get(point.index) for point in self._space.points]
        return self._cost_of(self._space.bare().repair(given, self._first))

    def _first(self, point: Point) -> Any:
        return self._start[point.index] if point.index in self._start else point.first()

    def _start_high(self) -> None:
        """Lets the tables start where every decision has the value that costs most, one decision after the other."""
        for index, row in self._values.items():
            costs = [self._cost({index: value}) for value in row]
            self._start[index] = row[max(range(len(row)), key=lambda i: (costs[i], -i))]

    def _refuse_other_points(self) -> None:
        """Refuses decisions with too many values to list, unless the cost does not depend on them."""
        for point in [p for p in self._space.points if p.index not in self._values]:
            for context in [self._context((point,)) for _ in range(2)]:
                seen = {self._cost({**context, point.index: point.draw(self._rng)}) for _ in range(3)}
                if max(seen) - min(seen) > _ROUNDING * self._scale:
                    raise SettingError("cannot put a cost into tables", at=point.path, got=point.describe(),
                                       expected=f"a decision of at most {_MOST_VALUES} values",
                                       fix="give the range a step=, or list values with mu.oneof([...])")  # fmt: skip

    def _context(self, points: Sequence[Point]) -> dict[int, Any]:
        """Returns random values of all decisions, under which some are active."""
        return self._active(points, {index: self._rng.choice(row) for index, row in self._values.items()})

    def _active(self, points: Sequence[Point], given: Mapping[int, Any]) -> dict[int, Any]:
        """Returns values like some others, under which some decisions are active."""
        values = dict(given)
        pending = list(points)
        while pending:
            point = pending.pop()
            if point.conditions:
                if not self._space.is_active(point, [values.get(p.index) for p in self._space.points]):
                    parent, candidate = self._rng.choice(point.conditions)
                    row = [v for v in self._values[parent] if v == candidate or _picks(v, candidate)]
                    values[parent] = self._rng.choice(row)
                pending += [self._space.points[parent] for parent, _ in point.conditions]
        return values

    def _probe(self, number: int) -> None:
        """Looks which pairs of decisions act together, in each round from more children.

        Args:
            number: Of the round. The first looks from the start alone, which takes the fewest children; the second at
                each value, and also under each value of a third decision; later ones from random children.
        """
        points = [p for p in self._space.points if len(self._values.get(p.index, ())) > 1]
        pairs = [(first.index, second.index) for first, second in combinations(points, 2)]
        for first, second in (pair for pair in pairs if pair not in self._edges):
            decided = [self._space.points[i] for i in (first, second)]
            start = self._active(decided, self._start)
            contexts = chain(repeat(start, 2), (self._context(decided) for _ in range(3 * (number - 1))))
            if any(self._acts_together(first, second, context) for context in contexts) or (
                    number > 0 and self._acts_somewhere(first, second, start)):  # fmt: skip
                self._edges.add((first, second))
        for pair in (pair for pair in pairs if number > 0 and pair not in self._edges):
            if any(self._acts_together(*pair, context) for context in self._contexts(*pair) for _ in range(2)):
                self._edges.add(pair)

    def _contexts(self, first: int, second: int) -> Iterator[dict[int, Any]]:
        """Yields each value of each decision that acts together with both of two others."""
        near = neighbours(self._values, self._edges)
        found = [{third: value} for third in sorted(near[first] & near[second])
                 for value in self._values[third] if value != self._start[third]]  # fmt: skip
        some = found if len(found) <= _MOST_CONTEXTS else self._rng.sample(found, _MOST_CONTEXTS)
        decided = [self._space.points[i] for i in (first, second)]
        yield from (self._active(decided, {**self._start, **values}) for values in some)

    def _acts_together(self, first: int, second: int, context: dict[int, Any]) -> bool:
        context = {**{i: self._start[i] for i in (first, second)}, **context}
        values = {i: self._rng.choice([v for v in self._values[i] if v != context[i]]) for i in (first, second)}
        return self._acts(values, context)

    def _acts_somewhere(self, first: int, second: int, context: dict[int, Any]) -> bool:
        """Returns whether two decisions act together at some value of one and a random one of the other."""
        for one, other in ((first, second), (second, first)):
            rows = {i: [value for value in self._values[i] if value != context[i]] for i in (one, other)}
            row = rows[one] if len(rows[one]) <= _MOST_CONTEXTS else self._rng.sample(rows[one], _MOST_CONTEXTS)
            if any(self._acts({one: value, other: self._rng.choice(rows[other])}, context) for value in row):
                return True
        return False

    def _acts(self, values: dict[int, Any], context: dict[int, Any]) -> bool:
        """Returns whether changing some decisions is more than the sum of changing fewer of them."""
        parts = []
        for size in range(len(values) + 1):
            for some in combinations(values, size):
                cost = self._cost({**context, **{i: values[i] for i in some}})
                parts.append(-cost if (len(values) - size) % 2 else cost)
        return abs(math.fsum(parts)) > _ROUNDING * self._scale

    def _whole(self, sets: Iterable[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """Returns sets of decisions that act as a whole, or as much as is left of them."""
        found: list[tuple[int, ...]] = []
        pending = sorted(set(sets), key=len)
        seen = set(pending)
        while pending:
            indices = pending.pop()
            if len(indices) < 3 or self._acts_whole(indices):
                found.append(indices)
                continue
            fewer = {indices[:i] + indices[i + 1 :] for i in range(len(indices))} - seen
            seen |= fewer
            pending = sorted([*pending, *fewer], key=len)
        return sorted(some for some in found if not any(set(some) < set(other) for other in found))

    def _acts_whole(self, indices: tuple[int, ...]) -> bool:
        rows = {i: [value for value in self._values[i] if value != self._start[i]] for i in indices}
        if math.prod(map(len, rows.values())) <= _WHOLE_TRIES:
            tries = [dict(zip(indices, values, strict=True)) for values in product(*rows.values())]
        else:
            tries = [{i: self._rng.choice(row) for i, row in rows.items()} for _ in range(_WHOLE_TRIES)]
        return any(self._acts(values, {}) for values in tries)

    def _model(self, sets: Sequence[tuple[int, ...]], checks: list[DNA], truth: list[float]) -> tuple[CostModel, float]:
        base = self._cost({})
        subsets = (combinations(indices, size) for indices in sets for size in range(2, len(indices) + 1))
        parts = set(chain.from_iterable(subsets))
        # A table that could never be filled is refused at once; `_cost_of` counts the children.
        if sum(math.prod(len(self._values[i]) - 1 for i in some) for some in parts) > self._most:
            raise _too_many(self._most)
        terms, seen = [], set[tuple[int, ...]]()
        for indices in sets:
            first = [self._values[i].index(self._start[i]) for i in indices]
            table = new_part(self._table(indices), indices, seen, first)
            if bool((table.abs() > _ROUNDING * self._scale).any()):
                terms.append(Term(indices, table))
        used = {index: self._values[index] for term in terms for index in term.indices}
        made = CostModel(self._space, base, terms, used, error=0.0, num_builds=0)
        size = max(map(abs, truth), default=0.0) or 1.0
        error = max((abs(made(dna) - cost) / size for dna, cost in zip(checks, truth, strict=True)), default=0.0)
        shown = error if error > _ROUNDING else 0.0
        return CostModel(self._space, base, terms, used, error=shown, num_builds=len(self._known)), error

    def _table(self, indices: tuple[int, ...]) -> Tensor:
        rows = [self._values[i] for i in indices]
        costs = [self._cost(dict(zip(indices, values, strict=True))) for values in product(*rows)]
        return torch.tensor(costs, dtype=torch.float64).reshape([len(row) for row in rows])


def new_part(costs: Tensor, indices: tuple[int, ...], seen: set[tuple[int, ...]],
             starts: Sequence[int] | None = None) -> Tensor:  # fmt: skip
    """Returns the part of a table that other tables do not have yet, by inclusion and exclusion.

    The part that a subset of the decisions makes together is the alternating sum over values and those of the start.

    Args:
        costs: `[n_i for i in indices]`, where all other decisions are as at the start.
        indices: The decisions.
        seen: The subsets that other tables have; those of this one are added.
        starts: The places of the values of the start; by default the first ones.
    """
    total = torch.zeros_like(costs)
    for size in range(1, len(indices) + 1):
        for subset in combinations(range(len(indices)), size):
            if tuple(indices[axis] for axis in subset) in seen:
                continue
            seen.add(tuple(indices[axis] for axis in subset))
            part = costs
            for axis in range(len(indices)):
                first = part.narrow(axis, starts[axis] if starts else 0, 1)
                part = part - first if axis in subset else first
            total = total + part
    return total


def cliques(nodes: Sequence[int], edges: set[tuple[int, int]]) -> Iterator[tuple[int, ...]]:
    """Yields the largest sets of nodes that are all joined by edges, sorted (Bron and Kerbosch 1973)."""
    near = neighbours(nodes, edges)

    def grow(made: set[int], open_: set[int], done: set[int]) -> Iterator[tuple[int, ...]]:
        if not open_ and not done:
            yield tuple(sorted(made))
            return
        pivot = max(sorted(open_ | done), key=lambda node: len(near[node] & open_))
        for node in sorted(open_ - near[pivot]):
            yield from grow(made | {node}, open_ & near[node], done & near[node])
            open_ = open_ - {node}
            done = done | {node}

    if nodes:
        yield from grow(set(), set(nodes), set())


def neighbours(nodes: Iterable[int], edges: set[tuple[int, int]]) -> dict[int, set[int]]:
    """Returns the nodes that each node is joined to."""
    return {node: {b for a, b in edges if a == node} | {a for a, b in edges if b == node} for node in nodes}


def _picks(value: Any, candidate: int) -> bool:
    return isinstance(value, tuple) and candidate in value


def _too_many(most: int) -> SettingError:
    return SettingError("cannot put a cost into tables", got=f"more than {most} children",
                        expected="decisions that act together with few others",
                        fix="raise most_builds=, or pass is_additive=True with a tolerance=")  # fmt: skip


__all__ = ["cliques", "fit_cost", "neighbours", "new_part"]
