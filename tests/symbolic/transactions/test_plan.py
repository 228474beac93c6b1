"""Plans: what would change, found without touching anything."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import mutandis as mu
from mutandis.errors import PathError
from mutandis.symbolic.paths import Path
from mutandis.symbolic.transactions.plan import Plan, unchanged
from mutandis.symbolic.transactions.rules import PathGuide


@mu.symbolize
class Node:
    def __init__(self, value=0, child=None):
        self.value, self.child = value, child


def test_a_plan_logs_changes_and_touches_nothing():
    root = Node(1, [Node(2)])
    plan = Plan()
    assert plan.visit(root, PathGuide.of({"child[0].value": 5, "value": 1}), Path()) is root
    assert [(str(path), old, new) for path, old, new in plan.log] == [("child[0].value", 2, 5)]
    assert set(plan.touched) == {id(root), id(root.child[0])}
    assert root.child[0].value == 2


@mu.symbolize
class Optioned:
    def __init__(self, a=1, **options):
        self.a, self.options = a, options


LINEAR = mu.nn.Linear(2, 2)
WEIGHT = nn.Parameter(torch.ones(2))


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        (1, 1, True),
        (1, 1.0, False),
        (float("nan"), float("nan"), True),
        ([1, (2,)], [1, (2,)], True),
        ({"a": 1}, {"a": 2}, False),
        (torch.ones(2), torch.ones(2), True),
        (WEIGHT, nn.Parameter(torch.ones(2)), False),
        ([WEIGHT], [WEIGHT], True),
        (Node(1, [2]), Node(1, [2]), True),
        (Node(1), Node(2), False),
        (LINEAR, mu.nn.Linear(2, 2), False),
        (mu.nn.Dropout(0.1), mu.nn.Dropout(0.1), True),
        (mu.nn.Dropout(0.1), nn.Dropout(0.1), False),
        (mu.partial(dict, a=1), mu.partial(dict, a=1), True),
        (mu.partial(dict, a=1), mu.partial(list), False),
    ],
)
def test_what_counts_as_no_change(old, new, same):
    assert unchanged(old, new) is same


@pytest.mark.parametrize("path", ["nowhere.at", "options.b", "nowhere[0]"])
def test_a_path_below_an_unknown_keyword_is_refused(path):
    node = Optioned(1, b=2)
    with pytest.raises(PathError):
        mu.rebind(node, {path: 3})
    assert mu.arguments(node) == {"a": 1, "options": {"b": 2}}
