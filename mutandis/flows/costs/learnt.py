"""A cost learnt from measured children: by least squares, a number per candidate of each decision.

For times that were measured of whole networks, such as the tables of HW-NAS-Bench (Li et al. 2021, arXiv 2103.10584)
and HELP (Lee et al. 2021, arXiv 2106.08630). Exact where the cost adds up over the decisions; elsewhere the best sum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mutandis.errors import SettingError
from mutandis.flows.costs.model import CostModel, Term
from mutandis.hyper import DNA, Rng, SearchSpace, space

_ROUNDING = 1e-9


def learn_cost(
    program: Any, dnas: Sequence[DNA], costs: Sequence[float], *, num_checks: int | None = None, seed: int = 0
) -> CostModel:
    """Returns what children cost, learnt from some of them.

        cost = mu.flows.learn_cost(program, dnas, latencies_ms)
        cost(dna), cost.error, mu.one_shot(shared, algorithm, cost=cost, ...)

    Args:
        program: A program, or its space; its decisions are finite.
        dnas: The children.
        costs: What they cost, as many finite numbers.
        num_checks: How many of them are first left out, to see the error; by default a fifth.
        seed: Says which.

    Returns:
        The tables; `error` is the largest on the children that were left out, relative to the largest of their costs.

    Raises:
        SettingError: there are too few children, not as many costs, or a decision has no end of values.
    """
    bare = space(program).bare()
    target = torch.tensor([float(cost) for cost in costs], dtype=torch.float64)
    if len(dnas) != len(target) or not bool(torch.isfinite(target).all()):
        raise SettingError("cannot learn a cost", at="learn_cost.costs", got=f"{len(target)} costs",
                           expected=f"{len(dnas)} finite numbers, one per DNA",
                           fix="leave out children that were not measured")  # fmt: skip
    count = max(1, len(dnas) // 5) if num_checks is None else num_checks
    if len(dnas) - count < 2:
        raise SettingError("cannot learn a cost", at="learn_cost.dnas", got=f"{len(dnas)} children",
                           expected=f"at least {count + 2}, {count} of them to see the error",
                           fix="measure more children")  # fmt: skip
    values = {point.index: _values(bare, point.index) for point in bare.points}
    features = _features(bare, dnas, values)
    order = list(range(len(dnas)))
    Rng(seed, "learnt cost").shuffle(order)
    checks, rest = order[:count], order[count:]
    guess = features[checks] @ _solved(features[rest], target[rest])
    size = float(target[checks].abs().max()) or 1.0 if checks else 1.0
    error = float((guess - target[checks]).abs().max()) / size if checks else 0.0
    weights = _solved(features, target)
    return _model(bare, weights, values, error if error > _ROUNDING else 0.0, len(dnas))


def _values(bare: SearchSpace, index: int) -> list[Any]:
    point = bare.points[index]
    if not point.is_finite:
        raise SettingError("cannot learn a cost", at=point.path, got=point.describe(),
                           expected="a decision with a list of values",
                           fix="give the range a step=, or list values with mu.oneof([...])")  # fmt: skip
    return list(point.values())


def _features(bare: SearchSpace, dnas: Sequence[DNA], values: dict[int, list[Any]]) -> Tensor:
    """Returns `[N, 1 + sum of (n_i - 1)]`: 1, and for each decision which of its values but the first it has."""
    places = {index: {value: place for place, value in enumerate(row)} for index, row in values.items()}
    rows = []
    for dna in dnas:
        row = [1.0]
        for index, value in enumerate(bare.own(dna).values):
            place = 0 if value is None else places[index][value]
            row += [float(place == other) for other in range(1, len(values[index]))]
        rows.append(row)
    return torch.tensor(rows, dtype=torch.float64)


def _solved(features: Tensor, target: Tensor) -> Tensor:
    """Returns the shortest least-squares solution: candidates that were never seen cost nothing more."""
    solution: Tensor = torch.linalg.lstsq(features, target[:, None], driver="gelsd").solution[:, 0]
    return solution


def _model(bare: SearchSpace, weights: Tensor, values: dict[int, list[Any]], error: float, count: int) -> CostModel:
    terms, start = [], 1
    for index, row in values.items():
        part = torch.cat([torch.zeros(1, dtype=torch.float64), weights[start : start + len(row) - 1]])
        start += len(row) - 1
        if len(row) > 1:
            terms.append(Term((index,), part))
    used = {index: row for index, row in values.items() if len(row) > 1}
    assert math.isfinite(float(weights.sum()))
    return CostModel(bare, float(weights[0]), terms, used, error=error, num_builds=count)


__all__ = ["learn_cost"]
