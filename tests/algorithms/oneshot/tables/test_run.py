"""What all runs of a policy share: draws that wait, a state, and the gradient of scores."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
import torch
from oneshot_probe import TRIPLE, vector

import mutandis as mu
from mutandis.algorithms.oneshot.protocol import Needs
from mutandis.algorithms.oneshot.selections import Selections, selections_of
from mutandis.algorithms.oneshot.tables.optimise import TableAdam
from mutandis.algorithms.oneshot.tables.policy import Policy
from mutandis.algorithms.oneshot.tables.relaxations import Noise
from mutandis.algorithms.oneshot.tables.run import TableSearch, score_gradients
from mutandis.hyper.rng import Rng


@dataclass(frozen=True)
class Kept:
    selections: Selections


class Plain(TableSearch[Kept]):
    def weights(self):
        return selections_of(self.policy_tables.space.random(self.noise.rng))

    def policy(self):
        return self._expect(Kept(selections_of(self.policy_tables.space.random(self.noise.rng), self._drawn)))

    def feedback(self, selections, *, loss=None, reward=None, virtual=None):
        if self._answered(selections) is not None:
            self._adam.step([vector(1.0, 0.0, 0.0)])

    def derive(self, evaluate=None):
        return self.policy_tables.space.random(0)


def plain(seed=0, most=3):
    policy = Policy(TRIPLE, Rng(seed))
    return Plain(Needs(), policy, Noise(Rng(seed, "noise")), TableAdam(policy.tables, 0.1), most)


def test_a_draw_is_answered_once_and_only_by_its_own_run():
    search, other = plain(), plain()
    chosen = search.policy()
    before = search.policy_tables.state()
    search.feedback(other.policy())
    search.feedback(search.weights())
    assert search.policy_tables.state() == before
    search.feedback(chosen)
    moved = search.policy_tables.state()
    assert moved != before
    search.feedback(chosen)
    assert search.policy_tables.state() == moved


def test_only_so_many_draws_wait():
    search = plain(most=2)
    first, second, third = (search.policy() for _ in range(3))
    before = search.policy_tables.state()
    search.feedback(first)
    assert search.policy_tables.state() == before
    search.feedback(second)
    after = search.policy_tables.state()
    search.feedback(third)
    assert before != after != search.policy_tables.state()


def test_a_state_leads_on_exactly_and_forgets_who_waits():
    first, second = plain(1), plain(2)
    first.feedback(first.policy())
    first.progress(0.5)
    waiting = first.policy()
    second.load_state_dict(json.loads(json.dumps(first.state_dict(), allow_nan=False)))
    assert second.state_dict() == first.state_dict()
    before = second.policy_tables.state()
    second.feedback(waiting)
    assert second.policy_tables.state() == before
    assert [second.policy().dna(TRIPLE) for _ in range(5)] == [first.policy().dna(TRIPLE) for _ in range(5)]


def test_what_is_watched_is_that_of_the_policy():
    search = plain()
    assert search.entropy() == search.policy_tables.entropy_by_path()
    assert search.probabilities() == search.policy_tables.chances_by_path()


def test_scores_are_weighed_by_their_advantages():
    policy = Policy(TRIPLE, Rng(0))
    policy.set_state([[0.0, 0.5, -0.5]])
    p = torch.softmax(vector(0.0, 0.5, -0.5), 0)
    dnas = [TRIPLE.dna_at(i) for i in (1, 0)]
    (found,) = score_gradients(policy, [(dnas[0], 0.6), (dnas[1], -0.2)])
    expected = -(0.6 * (vector(0, 1, 0) - p) - 0.2 * (vector(1, 0, 0) - p)) / 2
    assert found.tolist() == pytest.approx(expected.tolist(), abs=1e-12)


def test_tables_of_inactive_decisions_have_no_score():
    space = mu.space({"x": mu.oneof(["a", {"z": mu.oneof([1, 2])}])}).bare()
    policy = Policy(space, Rng(0))
    with torch.no_grad():
        found = score_gradients(policy, [(space.dna_at(0), 1.0)])
    assert found[0] is not None and found[1] is None
