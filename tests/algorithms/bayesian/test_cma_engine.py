"""The engine: generations, exact states, foreign solutions."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

import mutandis as mu
from mutandis.algorithms.bayesian.cma_axes import Axes
from mutandis.algorithms.bayesian.cma_engine import Engine, Sample
from mutandis.errors import MissingDependency, SettingError
from mutandis.hyper import space

PROGRAMS = {
    "plain": [mu.floatv(0.0, 1.0), mu.floatv(0.0, 1.0)],
    "mixed": [mu.floatv(0.0, 1.0), mu.intv(0, 9), mu.oneof([1, 2, 3])],
    "choices": [mu.oneof([1, 2, 3]), mu.oneof([1, 2])],
    "steps": [mu.intv(0, 9), mu.intv(0, 99)],
}


def engine_of(name):
    axes = Axes(space(PROGRAMS[name]).bare())
    return Engine(axes, np.full(axes.num_numbers, 0.5), 0.2, 6)


def generation(engine, first):
    samples = [engine.ask(seed) for seed in range(first, first + 6)]
    return [(sum(sample.numbers) + sum(sample.picks), sample) for sample in samples]


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_restored_engine_goes_on_bit_for_bit(name):
    engine, other = engine_of(name), engine_of(name)
    engine.tell(generation(engine, 0))
    other.load_state_dict(json.loads(json.dumps(engine.state_dict(), allow_nan=False)))
    for first in (10, 20, 30):
        assert engine.tell(generation(engine, first)) == other.tell(generation(other, first))
    assert engine.state_dict() == other.state_dict()
    assert engine.ask(5) == other.ask(5)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_draw_is_a_function_of_its_seed(name):
    engine = engine_of(name)
    assert engine.ask(3) == engine.ask(3)
    assert len({engine.ask(seed) for seed in range(20)}) > 1


@pytest.mark.parametrize("name", PROGRAMS)
def test_generations_move_towards_smaller_losses(name):
    engine = engine_of(name)
    losses = []
    for first in range(0, 600, 6):
        made = generation(engine, first)
        losses.append(np.mean([loss for loss, _ in made]))
        engine.tell(made)
    assert np.mean(losses[-5:]) < losses[0] - 0.2


@pytest.mark.parametrize("name", PROGRAMS)
def test_equal_losses_are_taken(name):
    engine = engine_of(name)
    for first in range(0, 60, 6):
        engine.tell([(1.0, sample) for _, sample in generation(engine, first)])
    assert engine.is_sound()


def test_a_state_of_another_kind_is_refused():
    with pytest.raises(SettingError, match="a state that the same version of cmaes wrote"):
        engine_of("plain").load_state_dict(engine_of("choices").state_dict())


def test_a_near_foreign_solution_stays_and_a_far_one_comes_closer():
    engine = engine_of("plain")
    near, far = Sample((0.6, 0.5), ()), Sample((0.5, 9.5), ())
    assert engine.shortened(near) == near
    limit = np.sqrt(2) + 2 * 2 / (2 + 2)  # In deviations of 0.2.
    assert engine.shortened(far).numbers == pytest.approx((0.5, 0.5 + 0.2 * limit))


def test_without_cmaes_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cmaes", None)
    with pytest.raises(MissingDependency) as error:
        engine_of("plain")
    assert str(error.value) == (
        "cannot start CMAES\n"
        "  at:       CMAES\n"
        "  expected: the package cmaes\n"
        "  fix:      pip install 'mutandis[bayesian]'"
    )
