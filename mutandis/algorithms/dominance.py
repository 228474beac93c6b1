"""Which of several results is better: dominance, fronts, and how alone a point is on its front.

All rewards are maximised: `a` dominates `b` iff it is nowhere smaller and somewhere larger. Front 0 is what nothing
dominates, front k what nothing dominates once the fronts before it are taken away (Deb et al. 2002, doi
10.1109/4235.996017, Sec. III). The sort is ENS-BS of Zhang, Tian, Cheng, Jin: An Efficient Approach to Nondominated
Sorting, IEEE TEVC 19(2), 2015, doi 10.1109/TEVC.2014.2308305, which gives the same fronts with fewer comparisons.
"""

from __future__ import annotations

from collections.abc import Sequence

Rewards = Sequence[float]
_INF = float("inf")


def dominates(a: Rewards, b: Rewards) -> bool:
    """Returns whether `a` is at least as large as `b` everywhere and larger somewhere."""
    return all(x >= y for x, y in zip(a, b, strict=True)) and tuple(a) != tuple(b)


def undominated(rewards: Sequence[Rewards]) -> list[int]:
    """Returns the indices of the points that no other one dominates, ascending: front 0, without the others.

    Args:
        rewards: N points of M objectives, larger is better; none is nan.
    """
    front: list[int] = []
    for i in _descending(rewards, range(len(rewards))):
        if not _is_dominated(rewards[i], front, rewards):
            front.append(i)
    return sorted(front)


def non_dominated_fronts(rewards: Sequence[Rewards]) -> list[list[int]]:
    """Returns the fronts of some points, best first.

    Args:
        rewards: N points of M objectives, larger is better.

    Returns:
        The indices of each front, ascending. Points with a nan are a last front of their own.
    """
    fronts: list[list[int]] = []
    valid = [i for i, point in enumerate(rewards) if all(x == x for x in point)]
    for i in _descending(rewards, valid):
        low, high = 0, len(fronts)
        while low < high:  # A point that front k dominates is dominated by all fronts before k.
            middle = (low + high) // 2
            if _is_dominated(rewards[i], fronts[middle], rewards):
                low = middle + 1
            else:
                high = middle
        if low == len(fronts):
            fronts.append([])
        fronts[low].append(i)
    made = [sorted(front) for front in fronts]
    if len(valid) < len(rewards):
        made.append(sorted(set(range(len(rewards))) - set(valid)))
    return made


def _descending(rewards: Sequence[Rewards], indices: Sequence[int]) -> list[int]:
    """Returns the indices so that only a point that comes earlier can dominate."""
    return sorted(indices, key=lambda i: tuple(rewards[i]), reverse=True)


def _is_dominated(point: Rewards, front: list[int], rewards: Sequence[Rewards]) -> bool:
    """Returns whether a front whose points come earlier in descending order dominates a point."""
    # With two objectives the last of a front has the largest second reward, so that it speaks for all.
    members = front[-1:] if len(point) <= 2 else reversed(front)
    return any(dominates(rewards[i], point) for i in members)


def crowding_distance(rewards: Sequence[Rewards]) -> list[float]:
    """Returns how alone each point is on its front (Deb et al. 2002, Sec. III-B).

    Args:
        rewards: N points of one front, M objectives, larger is better.

    Returns:
        A number >= 0 for each: the sum of M normalised gaps, infinite at the ends of any objective. An objective
        that is the same for all, or has an infinite range, adds nothing in between; a point with a nan has 0.
    """
    distances = [0.0] * len(rewards)
    valid = [i for i, point in enumerate(rewards) if all(x == x for x in point)]
    if not valid:
        return distances
    for m in range(len(rewards[valid[0]])):
        ordered = sorted(valid, key=lambda i: rewards[i][m])
        span = rewards[ordered[-1]][m] - rewards[ordered[0]][m]
        distances[ordered[0]] = distances[ordered[-1]] = _INF
        if not 0 < span < _INF:
            continue
        for before, i, after in zip(ordered, ordered[1:], ordered[2:], strict=False):
            distances[i] += (rewards[after][m] - rewards[before][m]) / span
    return distances


def standing(rewards: Sequence[Rewards]) -> list[tuple[int, float]]:
    """Returns the front and the negated crowding distance of each point: the smaller the better."""
    made = [(0, 0.0)] * len(rewards)
    for rank, front in enumerate(non_dominated_fronts(rewards)):
        for i, distance in zip(front, crowding_distance([rewards[i] for i in front]), strict=True):
            made[i] = (rank, -distance)
    return made
