"""The algebra of evolution."""

from __future__ import annotations

import pytest
from scripted import Scripted

import mutandis as mu
from mutandis.algorithms.evolution import (
    Context,
    First,
    Individual,
    Last,
    Linear,
    Operation,
    RandomSample,
    Top,
    Tournament,
    Uniform,
)
from mutandis.algorithms.evolution.operations import Pipeline, as_operation
from mutandis.errors import SettingError
from mutandis.hyper import Rng

SPACE = mu.space(mu.intv(0, 99)).bare()


def people(*rewards):
    return [Individual(SPACE.dna({"": number}), (float(reward),), number) for number, reward in enumerate(rewards)]


def context(*numbers, step=0):
    return Context(SPACE, Scripted(*numbers) if numbers else Rng(0), step)


def rewards(population):
    return [individual.reward for individual in population]


POPULATION = people(3, 1, 4, 1, 5)


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (Top(3) >> Last(1), [3]),
        (Top(1) + Last(2), [5, 1, 5]),
        (Top(1) | Last(2), [5, 1]),
        (Top(2) * 2, [5, 4, 5, 4]),
        (Top(4)[1:3], [4, 3]),
        (Top(4)[0], [5]),
        (Top(4)[-1], [1]),
        (Top(1).for_each(), [3, 1, 4, 1, 5]),
        (Top(2).if_(lambda population, context: len(population) > 4), [5, 4]),
        (Top(2).if_(lambda population, context: False), [3, 1, 4, 1, 5]),
        (Top(2).if_(lambda population, context: False, Last(1)), [5]),
        (Top(2) >> (lambda population: population[::-1]), [4, 5]),
        ((lambda population, context: population[:1]) >> Top(5), [3]),
        (Top(3) >> Last(2) >> Top(1), [4]),
    ],
)
def test_operations_combine(operation, expected):
    assert rewards(operation(POPULATION, context())) == expected


@pytest.mark.parametrize(("number", "expected"), [(0.49, [5]), (0.51, [3, 1, 4, 1, 5])])
def test_a_probability_decides_by_one_number(number, expected):
    assert rewards(Top(1).with_prob(0.5)(POPULATION, context(number))) == expected


@pytest.mark.parametrize(("step", "expected"), [(0, [3, 1, 4, 1, 5]), (10, [5])])
def test_a_probability_may_be_a_schedule(step, expected):
    operation = Top(1).with_prob(Linear(0.0, 1.0, 10))
    assert rewards(operation(POPULATION, context(0.5, step=step))) == expected


def test_a_chain_is_flat():
    chain = Tournament(2) >> Uniform() >> Last(1)
    assert isinstance(chain, Pipeline)
    assert len(chain.operations) == 3


def test_no_operation_changes_the_population_it_is_given():
    before = list(POPULATION)
    (Top(2) + RandomSample(2) >> Uniform())(POPULATION, context())
    assert before == POPULATION


def test_operations_compare_and_can_be_rebound():
    chain = Tournament(2) >> Uniform()
    assert chain == Tournament(2) >> Uniform()
    assert mu.rebind(chain, {"operations[0].size": 5}) == Tournament(5) >> Uniform()


def test_an_operation_of_ones_own_takes_part():
    class Reverse(Operation):
        def __call__(self, population, context):
            return population[::-1]

    assert rewards((Reverse() >> Top(5)[:1])(POPULATION, context())) == [5]
    assert rewards((Top(2) >> Reverse())(POPULATION, context())) == [4, 5]


@pytest.mark.parametrize("times", [0, -1, 1.5])
def test_an_impossible_repetition_is_refused(times):
    with pytest.raises(SettingError) as error:
        Top(1) * times
    assert str(error.value) == (
        "cannot repeat an operation\n"
        "  at:       times\n"
        f"  got:      {times} ({type(times).__name__})\n"
        "  expected: an int >= 1\n"
        "  fix:      multiply by a whole number"
    )


def test_an_operation_is_no_sequence_to_run_through():
    with pytest.raises(TypeError, match="not iterable"):
        iter(Top(1))


def test_a_class_in_place_of_its_operation_is_refused():
    with pytest.raises(SettingError) as error:
        Tournament(2) >> Uniform
    assert str(error.value) == (
        "cannot use an operation\n"
        "  got:      <class 'mutandis.algorithms.evolution.mutators.Uniform'> (ABCMeta)\n"
        "  expected: an operation, or a function of the population\n"
        "  fix:      pass Uniform(...), not the class"
    )


@pytest.mark.parametrize("probability", [-0.1, 1.5, "often"])
def test_an_impossible_probability_is_refused(probability):
    with pytest.raises(SettingError, match=r"expected: a number in \[0, 1\], or a schedule"):
        Top(1).with_prob(probability)


@pytest.mark.parametrize(("probability", "expected"), [(0, [3, 1, 4, 1, 5]), (1, [5])])
def test_a_probability_of_zero_is_never_and_of_one_always(probability, expected):
    assert rewards(Top(1).with_prob(probability)(POPULATION, context(0.0 if not probability else 0.999))) == expected


def test_the_probability_of_an_operation_can_be_searched():
    space = mu.space(Top(1).with_prob(mu.oneof([0.25, 0.75])))
    found = {space.materialize(dna).condition.probability for dna in space.enumerate()}
    assert found == {0.25, 0.75}


def test_of_equal_dnas_the_first_individual_is_kept():
    again = [*people(3, 1), *people(7)]
    assert rewards((First(9) | Last(1))(again, context())) == [3, 1]


def test_repetitions_draw_anew():
    drawn = (RandomSample(1) * 20)(POPULATION, context())
    assert len(drawn) == 20
    assert len({individual.born for individual in drawn}) > 1


def test_what_is_no_operation_is_refused():
    with pytest.raises(SettingError) as error:
        as_operation(3)
    assert str(error.value) == (
        "cannot use an operation\n"
        "  got:      3 (int)\n"
        "  expected: an operation, or a function of the population\n"
        "  fix:      pass a selector, a mutator, or a lambda"
    )
