"""Hypothesis strategies: random programs of lists, dicts and hyper values, and DNAs of their spaces."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

import mutandis as mu

_LEAVES = st.sampled_from([1, 2.5, "a", None, True])


def _distinct(candidates: list[Any]) -> list[Any]:
    """Tags the candidates, so that no two children are equal by accident."""
    return [[index, candidate] for index, candidate in enumerate(candidates)]


def _choices(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    candidates = st.lists(inner, min_size=1, max_size=3).map(_distinct)
    return st.one_of(
        candidates.map(lambda c: mu.oneof(c)),
        candidates.map(lambda c: mu.permutate(c)),
        candidates.map(lambda c: mu.subset(c)),
        st.tuples(candidates, st.booleans(), st.booleans()).map(
            lambda t: mu.manyof(min(2, len(t[0])), t[0], distinct=t[1], ordered=t[2])
        ),
    )


_NUMBERS = st.sampled_from(["int", "bool", "step"]).map(
    lambda kind: {"int": lambda: mu.intv(1, 3), "bool": mu.boolv, "step": lambda: mu.floatv(0.0, 1.0, step=0.5)}[kind]()
)


@st.composite
def programs(draw: Any, *, depth: int = 3) -> Any:
    """A finite program: a dict with up to three parts, nested choices, and now and then a shared decision."""
    inner: st.SearchStrategy[Any] = st.one_of(_LEAVES, _NUMBERS)
    for _ in range(depth - 1):
        inner = st.one_of(_LEAVES, _NUMBERS, _choices(inner), st.lists(inner, max_size=2))
    parts = draw(st.lists(inner, min_size=1, max_size=3))
    program = {f"p{i}": part for i, part in enumerate(parts)}
    if draw(st.booleans()):
        shared = mu.oneof([10, 20])
        program["outside"] = mu.oneof([["none"], ["uses", shared]])
        program["again"] = mu.oneof([["uses too", shared], ["none"]])
        program["twice"] = mu.manyof(2, [["x", shared], ["y"], ["z", shared]])
    return program


@st.composite
def spaces_and_dnas(draw: Any) -> Any:
    """A space and one of its DNAs."""
    space = mu.space(draw(programs()))
    return space, space.random(draw(st.integers(0, 10_000)))
