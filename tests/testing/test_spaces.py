"""The spaces of the contract."""

from __future__ import annotations

import math

from mutandis.testing import contract_spaces


def test_the_contract_covers_every_kind_of_space():
    assert list(contract_spaces()) == [
        "choice", "float", "log float", "int", "permutation", "subset", "conditional", "shared", "empty",
    ]  # fmt: skip


def test_the_sizes_are_known():
    sizes = {name: space.size for name, space in contract_spaces().items()}
    assert sizes == {"choice": 6, "float": math.inf, "log float": math.inf, "int": 20, "permutation": 24, "subset": 14,
                     "conditional": math.inf, "shared": 6, "empty": 1}  # fmt: skip


def test_the_conditional_space_is_three_deep():
    points = contract_spaces()["conditional"].points
    by_index = {point.index: point for point in points}

    def depth(point):
        return max((1 + depth(by_index[parent]) for parent, _ in point.conditions), default=0)

    assert max(map(depth, points)) == 3


def test_every_call_makes_fresh_spaces():
    assert contract_spaces()["shared"] is not contract_spaces()["shared"]
