"""Errors say what failed, where, what was given, what was expected, and how to mend it."""

from __future__ import annotations

import pickle

import pytest

from mutandis import errors
from mutandis.errors import DecisionError, MutandisError, PathError, closest, in_words


def test_a_message_has_every_part_in_order():
    error = DecisionError(
        "cannot use decision",
        at="model.blocks[2].kernel",
        got=7,
        expected="an int in [0, 3), the index of a candidate",
        fix="pass the index of the candidate, not the candidate itself",
    )
    assert str(error) == (
        "cannot use decision\n"
        "  at:       model.blocks[2].kernel\n"
        "  got:      7 (int)\n"
        "  expected: an int in [0, 3), the index of a candidate\n"
        "  fix:      pass the index of the candidate, not the candidate itself"
    )


def test_parts_that_are_not_given_are_left_out():
    assert str(MutandisError("alone")) == "alone"
    assert str(MutandisError("at root", at="")) == "at root\n  at:       (the root)"


def test_a_key_error_shows_its_message_unquoted():
    assert str(PathError("cannot find", at="x")) == "cannot find\n  at:       x"


@pytest.mark.parametrize(
    "cls", [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, MutandisError)]
)
def test_every_error_is_also_a_builtin_and_pickles(cls):
    error = pickle.loads(pickle.dumps(cls("problem", at="a.b", got=[1], fix="mend")))
    assert str(error) == "problem\n  at:       a.b\n  got:      [1] (list)\n  fix:      mend"
    assert error.at == "a.b"
    builtin = [base for base in cls.__mro__[1:] if base.__module__ == "builtins" and issubclass(base, Exception)]
    assert cls is MutandisError or builtin[0] is not Exception


def test_a_broken_repr_does_not_hide_the_error():
    class Broken:
        def __repr__(self):
            raise ZeroDivisionError

    assert "whose repr fails with ZeroDivisionError" in str(MutandisError("x", got=Broken()))


def test_long_values_are_cut():
    assert len(str(MutandisError("x", got=list(range(10_000))))) < 300


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("x is 0"), "ValueError: x is 0"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (KeyError("a"), "KeyError: 'a'"),
    ],
)
def test_an_error_in_words_has_its_class_and_what_it_says(error, words):
    assert in_words(error) == words


def test_close_misses_are_suggested():
    assert closest("widht", ["width", "depth"]) == "; did you mean 'width'?"
    assert closest("zzz", ["width"]) == ""
