"""NAO: rounds, what is generated, and that it is better than what it learnt from."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import mutandis as mu
from mutandis.algorithms.predictors.nao import NAO, CodeModel, scaled
from mutandis.algorithms.predictors.nao_network import joint_loss, summary
from mutandis.errors import SettingError
from mutandis.hyper import Feedback, Rng
from mutandis.testing import answer, run

SPACE = mu.space([mu.oneof(list(range(5))) for _ in range(6)]).bare()
TABLE = np.random.default_rng(7).random((6, 5))
SMALL = NAO(
    num_initial=8, num_new=4, num_top=3, epochs=2, batch_size=4, embedding_size=4, hidden_size=4, mlp_size=4,
    num_mlp_layers=1, max_eta=2,
)  # fmt: skip


def reward(dna):
    return float(TABLE[np.arange(6), list(dna.values)].sum())


def sample(count):
    return [SPACE.random(seed) for seed in range(count)]


def test_rewards_are_scaled_between_the_worst_and_the_best():
    assert scaled([1.0, 3.0, 2.0]) == [0.0, 1.0, 0.5]


def test_equal_rewards_are_scaled_to_one_half():
    assert scaled([4.0, 4.0]) == [0.5, 0.5]


def test_huge_rewards_are_scaled_without_overflow():
    assert scaled([-1.7e308, 1.7e308, 0.0]) == [0.0, 1.0, 0.5]


def test_random_dnas_come_first_and_none_is_repeated():
    found = run(SMALL.start(SPACE, seed=0), 30)
    assert len(set(found)) == 30
    fewer = run(NAO(num_initial=8).start(SPACE, seed=0), 8)
    assert found[:8] == fewer


def test_a_round_begins_when_the_last_one_is_used_up():
    search = SMALL.start(SPACE, seed=0)
    rounds = []
    for _ in range(17):
        proposal = search.propose()
        search.feedback(answer(proposal))
        rounds.append(search.state_dict()["round"])
    assert rounds == [0] * 8 + [1] * 4 + [2] * 4 + [3]


def test_what_cannot_be_generated_is_drawn():
    algorithm = NAO(num_initial=3, num_new=50, num_top=1, epochs=1, hidden_size=2, mlp_size=2, max_eta=1)
    search = algorithm.start(SPACE, seed=0)
    assert len(set(run(search, 53))) == 53
    assert search.state_dict()["round"] == 1


def test_without_answers_everything_is_drawn():
    search = SMALL.start(SPACE, seed=0)
    assert len({search.propose().dna for _ in range(20)}) == 20


@pytest.mark.parametrize("bad", [float("inf"), None])
def test_failed_trials_are_not_learnt_from(bad):
    search = SMALL.start(SPACE, seed=0)
    for dna in sample(9):
        search.feedback(Feedback(None, dna, None, None, None if bad is None else (bad,)))
    assert search.state_dict()["results"] == []


def test_a_resumed_run_fits_the_same_network():
    first, second = (SMALL.start(SPACE, seed=3) for _ in range(2))
    pending = [first.propose() for _ in range(3)]
    run(first, 7)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for search in (first, second):
        search.feedback(answer(pending[0], 99.0))
    assert run(first, 15) == run(second, 15)


def losses(epochs):
    model = CodeModel(NAO(epochs=epochs, hidden_size=16, mlp_size=16, embedding_size=8, learning_rate=0.01), SPACE, 0)
    results = [(dna, reward(dna)) for dna in sample(60)]
    model.fit(results, 1)
    batch = model._vocabulary.batch([model._codec.steps(dna) for dna, _ in results])
    model.network.weights.requires_grad_(False)
    states = model.network.encode(batch)
    predicted = model.network.score(summary(states, batch.mask_BT))
    likelihood = model.network.log_likelihood(batch, states)
    truth = torch.tensor(scaled([value for _, value in results]))
    error = float(((predicted - truth) ** 2).mean())
    return float(joint_loss(predicted, truth, likelihood, 0.8)), error, float(likelihood)


def test_a_fit_learns_both_to_rate_and_to_decode():
    before, after = losses(1), losses(60)
    assert after[0] < before[0] and after[1] < 0.5 * before[1] and after[2] > before[2] + 0.3


def test_weight_decay_makes_weights_smaller():
    results = [(dna, reward(dna)) for dna in sample(10)]
    norms = []
    for decay in (0.0, 0.1):
        model = CodeModel(NAO(epochs=30, hidden_size=4, mlp_size=4, weight_decay=decay, learning_rate=0.01), SPACE, 0)
        model.fit(results, 1)
        norms.append(float(model.network.weights.detach().norm()))
    assert norms[1] < 0.8 * norms[0]


def fitted_model():
    model = CodeModel(SMALL, SPACE, 0)
    results = [(dna, reward(dna)) for dna in sample(20)]
    model.fit(results, 1)
    return model, results


def test_no_more_dnas_are_generated_than_asked_for():
    model, results = fitted_model()
    found = model.generate(results, set(), Rng(0))
    assert 1 <= len(found) == len(set(found)) <= 4


def test_what_was_seen_is_not_generated():
    model, results = fitted_model()
    first = model.generate(results, set(), Rng(0))
    assert not set(first) & set(model.generate(results, set(first), Rng(0)))


def test_steps_uphill_start_from_the_best_results():
    model, results = fitted_model()
    started = []
    steps = model._codec.steps
    model._codec.steps = lambda dna: started.append(dna) or steps(dna)
    model.generate(results, set(), Rng(0))
    assert started == sorted((dna for dna, _ in results), key=reward, reverse=True)[:3]


@pytest.mark.slow
def test_generated_dnas_are_better_than_those_it_learnt_from():
    settings = NAO(epochs=150, num_new=50, num_top=50, learning_rate=3e-3, hidden_size=48)
    dnas = sample(200)
    results = [(dna, reward(dna)) for dna in dnas]
    model = CodeModel(settings, SPACE, 0)
    model.fit(results, 1)
    found = model.generate(results, set(dnas), Rng(0))
    known = [value for _, value in results]
    assert len(found) >= 20
    assert np.mean([reward(dna) for dna in found]) > np.mean(known) + 1.5 * np.std(known)


def test_an_open_ended_decision_is_refused():
    space = mu.space(mu.evolve([1, 2], lambda node, rng: node)).bare()
    with pytest.raises(SettingError, match="cannot cut a decision into steps"):
        NAO().start(space, seed=0)


@pytest.mark.parametrize(
    "bad",
    [{"num_initial": 1}, {"num_new": 0}, {"epochs": 0}, {"learning_rate": 0.0}, {"weight_decay": -1.0}, {"clip": 0.0},
     {"trade_off": 1.1}, {"dropout": 1.0}, {"max_eta": 0}],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(bad):
    with pytest.raises(SettingError, match=f"NAO.{next(iter(bad))}"):
        NAO(**bad)
