"""The network of NAO: known answers of summary, prediction, step and loss; legality; weights in one vector."""

from __future__ import annotations

import math

import pytest
import torch

import mutandis as mu
from mutandis.algorithms.predictors.nao_network import Network, Vocabulary, joint_loss, normalise, summary, uphill
from mutandis.algorithms.sequences import Codec
from mutandis.hyper import Rng
from mutandis.testing import contract_spaces

STATES = torch.tensor([[[0.6, 0.8], [1.0, 0.0]]], dtype=torch.float64)
MASK = torch.ones(1, 2, dtype=torch.float64)
WEIGHTS = torch.tensor([1.0, -2.0], dtype=torch.float64)


def score(code):
    return torch.sigmoid(code @ WEIGHTS + 0.5)


def close(tensor, expected):
    return torch.allclose(tensor, torch.tensor(expected, dtype=tensor.dtype), atol=1e-8)


def test_the_code_is_the_mean_of_the_states_with_norm_one():
    assert close(summary(STATES, MASK), [[0.894427191, 0.4472135955]])


def test_the_prediction_has_the_known_answer():
    assert close(score(summary(STATES, MASK)), [0.6224593312])


def test_a_step_uphill_has_the_known_answers():
    small = uphill(STATES, MASK, score, 1e-6)
    gradient = (small - STATES)[0] / 1e-6
    slope = torch.tensor([[0.13137107, -0.26274214]] * 2, dtype=torch.float64)
    along = slope - (slope * STATES[0]).sum(1, keepdim=True) * STATES[0]  # What is left after the norm is 1 again.
    assert torch.allclose(gradient, along, atol=1e-5)
    moved = uphill(STATES, MASK, score, 10.0)
    assert close(moved, [[[0.72322387, -0.69061367], [0.66088218, -0.75048967]]])
    assert close(score(summary(moved, MASK)), [0.9330898874])


def test_the_gradient_has_the_known_answer():
    states = STATES.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(score(summary(states, MASK)).sum(), states)
    assert close(gradient, [[[0.13137107, -0.26274214]] * 2])


def test_the_loss_has_the_known_answer():
    likelihood = -torch.tensor([math.log(2), math.log(4)], dtype=torch.float64).mean()
    predicted = score(summary(STATES, MASK))
    loss = joint_loss(predicted, torch.tensor([0.9], dtype=torch.float64), likelihood, 0.8)
    assert close(loss, 0.2695672124)


def test_padding_counts_neither_in_the_code_nor_in_the_step():
    padded = torch.cat([STATES, torch.full((1, 3, 2), 7.0, dtype=torch.float64)], dim=1)
    mask = torch.tensor([[1.0, 1, 0, 0, 0]], dtype=torch.float64)
    assert torch.allclose(summary(padded, mask), summary(STATES, MASK))
    assert torch.allclose(uphill(padded, mask, score, 10.0)[:, :2], uphill(STATES, MASK, score, 10.0))


def test_a_zero_vector_stays_zero():
    assert normalise(torch.zeros(2)).tolist() == [0.0, 0.0]


def network(codec, **settings):
    plain = {"embedding_size": 5, "hidden_size": 6, "mlp_size": 7, "num_mlp_layers": 2, "dropout": 0.0}
    vocabulary = Vocabulary(codec.slots)
    made = Network(vocabulary, **{**plain, **settings}, generator=torch.Generator().manual_seed(0))
    made.weights.requires_grad_(False)
    return made, vocabulary


def conditional():
    space = contract_spaces()["conditional"].bare()
    codec = Codec(space, canonical=True)
    return space, codec, [space.random(seed) for seed in range(12)]


def test_tokens_are_numbered_by_slot_and_option():
    codec = Codec(mu.space([mu.oneof(list("ab")), mu.oneof(list("abc"))]).bare())
    vocabulary = Vocabulary(codec.slots)
    assert vocabulary.size == 1 + 2 + 3
    assert [vocabulary.token(codec.slots[1], option) for option in range(3)] == [3, 4, 5]
    assert vocabulary.option(codec.slots[1], 4) == 1
    assert vocabulary.legal(codec.slots[1], (True, False, True)).tolist() == [False] * 3 + [True, False, True]


