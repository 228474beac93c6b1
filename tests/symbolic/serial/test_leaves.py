"""Leaves as values."""

from __future__ import annotations

import functools
import pathlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mutandis.symbolic.serial.leaves import equal_leaf, leaf_bytes

NUMBERS = st.one_of(st.floats(), st.complex_numbers(), st.builds(np.float32, st.floats(width=32)))


@given(NUMBERS, NUMBERS)
def test_equal_numbers_of_one_type_have_equal_bytes(a, b):
    assert equal_leaf(a, a)
    if type(a) is type(b) and equal_leaf(a, b):
        assert leaf_bytes(a) == leaf_bytes(b)


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (float("nan"), float("nan"), True),
        (complex(float("nan"), 1), complex(float("nan"), 1), True),
        (torch.empty(2, device="meta"), torch.empty(2, device="meta"), True),
        (torch.ones(2), torch.ones(2, requires_grad=True), False),
        (torch.ones(2, 2).t(), torch.ones(2, 2), True),
        (np.array(["a"]), np.array(["a"]), True),
        (np.array([None, 1]), np.array([None, 1]), True),
        (np.array([np.datetime64("NaT", "s")]), np.array([np.datetime64("NaT", "s")]), True),
        (pathlib.Path("a"), pathlib.Path("a"), True),
        (object(), object(), False),
        (len, max, False),
    ],
)
def test_equality_of_leaves(a, b, same):
    assert equal_leaf(a, b) is same
    if same:
        assert leaf_bytes(a) == leaf_bytes(b)


def test_a_value_whose_equality_fails_is_only_equal_to_itself():
    class Odd:
        def __eq__(self, other):
            raise ValueError("no")

        __hash__ = None

    assert equal_leaf(Odd(), Odd()) is False


def test_objects_with_attributes_are_left_to_the_caller():
    assert equal_leaf(functools.partial(max), functools.partial(max)) is None
    assert leaf_bytes(torch.nn.ReLU()) is None


def test_addresses_are_no_part_of_the_bytes():
    assert leaf_bytes(object()) == leaf_bytes(object())
