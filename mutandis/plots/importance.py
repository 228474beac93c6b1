"""How much each decision matters: the share of the variance of the reward that it explains alone.

For every decision the trials in which it was active are grouped by its value, a range by quantiles; the share is
epsilon squared (Kelley 1935), the correlation ratio without its bias by chance:

    (SS_between - (g - 1) * MS_within) / SS_total,  at least 0

with g groups, SS sums of squares around means and MS_within = SS_within / (n - g). It is a main effect: what two
decisions do only together does not show. Rewards are replaced by their ranks, so that a few very bad trials do not
hide the rest.
"""

from __future__ import annotations

from collections.abc import Sequence

from mutandis.flows import Study
from mutandis.flows.studies.study import is_finished
from mutandis.hyper import Point

_MAX_GROUPS = 5
_PER_GROUP = 4  # A range is cut into at most so many parts as leave that many trials in each.
_LEAST = 8


def importances(study: Study, *, objective: int = 0) -> dict[str, float]:
    """Returns the share of the variance of an objective that each decision explains, the largest first.

    Args:
        study: The trials; those with a reward count.
        objective: Which one, counted from 0.

    Returns:
        A number in [0, 1] by path. Decisions that were active in fewer than eight such trials, or always had the same
        value, have 0.
    """
    if study.space is None:
        return {}
    rated = [trial for trial in study.trials if is_finished(trial)]
    found = {}
    for point in study.space.points:
        active = [t for t in rated if t.dna.values[point.index] is not None]
        rewards = [study.signed(t)[objective] for t in active]
        groups = grouped(point, [t.dna.values[point.index] for t in active])
        found[point.key] = explained(groups, ranks(rewards)) if len(active) >= _LEAST else 0.0
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def grouped(point: Point, values: Sequence[object]) -> list[int]:
    """Returns the number of the group of each value: candidates as they are, ranges by quantiles."""
    if point.kind not in ("float", "int") or len(set(values)) <= _MAX_GROUPS:
        names = {value: number for number, value in enumerate(dict.fromkeys(map(str, values)))}
        return [names[str(value)] for value in values]
    count = min(_MAX_GROUPS, max(2, len(values) // _PER_GROUP))
    places = ranks([float(value) for value in values])  # type: ignore[arg-type]
    return [min(int(place / len(values) * count), count - 1) for place in places]


def ranks(values: Sequence[float]) -> list[float]:
    """Returns the place of each value from 0; equals share the middle of their places."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    made = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end < len(order) and values[order[end]] == values[order[start]]:
            end += 1
        for i in order[start:end]:
            made[i] = (start + end - 1) / 2
        start = end
    return made


def explained(groups: Sequence[int], values: Sequence[float]) -> float:
    """Returns epsilon squared of values by group, at least 0."""
    members: dict[int, list[float]] = {}
    for group, value in zip(groups, values, strict=True):
        members.setdefault(group, []).append(value)
    count, num_groups = len(values), len(members)
    if num_groups < 2 or count <= num_groups:
        return 0.0
    total = _around_mean(values)
    within = sum(_around_mean(part) for part in members.values())
    if total == 0:
        return 0.0
    return max((total - within - (num_groups - 1) * within / (count - num_groups)) / total, 0.0)


def _around_mean(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values)


__all__ = ["explained", "grouped", "importances", "ranks"]
