"""Records of trials."""

from __future__ import annotations

import dataclasses
import pickle

import pytest

import mutandis as mu
from mutandis.algorithms import Grid
from mutandis.errors import SpaceError
from mutandis.flows import Trial


@mu.symbolize
class Net:
    def __init__(self, width):
        self.width = width


@pytest.fixture
def study():
    loop = mu.sample({"net": Net(mu.oneof([8, 16])), "on": mu.boolv()}, Grid())
    for child, feedback in loop:
        feedback(child["net"].width)
    return loop.study


def test_a_trial_builds_its_child_again(study):
    child = study.trials[3].child()
    assert child["net"].width == 16
    assert child["on"] is True


def test_every_child_of_a_trial_is_a_new_one(study):
    assert study.trials[0].child()["net"] is not study.trials[0].child()["net"]


def test_a_trial_of_a_part_builds_the_part(study):
    loop = mu.sample({"net": Net(mu.oneof([8, 16])), "on": mu.boolv()}, Grid(), where="['on']")
    for _, feedback in loop:
        feedback(0)
    child = loop.study.trials[1].child()
    assert child["on"] is True
    assert mu.space(child).size == 2


def test_a_trial_without_a_program_builds_nothing():
    dna = mu.space(mu.boolv()).default()
    with pytest.raises(SpaceError) as error:
        Trial(0, dna).child()
    assert str(error.value) == (
        "cannot materialize without a program\n"
        "  expected: a space made by mu.space(program)\n"
        "  fix:      keep that space; a bare one only has points"
    )


def test_a_trial_is_a_record_that_cannot_be_changed(study):
    with pytest.raises(dataclasses.FrozenInstanceError):
        study.trials[0].state = "failed"


def test_the_first_reward_is_the_reward():
    dna = mu.space(mu.boolv()).default()
    assert Trial(0, dna, rewards=(1.0, 2.0)).reward == 1.0
    assert Trial(0, dna).reward is None


def test_a_trial_pickles_with_its_program(study):
    again = pickle.loads(pickle.dumps(study.trials[3]))
    assert again == study.trials[3]
    assert again.child()["net"].width == 16


def test_the_repr_leaves_the_program_out(study):
    assert "space" not in repr(study.trials[0])


def test_a_trial_prints_on_one_line():
    space = mu.space({"lr": mu.floatv(0.1, 1.0), "op": mu.oneof(["conv", "pool"])})
    dna = space.dna({"['lr']": 0.123456789, "['op']": 1})
    assert (
        str(Trial(3, dna, "completed", (0.93,))) == "trial 3: completed, reward 0.93, {['lr']: 0.123457, ['op']: pool}"
    )
    assert (
        str(Trial(3, dna, "paused", (0.5,), fidelity=3.0))
        == "trial 3: paused at 3, reward 0.5, {['lr']: 0.123457, ['op']: pool}"
    )
    assert str(Trial(4, dna, "failed", reason="nan")) == "trial 4: failed (nan), {['lr']: 0.123457, ['op']: pool}"
