"""Equality, differences and fingerprints of trees, tensors included."""

from __future__ import annotations

import copy
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
from mutandis.symbolic.building import add_edits
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


@mu.symbolize
class Open:
    def __init__(self, *rest, **more):
        self.rest, self.more = rest, more


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([1, 2, 3], [1], {"[1]": (2, MISSING), "[2]": (3, MISSING)}),
        ([1], [1, 2], {"[1]": (MISSING, 2)}),
        ({"a": 0}, {}, {"['a']": (0, MISSING)}),
        ({1: 0}, {True: 0}, {"": ({1: 0}, {True: 0})}),
        (Open(1, a=1), Open(1, 2, b=1), {"rest[1]": (MISSING, 2), "a": (1, MISSING), "b": (MISSING, 1)}),
        (mu.partial(torch.optim.SGD), mu.partial(torch.optim.SGD, lr=0.1), {"lr": (MISSING, 0.1)}),
        (1, True, {"": (1, True)}),
    ],
)
def test_differences_are_the_smallest_parts(a, b, expected):
    assert dict(mu.diff(a, b)) == expected
    assert mu.equal(apply(a, mu.diff(a, b)), b)


def test_a_changed_class_differs_as_a_whole():
    a, b = Node(mu.nn.Conv2d(1, 2, 3)), Node(mu.nn.Identity())
    assert list(mu.diff(a, b)) == ["value"]
    assert mu.equal(mu.diff(a, b).apply(a), b)


def test_edits_of_layers_differ_by_their_path():
    a, b = mu.nn.TransformerEncoderLayer(4, 2, 8), mu.nn.TransformerEncoderLayer(4, 2, 8)
    add_edits(b, {"self_attn.out_proj": mu.nn.Identity()})
    assert not mu.equal(a, b)
    assert list(mu.diff(a, b)) == ["self_attn.out_proj"]
    assert mu.equal(mu.diff(a, b).apply(a), b)
    assert mu.equal(mu.diff(b, a).apply(b), a)


def test_applying_keeps_shared_nodes_shared_and_takes_copies():
    def tree(value):
        shared = Node(value)
        return [shared, {"k": shared}]

    a, b = tree(1), tree([Node(2)])
    made = apply(a, mu.diff(a, b))
    assert mu.equal(made, b)
    assert made[0] is made[1]["k"]
    assert mu.arguments(made[0])["value"][0] is not mu.arguments(b[0])["value"][0]


def test_many_paths_to_shared_nodes_cost_no_time():
    def ladder():
        node = Node(0)
        for _ in range(100):
            node = Node(node, node)
        return node

    a, b = ladder(), ladder()
    assert mu.equal(a, b)
    assert not mu.diff(a, b)
    assert mu.fingerprint(a) == mu.fingerprint(b)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (0.0, -0.0),
        (torch.tensor([0.0, 1.0]), torch.tensor([-0.0, 1.0])),
        (torch.tensor([0.0], dtype=torch.bfloat16), torch.tensor([-0.0], dtype=torch.bfloat16)),
        (torch.tensor([-0.0 + 1j]), torch.tensor([0.0 + 1j])),
        (np.array([-0.0, np.nan]), np.array([0.0, -np.nan])),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (frozenset({1, "a"}), frozenset({"a", 1})),
        (nn.Dropout(0.5), nn.Dropout(0.5)),
        (torch.eye(2).to_sparse(), torch.eye(2).to_sparse()),
    ],
    ids=repr,
)
def test_equal_values_have_equal_fingerprints(a, b):
    assert mu.equal(a, b)
    assert mu.fingerprint(a) == mu.fingerprint(b)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (1, True),
        (1, "1"),
        ([1, [2]], [[1], 2]),
        ([], ()),
        (torch.relu, nn.functional.relu),
        (torch.zeros(2), torch.zeros(2, dtype=torch.int32)),
        (torch.zeros(2), torch.zeros(1, 2)),
        (nn.Dropout(0.5), nn.Dropout(0.6)),
        (nn.Linear(1, 1), nn.Linear(1, 1)),
        (mu.nn.Dropout(0.5), nn.Dropout(0.5)),
        (lambda x: x + 1, lambda x: x + 2),
        ({1: 0}, {True: 0}),
        (float("inf"), "inf"),
    ],
)
def test_other_values_have_other_fingerprints(a, b):
    assert not mu.equal(a, b)
    assert mu.fingerprint(a) != mu.fingerprint(b)


def test_weights_of_symbolic_modules_do_not_count():
    assert mu.equal(mu.nn.Linear(2, 2), mu.nn.Linear(2, 2))
    assert mu.fingerprint(mu.nn.Linear(2, 2)) == mu.fingerprint(mu.nn.Linear(2, 2))


def test_plain_modules_compare_by_their_state():
    a = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    b = copy.deepcopy(a)
    assert mu.equal(a, b)
    b[1].running_mean += 1
    assert not mu.equal(a, b)
