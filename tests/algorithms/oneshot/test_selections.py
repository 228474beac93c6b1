"""Selections as data, and the reference of what a supernet does with each."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest
import torch
from oneshot_probe import vector
from toy_supernet import combine

import mutandis as mu
from mutandis.algorithms.oneshot import Gate, Index, Mixture, Selections, Subset, Value, selections_of
from mutandis.algorithms.oneshot.selections import is_reached, sizes
from mutandis.errors import DecisionError
from mutandis.testing import contract_spaces

CONDITIONAL = mu.space({"x": mu.oneof(["a", {"z": mu.oneof([1, 2])}, "c"])}).bare()


def arms():
    weights = [torch.tensor(float(w), requires_grad=True) for w in (2, 3, 5)]
    return weights, [lambda w=w: w * torch.ones(2) for w in weights]


def gate(index):
    made = torch.zeros(3, dtype=torch.float64)
    made[index] = 1.0
    return made.requires_grad_()


@pytest.mark.parametrize(
    ("selection", "runs", "value", "unused"),
    [
        (Index(1), (1,), 3.0, [0, 2]),
        (Gate(1, gate(1)), (1,), 3.0, [0, 2]),
        (Gate(1, gate(1), (0,)), (1, 0), 3.0, [0, 2]),
        (Subset((2, 0), vector(0.25, 0.5)), (2, 0), 2.25, [1]),
        (Mixture(vector(0.5, 0.25, 0.25)), (0, 1, 2), 3.0, []),
    ],
)
def test_what_runs_and_what_does_not(selection, runs, value, unused):
    weights, functions = arms()
    output = combine(selection, functions)
    assert selection.runs == runs
    assert output.dtype == torch.float32
    assert output.tolist() == pytest.approx([value] * 2)
    output.sum().backward()
    assert [i for i, w in enumerate(weights) if w.grad is None] == unused


def test_a_gate_gets_the_gradient_of_its_candidate_alone():
    taken = Gate(1, gate(1))
    combine(taken, arms()[1]).sum().backward()
    assert taken.gate.grad.tolist() == [0.0, 6.0, 0.0]


def test_probes_get_the_gradient_of_theirs_too():
    taken = Gate(1, gate(1), (0, 2))
    combine(taken, arms()[1]).sum().backward()
    assert taken.gate.grad.tolist() == [4.0, 6.0, 10.0]


def test_an_offset_is_added_for_its_gradient():
    offset = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)
    combine(Subset((1,), vector(1.0), offset), arms()[1]).sum().backward()
    assert float(offset.grad) == 2.0


def test_a_path_of_two_decisions_reaches_only_what_it_runs():
    shared = [torch.tensor(float(w), requires_grad=True) for w in (1, 2, 10, 20)]
    paths = {(a, b): None for a in range(2) for b in range(2)}
    for a, b in paths:
        left = combine(Index(a), [lambda: shared[0] * 1, lambda: shared[1] * 1])
        right = combine(Index(b), [lambda: shared[2] * 1, lambda: shared[3] * 1])
        paths[a, b] = left + right
    assert sorted(float(value.detach()) for value in paths.values()) == [11.0, 12.0, 21.0, 22.0]
    assert float(paths[1, 0].detach()) == 12.0
    paths[1, 0].backward()
    assert [w.grad is None for w in shared] == [True, False, False, True]


@pytest.mark.parametrize("name", contract_spaces())
def test_a_dna_becomes_selections_and_back(name):
    space = contract_spaces()[name].bare()
    for seed in range(5):
        dna = space.random(seed)
        made = selections_of(dna, 7)
        assert (made.number, list(made)) == (7, [p.index for p in dna.active])
        assert made.is_single_path
        assert made.dna(space) == dna


def test_gates_weights_and_values_have_a_dna_too():
    space = mu.space(
        [mu.oneof(["a", "b"]), mu.oneof(["a", "b"]), mu.floatv(0.0, 1.0), mu.manyof(2, list("abc"))]
    ).bare()
    number = torch.tensor(0.25, dtype=torch.float64, requires_grad=True)
    made = Selections(0, {0: Gate(1, gate(1)), 1: Subset((0,), vector(1)), 2: Value(number),
                          3: Subset((2, 0), vector(1, 1))})  # fmt: skip
    assert made.dna(space).values == (1, 0, 0.25, (2, 0))


@pytest.mark.parametrize("selection", [Mixture(vector(0.5, 0.5)), Subset((0, 1), vector(1, 1))])
def test_a_mixture_has_no_dna(selection):
    made = Selections(0, {0: selection})
    assert not made.is_single_path
    with pytest.raises(DecisionError) as caught:
        made.dna(CONDITIONAL)
    message = str(caught.value)
    assert message.startswith("cannot read a DNA off selections\n  at:       ['x']\n  got:      ")
    assert message.endswith("expected: one candidate that runs\n  fix:      ask `selections.is_single_path` first")


def test_probes_are_no_single_path():
    assert not Selections(0, {0: Gate(0, gate(0), (1,))}).is_single_path


@pytest.mark.parametrize(
    ("above", "reached"),
    [(Index(0), False), (Index(1), True), (Gate(0, gate(0)), False), (Gate(0, gate(0), (1,)), True),
     (Subset((0, 2), vector(1, 1)), False), (Subset((0, 1), vector(1, 1)), True), (Mixture(vector(1, 0, 0)), True)],
)  # fmt: skip
def test_a_decision_is_reached_where_a_candidate_above_it_runs(above, reached):
    assert is_reached(CONDITIONAL.points[1], {0: above}) == reached


def test_a_decision_below_an_inactive_one_is_not_reached():
    assert not is_reached(CONDITIONAL.points[1], {})


def test_picks_reach_what_they_hold():
    space = mu.space(mu.manyof(2, [{"u": mu.oneof([1, 2])}, "b", "c"])).bare()
    assert is_reached(space.points[1], {0: Value((2, 0))})
    assert not is_reached(space.points[1], {0: Value((2, 1))})


@pytest.mark.parametrize(
    ("value", "found"),
    [(mu.oneof([4, 8.0]), (4, 8.0)), (mu.oneof([4, "b"]), None), (mu.boolv(), None), (mu.intv(1, 3), None)],
)
def test_candidates_are_sizes_where_all_are_numbers(value, found):
    assert sizes(mu.space(value).points[0]) == found


def test_selections_are_a_mapping_that_pickles():
    made = selections_of(CONDITIONAL.random(0))
    again = pickle.loads(pickle.dumps(made))
    assert (again.number, dict(again)) == (made.number, dict(made))
    assert repr(made).startswith("Selections(-1, {0: Index(index=")


def test_selections_need_no_torch():
    code = ("import sys; from mutandis.algorithms.oneshot import Index, Needs, selections_of; "
            "import mutandis.algorithms; print('torch' in sys.modules)")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
