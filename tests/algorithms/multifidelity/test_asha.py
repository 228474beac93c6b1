"""ASHA: the serial trace that is known, promotions as results come, and the cost of finding the best."""

from __future__ import annotations

import functools
import json
import random
import statistics

import pytest
from listed import Listed, numbered

import mutandis as mu
from mutandis.algorithms import ASHA, Random
from mutandis.errors import SettingError, SpaceExhausted
from mutandis.hyper import Feedback

SPACE = mu.space({"x": mu.oneof(list(range(64)), name="x")}).bare()
LOSSES = [0.9, 0.5, 0.7, 0.3, 0.8, 0.6, 0.2, 0.4]


def started(**changes):
    given = {
        "min_fidelity": 1,
        "max_fidelity": 8,
        "eta": 2,
        "sampler": Listed(numbered(64)),
        "told": "every",
        **changes,
    }
    return ASHA(**given).start(SPACE, seed=0)


def answered(search, proposal, reward, fidelity=None):
    rewards = None if reward is None else (reward,)
    search.feedback(Feedback(proposal.id, proposal.dna, None, fidelity or proposal.fidelity, rewards))


def test_the_serial_trace_is_the_known_one():
    search = started(sampler=Listed(numbered(8)))
    made = []
    for _ in range(16):
        proposal = search.propose()
        made.append((proposal.dna["x"], [1, 2, 4, 8].index(proposal.fidelity)))
        answered(search, proposal, -LOSSES[proposal.dna["x"]])
    with pytest.raises(SpaceExhausted):
        search.propose()
    assert made == [
        (0, 0), (1, 0), (1, 1), (2, 0), (3, 0), (3, 1), (3, 2), (4, 0),
        (5, 0), (5, 1), (6, 0), (6, 1), (6, 2), (6, 3), (7, 0), (7, 1),
    ]  # fmt: skip


@functools.cache
def run_of(seed):
    """Returns the best configuration found, the true one, and the share of training all in full that it took."""
    draw = random.Random(seed)
    final = [draw.random() for _ in range(64)]
    search = ASHA(1, 64, 4, sampler=Listed(numbered(64)), told="every").start(SPACE, seed=0)
    cost, fidelities, found = 0.0, {None: 0.0}, []
    try:
        while True:
            proposal = search.propose()
            x, fidelity = proposal.dna["x"], proposal.fidelity
            cost += fidelity - fidelities[proposal.inherit]
            fidelities[proposal.id] = fidelity
            loss = final[x] + 1 / fidelity
            found.append((-fidelity, loss, x))
            answered(search, proposal, -loss)
    except SpaceExhausted:
        return min(found)[2], final.index(min(final)), cost / (64 * 64)


@pytest.mark.parametrize("seed", range(10))
def test_the_best_of_64_is_found_at_six_percent_of_the_cost(seed):
    found, best, cost = run_of(seed)
    assert found == best
    assert cost < 0.08


def test_the_mean_cost_is_the_known_one():
    assert statistics.fmean(run_of(seed)[2] for seed in range(10)) == pytest.approx(0.058, abs=5e-4)


def test_it_never_waits():
    search = started()
    proposals = [search.propose() for _ in range(30)]
    assert [p.dna["x"] for p in proposals] == list(range(30))
    for proposal in proposals[:4]:
        answered(search, proposal, float(proposal.id))
    assert [search.propose().dna["x"] for _ in range(3)] == [3, 2, 30]


def test_the_highest_rung_goes_first():
    search = started()
    pending = [search.propose() for _ in range(6)]
    for proposal in pending[:4]:
        answered(search, proposal, -proposal.dna["x"])
    for _ in range(2):  # 0 and 1 reach the second rung.
        pending.append(search.propose())
    for proposal in pending[4:]:
        answered(search, proposal, 1.0)
    assert [(p.dna["x"], p.fidelity) for p in (search.propose(), search.propose())] == [(0, 4.0), (4, 2.0)]


