"""Labels of candidates: short, JSON-able, the same in every process."""

from __future__ import annotations

import json
import math

import pytest
from hash_seeds import outputs_of

import mutandis as mu
from mutandis.hyper.programs.labels import label


@mu.symbolize
class Net:
    def __init__(self, width, depth=1):
        self.width = width


class Plain:
    pass


@pytest.mark.parametrize("value", [None, True, 3, -1.5, "conv", ""])
def test_plain_values_are_their_own_labels(value):
    assert label(value) is value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (len, "builtins.len"),
        (Plain, f"{__name__}.Plain"),
        ([1, "a"], "[1, a]"),
        ({"a": [len]}, "{a: [builtins.len]}"),
        ({3, 1, 2}, "{1, 2, 3}"),
        (frozenset({"b", "a"}), "frozenset({'a', 'b'})"),
        (set(), "set()"),
    ],
)
def test_other_values_are_labelled_by_a_text(value, text):
    assert str(label(value)).replace("'", "") == text.replace("'", "")


def test_a_label_shows_no_address():
    assert "0x" not in label(Plain())


def test_functions_without_a_name_are_told_apart_by_their_line():
    first = lambda: 1  # noqa: E731
    second = lambda: 2  # noqa: E731
    assert label(first) != label(second)


def test_symbolic_objects_are_told_apart_by_their_arguments():
    assert len({label(Net(1)), label(Net(2)), label(Net(1, 2)), label(mu.bind(Net, 1))}) == 4


def test_long_labels_that_differ_at_the_end_differ():
    one, other = label(["x" * 500, 1]), label(["x" * 500, 2])
    assert one != other
    assert len(one) == len(other) < 200


@pytest.mark.parametrize(
    "value", [Net(1), Net(mu.oneof([1, 2])), mu.oneof([1, 2]) * 2, Plain(), {1}, math.nan, (1, len), b"x", 1j]
)
def test_every_label_is_json(value):
    assert json.loads(json.dumps(label(value), allow_nan=False)) == label(value)


SCRIPT = (
    "import mutandis as mu; print(mu.space(mu.oneof([{'a', 'b', 'c'}, frozenset('xyz'), [{'d', 'e'}]])).fingerprint)"
)


def test_sets_are_labelled_the_same_in_every_process():
    assert len(outputs_of(SCRIPT)) == 1
