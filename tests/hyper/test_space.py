from __future__ import annotations

import itertools
import json
import math
import pickle
import threading

import pytest
from hash_seeds import outputs_of
from hypothesis import assume, given
from strategies import programs, spaces_and_dnas

import mutandis as mu
from mutandis.errors import DecisionError, SpaceError
from mutandis.hyper import DNA, Rng, SearchSpace


@mu.symbolize
class Net:
    def __init__(self, width, ops=(), depth=1):
        self.width = width
        self.ops = ops
        self.depth = depth


def conditional():
    return {"x": mu.oneof(["a", {"z": mu.oneof([1, 2])}]), "y": mu.oneof([3, 4])}


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (lambda: mu.oneof([1, 2, 3]), 3),
        (lambda: mu.oneof(["a", mu.oneof([1, 2]), mu.oneof([1, 2, 3])]), 6),
        (lambda: mu.manyof(2, [0, 1, 2, 3], ordered=False), 6),
        (lambda: mu.manyof(2, [0, 1, 2, 3]), 12),
        (lambda: mu.manyof(2, [0, 1, 2, 3], distinct=False, ordered=False), 10),
        (lambda: mu.manyof(2, [0, 1, 2, 3], distinct=False), 16),
        (lambda: mu.permutate([1, 2, 3]), 6),
        (lambda: mu.subset([1, 2, 3]), 8),
        (lambda: mu.subset([1, 2, 3], min=1, max=2), 6),
        (lambda: mu.intv(1, 10, step=3), 4),
        (lambda: mu.floatv(0.0, 1.0, step=0.25), 5),
        (lambda: mu.boolv(), 2),
        (lambda: mu.floatv(0.0, 1.0), math.inf),
        (lambda: {"a": 1}, 1),
    ],
)
def test_the_size_is_exact(value, size):
    assert mu.space(value()).size == size


def test_a_choice_of_many_is_counted_without_being_walked_through():
    assert mu.space(mu.manyof(10, list(range(20)))).size == math.perm(20, 10)
    assert mu.space(mu.manyof(300, list(range(1000)), ordered=False)).size == math.comb(1000, 300)


def test_the_enumeration_is_lexicographic_and_skips_inactive_decisions():
    space = mu.space(conditional())
    assert [p.path for p in space.points] == ["['x']", "['x'].candidates[1]['z']", "['y']"]
    numbers = [dna.to_numbers() for dna in space.enumerate()]
    assert numbers == [[0, 0], [0, 1], [1, 0, 0], [1, 0, 1], [1, 1, 0], [1, 1, 1]]
    assert space.dna_at(4).to_numbers() == [1, 1, 0]


def test_enumeration_is_lazy():
    space = mu.space([mu.oneof(list(range(10))) for _ in range(200)])
    assert len(list(itertools.islice(space.enumerate(), 5))) == 5
    assert space.size == 10**200
    middle = space.dna_at(10**199 + 7)
    assert space.index_of(middle) == 10**199 + 7


@given(programs())
def test_size_is_the_number_of_dnas_and_of_distinct_children(program):
    space = mu.space(program)
    assume(space.size <= 600)
    dnas = list(space.enumerate())
    assert len(dnas) == len(set(dnas)) == space.size
    children = {json.dumps(space.materialize(dna)) for dna in dnas}
    assert len(children) == space.size


@given(programs())
def test_numbers_and_dnas_are_a_bijection_in_sorted_order(program):
    space = mu.space(program)
    assume(space.size <= 600)
    dnas = list(space.enumerate())
    assert dnas == sorted(dnas)
    assert [space.index_of(dna) for dna in dnas] == list(range(len(dnas)))
    assert [space.dna_at(i) for i in range(len(dnas))] == dnas


@given(spaces_and_dnas())
def test_materialize_then_encode_is_the_identity(pair):
    space, dna = pair
    assert space.encode(space.materialize(dna)) == dna


