"""The recurrent controller: PPO's clip, what an update learns from, and what only a sequence can learn."""

from __future__ import annotations

import json
import math
import statistics

import pytest
import torch

import mutandis as mu
from mutandis.algorithms import Deduped, PolicyRNN, Reinforce
from mutandis.algorithms.policies.recurrent import VectorAdam, clipped_objective
from mutandis.algorithms.policies.reinforce import Adam
from mutandis.algorithms.sequences import Codec
from mutandis.errors import SettingError
from mutandis.hyper import Feedback
from mutandis.testing import answer, reward_of, run

TWINS = mu.space([mu.oneof([0, 1, 2, 3]), mu.oneof([0, 1, 2, 3])]).bare()
SMALL = {"hidden_size": 6, "learning_rate": 0.05, "batch_size": 4}


def small(update="ppo", space=TWINS, seed=0, **settings):
    return PolicyRNN(update, **{**SMALL, **settings}).start(space, seed=seed)


def weights(search):
    return search.state_dict()["weights"]


def log_probs(search, space=TWINS):
    """Returns the log-probability of every DNA under the controller of a search."""
    codec = Codec(space, canonical=True)
    with torch.no_grad():
        return search._controller.log_probs([codec.steps(dna) for dna in space.enumerate()])


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected", "flows"),
    [(1.3, 2.0, 2.4, False), (0.7, 2.0, 1.4, True), (1.3, -2.0, -2.6, True), (0.7, -2.0, -1.6, False),
     (1.1, 1.0, 1.1, True)],
)  # fmt: skip
def test_the_clip_stops_what_has_gone_far_enough(ratio, advantage, expected, flows):
    rho = torch.tensor([ratio], dtype=torch.float64, requires_grad=True)
    found = clipped_objective(rho, torch.tensor([advantage], dtype=torch.float64), 0.2)
    found.sum().backward()
    assert found.item() == pytest.approx(expected, abs=1e-12)
    assert bool(rho.grad) is flows


def test_adam_for_a_tensor_is_that_for_a_list():
    numbers, weights = [0.5, -1.0, 2.0], torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64, requires_grad=True)
    plain, vector = Adam(3, 0.01), VectorAdam(weights, 0.01)
    for gradient in ([1.0, -2.0, 0.0], [0.5, 3.0, 1e-9], [-1.0, 0.1, 7.0]):
        plain.step(numbers, gradient)
        vector.step(torch.tensor(gradient, dtype=torch.float64))
    assert weights.tolist() == pytest.approx(numbers, abs=1e-12)


@pytest.mark.parametrize("update", ["ppo", "reinforce"])
def test_an_update_comes_with_the_last_answer_of_a_batch(update):
    search = small(update)
    start = weights(search)
    run(search, 3)
    assert weights(search) == start
    run(search, 1)
    assert weights(search) != start


@pytest.mark.parametrize("update", ["ppo", "reinforce"])
def test_equal_rewards_teach_nothing_without_entropy(update):
    search = small(update, entropy_weight=0.0)
    start = weights(search)
    for _ in range(8):
        search.feedback(answer(search.propose(), 1.0))
    assert weights(search) == start


@pytest.mark.parametrize("update", ["ppo", "reinforce"])
def test_what_was_better_than_usual_becomes_likelier(update):
    search = small(update, batch_size=8, entropy_weight=0.0, learning_rate=0.01)
    before = log_probs(search)
    proposals = [search.propose() for _ in range(8)]
    best = proposals[3].dna
    for proposal in proposals:
        search.feedback(answer(proposal, float(proposal.dna == best)))
    assert log_probs(search)[TWINS.index_of(best)] > before[TWINS.index_of(best)]


def test_reinforce_follows_the_gradient_of_the_mean():
    search = small("reinforce", entropy_weight=0.0)
    proposals = [search.propose() for _ in range(4)]
    rewards = [1.0, 3.0, -2.0, 4.0]
    codec = Codec(TWINS, canonical=True)
    scored = search._controller.log_probs([codec.steps(p.dna) for p in proposals])
    objective = (torch.tensor(rewards) - 1.5).mul(scored).mean()
    (gradient,) = torch.autograd.grad(objective, search._controller.weights)
    for proposal, reward in zip(proposals, rewards, strict=True):
        search.feedback(answer(proposal, reward))
    assert torch.allclose(search._optimizer._first, -0.1 * gradient, atol=1e-7)


