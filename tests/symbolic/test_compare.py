"""Equality, differences and fingerprints of trees, tensors included."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import mutandis as mu
from mutandis.errors import PathError
from mutandis.symbolic.compare import MISSING, apply


@mu.symbolize
class Node:
    def __init__(self, value, child=None, extra=()):
        self.value, self.child, self.extra = value, child, extra


LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.floats(allow_nan=True, width=16), st.text(max_size=3)
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
        st.tuples(inner, inner),
        st.builds(Node, inner, inner, inner),
    ),
    max_leaves=8,
)


@given(TREES)
def test_a_clone_is_equal_and_has_the_same_fingerprint(tree):
    assert mu.equal(tree, mu.clone(tree))
    assert mu.fingerprint(tree) == mu.fingerprint(mu.clone(tree))
    assert not mu.diff(tree, mu.clone(tree))


@given(TREES, TREES)
def test_applying_a_difference_gives_the_other_tree(a, b):
    assert mu.equal(apply(a, mu.diff(a, b)), b)
    assert bool(mu.diff(a, b)) is not mu.equal(a, b)


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (1, True, False),
        (1, 1.0, False),
        (float("nan"), float("nan"), True),
        (0.0, -0.0, True),
        (torch.zeros(2), torch.zeros(2), True),
        (torch.zeros(2), torch.zeros(2, dtype=torch.float64), False),
        (torch.tensor([float("nan"), 1.0]), torch.tensor([float("nan"), 1.0]), True),
        (np.zeros(2), np.zeros(2), True),
        (np.zeros(2), np.ones(2), False),
        ([torch.zeros(2)], [torch.ones(2)], False),
        (nn.ReLU(), nn.ReLU(), True),
        (nn.Dropout(0.1), nn.Dropout(0.2), False),
        (torch.relu, torch.relu, True),
        (torch.relu, nn.functional.relu, False),
        ({1, 2}, {2, 1}, True),
        (torch.float32, torch.float32, True),
    ],
)
def test_leaves_compare_by_type_and_value(a, b, same):
    assert mu.equal(Node(a), Node(b)) is same


def test_a_difference_names_paths_and_both_values():
    a = Node(1, Node(2), {"k": 1, "gone": 0})
    b = Node(1, Node(3), {"k": 1, "new": 5})
    assert dict(mu.diff(a, b)) == {"child.value": (2, 3), "extra['gone']": (0, MISSING), "extra['new']": (MISSING, 5)}
    assert str(mu.diff(1, 1)) == "no difference"
    assert "child.value: 2 -> 3" in str(mu.diff(a, b))


def test_a_difference_of_other_places_is_refused():
    with pytest.raises((PathError, KeyError)):
        mu.diff({"x": 1}, {"x": 2}).apply({"y": 1})


def test_two_partials_differ_by_their_function():
    assert not mu.equal(mu.partial(torch.optim.SGD, lr=0.1), mu.partial(torch.optim.Adam, lr=0.1))
    assert mu.equal(mu.partial(torch.optim.SGD, lr=0.1), mu.partial(torch.optim.SGD, lr=0.1))


def test_fingerprints_are_stable_over_processes_and_hash_seeds():
    code = (
        "import mutandis as mu, torch\n"
        "print(mu.fingerprint([1, 2.5, 'x', {'k': torch.arange(3)}, {3, 'a'}, torch.relu, mu.nn.Conv2d(1, 2, 3)]))\n"
    )
    prints = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed, "PATH": ""}, capture_output=True, text=True
        ).stdout
        for seed in ("0", "1")
    }
    assert len(prints) == 1
    assert len(prints.pop().strip()) == 32