@given(spaces_and_dnas())
def test_a_dna_survives_every_form(pair):
    space, dna = pair
    assert space.dna(dna.to_dict()) == dna
    assert DNA.from_json(json.dumps(dna.to_json()), space) == dna
    assert space.from_unit(dna.to_unit()) == dna
    assert pickle.loads(pickle.dumps(dna)) == dna


def test_tied_candidates_are_counted_right():
    width = mu.oneof([1, 2])
    other = mu.oneof([1, 2, 3])
    program = [mu.manyof(2, [[width], [width, other], "c", [other]], distinct=False), mu.oneof(["n", [width]]), other]
    space = mu.space(program)
    assert space.size == sum(1 for _ in space.enumerate())


def test_a_chain_of_thirty_conditions_is_counted():
    value = mu.oneof([0, 1])
    for _ in range(30):
        value = mu.oneof([0, [value]])
    assert mu.space(value).size == 32


def test_parents_come_before_children_even_when_found_later():
    shared = mu.oneof([1, 2])
    space = mu.space([mu.oneof([0, [shared]]), mu.oneof([0, [shared]])])
    assert [p.path for p in space.points] == ["[0]", "[1]", "[0].candidates[1][0]"]
    assert space.points[2].conditions == ((0, 1), (1, 1))
    assert space.size == 1 + 2 + 2 + 2


def test_one_object_is_one_decision_and_equal_objects_are_two():
    width = mu.oneof([1, 2])
    assert mu.space([width, [width]]).size == 2
    assert mu.space([mu.oneof([1, 2]), mu.oneof([1, 2])]).size == 4


def test_a_name_makes_two_objects_one_decision():
    space = mu.space([mu.oneof([1, [mu.oneof([3, 4])]], name="w"), mu.oneof([1, [mu.oneof([3, 4])]], name="w")])
    assert space.size == 3
    assert all(child[0] == child[1] for child in map(space.materialize, space.enumerate()))
    assert space.dna({"w": 1, "[0].candidates[1][0]": 0})["[1]"] == 1


def test_random_dnas_depend_on_the_seed_alone():
    space = mu.space(conditional())
    assert [space.random(i) for i in range(9)] == [space.random(i) for i in range(9)]
    rng = Rng(0)
    assert len({space.random(rng) for _ in range(99)}) == 6


def test_the_default_takes_defaults_first_candidates_and_middles():
    program = [
        mu.oneof([1, 2], default=2),
        mu.oneof([1, 2]),
        mu.floatv(1e-4, 1.0, scale="log"),
        mu.intv(1, 9, default=9),
    ]
    space = mu.space(program)
    child = space.materialize(space.default())
    assert child[:2] == [2, 1]
    assert child[2] == pytest.approx(1e-2)
    assert child[3] == 9


def test_repair_drops_inactive_values_and_asks_for_missing_ones():
    space = mu.space(conditional())
    asked = []
    dna = space.repair([1, None, 0], lambda p: asked.append(p.path) or 1)
    assert dna.values == (1, 1, 0)
    assert asked == ["['x'].candidates[1]['z']"]
    assert space.repair([0, 1, 0], lambda p: 0).values == (0, None, 0)


def test_the_bare_space_has_the_points_and_no_program():
    space = mu.space(conditional())
    bare = space.bare()
    assert bare.points == space.points
    assert bare.program is None
    assert space.random(1).space is bare
    assert bare.fingerprint == space.fingerprint
    with pytest.raises(SpaceError, match="cannot materialize without a program"):
        bare.materialize(bare.random(0))


def test_the_fingerprint_tells_spaces_apart_and_ignores_hints():
    base = mu.space([mu.oneof([1, 2])]).fingerprint
    assert base == mu.space([mu.oneof([1, 2], hints="x")]).fingerprint
    assert base != mu.space([mu.oneof([1, 3])]).fingerprint
    assert base != mu.space([mu.oneof([1, 2], name="w")]).fingerprint
    assert base != mu.space([mu.oneof([1, 2], when="step")]).fingerprint