def test_the_options_of_a_step_share_all_of_its_probability():
    codec = Codec(mu.space([mu.permutate(list("abc")), mu.oneof(list("ab"))]).bare())
    net, vocabulary = network(codec)
    first = codec.decode([0, 1, 2, 0], Rng(0))
    states = net.encode(vocabulary.batch([codec.steps(first)]))
    total = 0.0
    for dna in mu.space([mu.permutate(list("abc")), mu.oneof(list("ab"))]).bare().enumerate():
        batch = vocabulary.batch([codec.steps(dna)])
        total += float(torch.exp(net.log_likelihood(batch, states) * 4))
    assert total == pytest.approx(1.0, abs=1e-5)


def test_a_batch_of_different_lengths_is_the_mean_over_steps():
    _, codec, dnas = conditional()
    net, vocabulary = network(codec)
    sequences = [codec.steps(dna) for dna in dnas]
    assert len(set(map(len, sequences))) > 1
    together = vocabulary.batch(sequences)
    single = [(len(s), net.log_likelihood(b, net.encode(b))) for s in sequences for b in [vocabulary.batch([s])]]
    expected = sum(n * float(value) for n, value in single) / sum(n for n, _ in single)
    assert float(net.log_likelihood(together, net.encode(together))) == pytest.approx(expected, abs=1e-5)


def test_states_have_norm_one_and_do_not_see_what_follows():
    _, codec, dnas = conditional()
    net, vocabulary = network(codec)
    steps = max((codec.steps(dna) for dna in dnas), key=len)
    states = net.encode(vocabulary.batch([steps]))
    assert torch.allclose(states.norm(dim=-1), torch.ones(1, len(steps)), atol=1e-6)
    assert torch.allclose(net.encode(vocabulary.batch([steps[:2]])), states[:, :2], atol=1e-6)


@pytest.mark.parametrize("name", [name for name in contract_spaces() if name != "empty"])
def test_whatever_the_states_only_legal_programs_are_decoded(name):
    space = contract_spaces()[name].bare()
    codec = Codec(space, canonical=True)
    net, vocabulary = network(codec)
    generator = torch.Generator().manual_seed(1)
    for _ in range(10):
        states = normalise(torch.randn(4, 6, generator=generator))
        dna, _ = codec.walk(net.chooser(vocabulary, states), Rng(0))
        assert space.dna(dna.to_json()) == dna


def test_decoding_takes_the_likeliest_option_of_each_step_given_those_before():
    space = mu.space([mu.oneof(list("abc")), mu.oneof(list("abcd"))]).bare()
    codec = Codec(space)
    net, vocabulary = network(codec)
    net.weights *= 25.0
    generator = torch.Generator().manual_seed(2)
    decoded = set()
    for _ in range(12):
        states = normalise(torch.randn(1, 2, 6, generator=generator))
        chance = torch.tensor([
            [2.0 * net.log_likelihood(vocabulary.batch([codec.steps(space.dna({"[0]": a, "[1]": b}))]), states)
             for b in range(4)] for a in range(3)
        ]).exp()  # fmt: skip
        first = int(chance.sum(dim=1).argmax())
        expected = (first, int(chance[first].argmax()))
        assert codec.walk(net.chooser(vocabulary, states[0]), Rng(0))[0].values == expected
        decoded.add(expected)
    assert len(decoded) > 3


def test_weights_are_drawn_from_the_generator_alone():
    _, codec, _ = conditional()
    before = torch.random.get_rng_state()
    first, _ = network(codec)
    second, _ = network(codec)
    assert torch.equal(first.weights, second.weights)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert float(first.weights.abs().max()) <= 0.1


def test_dropout_drops_its_share_and_keeps_the_mean_in_training_only():
    _, codec, _ = conditional()
    net, _ = network(codec, dropout=0.25)
    ones = torch.ones(200, 200)
    dropped = net._dropped(ones, True)
    assert float((dropped == 0).float().mean()) == pytest.approx(0.25, abs=0.01)
    assert float(dropped.mean()) == pytest.approx(1.0, abs=0.01)
    assert net._dropped(ones, False) is ones


def test_every_weight_is_used():
    _, codec, dnas = conditional()
    net, vocabulary = network(codec)
    net.weights.requires_grad_()
    batch = vocabulary.batch([codec.steps(dna) for dna in dnas])
    states = net.encode(batch)
    value = net.log_likelihood(batch, states) + net.score(summary(states, batch.mask_BT)).sum()
    (gradient,) = torch.autograd.grad(value, net.weights)
    for name in net._shapes:
        end, shape = net._shapes[name]
        assert float(gradient[end - math.prod(shape) : end].abs().sum()) > 0, name
