"""The scope in which hyper value functions return decided values."""

from __future__ import annotations

import threading

import pytest

import mutandis as mu
from mutandis.hyper.scope import DECIDER, decided


class First:
    def decide(self, value, frame):
        return value.candidates[0]


def test_outside_a_scope_a_value_is_itself():
    value = mu.oneof([1, 2])
    assert decided(value) is value


def test_inside_a_scope_the_decider_is_asked():
    token = DECIDER.set(First())
    try:
        assert mu.oneof([1, 2]) == 1
    finally:
        DECIDER.reset(token)


def raising():
    mu.boolv()
    raise KeyError("inside")


def test_an_exception_in_a_traced_function_ends_the_scope():
    with pytest.raises(KeyError, match="inside"):
        mu.trace(raising)
    assert DECIDER.get() is None


def test_an_exception_in_a_run_ends_the_scope():
    late = []

    def program():
        x = mu.boolv()
        if late:
            raise KeyError("inside")
        return x

    child = mu.trace(program).space
    child = child.materialize(child.default())
    late.append(1)
    with pytest.raises(KeyError, match="inside"):
        child()
    assert DECIDER.get() is None


def test_a_scope_is_the_affair_of_its_thread():
    found = []

    def program():
        thread = threading.Thread(target=lambda: found.append(mu.oneof([5, 6])))
        thread.start()
        thread.join()
        return mu.boolv()

    mu.trace(program)
    assert {type(value).__name__ for value in found} == {"OneOf"}


def test_a_run_inside_a_run_has_its_own_decisions():
    inner = mu.trace(lambda: mu.oneof([1, 2]))

    def outer():
        return [mu.boolv(name="b"), inner.run(inner.space.dna_at(1)), mu.boolv(name="c")]

    traced = mu.trace(outer)
    assert [point.path for point in traced.space.points] == ["b", "c"]
    assert traced.run(traced.space.dna_at(0)) == [False, 2, False]
