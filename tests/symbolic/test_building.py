"""Clones and copies of trees."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import mutandis as mu
from mutandis.errors import SettingError
from mutandis.symbolic.building import KEEP, copy_tree
from mutandis.symbolic.traverse import walk


@mu.symbolize
class Node:
    def __init__(self, value, child=None, extra=()):
        self.value, self.child, self.extra = value, child, extra


def symbolic_ids(root):
    return {id(node) for _, node, _ in walk(root) if isinstance(node, Node)}


def test_a_clone_shares_no_symbolic_node():
    root = Node(1, Node(2, extra=[Node(3)]), extra={"k": Node(4)})
    again = mu.clone(root)
    assert not symbolic_ids(root) & symbolic_ids(again)
    assert again.child.extra[0].value == 3
    assert again.extra["k"].value == 4


def test_a_clone_shares_leaves_by_reference():
    tensor, data = torch.zeros(3), object()
    again = mu.clone(Node(tensor, extra=[data]))
    assert again.value is tensor
    assert again.value.data_ptr() == tensor.data_ptr()
    assert again.extra[0] is data


def test_shared_nodes_stay_shared():
    child = Node(1)
    again = mu.clone(Node(child, child, extra=[child]))
    assert again.value is again.child is again.extra[0]
    assert again.child is not child


def test_overrides_replace_arguments():
    assert mu.clone(Node(1, Node(2)), value=5).value == 5
    assert Node(1).clone(value=7).value == 7


def test_an_unknown_override_is_refused_with_a_close_miss():
    with pytest.raises(SettingError, match=r"one of value, child, extra; did you mean 'child'"):
        mu.clone(Node(1), chlid=2)


def test_a_copy_replaces_what_it_is_told():
    made = copy_tree(Node(1, [2, 3]), lambda node, path: 9 if path == "child[1]" else KEEP)
    assert made.child == [2, 9]


def test_plain_modules_are_leaves():
    layer = nn.Linear(1, 1)
    assert mu.clone(Node(layer)).value is layer


def test_a_note_says_which_node_was_being_built():
    @mu.symbolize
    class Fragile:
        def __init__(self, x):
            if x == 0:
                raise ValueError("zero")

    root = Node(1, [Fragile(1)])
    with pytest.raises(ValueError, match="zero") as caught:
        copy_tree(root, lambda node, path: 0 if path == "child[0].x" else KEEP)
    assert "while building child[0] (Fragile)" in caught.value.__notes__
