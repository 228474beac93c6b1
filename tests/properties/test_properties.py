"""What holds for every program, space and tree that hypothesis can think of."""

from __future__ import annotations

import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import programs, spaces_and_dnas

import mutandis as mu
from mutandis.hyper import DNA
from mutandis.hyper.values import HyperValue
from mutandis.symbolic.compare import apply
from mutandis.symbolic.record import is_symbolic


@mu.symbolize
class Node:
    def __init__(self, value, *rest, **options):
        self.value, self.rest, self.options = value, rest, options


@mu.symbolize
def call(value):
    return value


def trees():
    """Random symbolic trees, with programs of hyper values as some of their leaves."""
    leaves = st.one_of(st.integers(-3, 3), st.text(max_size=2), st.booleans(), st.none(), programs(depth=2))
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
            st.builds(Node, inner),
            st.builds(Node, inner, inner, key=inner),
            st.builds(lambda x: mu.bind(call, x), inner),
        ),
        max_leaves=6,
    )


def nodes(tree):
    """Returns the symbolic objects of a tree, containers and hyper values by identity."""
    kinds = (list, dict, HyperValue)
    return {id(value) for _, value in mu.symbolic.traverse(tree) if is_symbolic(value) or isinstance(value, kinds)}


def children_of(program, limit=400):
    space = mu.space(program)
    assume(space.size <= limit)
    return [space.materialize(dna) for dna in space.enumerate()]


# Programs and their children.


@given(programs())
def test_every_dna_comes_back_from_its_child_inside_symbolic_objects(program):
    space = mu.space(Node(program, key=program))
    dna = space.random(0)
    assert space.encode(space.materialize(dna)) == dna


@given(programs(depth=2))
def test_a_symbolic_program_has_as_many_distinct_children_as_dnas(program):
    space = mu.space(Node(program))
    children = children_of(Node(program))
    assert len({mu.fingerprint(child) for child in children}) == len(children) == space.size


@given(spaces_and_dnas())
def test_a_child_has_nothing_left_to_decide(pair):
    space, dna = pair
    assert mu.space(space.materialize(dna)).points == ()


@given(spaces_and_dnas())
def test_a_child_is_built_anew_each_time(pair):
    space, dna = pair
    one, other = space.materialize(dna), space.materialize(dna)
    assert mu.equal(one, other)
    assert not nodes(one) & nodes(other)


@given(spaces_and_dnas())
def test_a_dna_is_the_same_after_json(pair):
    space, dna = pair
    assert DNA.from_json(json.dumps(dna.to_json()), space) == dna


@given(spaces_and_dnas())
def test_a_dna_is_the_same_in_the_space_of_a_copy(pair):
    space, dna = pair
    again = mu.space(mu.clone(space.program))
    assert again.fingerprint == space.fingerprint
    assert mu.equal(again.materialize(dna), space.materialize(dna))


@given(spaces_and_dnas())
def test_a_dna_is_the_same_in_the_space_of_a_program_from_json(pair):
    space, dna = pair
    again = mu.space(mu.from_json(mu.to_json(space.program)))
    assert again.fingerprint == space.fingerprint
    assert mu.equal(again.materialize(dna), space.materialize(dna))


@given(programs(), st.integers(0, 99))
def test_deciding_in_two_steps_is_deciding_in_one(program, seed):
    space = mu.space(program)
    assume(len(space.points) > 1 and not space.points[0].conditions)
    dna = space.random(seed)
    outer, _ = space.split(lambda point: point.index == 0)
    part = outer.materialize(outer.dna({outer.points[0].path: dna[0]}))
    rest = mu.space(part)
    children = {mu.fingerprint(rest.materialize(rest.random(i))) for i in range(3)}
    assert all(space.encode(rest.materialize(rest.random(i)))[0] == dna[0] for i in range(3))
    assert children


# Trees.


@given(trees())
def test_a_tree_is_equal_after_json(tree):
    again = mu.from_json(mu.to_json(tree))
    assert mu.equal(again, tree)
    assert mu.fingerprint(again) == mu.fingerprint(tree)


@given(trees(), trees())
def test_applying_a_difference_gives_the_other_tree(a, b):
    assert mu.equal(apply(a, mu.diff(a, b)), b)


@given(programs(), st.integers(0, 99), st.integers(0, 99))
def test_applying_the_difference_of_two_children_gives_the_other(program, first, second):
    space = mu.space(Node(program))
    a, b = space.materialize(space.random(first)), space.materialize(space.random(second))
    assert mu.equal(apply(a, mu.diff(a, b)), b)


@given(trees())
def test_a_clone_is_equal_and_shares_no_node(tree):
    copy = mu.clone(tree)
    assert mu.equal(copy, tree)
    assert not nodes(copy) & nodes(tree)


@given(trees(), trees())
def test_a_rebind_that_is_undone_leaves_the_tree_as_it_was(old, new):
    root = Node(0, old)
    before = mu.to_json(root)
    mu.rebind(root, {"rest[0]": new})
    assert mu.equal(mu.symbolic.get(root, "rest[0]"), new)
    mu.rebind(root, {"rest[0]": old})
    assert mu.to_json(root) == before


@given(trees())
def test_a_refused_rebind_leaves_the_tree_as_it_was(tree):
    root = Node(tree)
    before = mu.to_json(root)
    with pytest.raises(mu.errors.MutandisError):
        mu.rebind(root, {"value": 99, "rest[7]": 1})
    assert mu.to_json(root) == before
