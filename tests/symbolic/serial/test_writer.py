"""Writing: what has no data form is refused with its path."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

import mutandis as mu
from mutandis.errors import SchemaError
from mutandis.symbolic.serial.documents import to_data, to_json
from mutandis.symbolic.serial.writer import Writer


@mu.symbolize
class Node:
    def __init__(self, value, child=None):
        self.value, self.child = value, child


def test_plain_data_is_written_as_it_is():
    assert Writer().value([1, "a", None, True, {"k": 2.5}], None) == [1, "a", None, True, {"k": 2.5}]


def test_an_object_is_written_by_its_import_name_and_arguments():
    written = to_data(Node(1))["program"]
    assert written["class"] == f"{__name__}:Node"
    assert written["args"] == {"value": 1, "child": None}


def test_the_text_is_strict_json():
    assert json.loads(to_json([float("inf"), float("nan")], indent=2))["mutandis"] == 1
    assert "NaN" not in to_json([float("nan")])


@pytest.mark.parametrize(
    "value",
    [
        lambda x: x,
        nn.Linear(1, 1),
        nn.Linear(1, 1).forward,
        object(),
        np.array([object()]),
        torch.empty(2, device="meta"),
        torch.eye(2).to_sparse(),
        (i for i in ()).__next__,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_data_form_is_refused_with_its_path(value):
    with pytest.raises(SchemaError) as caught:
        to_json(Node(1, [Node({"k": value})]))
    assert caught.value.at == "child[0].value['k']"
    assert caught.value.fix


def test_the_refusal_of_a_plain_module_names_the_symbolic_one():
    with pytest.raises(SchemaError, match=r"mu\.nn\.Linear"):
        to_json(Node(nn.Linear(1, 1)))


def test_a_tree_that_contains_itself_is_refused():
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(SchemaError, match="contain itself"):
        to_json(loop)
