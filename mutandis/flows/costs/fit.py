"""Tables of a cost from as few children as show what acts together with what.

At first the decisions are taken to act alone, which takes one child per candidate. Where random children cost
something else than the tables say, pairs of decisions are probed: i and j act together if changing both is not the sum
of changing each, with the others anywhere. Decisions that all act on each other get one table of all combinations.

A term that acts on a set of decisions makes all pairs of them act together, so that no term is missed if no pair is.
A pair may be missed where few of its combinations differ; then the random children tell, and it is probed again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, product
from typing import Any

import torch
from torch import Tensor

from mutandis.errors import SettingError
from mutandis.flows.costs.measures import Forward, call, need_measure
from mutandis.flows.costs.model import CostModel, Term
from mutandis.hyper import DNA, Point, Rng, SearchSpace, space

_ROUNDING = 1e-9
_ROUNDS = 3
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
            self._probe(2 + 2 * number)
            model, error = self._model(list(cliques([i for (i,) in alone], self._edges)), checks, truth)
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
        """Returns the cost where some decisions have values, if they are active, and all others the first."""
        given = [values.get(point.index) for point in self._space.points]
        return self._cost_of(self._space.bare().repair(given, self._first))

    def _first(self, point: Point) -> Any:
        return self._values[point.index][0] if point.index in self._values else point.first()

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
        values = {index: self._rng.choice(row) for index, row in self._values.items()}
        pending = list(points)
        while pending:
            point = pending.pop()
            if point.conditions:
                given = [values.get(p.index) for p in self._space.points]
                if not self._space.is_active(point, given):
                    parent, candidate = self._rng.choice(point.conditions)
                    row = [v for v in self._values[parent] if v == candidate or _picks(v, candidate)]
                    values[parent] = self._rng.choice(row)
                pending += [self._space.points[parent] for parent, _ in point.conditions]
        return values

    def _probe(self, num_tries: int) -> None:
        """Looks which pairs of decisions act together."""
        points = [p for p in self._space.points if len(self._values.get(p.index, ())) > 1]
        for first, second in combinations(points, 2):
            pair = (first.index, second.index)
            if pair not in self._edges and any(self._acts_together(first, second) for _ in range(num_tries)):
                self._edges.add(pair)

    def _acts_together(self, first: Point, second: Point) -> bool:
        context = self._context((first, second))
        i, j = first.index, second.index
        other_i = self._rng.choice([v for v in self._values[i] if v != context[i]])
        other_j = self._rng.choice([v for v in self._values[j] if v != context[j]])
        both = self._cost({**context, i: other_i, j: other_j})
        one = self._cost({**context, i: other_i})
        mixed = both - one - self._cost({**context, j: other_j}) + self._cost(context)
        return abs(mixed) > _ROUNDING * self._scale

    def _model(self, sets: Sequence[tuple[int, ...]], checks: list[DNA], truth: list[float]) -> tuple[CostModel, float]:
        base = self._cost({})
        room = self._most - len(self._known)
        if sum(math.prod(len(self._values[i]) for i in indices) for indices in sets if len(indices) > 1) > room:
            raise _too_many(self._most)
        terms, seen = [], set[tuple[int, ...]]()
        for indices in sets:
            table = new_part(self._table(indices), indices, seen)
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


def new_part(costs: Tensor, indices: tuple[int, ...], seen: set[tuple[int, ...]]) -> Tensor:
    """Returns the part of a table that other tables do not have yet, by inclusion and exclusion.

    The part that a subset of the decisions makes together is the alternating sum over values and first values.

    Args:
        costs: `[n_i for i in indices]`, where all other decisions have their first value.
        indices: The decisions.
        seen: The subsets that other tables have; those of this one are added.
    """
    total = torch.zeros_like(costs)
    for size in range(1, len(indices) + 1):
        for subset in combinations(range(len(indices)), size):
            if tuple(indices[axis] for axis in subset) in seen:
                continue
            seen.add(tuple(indices[axis] for axis in subset))
            part = costs
            for axis in range(len(indices)):
                first = part.narrow(axis, 0, 1)
                part = part - first if axis in subset else first
            total = total + part
    return total


def cliques(nodes: Sequence[int], edges: set[tuple[int, int]]) -> Iterator[tuple[int, ...]]:
    """Yields the largest sets of nodes that are all joined by edges, sorted (Bron and Kerbosch 1973)."""
    near = {node: {b for a, b in edges if a == node} | {a for a, b in edges if b == node} for node in nodes}

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


def _picks(value: Any, candidate: int) -> bool:
    return isinstance(value, tuple) and candidate in value


def _too_many(most: int) -> SettingError:
    return SettingError("cannot put a cost into tables", got=f"more than {most} children",
                        expected="decisions that act together with few others",
                        fix="raise most_builds=, or pass is_additive=True with a tolerance=")  # fmt: skip


__all__ = ["cliques", "fit_cost", "new_part"]
