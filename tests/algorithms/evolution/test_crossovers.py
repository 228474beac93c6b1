"""Crossovers: known answers, and children that are legal on every space."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import Scripted
from strategies import spaces_and_dnas

import mutandis as mu
from mutandis.algorithms.evolution import (
    AverageCrossover,
    BlendCrossover,
    Context,
    Crossover,
    CycleCrossover,
    Individual,
    KPointCrossover,
    OrderCrossover,
    PartiallyMapped,
    SimulatedBinaryCrossover,
    UniformCrossover,
)
from mutandis.errors import SettingError
from mutandis.hyper import Rng

ALL = [UniformCrossover(), KPointCrossover(), KPointCrossover(3), BlendCrossover(), AverageCrossover(),
       SimulatedBinaryCrossover(), PartiallyMapped(), OrderCrossover(), CycleCrossover()]  # fmt: skip
CHOICES = mu.space([mu.oneof([0, 1]) for _ in range(6)]).bare()
ZEROS, ONES = (CHOICES.dna({f"[{i}]": bit for i in range(6)}) for bit in (0, 1))


def zero_based(*numbers):
    return tuple(number - 1 for number in numbers)


@given(spaces_and_dnas(), st.integers(0, 1000), st.sampled_from(ALL))
def test_a_child_is_legal_on_every_space(space_and_dna, seed, crossover):
    space, dna = space_and_dna
    child = crossover.cross(dna, space.random(seed), Rng(seed))
    assert space.dna(child.to_json()) == child


@given(spaces_and_dnas(), st.integers(0, 1000), st.sampled_from(ALL))
def test_the_child_of_equals_is_equal(space_and_dna, seed, crossover):
    _, dna = space_and_dna
    assert crossover.cross(dna, dna, Rng(seed)) == dna


@given(spaces_and_dnas(), st.integers(0, 1000), st.sampled_from([UniformCrossover(), KPointCrossover(2)]))
def test_a_child_of_choices_has_every_decision_from_a_parent(space_and_dna, seed, crossover):
    space, first = space_and_dna
    second = space.random(seed)
    child = crossover.cross(first, second, Rng(seed))
    both = {path: {str(d.to_dict().get(path)) for d in (first, second)} for path in child.to_dict()}
    assert all(str(value) in both[path] or "None" in both[path] for path, value in child.to_dict().items())


def test_pmx_of_goldberg_and_lingle():
    # Eiben & Smith, Introduction to Evolutionary Computing, fig. 4.5 to 4.7: segment 4 to 7.
    first, second = zero_based(1, 2, 3, 4, 5, 6, 7, 8, 9), zero_based(9, 3, 7, 8, 2, 6, 5, 1, 4)
    assert PartiallyMapped().permute(first, second, 3, 7) == zero_based(9, 3, 2, 4, 5, 6, 7, 1, 8)


GOLDBERG = zero_based(9, 8, 4, 5, 6, 7, 1, 3, 2, 10), zero_based(8, 7, 1, 2, 3, 10, 9, 5, 4, 6)


@pytest.mark.parametrize(
    ("crossover", "segment_of", "expected"),
    [
        (PartiallyMapped(), 1, zero_based(9, 8, 4, 2, 3, 10, 1, 6, 5, 7)),
        (PartiallyMapped(), 0, zero_based(8, 10, 1, 5, 6, 7, 9, 2, 4, 3)),
        (OrderCrossover(), 1, zero_based(5, 6, 7, 2, 3, 10, 1, 9, 8, 4)),
        (OrderCrossover(), 0, zero_based(2, 3, 10, 5, 6, 7, 9, 4, 8, 1)),
    ],
)
def test_the_children_of_goldbergs_two_tours(crossover, segment_of, expected):
    # Goldberg, Genetic Algorithms in Search, Optimization, and Machine Learning (1989), chapter 5: segment 4 to 6.
    first, second = GOLDBERG[segment_of], GOLDBERG[1 - segment_of]
    assert crossover.permute(first, second, 3, 6) == expected


def test_order_crossover_of_davis():
    # Eiben & Smith, fig. 4.10: the same parents and segment.
    first, second = zero_based(1, 2, 3, 4, 5, 6, 7, 8, 9), zero_based(9, 3, 7, 8, 2, 6, 5, 1, 4)
    assert OrderCrossover().permute(first, second, 3, 7) == zero_based(3, 8, 2, 4, 5, 6, 7, 1, 9)


def test_cycle_crossover_of_oliver():
    # Eiben & Smith, fig. 4.12.
    first, second = zero_based(1, 2, 3, 4, 5, 6, 7, 8, 9), zero_based(9, 3, 7, 8, 2, 6, 5, 1, 4)
    assert CycleCrossover().permute(first, second, 0, 0) == zero_based(1, 3, 7, 4, 2, 6, 5, 8, 9)


@given(st.permutations(range(7)), st.permutations(range(7)), st.integers(0, 7), st.integers(0, 7),
       st.sampled_from([PartiallyMapped(), OrderCrossover(), CycleCrossover()]))  # fmt: skip
def test_the_child_of_two_orders_is_an_order(x, y, a, b, crossover):
    assert sorted(crossover.permute(tuple(x), tuple(y), min(a, b), max(a, b))) == list(range(7))


@given(st.permutations(range(7)), st.permutations(range(7)))
def test_cycle_crossover_takes_every_place_from_a_parent(x, y):
    assert all(c in (a, b) for c, a, b in zip(CycleCrossover().permute(tuple(x), tuple(y), 0, 0), x, y, strict=True))


def test_uniform_crossover_draws_once_per_decision():
    child = UniformCrossover().cross(ZEROS, ONES, Scripted(0.1, 0.9, 0.1, 0.9, 0.5, 0.49))
    assert child.to_numbers() == [0, 1, 0, 1, 1, 0]


@pytest.mark.parametrize("k", [1, 2, 5])
def test_k_cuts_give_k_changes_of_parent(k):
    for seed in range(10):
        child = KPointCrossover(k).cross(ZEROS, ONES, Rng(seed)).to_numbers()
        assert sum(a != b for a, b in itertools.pairwise(child)) == k


def floats(low, high, **settings):
    space = mu.space(mu.floatv(1e-4, 1.0, **settings)).bare()
    return space, space.dna({"": low}), space.dna({"": high})


def test_the_average_on_a_log_scale_is_geometric():
    _, a, b = floats(1e-4, 1e-2, scale="log")
    assert AverageCrossover().cross(a, b, Scripted()).to_numbers() == pytest.approx([1e-3])


def test_blending_without_widening_stays_between_the_parents():
    _, a, b = floats(0.2, 0.4)
    values = [BlendCrossover(0.0).cross(a, b, Rng(seed)).to_numbers()[0] for seed in range(200)]
    assert 0.2 <= min(values) < 0.21
    assert 0.39 < max(values) <= 0.4


def test_blending_widens_by_alpha_to_each_side():
    _, a, b = floats(0.4, 0.6)
    values = [BlendCrossover(0.5).cross(a, b, Rng(seed)).to_numbers()[0] for seed in range(400)]
    assert 0.3 <= min(values) < 0.31
    assert 0.69 < max(values) <= 0.7


@pytest.mark.parametrize(("u", "beta"), [(0.5, 1.0), (0.125, 0.5), (0.875, 2.0)])
def test_sbx_spreads_by_its_formula(u, beta):
    # Deb & Agrawal 1995 with eta = 1: beta = (2u)^(1/2) below one half, (1 / (2 (1 - u)))^(1/2) above.
    _, a, b = floats(0.4, 0.6)
    child = SimulatedBinaryCrossover(1.0).cross(a, b, Scripted(u, 0.9)).to_numbers()[0]
    assert child == pytest.approx(0.5 + beta * 0.1, abs=1e-9)


@pytest.mark.parametrize("bad", [0, 1.5])
def test_an_impossible_number_of_cuts_is_refused(bad):
    with pytest.raises(SettingError, match="cut at least once"):
        KPointCrossover(bad)


@pytest.mark.parametrize("make", [lambda: BlendCrossover(-0.1), lambda: SimulatedBinaryCrossover(-1.0)])
def test_a_negative_spread_is_refused(make):
    with pytest.raises(SettingError, match="expected: a finite number >= 0"):
        make()


def test_the_refusal_of_a_spread_tells_everything():
    with pytest.raises(SettingError) as error:
        SimulatedBinaryCrossover(eta=-1.0)
    assert str(error.value) == (
        "cannot use a setting\n"
        "  at:       SimulatedBinaryCrossover.eta\n"
        "  got:      -1.0 (float)\n"
        "  expected: a finite number >= 0\n"
        "  fix:      give a number within these bounds"
    )


def test_one_parent_is_refused():
    with pytest.raises(SettingError) as error:
        UniformCrossover()([Individual(ZEROS)], Context(CHOICES, Rng(0)))
    assert str(error.value) == (
        "cannot cross over\n"
        "  at:       UniformCrossover\n"
        "  got:      1 (int)\n"
        "  expected: two parents\n"
        "  fix:      select two before: (Tournament(3) * 2) >> UniformCrossover()"
    )


def test_a_crossover_is_an_operation_with_one_child():
    (child,) = UniformCrossover()([Individual(ZEROS, (1.0,)), Individual(ONES, (2.0,))], Context(CHOICES, Rng(0)))
    assert child.rewards is None


def test_the_base_class_takes_either_parent():
    assert Crossover().cross(ZEROS, ONES, Scripted(*[0.9] * 6)) == ONES
