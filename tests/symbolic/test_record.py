"""Records, holders, and what is symbolic."""

from __future__ import annotations

import gc
from dataclasses import dataclass

import pytest

import mutandis as mu
from mutandis.errors import SymbolicError
from mutandis.symbolic.record import Record, get_edits, holders_of, is_symbolic, record_of


@mu.symbolize
class Node:
    def __init__(self, value):
        self.value = value


@mu.symbolize
@dataclass(slots=True)
class Box:
    content: object


def test_an_object_with_leaves_only_remembers_a_bare_tuple():
    assert vars(Node(1))["_mu_"] == (1,)


def test_holders_are_found_through_containers():
    leaf = Node(1)
    holder = Node([{"k": (leaf,)}])
    assert holders_of(leaf) == [holder]
    assert holders_of(holder) == []


def test_ten_thousand_temporary_holders_leave_a_bounded_list():
    leaf = Node(1)
    for _ in range(10_000):
        Node(leaf)
    gc.collect()
    assert len(record_of(leaf).holders) < 64
    assert holders_of(leaf) == []


def test_a_holder_is_found_past_a_slotted_value():
    leaf = Node(1)
    holder = Node(Box(leaf))
    assert holders_of(leaf) == [holder]


def test_plain_objects_are_not_symbolic():
    assert is_symbolic(Node(1))
    assert not is_symbolic(3)
    with pytest.raises(SymbolicError, match=r"decorate object with @mu\.symbolize"):
        mu.arguments(object())


def test_an_object_made_without_init_says_so():
    with pytest.raises(SymbolicError, match="was not built through __init__"):
        mu.arguments(Node.__new__(Node))


def test_edits_are_a_copy():
    made = Node(1)
    assert get_edits(made) == {}
    assert isinstance(record_of(made), Record)
