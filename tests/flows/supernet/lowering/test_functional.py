"""Weights that code reads by itself: their places are proven like those of layers, or refused."""

from __future__ import annotations

import pytest
import supernet_zoo as zoo
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import mutandis as mu
from mutandis.errors import LoweringError
from mutandis.flows.supernet.lowering.functional import Owners, tensors_in
from mutandis.flows.supernet.lowering.layers import is_layer


def cuts(program, batch, values):
    """Returns the places that the live program uses along each axis that it cuts, by name of the tensor."""
    shared = mu.share_weights(program, batch)
    dna = shared.space.dna(values)
    shared.materialize(dna)
    shared.verify(dna, batch)
    return {f"{loan.path}.{loan.name}": [_places(axis) for axis in cut] for loan, cut in shared._live.loans()}


def _places(axis):
    if isinstance(axis, tuple):
        return list(range(axis[0], sum(axis)))
    return axis if axis is None else axis.tolist()


@mu.symbolize
class Joined(nn.Module):
    """Two layers side by side, and a weight that is multiplied in some way."""

    def __init__(self, first, second, how):
        super().__init__()
        self.a, self.b, self.how = nn.Linear(4, first), nn.Linear(4, second), how
        is_turned = how in ("linear", "conv", "transposed")
        self.own = nn.Parameter(torch.randn((3, first + second) if is_turned else (first + second, 3)))

    def forward(self, x):
        x = torch.cat([self.a(x), self.b(x)], -1)
        if self.how == "linear":
            return F.linear(x, self.own)
        if self.how == "conv":
            return F.conv1d(x[..., None], weight=self.own.unsqueeze(-1))
        if self.how == "einsum":
            return torch.einsum("bi,io->bo", x, self.own)
        if self.how == "addmm":
            return torch.addmm(x.new_zeros(3), x, self.own)
        return x @ (self.own.t() if self.how == "transposed" else self.own)


@pytest.mark.parametrize(
    ("how", "axis"), [("linear", 1), ("transposed", 1), ("times", 0), ("addmm", 0)]
)  # fmt: skip
def test_a_product_with_a_weight_of_ones_own_is_followed_like_a_layer(how, axis):
    program = Joined(mu.oneof([2, 4], name="first"), mu.oneof([1, 3], name="second"), how)
    found = cuts(program, zoo.features(3, 4), {"first": 0, "second": 0})
    assert found[".own"] == ([None, [0, 1, 4]] if axis else [[0, 1, 4], None])


@pytest.mark.parametrize("how", ["einsum", "conv"])
def test_a_weight_that_shows_nobody_where_it_stands_is_refused(how):
    program = Joined(mu.oneof([2, 4], name="first"), mu.oneof([1, 3], name="second"), how)
    with pytest.raises(LoweringError) as error:
        mu.share_weights(program, zoo.features(3, 4))
    assert str(error.value) == (
        "cannot tell which places of a shared weight belong to a smaller child\n"
        "  at:       module (the root)\n"
        "  expected: input channels that can be followed from layer to layer\n"
        "  fix:      keep its input size fixed, or pass positions='leading' if the leading places are right for you"
    )


@mu.symbolize
class Gains(nn.Module):
    """A factor per channel, and one that nothing uses."""

    def __init__(self, width):
        super().__init__()
        self.gain, self.unused = nn.Parameter(torch.ones(width)), nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x * self.gain


def test_a_factor_per_channel_is_shown_by_the_layer_behind_it():
    width = mu.oneof([2, 4], name="width")
    found = cuts(mu.nn.Sequential(mu.nn.Linear(4, width), Gains(width), mu.nn.Linear(width, 2)), zoo.features(3, 4),
                 {"width": 0})  # fmt: skip
    assert found["1.gain"] == found["1.unused"] == [[0, 1]]


class ChannelsFirst(nn.LayerNorm):
    def forward(self, x):
        return F.layer_norm(x.movedim(1, -1), self.normalized_shape, self.weight, self.bias, self.eps).movedim(-1, 1)


@mu.symbolize
class Normed(nn.Module):
    def __init__(self, first, second):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, first, 1), nn.Conv2d(3, second, 1)
        self.norm, self.out = ChannelsFirst(first + second), nn.Conv2d(first + second, 2, 1)

    def forward(self, x):
        return self.out(self.norm(torch.cat([self.a(x), self.b(x)], 1)))


