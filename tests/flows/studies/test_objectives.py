"""Objectives: which metrics count, and which way is better."""

from __future__ import annotations

import pytest

import mutandis as mu
from mutandis.algorithms import Random
from mutandis.errors import FeedbackError, SettingError
from mutandis.flows.studies.objectives import Objective, as_point, as_step, is_valid, parse_objectives


@pytest.mark.parametrize(
    ("given", "parsed"),
    [
        ("accuracy", (Objective("accuracy"),)),
        ("-loss", (Objective("loss", -1),)),
        (("accuracy", "-latency_ms"), (Objective("accuracy"), Objective("latency_ms", -1))),
        (["a-b"], (Objective("a-b"),)),
    ],
)
def test_a_minus_in_front_makes_smaller_better(given, parsed):
    assert parse_objectives(given) == parsed


@pytest.mark.parametrize("text", ["accuracy", "-loss"])
def test_an_objective_prints_as_it_was_written(text):
    assert str(parse_objectives(text)[0]) == text


@pytest.mark.parametrize(
    ("given", "got"),
    [
        ((), "() (tuple)"),
        ("-", "'-' (str)"),
        (("a", "-a"), "('a', '-a') (tuple)"),
        ((3,), "(3,) (tuple)"),
        (("a", ""), "('a', '') (tuple)"),
        (None, "None (NoneType)"),
    ],
)
def test_objectives_that_are_not_names_are_refused(given, got):
    with pytest.raises(SettingError) as error:
        mu.sample(mu.boolv(), Random(), objectives=given)
    assert str(error.value) == (
        "cannot use objectives\n"
        "  at:       objectives\n"
        f"  got:      {got}\n"
        "  expected: different names of metrics, such as ('accuracy', '-latency_ms')\n"
        "  fix:      name each metric once; a minus in front makes smaller better"
    )


@pytest.mark.parametrize(("rewards", "answer"), [((1.0, 2.0), True), ((1.0, float("nan")), False)])
def test_rewards_are_valid_where_all_are_finite(rewards, answer):
    assert is_valid(rewards) is answer


@pytest.mark.parametrize(("step", "read"), [(3, 3), (2.0, 2), (0.5, 0.5), (-1, -1)])
def test_a_step_is_an_int_where_it_is_whole(step, read):
    assert (as_step(step), type(as_step(step))) == (read, type(read))


@pytest.mark.parametrize("step", [float("nan"), float("inf")])
def test_a_step_that_is_not_finite_is_refused(step):
    with pytest.raises(FeedbackError) as error:
        as_step(step)
    assert str(error.value) == (
        f"cannot use a step\n  at:       step\n  got:      {step} (float)\n  expected: a finite number\n"
        "  fix:      count what is done, such as the epochs"
    )


def test_metrics_become_floats_by_name():
    assert as_point({"a": 1, 2: True}) == {"a": 1.0, "2": 1.0}
