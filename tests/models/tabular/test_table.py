"""Tables: look-ups, ranks and the clock."""

from __future__ import annotations

import numpy as np
import pytest

import mutandis as mu
from mutandis.errors import DecisionError, SettingError
from mutandis.models.tabular import Evaluator, Table
from mutandis.models.tabular.table import all_decisions, rows_by_code

DECISIONS = all_decisions((2, 3))


def table(**changes):
    settings = {
        "name": "toy",
        "radices": (2, 3),
        "rows": rows_by_code(DECISIONS[::-1], (2, 3)),  # Rows in another order than the codes.
        "results": {("valid", 2): np.array([5.0, 4, 3, 2, 1, 1]), ("test", 9): np.array([0.5, 4, 3, np.nan, 1, 0])},
        "training_seconds": {2: np.full(6, 10.0)},
        "validation_seconds": np.full(6, 0.5),
        "decode": lambda what: [int(part) for part in what.split(",")] if isinstance(what, str) else (),
    }
    return Table(**{**settings, **changes})


SPACE = mu.space([mu.oneof(["a", "b"]), mu.oneof(["x", "y", "z"])])


@pytest.mark.parametrize("what", [(1, 2), [1, 2], "1,2", SPACE.dna({"[0]": 1, "[1]": 2}), (np.int64(1), np.uint8(2))])
def test_a_program_is_found_by_its_decisions_text_or_dna(what):
    assert table().row(what) == 0
    assert table().valid(what, epochs=2) == 5.0


def test_every_program_has_its_row():
    assert [table().row(tuple(row)) for row in DECISIONS.tolist()] == [5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize("what", [(1,), (1, 3), (-1, 0), (1.0, 2), object(), None])
def test_what_is_no_program_of_the_table_is_refused(what):
    with pytest.raises(DecisionError, match="2 decisions with 2, 3 candidates"):
        table().row(what)


def test_a_program_that_was_not_trained_is_refused():
    with pytest.raises(DecisionError, match="a program that it holds"):
        table(rows=rows_by_code(DECISIONS[:3], (2, 3))).row((1, 2))


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda t: t.valid((0, 0), epochs=9), "valid results after 9 epochs"),
        (lambda t: t.test((0, 0), epochs=2), "test results after 2 epochs"),
        (lambda t: t.seconds((0, 0), epochs=9), "a time of 9 epochs"),
    ],
)
def test_what_was_not_measured_is_refused_with_what_was(ask, message):
    with pytest.raises(SettingError, match=message) as error:
        ask(table())
    assert "one of " in error.value.expected


def test_the_epochs_must_be_said():
    with pytest.raises(TypeError):
        table().valid((0, 0))
    with pytest.raises(TypeError):
        Evaluator(table())


def test_seconds_are_those_of_training_and_one_validation():
    assert table().seconds((0, 0), epochs=2) == 10.5


def test_equals_share_the_better_rank_and_nan_has_none_below():
    assert [table().rank(tuple(row), split="valid", epochs=2) for row in DECISIONS.tolist()] == [5, 5, 4, 3, 2, 1]
    assert table().best(split="test", epochs=9) == 4.0


def test_a_loss_ranks_the_other_way():
    small = table(larger_is_better=False)
    assert small.rank((0, 0), split="valid", epochs=2) == 1
    assert small.best(split="valid", epochs=2) == 1.0


def test_an_evaluator_charges_its_trainings_and_stops():
    evaluate = Evaluator(table(), epochs=2, budget_s=25.0)
    spent = []
    while not evaluate.is_over:
        assert evaluate((0, 1)) == 1.0
        spent.append(evaluate.spent_s)
    assert spent == [10.5, 21.0, 31.5]


def test_an_evaluator_gives_result_and_time_for_two_objectives_and_charges_once():
    evaluate = Evaluator(table(), epochs=2)
    assert evaluate.metrics((1, 2)) == {"valid": 5.0, "seconds": 10.5}
    assert evaluate.spent_s == 10.5


def test_metrics_need_a_known_time():
    evaluate = Evaluator(table(training_seconds={}), epochs=2)
    with pytest.raises(SettingError, match="a time of 2 epochs"):
        evaluate.metrics((1, 2))
    assert evaluate.spent_s == 0.0


def test_a_fact_is_a_column_by_name():
    known = table(facts={"params": np.arange(6)})
    assert known.fact((0, 0), "params") == 5.0
    with pytest.raises(SettingError, match="the fact 'flops'") as error:
        known.fact((0, 0), "flops")
    assert error.value.expected == "one of params"


def test_an_evaluator_without_a_budget_is_never_over():
    evaluate = Evaluator(table(), epochs=2)
    evaluate((0, 0))
    assert not evaluate.is_over


def test_an_evaluator_never_sees_test_results():
    with pytest.raises(SettingError):
        Evaluator(table(), epochs=9)


def test_a_search_reads_the_table():
    evaluate = Evaluator(table(), epochs=2)
    loop = mu.sample(SPACE, mu.algorithms.Grid())
    for _, feedback in loop:
        feedback(evaluate(feedback.dna))
    assert loop.study.best.reward == 5.0
    assert evaluate.spent_s == 6 * 10.5
