from __future__ import annotations

import math
import pickle

import pytest

import mutandis as mu
from mutandis.errors import SettingError, UndecidedError
from mutandis.hyper import Derived


def decided(value, index, where):
    space = mu.space({"v": value, "w": where})
    return space.materialize(space.dna({"['w']": index}))["v"]


@pytest.mark.parametrize(
    "compute",
    [
        lambda w: w + 1, lambda w: 1 + w, lambda w: w - 1, lambda w: 9 - w, lambda w: w * 2, lambda w: 2 * w,
        lambda w: w / 4, lambda w: 4 / w, lambda w: w // 3, lambda w: 50 // w, lambda w: w % 3, lambda w: 50 % w,
        lambda w: w**2, lambda w: 2**w, lambda w: -w, lambda w: +w, lambda w: abs(-w), lambda w: round(w / 3, 1),
        lambda w: round(w / 3), lambda w: math.floor(w / 3), lambda w: math.ceil(w / 3), lambda w: w * w + w // 4,
    ],
)  # fmt: skip
def test_arithmetic_is_decided_with_its_operands(compute):
    width = mu.oneof([5, 7])
    assert [decided(compute(width), i, width) for i in (0, 1)] == [compute(5), compute(7)]


def test_derive_takes_anything_that_is_decided_later():
    width, depth = mu.oneof([5, 7]), mu.intv(1, 3)
    program = [width, depth, mu.derive(lambda a, b, *, c: (a, b, c), [width, {"d": depth}], "x", c=width * 2)]
    space = mu.space(program)
    child = space.materialize(space.dna({"[0]": 1, "[1]": 3}))
    assert child[2] == ([7, {"d": 3}], "x", 14)
    assert space.encode(child).to_numbers() == [1, 3]


def test_derive_of_decided_arguments_runs_at_once():
    assert mu.derive(max, 3, 4) == 4


def test_derive_of_a_value_is_refused():
    with pytest.raises(SettingError, match=r"write mu\.derive\(f, x\)"):
        mu.derive(3)


def test_a_derived_value_is_one_value_wherever_it_stands():
    both = mu.derive(list, [mu.oneof([1, 2])])
    child = mu.space([both, both]).materialize(mu.space([both, both]).default())
    assert child[0] is child[1]


def test_a_candidate_may_be_computed():
    width = mu.oneof([5, 7])
    space = mu.space([mu.oneof([width * 2, "none"]), width])
    assert [space.materialize(d) for d in space.enumerate()] == [[10, 5], [14, 7], ["none", 5], ["none", 7]]


@pytest.mark.parametrize(
    "make",
    [
        lambda w: [w * 3 + 1], lambda w: [w // 2], lambda w: [mu.derive(str, w)], lambda w: [-w / 2, 8 - w],
        lambda w: [w * w],
    ],
)  # fmt: skip
@pytest.mark.parametrize("value", [lambda: mu.oneof([2, 4, 8]), lambda: mu.intv(2, 40, step=2)])
def test_a_decision_that_only_shows_in_computed_values_is_found(make, value):
    space = mu.space(make(value()))
    for dna in space.enumerate():
        assert space.encode(space.materialize(dna)) == dna


def test_a_float_that_only_shows_in_arithmetic_is_found():
    lr = mu.floatv(0.0, 1.0)
    space = mu.space({"a": 1 - lr * 2, "b": lr / 4})
    dna = space.random(3)
    found = space.encode(space.materialize(dna)).to_numbers()
    assert found == pytest.approx(dna.to_numbers())


def test_an_error_in_a_computation_says_where():
    space = mu.space({"v": 1 / mu.oneof([0, 1])})
    with pytest.raises(ZeroDivisionError) as error:
        space.materialize(space.default())
    assert error.value.__notes__ == ["while computing ['v'] = 1 / oneof([0, 1])"]


def test_computations_print_as_code():
    width = mu.oneof([1, 2], name="w")
    assert repr((width + 1) * 2) == "(oneof([1, 2], name='w') + 1) * 2"
    assert repr(mu.derive(max, width, 3)) == "derive(max, oneof([1, 2], name='w'), 3)"
    assert repr(-width) == "-oneof([1, 2], name='w')"


def test_computations_pickle():
    made = pickle.loads(pickle.dumps(mu.oneof([1, 2]) * 2))
    assert isinstance(made, Derived)
    assert mu.space([made]).size == 2


def test_arithmetic_with_text_is_a_type_error():
    with pytest.raises(TypeError):
        mu.oneof([1, 2]) + "a"


def test_arrays_are_refused():
    numpy = pytest.importorskip("numpy")
    for use in (lambda v: v * numpy.ones(2), lambda v: numpy.ones(2) * v, lambda v: numpy.asarray(v)):
        with pytest.raises(UndecidedError):
            use(mu.oneof([1, 2]))
    assert isinstance(mu.oneof([1, 2]) * numpy.float64(2), Derived)


def test_the_refusal_to_derive_is_whole():
    with pytest.raises(SettingError) as error:
        mu.derive(3, mu.oneof([1, 2]))
    assert str(error.value) == (
        "cannot derive a value\n"
        "  at:       derive\n"
        "  got:      3 (int)\n"
        "  expected: a function and its arguments\n"
        "  fix:      write mu.derive(f, x) instead of mu.derive(f(x))"
    )
