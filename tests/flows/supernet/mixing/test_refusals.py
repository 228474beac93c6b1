"""The error for sizes that do not mix, as users meet it."""

from __future__ import annotations

import pytest
import supernet_zoo as zoo
import torch

import mutandis as mu
from mutandis.errors import LoweringError
from mutandis.flows.supernet import Mixture
from mutandis.flows.supernet.mixing.refusals import refusal


def test_the_error_says_where_and_what_would_do():
    point = mu.space(mu.oneof([1, 2], name="width")).points[0]
    assert str(refusal(point, "module net", "a layer that reads", "write another")) == (
        "cannot mix the sizes of a decision\n"
        "  at:       width, module net\n"
        "  got:      'one of [1, 2]' (str)\n"
        "  expected: a layer that reads\n"
        "  fix:      write another"
    )
    assert "  at:       width\n" in str(refusal(point, "", "a layer that reads"))


@pytest.mark.parametrize(
    ("name", "decision", "place"),
    [
        ("residual", "width", "width, module block"),  # A factor that depends on it.
        ("residual", "expansion", "expansion, module block"),
        ("deep", "depth", "depth, module blocks (ModuleList)"),
        ("attention", "heads", "heads, module out"),
        ("transformer", "width", "width, module layers.0.norm (LayerNorm)"),
        ("lstm", "hidden", "hidden, module rnn (LSTM)"),
        ("one dimension", "width", "width, module group"),  # Groups of another size.
        ("widths of layers", 0, "args[0].out_features, what the module returns"),  # Nobody reads the last width.
    ],
)
def test_programs_whose_sizes_do_not_mix_are_refused_with_their_place(name, decision, place):
    shared = mu.share_weights(*zoo.programs()[name])
    point = shared.points[decision] if isinstance(decision, int) else shared.space.point(decision)
    before = {key: tensor.clone() for key, tensor in shared.module.state_dict().items()}
    mixture = Mixture(torch.ones(point.num_candidates))
    with pytest.raises(LoweringError) as caught, shared.select(shared.space.random(0), {point.path: mixture}):
        pass
    assert str(caught.value).startswith(f"cannot mix the sizes of a decision\n  at:       {place}\n")
    assert all(torch.equal(tensor, before[key]) for key, tensor in shared.module.state_dict().items())
    assert shared.dna == shared.space.random(0)
    assert all(p.grad is None and p.dtype == torch.float32 for p in shared.module.parameters())


@pytest.mark.parametrize(
    ("name", "decision"),
    [("residual", "kernel"), ("transformer", "hidden"), ("lstm", "width"), ("gru", "width"), ("concat", "first")],
)
def test_other_sizes_of_the_same_programs_do_mix(name, decision):
    program, batch = zoo.programs()[name]
    shared = mu.share_weights(program, batch)
    count = shared.space.point(decision).num_candidates
    weights = torch.full((count,), 1 / count, requires_grad=True)
    with shared.select(shared.space.random(0), {decision: Mixture(weights)}) as live:
        live.train()(batch).square().sum().backward()
    assert bool(weights.grad.ne(0).all())
