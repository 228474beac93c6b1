"""The operations as methods, where a class has no other use for the name."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import mutandis as mu
from mutandis.symbolic.classes.methods import Operation


@mu.symbolize
class Node:
    def __init__(self, x):
        self.x = x


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("clone", ()), ("query", (lambda value: value == 1,)), ("get", ("x",)), ("diff", (Node(2),)),
        ("equal", (Node(1),)),        ("fingerprint", ()), ("describe", ()), ("to_json", ()), ("to_python", ()),
    ],
)  # fmt: skip
def test_a_method_does_what_the_function_does(name, arguments):
    node = Node(1)
    function = mu.symbolic.get if name == "get" else getattr(mu, name)
    found, expected = getattr(node, name)(*arguments), function(node, *arguments)
    assert mu.equal(found, expected) or str(found) == str(expected)


def test_a_name_that_the_class_defines_stays_its_own():
    @mu.symbolize
    class Basket:
        def __init__(self, x):
            self.x = x

        def get(self, what):
            return f"got {what}"

    assert Basket(1).get("x") == "got x"
    assert mu.symbolic.get(Basket(1), "x") == 1


def test_the_class_itself_does_not_show_the_operations():
    assert not hasattr(Node, "clone")
    assert isinstance(Node.__dict__["clone"], Operation)


def test_a_layer_named_like_an_operation_is_still_reached():
    @mu.symbolize
    class Attention(nn.Module):
        def __init__(self, dim):
            super().__init__()
            self.query = nn.Linear(dim, dim)
            self.add_module("get", nn.Linear(dim, dim))
            self.register_buffer("diff", torch.zeros(1))

        def forward(self, x):
            return self.get(self.query(x)) + self.diff

    made = Attention(2)
    assert isinstance(made.query, nn.Linear)
    assert made(torch.zeros(1, 2)).shape == (1, 2)
    assert list(mu.query(made, nn.Linear)) == ["query", "get"]
