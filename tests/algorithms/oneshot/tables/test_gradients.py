"""Gradients of leaves from a loss, whoever propagated it."""

from __future__ import annotations

import pytest
import torch
from oneshot_probe import vector

from mutandis.algorithms.oneshot.tables.gradients import gradients_by, with_gradients


def test_gradients_of_an_earlier_pass_are_used():
    leaf = vector(1, 2).requires_grad_()
    loss = (leaf * vector(3, 4)).sum()
    loss.backward()
    assert gradients_by(loss, [leaf], keep_graph=False)[0].tolist() == [3.0, 4.0]


def test_gradients_are_taken_where_nobody_has_and_leave_no_trace():
    used, unused = vector(1, 2).requires_grad_(), vector(5).requires_grad_()
    found = gradients_by((used * vector(3, 4)).sum(), [used, unused], keep_graph=False)
    assert found[0].tolist() == [3.0, 4.0] and found[1] is None
    assert used.grad is None


def test_the_graph_is_kept_where_the_weights_still_need_it():
    leaf, weight = vector(2.0).requires_grad_(), vector(3.0).requires_grad_()
    loss = (leaf * weight).sum()
    gradients_by(loss, [leaf], keep_graph=True)
    loss.backward()
    assert weight.grad.tolist() == [2.0]


@pytest.mark.parametrize("leaves", [[], [vector(1.0).requires_grad_()]])
def test_a_loss_without_a_graph_has_no_gradients(leaves):
    assert gradients_by(torch.tensor(1.0), leaves, keep_graph=False) == [None] * len(leaves)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gradients_are_recorded_in_every_mode_of_the_loop(mode):
    with mode(), with_gradients():
        leaf = vector(1.0).requires_grad_()
        assert (2.0 * leaf).requires_grad