def test_a_configuration_inherits_from_its_own_last_training():
    search = started()
    made = []
    for _ in range(12):
        proposal = search.propose()
        made.append(proposal)
        answered(search, proposal, -LOSSES[proposal.dna["x"]])
    for proposal in made:
        earlier = [p.id for p in made[: proposal.id] if p.dna == proposal.dna]
        assert proposal.inherit == (earlier[-1] if earlier else None)


def test_retraining_inherits_nothing():
    search = started(resume="retrain")
    for _ in range(20):
        proposal = search.propose()
        assert proposal.inherit is None
        answered(search, proposal, 1.0)


@pytest.mark.parametrize(("reward", "fidelity"), [(None, None), (float("inf"), None), (9.0, 0.5)])
def test_failed_and_stopped_trials_do_not_go_on_but_count_for_the_size(reward, fidelity):
    search = started()
    pending = [search.propose() for _ in range(2)]
    answered(search, pending[0], reward, fidelity)
    answered(search, pending[1], 1.0)
    assert search.propose().dna["x"] == 1
    assert search.propose().dna["x"] == 2


def test_equal_rewards_go_on_as_their_results_came():
    search = started()
    pending = [search.propose() for _ in range(4)]
    for proposal in (pending[2], pending[0], pending[3], pending[1]):
        answered(search, proposal, 1.0)
    assert [search.propose().dna["x"] for _ in range(2)] == [2, 0]


def test_what_trained_in_full_is_forgotten():
    search = started(max_fidelity=1)
    for _ in range(20):
        answered(search, search.propose(), 1.0)
    assert search.state_dict()["members"] == []


def test_what_failed_is_forgotten():
    search = started()
    for _ in range(20):
        answered(search, search.propose(), None)
    assert search.state_dict()["members"] == []


def test_the_sampler_is_told_under_its_id_once_and_then_as_of_unasked_results():
    heard = []
    search = started(sampler=Listed(numbered(9), heard))
    for _ in range(3):
        answered(search, search.propose(), 1.0)
    assert [(number, x, fidelity) for number, x, fidelity, _ in heard] == [(0, 0, 1.0), (1, 1, 1.0), (None, 0, 2.0)]


@pytest.mark.parametrize("stop", [0, 3, 10, 25])
def test_fidelities_and_inheritance_resume_exactly_with_pending_proposals(stop):
    def trace(search, count):
        made = []
        for _ in range(count):
            proposal = search.propose()
            made.append((proposal.id, proposal.dna, proposal.fidelity, proposal.inherit))
            answered(search, proposal, -((proposal.dna["x"] * 7) % 5))
        return made

    first, second = started(), started()
    trace(first, stop)
    pending = [first.propose() for _ in range(4)]
    second.load_state_dict(json.loads(json.dumps(first.state_dict(), allow_nan=False)))
    for search in (first, second):
        answered(search, pending[1], 3.0)
    assert trace(first, 30) == trace(second, 30)


@pytest.mark.parametrize(
    ("changes", "at"),
    [
        ({"min_fidelity": -1}, "ASHA.min_fidelity"),
        ({"max_fidelity": None}, "ASHA.max_fidelity"),
        ({"eta": 0.5}, "ASHA.eta"),
        ({"sampler": Random}, "ASHA.sampler"),
        ({"resume": "other"}, "ASHA.resume"),
        ({"told": "other"}, "ASHA.told"),
        ({"enough": 1.5}, "ASHA.enough"),
    ],
)
def test_settings_out_of_range_are_refused(changes, at):
    with pytest.raises(SettingError) as caught:
        started(**changes)
    assert caught.value.at == at


def test_an_unknown_word_is_refused_in_full():
    with pytest.raises(SettingError) as caught:
        ASHA(1, 8, resume="restart")
    assert str(caught.value).splitlines() == [
        "cannot use a setting",
        "  at:       ASHA.resume",
        "  got:      'restart' (str)",
        "  expected: 'inherit' or 'retrain'; did you mean 'retrain'?",
        "  fix:      write 'inherit'",
    ]
