"""The LSTM: shaped logits, masks, one distribution whether sampled or scored, and exact weights as text."""

from __future__ import annotations

import itertools
import json
import math

import pytest
import torch

import mutandis as mu
from mutandis.algorithms.policies.controller import Controller, one_thread, packed, shaped, unpacked
from mutandis.algorithms.sequences import Codec
from mutandis.hyper import Rng
from mutandis.testing import contract_spaces

PAIR = mu.space([mu.oneof([0, 1, 2]), mu.oneof([0, 1])])
CONDITIONAL = mu.space({"x": mu.oneof(["a", {"z": mu.oneof([1, 2])}]), "y": mu.oneof([1, 2, 3])})


def controller(space, *, seed=0, hidden_size=5, num_layers=2, **settings):
    chosen = {"temperature": 1.0, "tanh_constant": None, "init_range": 1.0, **settings}
    generator = torch.Generator().manual_seed(seed)
    codec = Codec(space, 4, canonical=True)
    return codec, Controller(codec, hidden_size=hidden_size, num_layers=num_layers, generator=generator, **chosen)


@torch.no_grad()
def reference(model, steps, num_layers, hidden_size, offsets):
    """Returns the log-probability of steps by torch's own LSTM cells, one child at a time."""
    embedding, head, bias, *cells = model._views()
    states = [(torch.zeros(1, hidden_size), torch.zeros(1, hidden_size)) for _ in range(num_layers)]
    token, total = 0, 0.0
    for step in steps:
        x = embedding[token : token + 1]
        for layer in range(num_layers):
            cell = torch.nn.utils.skip_init(torch.nn.LSTMCell, hidden_size, hidden_size)
            parts = (*cells[3 * layer : 3 * layer + 3], torch.zeros(4 * hidden_size))
            for parameter, part in zip(cell.parameters(), parts, strict=True):
                parameter.copy_(part)
            states[layer] = cell(x, states[layer])
            x = states[layer][0]
        first = offsets[step.slot.index]
        rows = slice(first, first + step.slot.num_options)
        logits = (x @ head[rows].T + bias[rows])[0]
        legal = torch.tensor(step.legal or [True] * step.slot.num_options)
        total += float(torch.log_softmax(logits.masked_fill(~legal, -math.inf), 0)[step.option])
        token = first + step.option + 1
    return total


def test_logits_are_divided_and_squashed():
    found = shaped(torch.tensor([10.0, -5.0, 0.0], dtype=torch.float64), 5.0, 2.5)
    assert found.tolist() == pytest.approx([2.4100689502, -1.9039853899, 0.0], abs=1e-8)
    chances = torch.softmax(found, 0)
    assert chances.tolist() == pytest.approx([0.9064635676, 0.0121277534, 0.081408679], abs=1e-8)
    assert -float((chances * chances.log()).sum()) == pytest.approx(0.3467247568, abs=1e-8)


def test_logits_are_only_squashed_where_asked():
    assert shaped(torch.tensor([3.0, -1.0]), 2.0, None).tolist() == [1.5, -0.5]


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("name", ["choice", "permutation", "subset", "conditional"])
def test_probabilities_are_those_of_torchs_cells(name, num_layers):
    codec, model = controller(contract_spaces()[name], num_layers=num_layers)
    offsets = [0, *itertools.accumulate(slot.num_options for slot in codec.slots)]
    rng = Rng(0)
    for _ in range(5):
        _, steps, log_prob = model.sample(rng)
        assert log_prob == pytest.approx(reference(model, steps, num_layers, 5, offsets), abs=1e-5)


@pytest.mark.parametrize("name", list(contract_spaces()))
def test_a_batch_is_scored_as_its_members_were_sampled(name):
    _, model = controller(contract_spaces()[name], temperature=2.0, tanh_constant=1.5)
    rng = Rng(1)
    drawn = [model.sample(rng) for _ in range(12)]
    scored = model.log_probs([steps for _, steps, _ in drawn])
    assert scored.tolist() == pytest.approx([log_prob for _, _, log_prob in drawn], abs=1e-5)


@pytest.mark.parametrize("space", [PAIR, CONDITIONAL, mu.space(mu.manyof(2, list("abcd"), ordered=False))])
def test_probabilities_of_all_dnas_sum_to_one(space):
    codec, model = controller(space)
    total = model.log_probs([codec.steps(dna) for dna in space.enumerate()]).exp().sum()
    assert total.item() == pytest.approx(1.0, abs=1e-5)