def test_require_filters_draws_dnas_and_the_enumeration():
    space = mu.space([mu.intv(1, 4), mu.intv(1, 4)]).require(lambda child: sum(child) == 5)
    assert space.size == 4
    assert {tuple(space.materialize(space.random(i))) for i in range(40)} == {(1, 4), (2, 3), (3, 2), (4, 1)}
    with pytest.raises(DecisionError) as error:
        space.dna({"[0]": 1, "[1]": 1})
    assert error.value.at == "require"
    with pytest.raises(SpaceError, match="without predicates"):
        space.dna_at(0)
    assert space.bare().size == 16
    assert not space.allows(space.bare().dna({"[0]": 1, "[1]": 1}))


def test_a_predicate_that_nothing_passes_is_named():
    space = mu.space(mu.oneof([1, 2])).require(lambda child: False)
    with pytest.raises(SpaceError) as error:
        space.random(0)
    assert str(error.value) == (
        "cannot find a DNA that the predicates allow\n"
        "  at:       require\n"
        "  expected: one in 1000 random draws\n"
        "  fix:      loosen the predicate, or build the constraint into the space with conditional candidates"
    )


def test_a_predicate_on_a_bare_space_sees_the_dna():
    bare = mu.space(mu.oneof([1, 2])).bare().require(lambda dna: dna[""] == 1)
    assert [d.to_numbers() for d in bare.enumerate()] == [[1]]


def test_split_gives_outer_children_that_are_abstract_in_the_rest():
    width = mu.oneof([16, 32])
    program = {"hw": mu.oneof(["cpu", "gpu"]), "net": Net(width, [mu.oneof([1, [mu.floatv(0.0, 1.0)]])], width * 2)}
    outer, inner = mu.space(program).split("['hw']")
    assert [p.path for p in outer.points] == ["['hw']"]
    assert len(inner.points) == 3
    child = outer.materialize(outer.dna({"['hw']": 1}))
    assert child["hw"] == "gpu"
    space = mu.space(child)
    grandchild = space.materialize(space.dna({"['net'].width": 1, "['net'].ops[0]": 0}))
    assert (grandchild["net"].width, grandchild["net"].depth, grandchild["net"].ops) == (32, 64, [1])


def test_split_takes_a_name_that_is_no_path():
    outer, inner = mu.space([mu.oneof([1, 2], name="edge 0 to 1"), mu.oneof([3, 4])]).split("edge 0 to 1")
    assert [point.name for point in outer.points] == ["edge 0 to 1"]
    assert len(inner.points) == 1


def test_split_keeps_shared_inner_decisions_shared():
    width = mu.oneof([1, 2])
    outer, _ = mu.space([mu.boolv(), width, [width]]).split(lambda p: p.is_bool)
    child = outer.materialize(outer.default())
    assert child[1] is child[2][0]
    assert mu.space(child).size == 2


def test_an_outer_decision_under_an_inner_one_is_refused():
    with pytest.raises(SpaceError) as error:
        mu.space(conditional()).split(lambda p: p.path.endswith("['z']"))
    assert str(error.value) == (
        "cannot split a space\n"
        "  at:       ['x'].candidates[1]['z']\n"
        "  got:      'one of [1, 2]' (str)\n"
        "  expected: its condition ['x'] among the outer decisions too\n"
        "  fix:      widen `where` so that it takes the decision above, or leave this one inside"
    )


def test_the_description_is_a_table():
    assert mu.space(conditional()).describe().splitlines() == [
        "3 decisions, 6 DNAs",
        "decision                  values                         when   active if",
        "['x']                     one of [a, {'z': oneof(...)}]  build  always",
        "['x'].candidates[1]['z']  one of [1, 2]                  build  ['x'] is 1 ({'z': oneof(...)})",
        "['y']                     one of [3, 4]                  build  always",
    ]


