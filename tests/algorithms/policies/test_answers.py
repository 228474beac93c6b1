"""What a policy keeps for the answers to come."""

from __future__ import annotations

import json
import math

import pytest

import mutandis as mu
from mutandis.algorithms.policies.answers import MOST_PENDING, Baseline, Drawn, Pending, drawn_from, drawn_state
from mutandis.algorithms.sequences import Codec
from mutandis.hyper import Feedback, Rng

SPACE = mu.space({"picks": mu.manyof(2, list("abc"), ordered=False), "rate": mu.floatv(0.0, 1.0)}).bare()
CODEC = Codec(SPACE)


def pending():
    """Returns a memory of one proposal, number 3, whose picks were drawn as c, a."""
    script = iter([2, 0, 7])
    dna, steps = CODEC.walk(lambda slot, legal: next(script), Rng(0))
    made = Pending(SPACE, CODEC)
    made.add(3, dna, steps, -1.5)
    return made, dna, steps


def answer(number, dna, reward):
    return Feedback(number, dna, None, None, None if reward is None else (reward,))


def test_an_answer_finds_the_steps_in_the_order_they_were_drawn_in():
    made, dna, steps = pending()
    found = made.pop(answer(3, dna, 0.25))
    assert (found.steps, found.log_prob, found.reward) == (steps, -1.5, 0.25)
    assert [step.option for step in found.steps] == [2, 0, 7]


def test_answered_proposals_go_through_json():
    _, _, steps = pending()
    batch = [Drawn(steps, -1.5, 0.25), Drawn(steps, 0.0, 1.0)]
    state = json.loads(json.dumps(drawn_state(batch), allow_nan=False))
    assert state == [[[2, 0, 7], -1.5, 0.25], [[2, 0, 7], 0.0, 1.0]]
    assert drawn_from(CODEC, state) == batch


@pytest.mark.parametrize("reward", [None, math.nan, math.inf, -math.inf])
def test_a_failed_or_infinite_answer_teaches_nothing(reward):
    made, dna, _ = pending()
    assert made.pop(answer(3, dna, reward)) is None
    assert len(made) == 0


@pytest.mark.parametrize("number", [None, 4])
def test_an_answer_that_nobody_asked_for_is_left_aside(number):
    made, dna, _ = pending()
    assert made.pop(answer(number, dna, 1.0)) is None
    assert len(made) == 1


def test_another_dna_than_was_drawn_is_left_aside():
    made, _, _ = pending()
    assert made.pop(answer(3, SPACE.random(1), 1.0)) is None
    assert len(made) == 0


def test_a_second_answer_is_left_aside():
    made, dna, _ = pending()
    assert made.pop(answer(3, dna, 1.0)) is not None
    assert made.pop(answer(3, dna, 1.0)) is None


def test_the_oldest_are_forgotten_where_nobody_answers():
    made, dna, steps = pending()
    for number in range(4, 4 + MOST_PENDING):
        made.add(number, dna, steps)
    assert len(made) == MOST_PENDING
    assert made.pop(answer(3, dna, 1.0)) is None
    assert made.pop(answer(4, dna, 1.0)) is not None


def test_the_state_leads_back_through_json():
    made, dna, steps = pending()
    again = Pending(SPACE, CODEC)
    again.set_state(json.loads(json.dumps(made.state())))
    assert again.state() == made.state()
    found = again.pop(answer(3, dna, 1.0))
    assert (found.steps, found.log_prob) == (steps, -1.5)


def test_a_baseline_has_no_value_at_first():
    assert Baseline(0.9).value is None


def test_a_baseline_is_an_average_that_prefers_the_present():
    baseline = Baseline(0.9)
    assert [baseline.add(reward) for reward in (80.0, 90.0, 70.0)] == pytest.approx(
        [80.0, 85.26315789473684, 79.6309963099631], abs=1e-10
    )
    assert baseline.value == pytest.approx((0.81 * 80 + 0.9 * 90 + 70) / 2.71, abs=1e-10)


def test_a_baseline_of_equal_rewards_is_that_reward():
    baseline = Baseline(0.99)
    assert all(baseline.add(3.5) == pytest.approx(3.5, abs=1e-12) for _ in range(50))


def test_a_baseline_goes_on_from_its_state():
    first, second = Baseline(0.7), Baseline(0.7)
    first.add(1.0)
    second.set_state(json.loads(json.dumps(first.state())))
    assert first.add(4.0) == second.add(4.0)