def test_dnas_are_drawn_with_their_probability():
    codec, model = controller(CONDITIONAL)
    dnas = list(CONDITIONAL.enumerate())
    chances = model.log_probs([codec.steps(dna) for dna in dnas]).exp().tolist()
    rng, trials = Rng(3), 1500
    found = [model.sample(rng)[0] for _ in range(trials)]
    for dna, chance in zip(dnas, chances, strict=True):
        assert abs(found.count(dna) - trials * chance) < 4.5 * math.sqrt(trials * chance * (1 - chance))


def test_a_later_step_depends_on_an_earlier_one():
    codec, model = controller(PAIR)
    joint = model.log_probs([codec.steps(dna) for dna in PAIR.enumerate()]).exp().reshape(3, 2)
    given = (joint / joint.sum(1, keepdim=True)).tolist()
    assert abs(given[0][0] - given[1][0]) > 0.01


def test_a_shorter_member_does_not_feel_the_longer_ones():
    codec, model = controller(CONDITIONAL)
    short, long = codec.trace([0, 1]), codec.trace([1, 0, 2])
    together = model.log_probs([short, long])
    alone = [model.log_probs([steps]).tolist()[0] for steps in (short, long)]
    assert together.tolist() == pytest.approx(alone, abs=1e-6)
    (gradient,) = torch.autograd.grad(together[0], model.weights, retain_graph=True)
    (alone,) = torch.autograd.grad(model.log_probs([short]).sum(), model.weights)
    assert torch.allclose(gradient, alone, atol=1e-6)
    assert bool(torch.isfinite(gradient).all())


def test_masked_options_leave_the_gradient_finite():
    codec, model = controller(mu.space(mu.permutate(list("abc"))))
    (gradient,) = torch.autograd.grad(model.log_probs([codec.trace([2, 0, 1])]).sum(), model.weights)
    assert bool(torch.isfinite(gradient).all())
    assert float(gradient.abs().sum()) > 0


def test_an_empty_space_has_one_certain_dna():
    _, model = controller(contract_spaces()["empty"])
    dna, steps, log_prob = model.sample(Rng(0))
    assert (dna.to_dict(), steps, log_prob) == ({}, (), 0.0)
    assert model.log_probs([steps, steps]).tolist() == [0.0, 0.0]


def test_weights_start_within_their_range_and_leave_the_global_generator_alone():
    before = torch.random.get_rng_state()
    _, model = controller(PAIR, init_range=0.1, hidden_size=20)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert 0.09 < model.weights.abs().max().item() <= 0.1
    assert abs(model.weights.mean().item()) < 0.005


def test_weights_are_drawn_from_the_seed():
    weights = [controller(PAIR, seed=seed)[1].weights for seed in (0, 0, 1)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def fail_in_one_thread():
    with one_thread():
        assert torch.get_num_threads() == 1
        raise KeyError


def test_one_thread_computes_and_all_are_given_back():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(KeyError):
            fail_in_one_thread()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_controller_is_made_of_the_settings_of_its_algorithm_and_goes_on_from_its_state():
    settings = mu.algorithms.PolicyRNN(hidden_size=3, num_layers=2, temperature=2.0, tanh_constant=1.5, init_range=0.5)
    codec = Codec(PAIR.bare(), 4, canonical=True)
    made, other = (Controller.of(settings, PAIR.bare(), codec, Rng(seed, "made")) for seed in (0, 1))
    assert torch.equal(made.weights, Controller.of(settings, PAIR.bare(), codec, Rng(0, "made")).weights)
    assert not torch.equal(made.weights, other.weights) and made.weights.abs().max() > 0.4
    other.set_state(json.loads(json.dumps(made.state())))
    assert torch.equal(made.weights, other.weights) and other.weights.requires_grad
    _, steps, log_prob = made.sample(Rng(0))
    plain = Controller(codec, hidden_size=3, num_layers=2, temperature=2.0, tanh_constant=1.5, init_range=0.5,
                       generator=torch.Generator())  # fmt: skip
    plain.set_state(made.state())
    assert plain.log_probs([steps]).tolist()[0] == pytest.approx(log_prob, rel=1e-5)


def test_weights_are_exact_as_text():
    numbers = torch.randn(100, generator=torch.Generator().manual_seed(0)) ** 9
    text = json.loads(json.dumps(packed(numbers)))
    assert torch.equal(unpacked(text), numbers)
    assert len(text) == math.ceil(400 / 3) * 4


def test_the_text_is_little_endian():
    assert packed(torch.tensor([1.0])) == "AACAPw=="