@pytest.mark.parametrize(
    ("decisions", "message"),
    [
        (
            {"['x']": 0, "['yy']": 1},
            "cannot find a decision\n"
            "  at:       ['yy']\n"
            "  expected: one of ['x'], ['x'].candidates[1]['z'], ['y']; did you mean \"['y']\" or \"['x']\"?\n"
            "  fix:      list the decisions with print(space.describe())",
        ),
        (
            {"['x']": 0, "['y']": 7},
            "cannot use decision\n"
            "  at:       ['y']\n"
            "  got:      7 (int)\n"
            "  expected: an int in [0, 2), the index of a candidate\n"
            "  fix:      pass indices into the candidates: 0=3, 1=4",
        ),
        (
            {"['x']": 0, "['y']": 4},
            "cannot use decision\n"
            "  at:       ['y']\n"
            "  got:      4 (int)\n"
            "  expected: an int in [0, 2), the index of a candidate\n"
            "  fix:      pass the index of the candidate, not the candidate itself",
        ),
        (
            {"['x']": 0},
            "cannot leave out a decision\n"
            "  at:       ['y']\n"
            "  expected: an int in [0, 2), the index of a candidate\n"
            "  fix:      decide it too, or let space.random or space.repair fill it in",
        ),
        (
            {"['x']": 0, "['y']": 0, "['x'].candidates[1]['z']": 0},
            "cannot use decision\n"
            "  at:       ['x'].candidates[1]['z']\n"
            "  got:      0 (int)\n"
            "  expected: nothing, since it is active only if ['x'] is 1 ({'z': oneof(...)})\n"
            "  fix:      leave it out, or decide the other so",
        ),
    ],
)
def test_a_bad_dna_is_refused_with_the_whole_story(decisions, message):
    with pytest.raises(DecisionError) as error:
        mu.space(conditional()).dna(decisions)
    assert str(error.value) == message


def test_the_same_decision_under_two_paths_may_be_given_once():
    width = mu.oneof([1, 2], name="w")
    space = mu.space([width, width])
    assert space.dna({"w": 1}) == space.dna({"[1]": 1})
    with pytest.raises(DecisionError, match="cannot decide twice"):
        space.dna({"w": 1, "[1]": 1})


def test_a_dna_of_another_space_is_refused():
    space = mu.space(mu.oneof([1, 2]))
    with pytest.raises(DecisionError) as error:
        space.materialize(mu.space(mu.oneof([1, 2, 3])).random(0))
    assert error.value.problem == "cannot use a DNA"
    assert error.value.fix == "make it with this space: space.dna({...}) or space.random(seed)"
    assert space.materialize(mu.space(mu.oneof([1, 2])).dna({"": 1})) == 2


@pytest.mark.parametrize("verb", ["enumerate", "dna_at", "index_of"])
def test_a_continuous_space_cannot_be_listed(verb):
    space = mu.space({"lr": mu.floatv(0.0, 1.0)})
    with pytest.raises(SpaceError) as error:
        {"enumerate": lambda: next(space.enumerate()), "dna_at": lambda: space.dna_at(0),
         "index_of": lambda: space.index_of(space.default())}[verb]()  # fmt: skip
    assert error.value.at == "['lr']"
    assert error.value.fix == "give the range a step=, or use random draws"


def test_a_number_outside_the_space_is_refused():
    with pytest.raises(DecisionError, match="expected: an int in"):
        mu.space(mu.oneof([1, 2])).dna_at(2)


def test_two_meanings_of_one_name_are_refused():
    with pytest.raises(SpaceError) as error:
        mu.space([mu.oneof([1, 2], name="w"), [mu.oneof([1, 3], name="w")]])
    assert str(error.value) == (
        "cannot use one name for two decisions\n"
        "  at:       [1][0]\n"
        "  got:      oneof([1, 3], name='w') (OneOf)\n"
        "  expected: the same as at [0]: oneof([1, 2], name='w')\n"
        "  fix:      give them different names, or use one object at both places"
    )


