"""JSON: what comes back is equal, shares what was shared, and runs nothing that a file asks for."""

from __future__ import annotations

import collections
import enum
import json
import math
import pathlib
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import mutandis as mu
from mutandis.symbolic.building import add_edits
from mutandis.symbolic.record import is_abstract
from mutandis.symbolic.serial.documents import from_json, load, save, to_json
from mutandis.symbolic.serial.names import register
from mutandis.symbolic.undecided import Undecided


@mu.symbolize
class Node:
    def __init__(self, value, child=None, *rest, key=1, **more):
        self.value, self.child, self.rest, self.more = value, child, rest, more


@mu.symbolize
def build(width):
    return ("built", width)


def plain(width):
    return width


class Pair(NamedTuple):
    left: object
    right: object


class Color(enum.Enum):
    RED = 1


class Choice(Undecided):
    def __init__(self, candidates, name=None):
        self.candidates, self.name = candidates, name

    def _mu_items_(self):
        return (("candidates", self.candidates),)

    def _mu_replace_(self, items):
        return Choice(items["candidates"], self.name)

    def _mu_settings_(self):
        return {"candidates": self.candidates, "name": self.name}


register(Choice)


def again(value):
    text = to_json(value)
    json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    return from_json(text)


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.complex_numbers(),
    st.text(max_size=4),
    st.binary(max_size=4),
    st.sampled_from([torch.relu, F.relu, nn.ReLU, mu.nn.ReLU, torch.float16, ..., slice(1, None), range(3), Color.RED]),
    st.builds(lambda xs: torch.tensor(xs, dtype=torch.bfloat16), st.lists(st.floats(width=16), max_size=3)),
    st.builds(lambda xs: np.array(xs, dtype=np.int16), st.lists(st.integers(-9, 9), max_size=3)),
    st.frozensets(st.integers(), max_size=3),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.builds(Pair, inner, inner),
        st.dictionaries(st.one_of(st.text(max_size=2), st.just("$"), st.integers(), st.tuples(st.integers())), inner,
                        max_size=3),
        st.builds(Node, inner, inner),
        st.builds(Node, inner, inner, inner, key=inner, extra=inner),
        st.builds(lambda xs: Choice(xs), st.lists(inner, min_size=1, max_size=2)),
        st.builds(lambda x: mu.partial(build, width=x), inner),
        st.builds(lambda x: mu.bind(build, x), inner),
    ),
    max_leaves=8,
)  # fmt: skip


@given(TREES)
def test_what_comes_back_is_equal(tree):
    assert mu.equal(again(tree), tree)


@pytest.mark.parametrize(
    "leaf",
    [
        math.nan,
        -math.inf,
        -0.0,
        2**80,
        1j,
        b"\x00\xff",
        (1, (2,)),
        {1: "a", "1": "b", (1, 2): "c"},
        {"$": "object", "class": "os:system"},
        {3, "x"},
        frozenset({1}),
        collections.OrderedDict(b=1, a=2),
        Pair(1, [2]),
        Color.RED,
        pathlib.Path("a/b"),
        torch.float32,
        torch.device("cpu"),
        torch.Size([1, 2]),
        torch.tensor([[1.5, math.nan]]),
        torch.tensor(3, dtype=torch.int8),
        torch.zeros(0, 3),
        torch.zeros(2, dtype=torch.complex64),
        torch.tensor([True, False]),
        torch.ones(2, requires_grad=True),
        nn.Parameter(torch.ones(2, 2), requires_grad=False),
        np.float32(1.5),
        np.array([["a", "bc"]]),
        np.zeros((0, 2)),
        np.dtype("float32"),
        torch.relu,
        F.gelu,
        math.sqrt,
        int,
        nn.Conv2d,
        mu.nn.Conv2d,
        build,
    ],
    ids=lambda leaf: type(leaf).__name__,
)
def test_a_leaf_comes_back_as_it_was(leaf):
    back = again(Node(leaf)).value
    assert type(back) is type(leaf)
    assert mu.equal(back, leaf)


def test_relu_of_torch_and_of_functional_stay_two_functions():
    assert again([torch.relu, F.relu]) == [torch.relu, F.relu]
    assert torch.relu is not F.relu


def test_a_shared_node_stays_one():
    conv = mu.nn.Conv2d(1, 2, 3)
    choice = Choice([conv, 1])
    weights = torch.ones(2)
    back = again(Node(choice, [conv, choice, weights, weights]))
    assert back.__reduce_ex__  # It is abstract, and can still be looked at.
    value, child = mu.arguments(back)["value"], mu.arguments(back)["child"]
    assert child[1] is value
    assert value.candidates[0] is child[0]
    assert child[2] is child[3]


def test_an_abstract_object_stays_abstract():
    back = again(Node(mu.REQUIRED, mu.nn.Linear(Choice([1, 2], name="width"), 3)))
    assert is_abstract(back)
    assert mu.symbolic.get(back, "child.in_features").name == "width"


def test_a_call_is_not_run_by_reading_it():
    back = again(mu.bind(build, 3))
    assert mu.arguments(back) == {"width": 3}
    assert back() == ("built", 3)


def test_a_partial_leaves_open_what_was_open():
    back = again(mu.partial(torch.optim.SGD, lr=0.25))
    assert mu.arguments(back) == {"lr": 0.25}
    assert back([torch.zeros(1, requires_grad=True)]).param_groups[0]["lr"] == 0.25


def test_a_file_is_written_and_read(tmp_path):
    path = tmp_path / "program.json"
    save(Node(1, mu.nn.ReLU()), path)
    assert mu.equal(load(path), Node(1, mu.nn.ReLU()))
    assert [p.name for p in tmp_path.iterdir()] == ["program.json"]


def test_edits_of_layers_are_written():
    net = mu.nn.Sequential(mu.nn.TransformerEncoderLayer(4, 2, 8))
    add_edits(net[0], {"dropout1": mu.nn.Dropout(0.7)})
    back = again(net)
    assert back[0].dropout1.p == 0.7
    assert mu.equal(back, net)


def test_another_process_reads_a_file_without_preparation(tmp_path):
    path = tmp_path / "p.json"
    save([mu.nn.Conv2d(1, 2, 3), F.gelu, torch.float16], path)
    code = f"import mutandis as mu; p = mu.load({str(path)!r}); print(type(p[0]) is mu.nn.Conv2d, p[1].__name__, p[2])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "True gelu torch.float16", done.stderr
