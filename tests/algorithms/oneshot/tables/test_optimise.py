"""Adam for tables: known first steps, torch's numbers, and tables that rest."""

from __future__ import annotations

import json

import pytest
import torch
from oneshot_probe import vector

from mutandis.algorithms.oneshot.tables.optimise import TableAdam

GRADIENT = vector(-1.0370384603, 1.0011649895, 0.0358734708)


def test_the_first_step_moves_by_the_learning_rate_against_the_sign():
    table = vector(0, 0.5, -0.5)
    TableAdam([table], 3e-4).step([GRADIENT])
    assert (table - vector(0, 0.5, -0.5)).tolist() == pytest.approx([3e-4, -3e-4, -3e-4], abs=1e-9)


def test_decay_enters_the_gradient():
    with_decay, without = vector(0, 0.5, -0.5), vector(0, 0.5, -0.5)
    TableAdam([with_decay], 0.1, weight_decay=1e-3).step([GRADIENT])
    TableAdam([without], 0.1).step([GRADIENT + 1e-3 * without])
    assert with_decay.tolist() == without.tolist()


def test_many_steps_are_those_of_torch():
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(4, generator=generator, dtype=torch.float64)
    other = table.clone().requires_grad_()
    mine = TableAdam([table], 0.02, beta1=0.5, beta2=0.999, epsilon=1e-8, weight_decay=1e-3)
    theirs = torch.optim.Adam([other], lr=0.02, betas=(0.5, 0.999), eps=1e-8, weight_decay=1e-3)
    for _ in range(20):
        other.grad = torch.randn(4, generator=generator, dtype=torch.float64)
        mine.step([other.grad])
        theirs.step()
    assert table.tolist() == pytest.approx(other.tolist(), abs=1e-12)


def test_a_table_without_a_gradient_rests_and_keeps_its_clock():
    tables = [vector(1, 2), vector(3, 4)]
    adam = TableAdam(tables, 0.1, weight_decay=0.5)
    adam.step([None, vector(1, -1)])
    assert tables[0].tolist() == [1.0, 2.0]
    assert adam.state()[0] == [0, 1]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_moves_nothing(bad):
    tables = [vector(1, 2), vector(3, 4)]
    adam = TableAdam(tables, 0.1)
    adam.step([vector(1, 1), vector(bad, 0)])
    assert [table.tolist() for table in tables] == [[1.0, 2.0], [3.0, 4.0]]
    assert adam.state()[0] == [0, 0]


def test_the_step_size_is_scaled():
    one, half = vector(0.0), vector(0.0)
    TableAdam([one], 0.1).step([vector(2.0)])
    TableAdam([half], 0.1).step([vector(2.0)], 0.5)
    assert half.item() == pytest.approx(one.item() / 2, abs=1e-15)


def test_long_gradients_are_cut_together():
    adam = TableAdam([vector(0.0), vector(0.0)], 0.1, beta1=0.9, max_norm=5.0)
    adam.step([vector(30.0), vector(40.0)])
    assert adam.state()[1] == [[pytest.approx(0.3, abs=1e-6)], [pytest.approx(0.4, abs=1e-6)]]


def test_short_gradients_are_left_alone():
    adam = TableAdam([vector(0.0)], 0.1, beta1=0.9, max_norm=5.0)
    adam.step([vector(3.0)])
    assert adam.state()[1] == [[pytest.approx(0.3, abs=1e-15)]]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_state_leads_on_exactly(dtype):
    first, second = vector(1, 2).to(dtype), vector(1, 2).to(dtype)
    one, two = TableAdam([first], 0.1), TableAdam([second], 0.1)
    one.step([vector(1, -3).to(dtype) / 3])
    second.copy_(first)
    two.set_state(json.loads(json.dumps(one.state())))
    for adam in (one, two):
        adam.step([vector(0.5, 0.25).to(dtype)])
    assert first.tolist() == second.tolist()


def test_a_state_does_not_move_with_its_optimizer():
    adam = TableAdam([vector(1.0)], 0.1)
    state = adam.state()
    adam.step([vector(1.0)])
    assert state[0] == [0]
