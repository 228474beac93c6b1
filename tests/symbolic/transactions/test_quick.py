"""The short way of a rebind says the same as the long one."""

from __future__ import annotations

from functools import cached_property

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mutandis as mu
from mutandis.symbolic.transactions.quick import NO, rebind_leaf


@mu.symbolize
class Node:
    built = 0

    def __init__(self, value=0, child=None, other=1.5):
        type(self).built += 1
        self.value, self.child = value, child
        self.sum = value + (0 if child is None else child.sum)


def tree():
    return Node(1, Node(2, Node(3)))


def test_the_path_is_rebuilt_upwards_once_each():
    root = tree()
    inner, root.note = root.child.child, "mine"
    Node.built = 0
    assert rebind_leaf(root, "child.child.value", 10) is root
    assert root.sum == 13 and root.child.child is inner and Node.built == 3
    assert root.note == "mine"
    inner.rebind(value=20)
    assert root.sum == 23


def test_an_equal_value_builds_nothing():
    root = tree()
    Node.built = 0
    root.rebind(value=1)
    root.rebind(other=float("1.5"))
    root.rebind({"child.value": 2})
    assert Node.built == 0


def test_an_exception_puts_everything_back():
    root = tree()
    states = [dict(vars(node)) for node in (root, root.child, root.child.child)]
    with pytest.raises(TypeError) as caught:
        rebind_leaf(root, "child.child.value", "text")
    assert caught.value.__notes__ == ["while building child.child (Node)"]
    assert [vars(node) for node in (root, root.child, root.child.child)] == states


class Cached:
    def __init__(self, x):
        self.x = x

    @cached_property
    def double(self):
        return 2 * self.x


@pytest.mark.parametrize(
    ("root", "path", "value"),
    [
        (tree(), "child", 3),
        (tree(), "value", [1]),
        (tree(), "nothing", 1),
        (Node(1, mu.REQUIRED), "value", 2),
        (mu.symbolize(Cached)(1), "x", 2),
        (mu.partial(dict, a=1), "a", 2),
        ([1], "[0]", 2),
    ],
)
def test_what_is_special_takes_the_long_way(root, path, value):
    assert rebind_leaf(root, path, value) is NO


def test_other_holders_take_the_long_way():
    shared = Node(1)
    holders = [Node(1, shared), Node(2, shared)]
    assert rebind_leaf(holders[0], "child.value", 5) is NO
    holders[0].rebind({"child.value": 5})
    assert [node.sum for node in holders] == [6, 7]


@given(st.integers(), st.sampled_from(["value", "child.value", "child.child.value"]))
def test_both_ways_give_the_same(value, path):
    quick, long = tree(), tree()
    quick.rebind({path: value})
    mu.rebind(long, {path: value}, report=True)
    assert mu.equal(quick, long) and quick.sum == long.sum


@mu.symbolize
class Holder:
    def __init__(self, parts, named=None, scale=1):
        self.parts, self.named, self.scale = parts, named, scale
        self.sum = scale * sum(part.sum for part in parts)


def nested():
    return {"items": [[Node(1), Holder([Node(2), Node(3, Node(4))], {"k": Node(5)})]], "more": 3}


PATHS = [
    "items[0][0].value", "items[0][1].parts[0].value", "['items'][0][1].parts[1].child.value",
    "items[0][1].named['k'].value", "items[0][1].scale",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_containers_on_the_way_are_walked_through(path):
    quick, long = nested(), nested()
    assert rebind_leaf(quick, path, 9) is quick
    mu.rebind(long, {path: 9}, report=True)
    assert mu.equal(quick, long)
    assert quick["items"][0][1].sum == long["items"][0][1].sum
    assert mu.symbolic.get(quick, path) == 9


@pytest.mark.parametrize("path", ["items[0][0]", "more", "items[9].value", "items[-1][0].value", "nothing.value"])
def test_elements_and_unusual_steps_take_the_long_way(path):
    root = nested()
    assert rebind_leaf(root, path, 9) is NO
    assert mu.equal(root, nested())


def test_a_container_that_init_keeps_is_not_the_recorded_one():
    root = Holder([Node(1)])
    rebind_leaf(root, "parts[0].value", 5)
    root.parts.append("litter")
    assert len(mu.arguments(root)["parts"]) == 1


def test_an_undecided_sibling_in_a_container_takes_the_long_way():
    root = [Holder([Node(1)], {"k": mu.bind(Node, 3)})]
    assert rebind_leaf(root, "[0].scale", 2) is NO


def test_the_note_of_an_exception_below_a_container_names_the_place():
    with pytest.raises(TypeError) as caught:
        rebind_leaf(nested(), "items[0][1].parts[0].value", "text")
    assert caught.value.__notes__ == ["while building items[0][1].parts[0] (Node)"]