def test_a_norm_over_an_axis_of_its_choice_is_followed():
    program = Normed(mu.oneof([2, 4], name="first"), mu.oneof([2, 3], name="second"))
    found = cuts(program, zoo.images(), {"first": 0, "second": 0})
    assert found["norm.weight"] == found["norm.bias"] == [[0, 1, 4, 5]]


@mu.symbolize
class LastState(nn.Module):
    def __init__(self, kind, width, both=False):
        super().__init__()
        self.kind, factor = kind, 2 if both else 1
        self.layer = (nn.LSTMCell if kind == "cell" else getattr(nn, kind))(
            4, width, **({} if kind == "cell" else {"bidirectional": both, "batch_first": True})
        )
        self.out = nn.Linear(width * factor, 2)

    def forward(self, x):
        if self.kind == "cell":
            state = None
            for now in x.unbind(1):
                state = self.layer(now, state)
            return self.out(state[0])
        packed = pack_padded_sequence(x, [x.shape[1]] * len(x), batch_first=True)
        outputs, state = self.layer(input=packed)
        state = state[0] if isinstance(state, tuple) else state
        return self.out(torch.cat(list(state), -1)) + pad_packed_sequence(outputs)[0].mean()


@pytest.mark.parametrize(
    ("kind", "both", "columns"),
    [("LSTM", False, [0, 1]), ("GRU", True, [0, 1, 3, 4]), ("RNN", False, [0, 1]), ("cell", False, [0, 1])],
)
def test_the_last_state_of_a_recurrent_layer_is_followed(kind, both, columns):
    program = LastState(kind, mu.oneof([2, 3], name="width"), both)
    found = cuts(program, zoo.features(3, 5, 4), {"width": 0})
    assert found["out.weight"] == [None, columns]


@mu.symbolize
class Decoder(nn.Module):
    """A recurrent layer that starts from what two layers made, one after the other."""

    def __init__(self, first, second):
        super().__init__()
        self.a, self.b, self.layer = nn.Linear(4, first), nn.Linear(4, second), nn.GRU(4, first + second)
        self.out = nn.Linear(first + second, 2)

    def forward(self, x):
        state = torch.cat([self.a(x), self.b(x)], -1)
        return self.out(self.layer(x[None], hx=state[None])[0])


def test_a_first_state_in_another_order_than_the_layers_own_is_refused():
    with pytest.raises(LoweringError, match="module layer"):
        mu.share_weights(Decoder(mu.oneof([2, 4]), mu.oneof([1, 3])), zoo.features(3, 4))
    assert mu.share_weights(Decoder(2, mu.oneof([1, 3])), zoo.features(3, 4)).report().unproven == ()


def test_a_parameter_is_nobodys_while_its_layer_runs():
    tree = {"": nn.Sequential(nn.Linear(2, 3)), "own": Gains(2)}
    tree["0"] = tree[""][0]
    owners = Owners(tree, is_layer)
    weight = tree["0"].weight
    assert set(owners.own) == {("own", "gain"), ("own", "unused")}
    assert owners.name(weight) == ("0", "weight") and owners.name(torch.ones(1)) is None
    assert owners.during(tree["0"], lambda x: owners.name(weight))(torch.ones(2)) is None
    assert owners.factor(weight) == (("0", "weight"), False) and owners.factor(weight.t()) == (("0", "weight"), True)
    assert owners.factor(weight[:2]) is None and owners.factor(None) is None


def test_the_tensors_of_an_output_are_found_in_containers():
    x = torch.ones(1)
    assert len(list(tensors_in([x, {"a": (x, "no"), "b": None}]))) == 2


@mu.symbolize
class Placed(nn.Module):
    """Positions that are added to an input, of which a child takes the first ones."""

    def __init__(self, length):
        super().__init__()
        self.place = nn.Parameter(torch.randn(length, 4))

    def forward(self, x):
        return x[:, : len(self.place)] + self.place


def test_a_parameter_that_meets_no_cut_layer_is_aligned_by_its_shape():
    found = cuts(Placed(mu.oneof([2, 3], name="length")), zoo.features(2, 5, 4), {"length": 0})
    assert found[".place"] == [[0, 1], None]
