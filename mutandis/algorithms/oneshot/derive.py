"""How a trained policy becomes a DNA: the most likely, the best of several measured ones, the strongest edges.

*Sources*: most likely candidate per decision (GDAS, TAS, TuNAS; DARTS on cells that are searched whole); the best two
edges of each node (DARTS: Liu, Simonyan, Yang, ICLR 2019, arXiv 1806.09055, Sec. 2.4); several candidates measured on
shared weights (ENAS, RSPS; SETN: Dong and Yang, ICCV 2019, doi 10.1109/ICCV.2019.00372).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from mutandis.algorithms.base import need_instance, need_int, settings
from mutandis.algorithms.oneshot.protocol import Evaluate, finite
from mutandis.algorithms.oneshot.tables import normals
from mutandis.algorithms.oneshot.tables.parts import Part, smooth_value
from mutandis.algorithms.oneshot.tables.policy import Policy
from mutandis.algorithms.oneshot.tables.relaxations import top_picks
from mutandis.errors import SettingError
from mutandis.hyper import DNA, Point


def most_likely(policy: Policy) -> DNA:
    """Returns the DNA of the most likely option of each decision; ties go to the first."""
    return policy.space.repair([None] * len(policy.parts), lambda point: _strongest(policy, point))


def _strongest(policy: Policy, point: Point) -> Any:
    part = policy.parts[point.index]
    if part.kind == "options":
        return part.values[top_picks(policy.tables[part.tables[0]], 1)[0]]
    if part.kind == "value":
        return point.check(float(smooth_value(point, policy.tables[part.tables[0]][0])))
    if part.kind == "normal":
        return point.from_unit(float(normals.parameters(policy.tables[part.tables[0]])[0]))
    k = point.k_min + (top_picks(policy.tables[part.tables[0]], 1)[0] if part.has_count else 0)
    if point.distinct:
        picks = top_picks(policy.tables[part.pick_table(0)], k)
    else:
        picks = tuple(top_picks(policy.tables[part.pick_table(place)], 1)[0] for place in range(k))
    return picks if point.ordered else tuple(sorted(picks))


def top_dnas(policy: Policy, count: int) -> list[DNA]:
    """Returns the most likely DNAs, best first, exactly; ties in the order of the space.

    Best-first search: a beginning of a DNA is bounded by its log-probability plus the best of each later decision that
    is always active. Without conditions that bound is exact, and the cost O(count * decisions * options).

    Args:
        policy: The policy.
        count: How many; fewer are returned where the space has fewer. Continuous ranges are the same in all.
    """
    rows = [_ranked(policy, part) for part in policy.parts]
    rest = [0.0]
    for part, row in zip(reversed(policy.parts), reversed(rows), strict=True):
        rest.append(rest[-1] + (0.0 if part.point.conditions else row[0][1]))
    rest.reverse()
    heap: list[tuple[float, tuple[Any, ...], float, tuple[Any, ...]]] = [(-rest[0], (), 0.0, ())]
    found: list[DNA] = []
    while heap and len(found) < count:
        _, ranks, log_prob, values = heapq.heappop(heap)
        index = len(values)
        if index == len(rows):
            found.append(DNA(policy.space, values))
            continue
        is_active = policy.space.is_active(index, values)
        for value, chance, order in rows[index] if is_active else [(None, 0.0, -1)]:
            total = log_prob + chance
            heapq.heappush(heap, (-(total + rest[index + 1]), (*ranks, order), total, (*values, value)))
    return found


def _ranked(policy: Policy, part: Part) -> list[tuple[Any, float, int]]:
    """Returns raw values, their log-probabilities and their places, best first."""
    if part.kind in ("value", "normal"):
        return [(_strongest(policy, part.point), 0.0, 0)]
    sums: dict[Any, float] = {}
    for value, chance in policy.outcomes(part):
        key = value if part.kind == "options" or part.point.ordered else tuple(sorted(value))
        sums[key] = sums.get(key, 0.0) + float(chance)
    logs = torch.tensor(list(sums.values()), dtype=torch.float64).clamp(min=1e-300).log().tolist()
    ranked = zip(sums, logs, range(len(logs)), strict=True)
    return sorted(ranked, key=lambda row: (-row[1], row[2]))


def best_of(algorithm: str, candidates: Iterable[DNA], evaluate: Evaluate | None) -> DNA:
    """Returns the candidate with the largest measure, the first of equals; each is measured once.

    Raises:
        SettingError: there is nothing to measure with, or every measure failed.
    """
    if evaluate is None:
        raise SettingError("cannot derive a result", at=f"{algorithm}.derive", got=None,
                           expected="a function that measures a DNA on the shared weights",
                           fix="pass evaluate=lambda dna: accuracy of shared.materialize(dna)")  # fmt: skip
    best: tuple[float, DNA] | None = None
    count = 0
    for dna in dict.fromkeys(candidates):
        count += 1
        value = finite(evaluate(dna))
        if value is not None and (best is None or value > best[0]):
            best = (value, dna)
    if best is None:
        raise SettingError("cannot derive a result", at=f"{algorithm}.derive", got=f"{count} failures",
                           expected="at least one candidate that could be measured",
                           fix="look at what evaluate returns: None and nan are failures")  # fmt: skip
    return best[1]


def top_edges(chances: Sequence[Sequence[float]], *, none: int | None, keep: int = 2, pooled: bool = False) \
        -> list[tuple[int, int]]:  # fmt: skip
    """Returns the strongest edges into a node with their operations, strongest first.

    An edge is as strong as its likeliest operation, `none` left aside.

    Args:
        chances: Of each operation on each edge.
        none: Index of the operation that cuts an edge, or None.
        keep: How many are kept.
        pooled: Whether pairs of edge and operation compete, as in the code of GDAS, so that one edge may be kept
            several times; else edges do, as published.

    Returns:
        Pairs of edge and operation.
    """
    pairs = [(-p, e, o) for e, row in enumerate(chances) for o, p in enumerate(row) if o != none]
    if not pooled:
        pairs = [min(pair for pair in pairs if pair[1] == e) for e in range(len(chances))]
    return [(edge, operation) for _, edge, operation in sorted(pairs)[:keep]]


@settings
class TopEdges:
    """Keeps the strongest edges into each node, and cuts the others by their `none` operation.

    Args:
        nodes: For each node, the paths (or names) of the decisions on its incoming edges.
        none: Index of the operation that cuts an edge, the same on all.
        keep: How many edges into a node are kept.

    Raises:
        SettingError: a number is out of its range.
    """

    nodes: tuple[tuple[str, ...], ...]
    none: int
    keep: int = 2

    def __post_init__(self) -> None:
        need_int("TopEdges.none", self.none, 0)
        need_int("TopEdges.keep", self.keep, 1)

    def __call__(self, policy: Policy) -> DNA:
        """Returns the DNA; decisions that are on no edge take their most likely option.

        Raises:
            DecisionError: a path is no decision.
            SettingError: a decision has no such `none`.
        """
        values: list[Any] = [None] * len(policy.parts)
        for node in self.nodes:
            points = [policy.space.point(path) for path in node]
            for point in points:
                if point.kind != "choice" or point.num_candidates <= self.none:
                    raise SettingError("cannot cut an edge", at=point.path, got=point.describe(),
                                       expected=f"a choice with a candidate {self.none} that cuts it",
                                       fix="put the operation that gives zeros at one place on all edges")  # fmt: skip
                values[point.index] = self.none
            chances = [policy.chances(policy.parts[point.index]).tolist() for point in points]
            for edge, operation in top_edges(chances, none=self.none, keep=self.keep):
                values[points[edge].index] = operation
        return policy.space.repair(values, lambda point: _strongest(policy, point))


def need_cells(cells: object, algorithm: str) -> None:
    """Refuses what is neither None nor a way to keep the best edges.

    Raises:
        SettingError: it is neither.
    """
    if cells is not None:
        need_instance(f"{algorithm}.cells", cells, TopEdges, "TopEdges(nodes, none=0)")


def derivation(cells: TopEdges | None) -> Callable[[Policy, Evaluate | None], DNA]:
    """Returns the way from a policy to the result: the best edges of each node, or the most likely candidates."""
    return lambda policy, evaluate: most_likely(policy) if cells is None else cells(policy)


__all__ = ["TopEdges", "best_of", "derivation", "most_likely", "need_cells", "top_dnas", "top_edges"]
