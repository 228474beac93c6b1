"""Leanings: where they start, what stays, and that sampling and scoring lean alike."""

from __future__ import annotations

import collections

import pytest
import torch

import mutandis as mu
from mutandis.algorithms import PolicyRNN
from mutandis.algorithms.policies.controller import Controller
from mutandis.algorithms.policies.priors import OptionPrior, priors_by_slot
from mutandis.algorithms.sequences import Codec
from mutandis.errors import DecisionError, SettingError
from mutandis.hyper import Rng

SPACE = mu.space({"op": mu.oneof(["a", "b", "c"], name="op"), "edge": mu.oneof([0, 1], name="edge"),
                  "picks": mu.manyof(2, ["x", "y", "z"], name="picks")}).bare()  # fmt: skip


def controller(*priors, tanh_constant=None, init_range=1e-6):
    codec = Codec(SPACE, canonical=True)
    return codec, Controller(codec, hidden_size=3, num_layers=1, temperature=2.0, tanh_constant=tanh_constant,
                             init_range=init_range, generator=torch.Generator().manual_seed(0),
                             priors=priors_by_slot(priors, SPACE, codec))  # fmt: skip


def chances(codec, model):
    dnas = list(SPACE.enumerate())
    found = torch.softmax(model.log_probs([codec.steps(dna) for dna in dnas]).detach(), 0).tolist()
    return dict(zip(dnas, found, strict=True))


def marginal(codec, model, index):
    made = collections.Counter()
    for dna, chance in chances(codec, model).items():
        made[dna.values[index]] += chance
    return [made[value] for value in sorted(made)]


def test_a_start_is_divided_by_the_temperature_and_squashed_and_a_fixed_part_is_not():
    prior = OptionPrior(("op",), start=(4.0, 0.0, 0.0), fixed=(0.0, 0.5, 0.0), tanh_reduce=2.0)
    codec, model = controller(prior, tanh_constant=3.0)
    wanted = torch.softmax(torch.tensor([1.5 * torch.tanh(torch.tensor(2.0)), 0.5, 0.0]), 0)
    assert marginal(codec, model, 0) == pytest.approx(wanted.tolist(), abs=1e-5)
    assert marginal(codec, model, 1) == pytest.approx([0.5, 0.5], abs=1e-5)


def test_without_a_constant_only_the_fixed_part_is_left_alone():
    codec, model = controller(OptionPrior(("edge",), start=(2.0, 0.0), fixed=(0.0, 1.0)))
    assert marginal(codec, model, 1) == pytest.approx([0.5, 0.5], abs=1e-5)


def test_every_pick_of_a_decision_leans():
    codec, model = controller(OptionPrior(("picks",), fixed=(0.0, 3.0, 0.0)))
    first = collections.Counter()
    for dna, chance in chances(codec, model).items():
        first[dna.values[2][0]] += chance
    assert first[1] == pytest.approx(float(torch.softmax(torch.tensor([0.0, 3.0, 0.0]), 0)[1]), abs=1e-5)


def test_what_is_sampled_leans_as_what_is_scored():
    _, model = controller(OptionPrior(("op",), fixed=(2.0, 0.0, -1.0)), tanh_constant=2.0, init_range=1.0)
    rng = Rng(0)
    for _ in range(20):
        _, steps, log_prob = model.sample(rng)
        assert float(model.log_probs([steps]).detach()) == pytest.approx(log_prob, abs=1e-5)


def test_a_start_is_learnt_and_a_fixed_part_is_not():
    codec, model = controller(OptionPrior(("op",), start=(1.0, 0.0, 0.0), fixed=(0.5, 0.0, 0.0)))
    (slope,) = torch.autograd.grad(model.log_probs([codec.steps(SPACE.random(0))]).sum(), model.weights)
    assert model.weights.numel() == controller()[1].weights.numel()
    assert bool(model._views()[2].detach()[0] == 1.0) and bool(slope.abs().sum() > 0)


def test_a_search_by_trials_leans():
    search = PolicyRNN(hidden_size=4, priors=(OptionPrior(("op",), fixed=(9.0, 0.0, 0.0)),)).start(SPACE, seed=0)
    assert sum(search.propose().dna.values[0] == 0 for _ in range(40)) >= 38


def test_a_number_for_each_option_is_needed():
    with pytest.raises(SettingError) as caught:
        controller(OptionPrior(("edge",), fixed=(1.0, 0.0, 0.0)))
    assert str(caught.value) == (
        "cannot lean towards options\n  at:       ['edge']\n  got:      (1.0, 0.0, 0.0) (tuple)\n"
        "  expected: 2 numbers, one per option\n  fix:      give one number for each candidate"
    )


def test_a_decision_that_is_not_there_is_refused():
    with pytest.raises(DecisionError):
        controller(OptionPrior(("nowhere",)))


@pytest.mark.parametrize(
    ("make", "message"),
    [(lambda: OptionPrior(("op",), tanh_reduce=0), "OptionPrior.tanh_reduce\n  got:      0 (int)\n"
      "  expected: a finite number > 0\n  fix:      give a number within these bounds"),
     (lambda: OptionPrior(("op",), start=("a",)), "OptionPrior.start\n  got:      'a' (str)\n"
      "  expected: a finite number\n  fix:      give a number"),
     (lambda: PolicyRNN(priors=("op",)), "PolicyRNN.priors\n  got:      'op' (str)\n"
      '  expected: a OptionPrior\n  fix:      use OptionPrior(("op",), fixed=(0.25, -0.25))')],
)  # fmt: skip
def test_wrong_settings_are_refused(make, message):
    with pytest.raises(SettingError) as caught:
        make()
    assert str(caught.value) == "cannot use a setting\n  at:       " + message