def test_a_program_without_decisions_gives_an_empty_space():
    space = mu.space(Net(3))
    assert space.points == ()
    assert space.size == 1
    assert space.materialize(space.random(0)).width == 3


def test_a_function_is_pointed_to_trace():
    with pytest.raises(SpaceError, match=r"mu\.trace\(f\)"):
        mu.space(conditional)


def test_a_space_and_its_dna_pickle():
    space = pickle.loads(pickle.dumps(mu.space(conditional())))
    dna = pickle.loads(pickle.dumps(space.random(3)))
    assert space.materialize(dna) == mu.space(conditional()).materialize(dna)
    assert isinstance(space, SearchSpace)


def test_four_threads_build_from_one_space():
    space = mu.space({"net": Net(mu.oneof([1, 2, 3]), [mu.oneof([Net(1), Net(2)])]), "k": mu.permutate([1, 2, 3])})
    wrong = []

    def work(start):
        for seed in range(start, start + 200):
            dna = space.random(seed)
            if space.encode(space.materialize(dna)) != dna:
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(i * 200,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


SCRIPT = """
import mutandis as mu
space = mu.space({"f": mu.oneof([len, print, {1, 2}]), "p": mu.permutate("a b c".split()), "l": mu.floatv(0.1, 1.0)})
print(space.fingerprint, [space.random(i).to_numbers() for i in range(3)], hash(space.points[0].path) and 0)
"""


def test_another_process_and_hash_seed_see_the_same_space():
    assert len(outputs_of(SCRIPT)) == 1


def test_a_number_outside_a_range_is_refused_with_the_whole_story():
    with pytest.raises(DecisionError) as error:
        mu.space({"n": mu.intv(1, 4)}).dna({"['n']": 9})
    assert str(error.value) == (
        "cannot use decision\n"
        "  at:       ['n']\n"
        "  got:      9 (int)\n"
        "  expected: an int in [1, 4]\n"
        "  fix:      pass a value that the range allows"
    )


@pytest.mark.parametrize(
    ("given", "got"),
    [
        (lambda: mu.space(mu.oneof([1, 2])).default(), "DNA({'': 0}) (DNA)"),
        (lambda: {"['x']": 0}, "{\"['x']\": 0} (dict)"),
        (lambda: None, "None (NoneType)"),
    ],
)
def test_what_is_no_dna_of_the_space_is_refused_with_the_whole_story(given, got):
    space = mu.space(conditional())
    with pytest.raises(DecisionError) as error:
        space.materialize(given())
    assert str(error.value) == (
        "cannot use a DNA\n"
        f"  got:      {got}\n"
        f"  expected: a DNA of this space (version {space.fingerprint[:8]})\n"
        "  fix:      make it with this space: space.dna({...}) or space.random(seed)"
    )


@pytest.mark.parametrize(
    ("verb", "use"),
    [
        ("materialize", lambda space: space.materialize(space.default())),
        ("encode", lambda space: space.encode({})),
        ("split", lambda space: space.split("['x']")),
    ],
)
def test_a_bare_space_builds_nothing(verb, use):
    with pytest.raises(SpaceError) as error:
        use(mu.space(conditional()).bare())
    assert str(error.value) == (
        f"cannot {verb} without a program\n"
        "  expected: a space made by mu.space(program)\n"
        "  fix:      keep that space; a bare one only has points"
    )


def free(space):
    return space.require(lambda child: True)


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (
            lambda space: space.require(3),
            "cannot require\n"
            "  got:      3 (int)\n"
            "  expected: a function of the child that returns a bool\n"
            "  fix:      pass a lambda, such as lambda child: child.width * child.depth < 1000",
        ),
        (
            lambda space: free(space).index_of(space.default()),
            "cannot number a DNA\n"
            "  at:       require\n"
            "  expected: a space without predicates, whose DNAs have closed-form numbers\n"
            "  fix:      use space.enumerate(), or space.bare()",
        ),
        (
            lambda space: free(space).split("['x']"),
            "cannot split a space with a predicate\n"
            "  at:       require\n"
            "  expected: a space without predicates, since a part of a child cannot be judged\n"
            "  fix:      split first, then call require on the parts",
        ),
        (
            lambda space: free(mu.space(mu.manyof(10, list(range(20))))).size,
            "cannot count a space with a predicate\n"
            "  at:       size\n"
            "  got:      670442572800 (int)\n"
            "  expected: at most 1000000 DNAs before the predicate\n"
            "  fix:      ask space.bare().size, which leaves the predicate out",
        ),
        (
            lambda space: next(mu.space([mu.floatv(0.0, 1.0)]).enumerate()),
            "cannot enumerate a space\n"
            "  at:       [0]\n"
            "  got:      'float in [0.0, 1.0]' (str)\n"
            "  expected: a finite space\n"
            "  fix:      give the range a step=, or use random draws",
        ),
        (
            lambda space: mu.space([mu.evolve([1], lambda program, rng: program)]).dna_at(0),
            "cannot find a DNA by its number\n"
            "  at:       [0]\n"
            "  got:      'a program, open-ended' (str)\n"
            "  expected: a finite space\n"
            "  fix:      use random draws",
        ),
    ],
)
def test_what_a_space_cannot_do_is_refused_with_the_whole_story(use, message):
    with pytest.raises(SpaceError) as error:
        use(mu.space(conditional()))
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (
            lambda space: space.dna_at(6),
            "cannot find a DNA by its number\n"
            "  got:      6 (int)\n"
            "  expected: an int in [0, 6)\n"
            "  fix:      stay below space.size",
        ),
        (
            lambda space: space.from_unit([0.5]),
            "cannot read a place of the unit cube\n"
            "  got:      1 (int)\n"
            "  expected: 3 coordinates\n"
            "  fix:      sum point.num_units over space.points",
        ),
        (
            lambda space: mu.space(mu.oneof([1, 2])).require(lambda child: child == 1).dna({"": 1}),
            "cannot use decisions\n"
            "  at:       require\n"
            "  got:      DNA({'': 1}) (DNA)\n"
            "  expected: decisions that the predicate of the space allows\n"
            "  fix:      choose others, or use the space without the predicate",
        ),
    ],
)
def test_a_decision_that_a_space_cannot_use_is_refused_with_the_whole_story(use, message):
    with pytest.raises(DecisionError) as error:
        use(mu.space(conditional()))
    assert str(error.value) == message


