"""Labels that say which places of a shared tensor belong together."""

from __future__ import annotations

import pytest
import supernet_zoo as zoo
import torch
from torch import nn

import mutandis as mu
from mutandis.errors import LoweringError
from mutandis.flows.supernet.lowering.labels import label
from mutandis.flows.supernet.lowering.positions import match


def cuts(program, batch, values):
    shared = mu.share_weights(program, batch)
    shared.materialize(shared.space.dna(values))
    return {f"{loan.path}.{loan.name}": [places(axis) for axis in cut] for loan, cut in shared._live.loans()}


def places(axis):
    if isinstance(axis, tuple):
        return list(range(axis[0], sum(axis)))
    return axis if axis is None else axis.tolist()


def test_behind_a_concatenation_the_columns_of_each_branch_are_found():
    program, batch = zoo.programs()["concat"]
    found = cuts(program, batch, {"first": 1, "second": 0})
    assert found["out.weight"][1] == found["norm.bias"][0] == found["norm.running_var"][0] == [0, 1, 4, 5]


@pytest.mark.parametrize(
    ("how", "factor", "rows", "columns"),
    [
        ("flat", 1, [0, 1], list(range(8))),
        ("channels_last", 1, [0, 1], [0, 1, 4, 5, 8, 9, 12, 13]),
        ("gated", 2, [0, 1, 4, 5], list(range(8))),
        ("packed", 3, [0, 1, 4, 5, 8, 9], list(range(8))),
        ("shuffled", 1, [0, 1], [0, 1, 2, 3, 8, 9, 10, 11]),
        ("doubled", 1, [0, 1], list(range(8))),
    ],
)
def test_whatever_order_the_code_puts_channels_in_is_followed(how, factor, rows, columns):
    program = zoo.Rearranged(mu.oneof([4, 2]), how, factor, size=4)
    found = cuts(program, zoo.images(size=2), {"width": 1})
    assert found["first.weight"][0] == rows and found["last.weight"][1] == columns


def test_code_that_mixes_channels_is_refused():
    with pytest.raises(LoweringError) as error:
        mu.share_weights(zoo.Rearranged(mu.oneof([4, 2]), "mixed"), zoo.images(size=4))
    assert str(error.value) == (
        "cannot tell which places of a shared weight belong to a smaller child\n"
        "  at:       module last\n"
        "  expected: input channels that can be followed from layer to layer\n"
        "  fix:      keep its input size fixed, or pass positions='leading' if the leading places are right for you"
    )


def test_both_directions_of_a_recurrent_layer_are_found():
    program, batch = zoo.programs()["lstm"]
    found = cuts(program, batch, {"width": 1, "hidden": 0, "dropout": 0.1})
    assert found["head.weight"][1] == [0, 1, 2, 3, 8, 9, 10, 11]
    assert found["rnn.weight_ih_l1"][1] == [0, 1, 2, 3, 8, 9, 10, 11]


def test_a_depthwise_layer_keeps_the_order_of_its_input():
    @mu.symbolize
    class Net(nn.Module):
        def __init__(self, a, b):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, a, 1), nn.Conv2d(3, b, 1)
            self.deep = nn.Conv2d(a + b, a + b, 3, padding=1, groups=a + b)
            self.out = nn.Conv2d(a + b, 2, 1)

        def forward(self, x):
            return self.out(self.deep(torch.cat([self.a(x), self.b(x)], 1)))

    found = cuts(Net(mu.oneof([4, 2]), 2), zoo.images(), {"a": 1})
    assert found["deep.weight"][0] == found["deep.bias"][0] == found["out.weight"][1] == [0, 1, 4, 5]


@pytest.mark.parametrize(("groups", "is_fine"), [(2, False), (None, True)])
def test_a_fixed_number_of_groups_is_refused_and_a_fixed_size_is_not(groups, is_fine):
    @mu.symbolize
    class Net(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.first = nn.Conv2d(3, width, 1)
            self.grouped = nn.Conv2d(width, width, 1, groups=groups or width // 4)

        def forward(self, x):
            return self.grouped(self.first(x))

    program = Net(mu.oneof([8, 16]))
    if is_fine:
        assert mu.share_weights(program, zoo.images()).report().unproven == ()
    else:
        with pytest.raises(LoweringError, match="module grouped"):
            mu.share_weights(program, zoo.images())


def test_groups_whose_channels_have_moved_are_refused():
    @mu.symbolize
    class Net(nn.Module):
        def __init__(self, a):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, a, 1), nn.Conv2d(3, 4, 1)
            self.grouped = nn.Conv2d(a + 4, a + 4, 1, groups=(a + 4) // 4)

        def forward(self, x):
            return self.grouped(torch.cat([self.a(x), self.b(x)], 1))

    with pytest.raises(LoweringError, match="module grouped"):
        mu.share_weights(Net(mu.oneof([4, 8])), zoo.images())


def test_queries_and_keys_that_meet_elsewhere_are_refused():
    @mu.symbolize
    class Crossed(zoo.Attention):
        def forward(self, x):
            q = self.embed(x)[:, None]
            k = q.flip(-1)
            return self.out(nn.functional.scaled_dot_product_attention(q, k, q)[:, 0])

    with pytest.raises(LoweringError, match="attention 1 query"):
        mu.share_weights(Crossed(mu.oneof([8, 16]), 1), zoo.features(2, 5, 8))


def test_a_label_depends_on_its_index_alone():
    whole = label("a", (4, 5, 6))
    assert torch.equal(label("a", (2, 5, 3)), whole[:2, :, :3])
    assert torch.equal(label("a", (4, 2, 6), 1, torch.tensor([3, 0])), whole[:, [3, 0]])
    assert not torch.equal(label("b", (4, 5, 6)), whole)
    assert len(whole.unique()) == 120 and float(whole.min()) >= 0.5 and float(whole.max()) < 1.5
    many = label("c", (10_000,))
    assert abs(float(many.mean()) - 1.0) < 0.02 and abs(float(many.std()) - 12**-0.5) < 0.01


def test_signatures_are_matched_by_value_and_equal_ones_by_place():
    known = torch.tensor([0.3, 0.7, 0.7, 0.1], dtype=torch.float64)
    assert match(known[[3, 0]], known).tolist() == [3, 0]
    assert match(known[[0, 1, 2]], known).tolist() == [0, 1, 2]
    assert match(torch.tensor([0.2], dtype=torch.float64), known) is None
    assert match(torch.cat([known, known]), known) is None


def test_one_factor_and_one_constant_leave_the_order():
    known = label("d", (6,))
    assert match(known[:5] * 3 - 2, known).tolist() == [0, 1, 2, 3, 4]
    assert match(known[[1, 0, 2, 3, 4]] * 3, known) is None
    assert match(known[:3] * 3, known) is None
