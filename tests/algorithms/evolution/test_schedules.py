"""Schedules: numbers as functions of the step."""

from __future__ import annotations

import pytest

from mutandis.algorithms.evolution import Cosine, Exponential, Linear, Schedule, StepWise
from mutandis.algorithms.evolution.schedules import at_step
from mutandis.errors import SettingError


@pytest.mark.parametrize(
    ("schedule", "step", "value"),
    [
        (Linear(1.0, 0.0, 10), 0, 1.0), (Linear(1.0, 0.0, 10), 5, 0.5), (Linear(1.0, 0.0, 10), 99, 0.0),
        (Cosine(1.0, 0.0, 10), 0, 1.0), (Cosine(1.0, 0.0, 10), 5, 0.5), (Cosine(2.0, 1.0, 10), 10, 1.0),
        (Cosine(2.0, 1.0, 10), 99, 1.0), (Exponential(1.0, 0.5), 3, 0.125), (Exponential(1.0, 0.5, 0.2), 3, 0.2),
        (StepWise(((0, 0.5), (100, 0.1))), 99, 0.5), (StepWise(((0, 0.5), (100, 0.1))), 100, 0.1),
    ],
)  # fmt: skip
def test_a_schedule_has_the_value_of_its_formula(schedule, step, value):
    assert schedule(step) == pytest.approx(value)


def test_a_plain_number_is_the_same_at_every_step():
    assert at_step(0.3, 7) == 0.3
    assert at_step(Linear(0.0, 1.0, 10), 7) == pytest.approx(0.7)


def test_the_base_class_has_no_value():
    with pytest.raises(TypeError, match="use Linear"):
        Schedule()(0)


@pytest.mark.parametrize("stages", [(), ((1, 0.5),), ((0, 1.0), (20, 0.5), (10, 0.2)), ((0, 1.0), (0, 0.5))])
def test_stages_that_do_not_begin_at_zero_are_refused(stages):
    with pytest.raises(SettingError) as error:
        StepWise(stages)
    assert str(error.value) == (
        "cannot use a schedule\n"
        "  at:       StepWise.stages\n"
        f"  got:      {stages} (tuple)\n"
        "  expected: pairs (first step, value) that begin at step 0 and ascend\n"
        "  fix:      add a first stage (0, value), and sort them"
    )


@pytest.mark.parametrize("make", [lambda: Linear(0.0, 1.0, 0), lambda: Cosine(0.0, 1.0, -1)])
def test_a_schedule_without_steps_is_refused(make):
    with pytest.raises(SettingError, match="an int >= 1"):
        make()
