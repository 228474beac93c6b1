"""Which part of a tensor a layer uses."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mutandis.errors import LoweringError
from mutandis.flows.supernet.cuts import (
    blocks_index,
    cut_of,
    is_box,
    is_whole,
    num_blocks,
    plain_place,
    region,
    signature,
    take,
)


@pytest.mark.parametrize(
    ("layer", "name", "shape", "full", "expected"),
    [
        (nn.Linear(2, 3), "weight", (3, 2), (3, 2), (None, None)),
        (nn.Linear(2, 3), "weight", (3, 2), (5, 2), ((0, 3), None)),
        (nn.Conv2d(2, 3, 3), "weight", (3, 2, 3, 3), (3, 4, 7, 5), (None, (0, 2), (2, 3), (1, 3))),
        (nn.Conv1d(2, 3, 1), "weight", (3, 2, 1), (3, 2, 5), (None, None, (2, 1))),
        (nn.BatchNorm1d(2), "running_mean", (2,), (4,), ((0, 2),)),
    ],
)
def test_rows_lead_and_kernels_are_cropped_at_their_centre(layer, name, shape, full, expected):
    assert cut_of(layer, name, shape, full, "layer") == expected


@pytest.mark.parametrize(
    ("layer", "name", "axis", "blocks"),
    [
        (nn.LSTM(2, 3), "weight_ih_l0", 0, 4),
        (nn.LSTM(2, 3), "weight_ih_l0", 1, 1),
        (nn.LSTM(2, 3), "bias_hh_l0", 0, 4),
        (nn.LSTM(2, 4, proj_size=2), "weight_hr_l0", 0, 1),
        (nn.LSTM(2, 3, 2, bidirectional=True), "weight_ih_l1_reverse", 1, 2),
        (nn.LSTM(2, 3, 2, bidirectional=True), "weight_ih_l0_reverse", 1, 1),
        (nn.LSTM(2, 3, 2), "weight_ih_l1", 1, 1),
        (nn.LSTM(2, 3, 2, bidirectional=True), "weight_hh_l1", 1, 1),
        (nn.GRU(2, 3), "weight_hh_l0", 0, 3),
        (nn.RNN(2, 3), "weight_hh_l0", 0, 1),
        (nn.LSTMCell(2, 3), "weight_hh", 0, 4),
        (nn.GRUCell(2, 3), "bias_ih", 0, 3),
        (nn.RNNCell(2, 3), "bias_ih", 0, 1),
        (nn.MultiheadAttention(4, 2), "in_proj_weight", 0, 3),
        (nn.MultiheadAttention(4, 2), "in_proj_weight", 1, 1),
        (nn.MultiheadAttention(4, 2), "bias_k", 0, 1),
        (nn.Linear(3, 9), "weight", 0, 1),
    ],
)
def test_gates_and_packed_projections_are_blocks(layer, name, axis, blocks):
    assert num_blocks(layer, name, axis) == blocks


def test_of_each_block_the_leading_places_are_taken():
    assert blocks_index(3, 6, 12).tolist() == [0, 1, 4, 5, 8, 9]
    cut = cut_of(nn.LSTM(2, 2), "bias_ih_l0", (8,), (16,), "rnn")
    assert cut[0].tolist() == [0, 1, 4, 5, 8, 9, 12, 13]


def test_a_view_is_taken_of_a_box_and_a_copy_of_gathered_places():
    full = torch.arange(24.0).view(2, 3, 4)
    box = ((1, 1), None, (1, 2))
    assert torch.equal(take(full, box), full[1:2, :, 1:3])
    assert take(full, box).untyped_storage().data_ptr() == full.untyped_storage().data_ptr()
    gathered = (None, torch.tensor([2, 0]), (0, 3))
    assert torch.equal(take(full, gathered), full[:, [2, 0]][..., :3])
    assert is_box(box) and not is_box(gathered) and not is_whole(box)
    assert take(full, (None, None, None)) is full


def test_a_view_of_several_axes_has_the_gradient_of_its_places():
    full = torch.zeros(4, 4, requires_grad=True)
    take(full, ((1, 2), (0, 3))).sum().backward()
    expected = torch.zeros(4, 4)
    expected[1:3, :3] = 1
    assert torch.equal(full.grad, expected)


@pytest.mark.parametrize("cut", [(None, (1, 2)), ((0, 1), torch.tensor([3, 0])), (torch.tensor([1]), None)])
def test_a_region_indexes_what_is_taken(cut):
    full = torch.arange(8.0).view(2, 4)
    assert torch.equal(full[region(cut, full.shape, full.device)], take(full, cut))
    assert hash(signature(cut)) == hash(signature(cut))


def test_a_number_is_indexed_by_nothing():
    assert torch.tensor(3)[region((), (), torch.device("cpu"))] == 3


@pytest.mark.parametrize("above", ["", "net"])
def test_originals_of_a_parametrisation_are_about_its_layer(above):
    layer = nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 3, 3))
    net = nn.Sequential()
    net.net = layer
    tree = dict((net if above else layer).named_modules())
    dot = f"{above}." if above else ""
    assert plain_place(tree, f"{dot}parametrizations.weight", "original1") == (above, "weight")
    assert plain_place(tree, above, "bias") == (above, "bias")


def test_what_is_larger_than_shared_is_refused():
    with pytest.raises(LoweringError) as error:
        cut_of(nn.Linear(2, 3), "weight", (3, 2), (2, 2), "net.first")
    assert str(error.value) == (
        "cannot share a weight: a child has more of it than any child that was built before\n"
        "  at:       net.first.weight\n"
        "  got:      (3, 2) (tuple)\n"
        "  expected: at most (2, 2), the largest of the children at the ends of each decision\n"
        "  fix:      let sizes grow with their decisions, or make the largest one a candidate"
    )


def test_blocks_that_do_not_divide_are_refused():
    with pytest.raises(LoweringError, match="sizes that 4 blocks divide"):
        cut_of(nn.LSTM(2, 2), "bias_ih_l0", (6,), (16,), "rnn")