def test_the_baseline_is_that_of_the_rewards_before():
    search = small("reinforce", entropy_weight=0.0, batch_size=2, baseline_decay=0.5)
    for reward in (1.0, 3.0):
        search.feedback(answer(search.propose(), reward))
    assert search._baseline.value == pytest.approx((0.25 * 1 + 0.5 * 3) / 0.75)
    before = weights(search)
    for _ in range(2):  # Both are as usual, so that the gradient is 0 and only the momentum moves on.
        search.feedback(answer(search.propose(), (0.25 * 1 + 0.5 * 3) / 0.75))
    assert weights(search) != before
    assert float(search._optimizer._first.abs().max()) > 0


def test_entropy_is_paid_for_the_unlikely():
    search = small("reinforce", batch_size=1, entropy_weight=0.5)
    proposal = search.propose()
    log_prob = float(log_probs(search)[TWINS.index_of(proposal.dna)])
    search.feedback(answer(proposal, 2.0))
    assert search._baseline.value == pytest.approx(2.0 - 0.5 * log_prob, abs=1e-5)


def test_ppo_goes_over_a_batch_several_times():
    counts = {}
    for update, epochs in (("ppo", 3), ("ppo", 1), ("reinforce", 3)):
        search = small(update, num_epochs=epochs)
        run(search, 4)
        counts[update, epochs] = search.state_dict()["adam"][0]
    assert counts == {("ppo", 3): 3, ("ppo", 1): 1, ("reinforce", 3): 1}


def test_ppo_stops_within_the_clip():
    search = small("ppo", batch_size=1, num_epochs=200, learning_rate=0.002, entropy_weight=0.0, baseline_decay=0.9)
    search.feedback(answer(search.propose(), 0.0))
    proposal = search.propose()
    before = float(log_probs(search)[TWINS.index_of(proposal.dna)])
    search.feedback(answer(proposal, 1.0))
    ratio = math.exp(float(log_probs(search)[TWINS.index_of(proposal.dna)]) - before)
    assert 1.2 < ratio < 1.6  # It overshoots by Adam's momentum only; without the clip it would be above 4.


def test_a_late_answer_is_weighed_by_how_likely_it_was():
    search = small("ppo", entropy_weight=0.0)
    late = search.propose()
    drawn = float(log_probs(search)[TWINS.index_of(late.dna)])
    run(search, 12)
    search.feedback(answer(late, 1.0))
    assert search.state_dict()["batch"][0][1] == pytest.approx(drawn, abs=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda p: Feedback(None, p.dna, None, None, (1.0,)),
        lambda p: Feedback(99, p.dna, None, None, (1.0,)),
        lambda p: Feedback(p.id, p.dna),
        lambda p: Feedback(p.id, p.dna, None, None, (math.inf,)),
        lambda p: Feedback(p.id, TWINS.dna_at((TWINS.index_of(p.dna) + 1) % 16), None, None, (1.0,)),
    ],
    ids=["nobody asked", "unknown", "failed", "infinite", "another DNA"],
)
def test_what_the_controller_cannot_learn_from_is_left_aside(make):
    search = small(batch_size=1)
    search.feedback(answer(search.propose(), 0.0))
    before = weights(search)
    search.feedback(make(search.propose()))
    assert weights(search) == before
    assert search.state_dict()["batch"] == []


def test_the_state_of_an_unfinished_batch_leads_back_through_json():
    space = mu.space([mu.subset(list("abc"), min=1, max=2), mu.floatv(0.0, 1.0)]).bare()
    first, second = small(space=space), small(space=space, seed=0)
    run(first, 6)
    second.load_state_dict(json.loads(json.dumps(first.state_dict(), allow_nan=False)))
    assert second.state_dict() == first.state_dict()
    assert len(second.state_dict()["batch"]) == 2
    assert [dna.values for dna in run(first, 12)] == [dna.values for dna in run(second, 12)]
    assert second.state_dict() == first.state_dict()


def test_the_state_takes_sixteen_characters_a_weight():
    search = PolicyRNN().start(TWINS, seed=0)
    run(search, 20)
    num_weights = search._controller.weights.numel()
    assert num_weights == 9 * 100 + 8 * 100 + 8 + 2 * 400 * 100 + 400
    assert len(json.dumps(search.state_dict())) < 16 * num_weights + 3000


