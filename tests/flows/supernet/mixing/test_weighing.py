"""Masks and interpolation on the weight of a layer are those of its input."""

from __future__ import annotations

import pytest
import torch
import toy_sizes as toy
from torch.nn import functional as F

from mutandis.flows.supernet.mixing.weighing import Weighing, interpolated, joint, mode_of, offset_of, vector
from mutandis.flows.supernet.selections import Gate, Mixture, Subset


def prefix_rows(*sizes, full):
    return torch.stack([torch.arange(full) < size for size in sizes])


def test_a_mask_of_channels_is_the_tail_sum_of_the_weights():
    """The known answer of channel masking: logits 0, 1, 2, noise .5, -.5, 0, temperature 5, sizes 1, 2, 4."""
    g = torch.softmax((torch.log_softmax(torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64), 0)
                       + torch.tensor([0.5, -0.5, 0.0])) / 5, 0)  # fmt: skip
    weighing = Weighing("weight", (1,), (0,), prefix_rows(1, 2, 4, full=4), is_read=True)
    found = weighing.apply(torch.ones(1, 4, dtype=torch.float64), {0: Mixture(g)}, {})
    assert found[0].tolist() == pytest.approx([1.0, 0.7014799556, 0.4029599112, 0.4029599112], abs=1e-9)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7])
def test_a_weight_of_interpolated_channels_reads_what_adaptive_pooling_gives(size):
    x, weight = torch.randn(5, 7, dtype=torch.float64), torch.randn(3, 7, dtype=torch.float64)
    spread = F.adaptive_avg_pool1d(x[:, None, :size], 7)[:, 0]
    found = interpolated(weight, 1, (size,), torch.ones(1, dtype=torch.float64))
    assert torch.allclose(x @ found.T, spread @ weight.T)


def test_two_interpolated_sizes_are_added_with_their_weights():
    """The known answer of the two sizes 2 and 4 of the channels 1, 2, 3, 4."""
    factors = torch.tensor([0.5866175789, 0.4133824211], dtype=torch.float64)
    found = interpolated(torch.eye(4, dtype=torch.float64), 1, (2, 4), factors)
    x = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    assert (found @ x).tolist() == pytest.approx([1.0, 1.4133824211, 2.4133824211, 2.8267648422], abs=1e-9)


def test_modes_choose_between_masks_and_interpolation():
    weighing = Weighing("weight", (1,), (0,), prefix_rows(1, 2, full=2), is_read=True)
    weight, w = torch.ones(1, 2, dtype=torch.float64), torch.tensor([0.5, 0.5], dtype=torch.float64)
    assert weighing.apply(weight, {0: Mixture(w)}, {}).tolist() == [[1.0, 0.5]]
    assert weighing.apply(weight, {0: Mixture(w, "interpolate")}, {}).tolist() == [[1.5, 0.5]]
    kernel = Weighing("weight", (1,), (0,), prefix_rows(1, 2, full=2), is_read=False)
    assert kernel.apply(weight, {0: Mixture(w, "interpolate")}, {}).tolist() == [[1.0, 0.5]]


def test_masks_follow_the_type_of_the_weight():
    weighing = Weighing("weight", (1,), (0,), prefix_rows(1, 2, full=2), is_read=True)
    for dtype in (torch.float64, torch.float32, torch.float64):
        found = weighing.apply(torch.ones(1, 2, dtype=dtype), {0: Mixture(toy.leaf(0.25, 0.75))}, {})
        assert found.dtype == dtype and found.tolist() == [[1.0, 0.75]]


def test_decisions_of_one_axis_are_weighed_as_if_drawn_apart():
    first, second = Mixture(toy.leaf(0.25, 0.75)), Subset((2, 0), toy.leaf(0.5, 0.5))
    assert joint([first, second], torch.ones(1)).tolist() == [0.125, 0.125, 0.375, 0.375]


def test_what_is_leading_is_told_from_what_is_spread_out():
    assert Weighing("weight", (1,), (0,), prefix_rows(1, 3, full=4), is_read=True).is_leading
    rows = torch.tensor([[True, False, True], [True, True, True]])
    assert not Weighing("weight", (1,), (0,), rows, is_read=True).is_leading
    assert not Weighing("weight", (1,), (0,), prefix_rows(1, 3, full=4), is_read=False).is_leading
    assert Weighing("weight", (1,), (0,), rows, is_read=True).sizes == (2, 3)


def test_a_gate_is_a_vector_of_itself_and_those_that_are_probed():
    gates = toy.leaf(1.0, 0.0)
    selection = Gate(3, gates[0], {1: gates[1]})
    assert vector(selection).tolist() == [1.0, 0.0] and list(selection.weights) == [3, 1]
    assert (mode_of(selection), offset_of(selection)) == ("mask", None)
    subset = Subset((0,), toy.leaf(1.0), gates[1], "interpolate")
    assert mode_of(subset) == "interpolate" and offset_of(subset) is subset.offset