def test_predicates_add_up():
    space = mu.space(mu.intv(1, 12)).require(lambda n: n % 2 == 0).require(lambda n: n % 3 == 0)
    assert [space.materialize(dna) for dna in space.enumerate()] == [6, 12]
    assert space.size == 2


def test_an_exception_of_a_predicate_passes():
    with pytest.raises(ZeroDivisionError):
        mu.space(mu.oneof([1, 2])).require(lambda child: 1 / 0).random(0)


def test_the_inner_space_is_what_an_outer_child_leaves_open():
    outer, inner = mu.space({"a": mu.boolv(), "b": mu.oneof([1, 2, 3])}).split("['a']")
    assert (outer.size, inner.size) == (2, 3)
    assert inner.fingerprint == mu.space(outer.materialize(outer.dna_at(1))).fingerprint


def test_four_threads_build_the_children_that_one_builds():
    def program():
        shared = mu.oneof([1, 2, 3])
        return {"net": Net(mu.oneof([Net(shared), Net(shared * 2, [shared])])), "again": shared}

    space = mu.space(program())
    dnas = [space.dna_at(i) for i in range(space.size)]
    alone = [mu.to_json(space.materialize(dna)) for dna in dnas]
    found = [[] for _ in range(4)]
    start = threading.Barrier(4)

    def work(mine):
        start.wait()
        for _ in range(50):
            mine.append([mu.to_json(space.materialize(dna)) for dna in dnas])

    threads = [threading.Thread(target=work, args=(mine,)) for mine in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [made == alone for mine in found for made in mine] == [True] * 200