def test_seeds_give_other_weights():
    assert weights(small(seed=0)) != weights(small(seed=1))


def test_a_wrapper_that_replaces_proposals_does_not_mislead_it():
    found = run(Deduped(PolicyRNN(**SMALL), retries=1).start(TWINS, seed=0), 16)
    assert len(set(found)) == 16


def test_one_mistake_in_the_name_of_an_update_is_pointed_out():
    with pytest.raises(SettingError) as error:
        PolicyRNN(update="reinforced")
    assert str(error.value) == (
        "cannot use a setting\n"
        "  at:       PolicyRNN.update\n"
        "  got:      'reinforced' (str)\n"
        "  expected: 'ppo' or 'reinforce'; did you mean 'reinforce'?\n"
        "  fix:      write 'ppo'"
    )


@pytest.mark.parametrize(
    ("setting", "value"),
    [("hidden_size", 0), ("num_layers", 0), ("batch_size", 0), ("num_epochs", 0), ("bins", 0), ("learning_rate", 0.0),
     ("temperature", 0.0), ("init_range", 0.0), ("entropy_weight", -1.0), ("baseline_decay", 1.0), ("clip", 0.0),
     ("clip", 1.0), ("tanh_constant", 0.0), ("update", 3)],
)  # fmt: skip
def test_a_setting_out_of_its_range_is_refused(setting, value):
    with pytest.raises(SettingError) as error:
        PolicyRNN(**{setting: value})
    assert error.value.at == f"PolicyRNN.{setting}"


def test_several_objectives_are_refused():
    with pytest.raises(SettingError, match="cannot search for several objectives"):
        PolicyRNN().start(TWINS, seed=0, num_objectives=2)


def test_an_open_ended_space_is_refused():
    with pytest.raises(SettingError, match="cannot cut a decision into steps"):
        PolicyRNN().start(mu.space(mu.evolve([1], lambda program, rng: program)), seed=0)


def test_it_learns_a_conditional_space():
    inner = {"kind": mu.oneof(["a", "b", "c"]), "depth": mu.intv(1, 5)}
    space = mu.space({"top": mu.oneof(["none", inner, "other"])}).bare()
    search = PolicyRNN(hidden_size=16, learning_rate=0.02, batch_size=10).start(space, seed=0)
    first = statistics.mean(map(reward_of, run(search, 50)))
    run(search, 500)
    best = max(map(reward_of, space.enumerate()))
    assert statistics.mean(map(reward_of, run(search, 50))) > first + 0.7 * (best - first)


def value(log_prob):
    """Returns the mean of 1(a = b) - 0.2 log p(a, b): at most 1.277 of all, and 1.009 of independent decisions."""
    same = torch.tensor([float(dna.values[0] == dna.values[1]) for dna in TWINS.enumerate()])
    return float((log_prob.exp() * (same - 0.2 * log_prob)).sum())


def played(algorithm, seed, trials):
    search = algorithm.start(TWINS, seed=seed)
    for _ in range(trials):
        proposal = search.propose()
        search.feedback(answer(proposal, float(proposal.dna.values[0] == proposal.dna.values[1])))
    return search


def recurrent(update, seed, trials):
    chosen = PolicyRNN(update, hidden_size=16, learning_rate=0.01, batch_size=32, entropy_weight=0.2)
    return value(log_probs(played(chosen, seed, trials)))


def factorised(seed, trials):
    tables = played(Reinforce(learning_rate=0.003, entropy_weight=0.2), seed, trials).state_dict()["logits"]
    first, second = (torch.log_softmax(torch.tensor(table), 0) for table in tables)
    return value((first[:, None] + second[None, :]).reshape(-1))


def test_a_sequence_learns_what_independent_decisions_cannot():
    assert recurrent("reinforce", 0, 3200) > 1.2
    assert 0.9 < factorised(0, 16_000) < 1.05


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_a_sequence_comes_near_the_optimum(seed):
    assert recurrent("reinforce", seed, 25_600) > 1.2
    assert 0.9 < factorised(seed, 25_600) < 1.05


@pytest.mark.slow
def test_ppo_comes_near_the_optimum_on_most_seeds():
    found = [recurrent("ppo", seed, 12_800) for seed in range(5)]
    assert min(found) > 1.05
    assert statistics.median(found) > 1.2
