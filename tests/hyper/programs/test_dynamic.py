from __future__ import annotations

import pickle

import pytest

import mutandis as mu
from mutandis.errors import DecisionError, SpaceError, UndecidedError


def branching():
    x = mu.oneof([0, 1])
    z = mu.oneof(["a", "b"]) if x else None
    y = mu.boolv(name="y")
    return x, z, y


def layers():
    return [mu.oneof([16, 32]) for _ in range(mu.intv(1, 3))]


def helper():
    return mu.floatv(0.0, 1.0)


def test_control_flow_makes_a_conditional_space():
    traced = mu.trace(branching)
    space = mu.space(traced)
    assert [p.path for p in space.points] == ["oneof_1", "oneof_2", "y"]
    assert space.points[1].conditions == ((0, 1),)
    assert space.size == 6
    assert [traced.run(dna) for dna in space.enumerate()] == [
        (0, None, False), (0, None, True), (1, "a", False), (1, "a", True), (1, "b", False), (1, "b", True),
    ]  # fmt: skip


def test_a_child_is_a_callable_bound_to_its_dna():
    space = mu.trace(branching).space
    dna = space.dna({"oneof_1": 1, "oneof_2": 1, "y": True})
    child = space.materialize(dna)
    assert child() == (1, "b", True)
    assert space.encode(child) == dna
    with pytest.raises(SpaceError, match="a child that materialize returned"):
        space.encode((1, "b", True))


def test_a_loop_of_decided_length_is_found_whole():
    traced = mu.trace(layers)
    lengths = {len(traced.run(traced.space.random(i))) for i in range(40)}
    assert lengths == {1, 2, 3}
    assert [p.path for p in traced.space.points] == ["intv_1", "oneof_1", "oneof_1[1]", "oneof_1[2]"]


def test_a_decision_in_another_function_carries_its_name():
    space = mu.trace(lambda: [helper(), helper()]).space
    assert [p.path for p in space.points] == ["helper.floatv_1", "helper.floatv_1[1]"]


def test_one_name_is_one_decision():
    traced = mu.trace(lambda: (mu.oneof([1, 2], name="w"), mu.oneof([1, 2], name="w")))
    assert [traced.run(d) for d in traced.space.enumerate()] == [(1, 1), (2, 2)]


def test_one_name_for_two_decisions_is_refused():
    with pytest.raises(SpaceError, match="cannot use one name for two decisions"):
        mu.trace(lambda: (mu.oneof([1, 2], name="w"), mu.oneof([1, 3], name="w")))


def test_every_kind_decides():
    def everything():
        return (mu.manyof(2, ["a", "b", "c"]), mu.permutate([1, 2]), mu.subset([1, 2], min=2), mu.floatv(0.0, 1.0),
                mu.intv(1, 3), mu.boolv(), mu.derive(max, mu.oneof([1, 2]), 2),
                mu.evolve([1], lambda p, r: p))  # fmt: skip

    traced = mu.trace(everything)
    made = traced.run(traced.space.default())
    assert made == (["a", "b"], [1, 2], [1, 2], 0.5, 2, False, 2, [1])


def test_functions_as_candidates_are_not_called():
    assert mu.trace(lambda: mu.oneof([len, max])).space.points[0].candidates == ("builtins.len", "builtins.max")


def test_two_conditions_at_once_are_covered():
    def program():
        a, b = mu.boolv(name="a"), mu.boolv(name="b")
        return mu.oneof([1, 2], name="c") if a and b else 0

    traced = mu.trace(program)
    assert {traced.run(traced.space.random(i)) for i in range(60)} == {0, 1, 2}


def test_arguments_are_passed_on():
    traced = mu.trace(lambda a, *, b: (a, b, mu.oneof([1, 2])), 5, b=6)
    assert traced.run(traced.space.dna_at(1)) == (5, 6, 2)


def test_too_many_runs_are_refused_with_a_remedy():
    with pytest.raises(SpaceError) as error:
        mu.trace(lambda: mu.oneof(list(range(50))), max_runs=10)
    assert str(error.value) == (
        "cannot find all decisions of a function\n"
        "  got:      10 (int)\n"
        "  expected: at most 10 runs\n"
        "  fix:      raise max_runs=, give fewer candidates, or write the space as a symbolic program"
    )


def test_a_decision_that_tracing_did_not_see_is_refused():
    late = []

    def program():
        x = mu.oneof([1, 2], name="x")
        return mu.oneof([1, 2], name="surprise") if late else x

    traced = mu.trace(program)
    late.append(1)
    with pytest.raises(SpaceError) as error:
        traced.run(traced.space.dna_at(0))
    assert error.value.at == "surprise"
    assert error.value.expected == "one of x, under the conditions that tracing saw"


def test_a_hyper_value_made_outside_cannot_be_a_candidate():
    outside = mu.oneof([1, 2])
    with pytest.raises(UndecidedError, match="make hyper values inside the traced function"):
        mu.trace(lambda: mu.oneof([outside, 3]))


def test_outside_a_trace_values_are_hyper_again():
    mu.trace(branching)
    assert mu.space(mu.oneof([1, 2])).size == 2


def test_a_foreign_dna_is_refused():
    with pytest.raises(DecisionError, match="cannot use a DNA"):
        mu.trace(branching).run(mu.space(mu.oneof([1, 2])).default())


def test_what_is_no_function_is_refused():
    with pytest.raises(SpaceError, match="cannot trace a value"):
        mu.trace(3)


def test_a_traced_space_cannot_be_split_and_pickles():
    space = mu.trace(branching).space
    with pytest.raises(SpaceError, match="cannot split the space of a traced function"):
        space.split("y")
    again = pickle.loads(pickle.dumps(space))
    assert again.materialize(again.dna_at(0))() == (0, None, False)


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (
            lambda: mu.trace(3),
            "cannot trace a value\n"
            "  got:      3 (int)\n"
            "  expected: a function\n"
            "  fix:      pass the function itself: mu.trace(f, x)",
        ),
        (
            lambda: mu.trace(lambda: (mu.oneof([1, 2], name="w"), mu.oneof([1, 3], name="w"))),
            "cannot use one name for two decisions\n"
            "  at:       w\n"
            "  got:      oneof([1, 3], name='w') (OneOf)\n"
            "  expected: the same candidates as before: (1, 2)\n"
            "  fix:      give the decisions different names: oneof(..., name='width')",
        ),
        (
            lambda: mu.trace(branching).space.encode(3),
            "cannot encode a result of a traced function\n"
            "  got:      3 (int)\n"
            "  expected: a child that materialize returned\n"
            "  fix:      keep the DNA; a function cannot be read backwards",
        ),
        (
            lambda: mu.trace(branching).space.split("y"),
            "cannot split the space of a traced function\n"
            "  got:      trace(branching) (TracedProgram)\n"
            "  expected: a symbolic program\n"
            "  fix:      write the outer decisions as a symbolic program, and trace the function inside the loop",
        ),
    ],
)
def test_what_tracing_cannot_do_is_refused_with_the_whole_story(use, message):
    with pytest.raises(SpaceError) as error:
        use()
    assert str(error.value) == message


def test_a_function_without_decisions_has_an_empty_space():
    assert mu.trace(lambda: 3).space.size == 1
