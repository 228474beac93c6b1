from __future__ import annotations

import math

import pytest

import mutandis as mu
from mutandis.errors import DecisionError
from mutandis.hyper import Rng

VALUES = {
    "choice": lambda: mu.oneof([1, 2, 3]),
    "bool": lambda: mu.boolv(),
    "float": lambda: mu.floatv(-1.0, 3.0),
    "log float": lambda: mu.floatv(1e-4, 1e-1, scale="log"),
    "stepped float": lambda: mu.floatv(0.1, 0.7, step=0.2),
    "stepped log float": lambda: mu.floatv(0.1, 0.7, step=0.2, scale="log"),
    "int": lambda: mu.intv(-3, 4),
    "stepped int": lambda: mu.intv(1, 10, step=4),
    "log int": lambda: mu.intv(1, 1024, scale="log"),
    "ordered": lambda: mu.manyof(2, [1, 2, 3, 4]),
    "unordered": lambda: mu.manyof(2, [1, 2, 3, 4], ordered=False),
    "repeated": lambda: mu.manyof(3, [1, 2], distinct=False),
    "repeated unordered": lambda: mu.manyof(3, [1, 2], distinct=False, ordered=False),
    "permutation": lambda: mu.permutate([1, 2, 3]),
    "subset": lambda: mu.subset([1, 2, 3], min=1),
}


@pytest.fixture(params=VALUES)
def point(request):
    return mu.space(VALUES[request.param]()).points[0]


def test_draws_are_legal_and_canonical(point):
    rng = Rng(0)
    for _ in range(50):
        value = point.draw(rng)
        assert point.check(value) == value


def test_the_unit_cube_leads_there_and_back(point):
    rng = Rng(1)
    for _ in range(50):
        value = point.draw(rng)
        back = point.from_unit(point.to_unit(value))
        assert back == (pytest.approx(value) if point.kind == "float" else value)
        assert len(point.to_unit(value)) == point.num_units
        assert all(0 <= u <= 1 for u in point.to_unit(value))
    point.from_unit([0.0] * point.num_units)
    point.from_unit([1.0] * point.num_units)


def test_listed_values_are_all_legal_values(point):
    if not point.is_finite:
        with pytest.raises(DecisionError, match="cannot list the values"):
            next(point.values())
        return
    values = list(point.values())
    assert len(values) == len(set(values)) == point.size
    assert [point.check(v) for v in values] == values
    if point.size < 100:
        rng = Rng(2)
        assert {point.draw(rng) for _ in range(4000)} == set(values)


def test_a_mutation_changes_the_value(point):
    rng = Rng(3)
    value = point.draw(rng)
    for _ in range(30):
        other = point.mutate(value, rng)
        assert other != value
        value = point.check(other)


def test_a_single_value_cannot_change():
    point = mu.space(mu.oneof([1])).points[0]
    assert point.mutate(0, Rng(0)) == 0
    assert mu.space(mu.permutate([1])).points[0].mutate((0,), Rng(0)) == (0,)


def test_the_middle_of_a_log_range_is_its_geometric_mean():
    point = mu.space(mu.floatv(1e-4, 1e-1, scale="log")).points[0]
    assert math.isclose(point.from_unit(0.5), 3.1622776602e-3, rel_tol=1e-9)


def test_uniforms_choose_candidates_in_order():
    point = mu.space(mu.oneof([1, 2, 3])).points[0]
    assert [point.from_unit(u) for u in (0.0, 0.34, 0.99)] == [0, 1, 2]


def test_log_ints_are_spread_over_the_logarithm():
    point = mu.space(mu.intv(1, 1024, scale="log")).points[0]
    rng = Rng(0)
    small = sum(point.draw(rng) <= 32 for _ in range(2000))
    assert 900 < small < 1250


def test_the_ends_of_a_range_are_legal():
    point = mu.space(mu.intv(2, 5)).points[0]
    assert {point.draw(Rng(i)) for i in range(100)} == {2, 3, 4, 5}
    assert mu.space(mu.floatv(0.0, 1.0, step=0.1)).points[0].num_steps == 11
    assert mu.space(mu.floatv(0.0, 1.0, step=0.3)).points[0].num_steps == 4


@pytest.mark.parametrize(
    ("value", "raw", "expected"),
    [
        (lambda: mu.floatv(0.0, 1.0), 1.5, "a number in [0.0, 1.0]"),
        (lambda: mu.floatv(0.0, 1.0), True, "a number in [0.0, 1.0]"),
        (lambda: mu.floatv(0.0, 1.0, step=0.5), 0.4, "a number in [0.0, 1.0] at 0.0 + i * 0.5"),
        (lambda: mu.intv(1, 4), 2.5, "an int in [1, 4]"),
        (lambda: mu.intv(1, 4), float("nan"), "an int in [1, 4]"),
        (lambda: mu.oneof([1, 2]), True, "an int in [0, 2), the index of a candidate"),
        (lambda: mu.permutate([1, 2]), [0, 0], "a list of 2 different ints in [0, 2), indices of candidates"),
        (lambda: mu.subset([1, 2], max=1), [0, 1], "a list of 0 to 1 different ints in [0, 2), indices of candidates"),
    ],
)
def test_an_illegal_value_is_refused(value, raw, expected):
    with pytest.raises(DecisionError) as error:
        mu.space(value()).points[0].check(raw)
    assert error.value.expected == expected


def test_a_bool_may_be_given_as_one():
    space = mu.space(mu.boolv())
    assert space.dna({"": True}).to_dict() == {"": 1}
    assert space.dna({"": True}).literals() == {"": True}
