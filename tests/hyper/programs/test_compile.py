from __future__ import annotations

import collections

import pytest

import mutandis as mu
from mutandis.errors import AbstractError
from mutandis.symbolic import arguments

Pair = collections.namedtuple("Pair", "a b")


@mu.symbolize
class Node:
    def __init__(self, value, *rest, key=None, **more):
        self.value, self.rest, self.key, self.more = value, rest, key, more


@mu.symbolize
class Keyed:
    def __init__(self, a, b=2, *, c, d=4):
        self.all = (a, b, c, d)


@mu.symbolize
def add(a, b):
    return a + b


def child_of(program, **decisions):
    space = mu.space(program)
    return space.materialize(space.repair([decisions.get(p.path) for p in space.points], lambda p: p.first()))


def test_symbolic_nodes_are_new_containers_copied_and_leaves_shared():
    leaf, inner = object(), Node(1)
    program = {"n": Node(mu.oneof([1, 2]), key=inner), "l": [leaf], "leaf": leaf}
    a, b = child_of(program), child_of(program)
    assert a["n"] is not b["n"]
    assert a["n"].key is not inner and a["n"].key is not b["n"].key
    assert a["l"] is not b["l"] and a["l"] is not program["l"]
    assert a["leaf"] is b["leaf"] is a["l"][0] is leaf


def test_shared_nodes_stay_shared_in_each_child():
    node, items = Node(mu.oneof([1, 2])), [1]
    op = mu.oneof([Node(3), Node(4)])
    child = child_of([node, [node], items, items, op, op])
    assert child[0] is child[1][0]
    assert child[2] is child[3]
    assert child[4] is child[5]


def test_every_way_to_pass_an_argument_works():
    w = mu.oneof([7, 8])
    child = child_of(Node(w, w, [w], key=w, x=w, y={"z": w}))
    assert (child.value, child.rest, child.key, child.more) == (7, (7, [7]), 7, {"x": 7, "y": {"z": 7}})
    assert child_of(Keyed(w, c=w, d=w)).all == (7, 2, 7, 7)
    assert child_of(Pair(w, 1)) == Pair(7, 1)
    assert child_of((w, (1, 2))) == (7, (1, 2))
    assert child_of({1: w, "a": (w,)}) == {1: 7, "a": (7,)}


def test_paths_of_decisions_read_as_code():
    w = [mu.oneof([1, 2]) for _ in range(6)]
    space = mu.space(Node(w[0], w[1], key={"k": w[2]}, x=Pair(w[3], [w[4]])))
    assert [p.path for p in space.points] == ["value", "rest[0]", "key['k']", "x[0]", "x[1][0]"]


def test_nothing_undecided_is_left():
    child = child_of(Node(mu.oneof([mu.manyof(1, [mu.floatv(0.0, 1.0)])]), mu.intv(1, 2) * 2))
    assert mu.space(child).points == ()
    assert arguments(child)["value"] == [0.5]


def test_calls_are_evaluated_by_their_holder():
    w = mu.oneof([7, 8])
    assert child_of(Node(add(w, 1))).value == 8
    assert child_of(add(w, 1))() == 8
    assert child_of([mu.partial(add, w)])[0](1) == 8


def test_a_repeated_pick_is_built_each_time():
    shared = Node(9)
    program = {"ops": mu.manyof(2, [Node(1, shared)], distinct=False), "s": shared}
    child = child_of(program)
    assert child["ops"][0] is not child["ops"][1]


def test_an_error_in_a_constructor_says_where():
    @mu.symbolize
    class Picky:
        def __init__(self, x):
            if x == 2:
                raise KeyError("two")

    space = mu.space({"a": [Picky(mu.oneof([1, 2]))]})
    with pytest.raises(KeyError) as error:
        space.materialize(space.dna_at(1))
    assert any("['a'][0]" in note for note in error.value.__notes__)


def test_required_arguments_stay_required():
    child = child_of(Node(mu.REQUIRED, mu.oneof([1, 2])))
    with pytest.raises(AbstractError):
        child.rest


def test_the_template_is_left_alone():
    program = Node(mu.oneof([Node(1), Node(2)]))
    before = repr(program)
    child_of(program)
    assert repr(program) == before


def test_an_evolved_program_is_drawn_changed_and_encoded():
    def longer(program, rng):
        return [*program, rng.randrange(10)]

    space = mu.space({"p": mu.evolve([1], longer)})
    point = space.points[0]
    assert (point.kind, space.size) == ("custom", float("inf"))
    assert space.materialize(space.default()) == {"p": [1]}
    lengths = {len(space.materialize(space.random(i))["p"]) for i in range(30)}
    assert lengths == {1, 2, 3, 4}
    dna = space.random(7)
    assert space.encode(space.materialize(dna)) == dna
    from mutandis.hyper import Rng

    changed = space.dna({"['p']": point.mutate(dna["['p']"], Rng(1))})
    assert len(space.materialize(changed)["p"]) == len(space.materialize(dna)["p"]) + 1
    assert space.from_unit(dna.to_unit()) == space.default()


def test_bad_evolve_settings_are_refused():
    from mutandis.errors import SpaceError

    with pytest.raises(SpaceError, match="one or more functions"):
        mu.evolve([1], [])
    with pytest.raises(SpaceError, match="a program without hyper values"):
        mu.evolve([mu.oneof([1, 2])], lambda p, rng: p)


def test_an_evolved_program_comes_from_any_of_its_rules():
    rules = [lambda program, rng: [*program, "a"], lambda program, rng: [*program, "b"]]
    space = mu.space(mu.evolve([], rules))
    assert {x for seed in range(40) for x in space.materialize(space.random(seed))} == {"a", "b"}


def test_an_evolved_program_is_a_new_one_in_every_child():
    space = mu.space(mu.evolve([[1]], lambda program, rng: program))
    assert space.materialize(space.default()) is not space.materialize(space.default())


def test_a_rule_cannot_change_the_seed():
    seed = [1]

    def greedy(program, rng):
        program.append(2)
        return program

    space = mu.space(mu.evolve(seed, greedy))
    children = [space.materialize(space.random(i)) for i in range(9)]
    assert seed == [1]
    assert max(map(len, children)) <= 4
