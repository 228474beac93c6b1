"""What tells settings apart."""

from __future__ import annotations

import functools
import threading

import pytest
import torch
from torch import nn

from mutandis.flows.supernet.around.digests import attributes_of, digest


def enclosing(number):
    return lambda x: x * number


class Object:
    def __init__(self, number):
        self.number, self.lock = number, threading.Lock()

    def method(self):
        return self.number

    def other(self):
        return self.number


PAIRS = {
    "number": (lambda: 1, lambda: 2),
    "type of a number": (lambda: 1, lambda: 1.0),
    "list": (lambda: [1, [2]], lambda: [1, [3]]),
    "dict": (lambda: {"a": (1,)}, lambda: {"a": (2,)}),
    "set": (lambda: {1, 2}, lambda: {1, 3}),
    "tensor": (lambda: torch.ones(2), lambda: torch.zeros(2)),
    "large tensor": (lambda: torch.ones(5000), lambda: torch.ones(5001)),
    "function": (lambda: enclosing(1), lambda: enclosing(2)),
    "partial": (lambda: functools.partial(print, 1), lambda: functools.partial(print, 2)),
    "object": (lambda: Object(1), lambda: Object(2)),
    "method": (lambda: Object(1).method, lambda: Object(1).other),
    "class": (lambda: Object, lambda: dict),
    "array": (lambda: torch.ones(2).numpy(), lambda: torch.zeros(2).numpy()),
    "module": (lambda: nn.Linear(1, 1), lambda: nn.ReLU()),
}


@pytest.mark.parametrize("name", PAIRS)
def test_values_that_were_made_alike_look_alike_and_others_do_not(name):
    one, other = PAIRS[name]
    assert digest(one()) == digest(one()) != digest(other())


def test_the_same_is_seen_after_a_change_of_what_is_inside():
    value = Object([1])
    before = attributes_of(value)
    value.number.append(2)
    assert attributes_of(value) != before == attributes_of(Object([1]))


def test_a_cycle_ends():
    value = Object(1)
    value.own = value
    assert digest(value) == digest(value)


def test_a_function_that_encloses_nothing_yet_is_one():
    def outer():
        def inner():
            return later

        found = digest(inner)
        later = 1
        return found, later

    assert outer()[0][0] == "function"
