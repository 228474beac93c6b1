"""Code that rebuilds a tree."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import mutandis as mu
from mutandis.errors import SchemaError, SettingError
from mutandis.symbolic.building import add_edits
from mutandis.symbolic.code import to_python


@mu.symbolize
class Node:
    def __init__(self, value, child=None, *rest, key=1, **more):
        self.value = value


@mu.symbolize
class First:
    def __init__(self, a, /, b=2):
        self.a = a


class Pair(NamedTuple):
    left: object
    right: object


def run(value, name="program"):
    scope: dict[str, object] = {}
    exec(to_python(value, name=name), scope)
    return scope[name]


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-9, 9),
    st.floats(),
    st.complex_numbers(),
    st.text(max_size=4),
    st.binary(max_size=3),
    st.sampled_from([torch.relu, F.relu, nn.ReLU, mu.nn.ReLU, torch.float16, ..., math.sqrt, int, mu.REQUIRED]),
    st.builds(torch.tensor, st.lists(st.floats(width=32), max_size=3)),
    st.builds(np.array, st.lists(st.integers(-9, 9), max_size=3)),
    st.frozensets(st.integers(), max_size=3),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.builds(Pair, inner, inner),
        st.dictionaries(st.text(max_size=2), inner, max_size=3),
        st.builds(Node, inner, inner),
        st.builds(Node, inner, inner, inner, key=inner, extra=inner),
        st.builds(First, inner, inner),
        st.builds(lambda x: mu.partial(Node, key=x), inner),
    ),
    max_leaves=8,
)


@given(TREES)
def test_the_code_rebuilds_an_equal_tree(tree):
    assert mu.equal(run(tree), tree)


def test_code_is_readable():
    conv = mu.nn.Conv2d(3, 8, 3, bias=False)
    program = Node(conv, [conv, F.relu], key=mu.partial(torch.optim.SGD, lr=0.1))
    assert to_python(program, name="trainer") == (
        f"from {__name__} import Node\n"
        "import mutandis as mu\n"
        "import torch\n"
        "\n"
        "value = mu.nn.Conv2d(3, 8, 3, bias=False)\n"
        "trainer = Node(value, child=[value, torch.nn.functional.relu], key=mu.partial(torch.optim.SGD, lr=0.1))\n"
    )


def test_a_shared_node_is_one_variable():
    weights = torch.ones(2)
    back = run([weights, Node(weights), mu.nn.ReLU()])
    assert back[0] is mu.arguments(back[1])["value"]


def test_long_expressions_are_broken_into_lines():
    text = to_python([Node("x" * 40, child="y" * 40) for _ in range(3)])
    assert max(map(len, text.splitlines())) <= 110
    assert mu.equal(run([Node("x" * 40, child="y" * 40)]), [Node("x" * 40, child="y" * 40)])


def test_edits_of_layers_are_written_at_the_end():
    layer = mu.nn.TransformerEncoderLayer(4, 2, 8)
    add_edits(layer, {"dropout1": mu.nn.Dropout(0.7)})
    text = to_python(layer)
    assert text == (
        "import mutandis as mu\n\n"
        "program = mu.rebind(\n"
        "    mu.nn.TransformerEncoderLayer(4, 2, dim_feedforward=8),\n"
        "    {'dropout1': mu.nn.Dropout(p=0.7)},\n"
        ")\n"
    )


@pytest.mark.parametrize("value", [lambda x: x, nn.ReLU(), torch.zeros(2000), object()], ids=lambda v: type(v).__name__)
def test_what_is_no_code_is_refused_with_its_path(value):
    with pytest.raises(SchemaError) as caught:
        to_python(Node([value]))
    assert caught.value.at == "value[0]"


@pytest.mark.parametrize("name", ["mu", "two words", "class", "1"])
def test_a_bad_variable_name_is_refused(name):
    with pytest.raises(SettingError, match="cannot use a variable name"):
        to_python(1, name=name)


def test_hyper_values_are_written_as_the_functions_that_make_them():
    width = mu.oneof([16, 32], name="width", default=32)
    program = Node(mu.nn.Linear(width, width * 2 + 1), mu.floatv(1e-3, 1.0, scale="log"), key=mu.derive(max, width, 3))
    text = to_python(program)
    assert "width = mu.oneof([16, 32], name='width', default=32)\n" in text
    assert "mu.nn.Linear(width, (width * 2) + 1)" in text
    assert "mu.floatv(0.001, 1.0, scale='log')" in text
    assert "mu.derive(max, width, 3)" in text
    assert mu.equal(run(program), program)
    assert mu.equal(mu.from_json(mu.to_json(program)), program)
