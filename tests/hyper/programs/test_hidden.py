"""Decisions that the tree cannot see are refused, not ignored."""

from __future__ import annotations

import functools
import types
from collections import OrderedDict, deque

import pytest

import mutandis as mu
from mutandis.errors import SpaceError

torch = pytest.importorskip("torch")
nn = torch.nn


class Holder:
    def __init__(self, value):
        self.value = value


def v():
    return mu.oneof([1, 2])


def message(at, fix):
    return (
        "cannot see a decision that is hidden in a plain object\n"
        f"  at:       {at}\n"
        "  got:      oneof([1, 2]) (OneOf)\n"
        "  expected: hyper values inside the arguments of symbolic objects, lists, tuples and dicts\n"
        f"  fix:      {fix}"
    )


@pytest.mark.parametrize(
    ("program", "at", "fix"),
    [
        (
            lambda: [Holder(v())],
            "[0].value",
            "decorate Holder with @mu.symbolize and pass the value as an argument, or build it with "
            "mu.bind(Holder, ...); for containers of layers use mu.nn.Sequential and the like",
        ),
        (
            lambda: {"f": functools.partial(print, sep=v())},
            "['f'].sep",
            "write mu.partial(f, ...) instead of functools.partial(f, ...)",
        ),
        (lambda: [frozenset({v()})], "[0][0]", "use a plain list, tuple or dict instead of frozenset"),
        (lambda: [deque([1, v()])], "[0][1]", "use a plain list, tuple or dict instead of deque"),
        (lambda: [OrderedDict(a=v())], "[0]['a']", "use a plain list, tuple or dict instead of OrderedDict"),
        (
            lambda: [types.MappingProxyType({"a": v()})],
            "[0]['a']",
            "use a plain list, tuple or dict instead of mappingproxy",
        ),
    ],
)
def test_a_hidden_decision_is_refused_with_the_whole_story(program, at, fix):
    with pytest.raises(SpaceError) as error:
        mu.space(program())
    assert str(error.value) == message(at, fix)


def test_a_symbolic_layer_in_a_plain_sequence_is_refused_with_the_whole_story():
    layer = mu.nn.Linear(3, v())
    with pytest.raises(SpaceError) as error:
        mu.space(nn.Sequential(layer))
    shown = error.value.got
    assert shown.startswith("Linear(")
    assert str(error.value) == (
        "cannot see a decision that is hidden in a plain object\n"
        "  at:       [0]\n"
        f"  got:      {shown} (Linear)\n"
        "  expected: hyper values inside the arguments of symbolic objects, lists, tuples and dicts\n"
        "  fix:      write mu.nn.Sequential(...) instead of nn.Sequential(...), or mu.bind(nn.Sequential, ...)"
    )


def test_the_symbolic_sequence_takes_the_same_layer():
    assert mu.space(mu.nn.Sequential(mu.nn.Linear(3, v()))).size == 2


@pytest.mark.parametrize(
    "leaf",
    [
        Holder(mu.REQUIRED),
        Holder(3),
        Holder(Holder),
        functools.partial(print, 3),
        deque([1]),
        nn.Linear(2, 2),
        torch.ones(2),
        Holder(torch.ones(2)),
        len,
        Holder,
        range(10**9),
    ],
)
def test_leaves_without_decisions_pass(leaf):
    assert mu.space([leaf, v()]).size == 2


def test_an_object_that_holds_itself_passes():
    holder = Holder(None)
    holder.value = [holder]
    assert mu.space([holder, v()]).size == 2
