"""Individuals and contexts."""

from __future__ import annotations

import json

import mutandis as mu
from mutandis.algorithms.evolution import Context, Individual
from mutandis.hyper import Rng

SPACE = mu.space({"x": mu.oneof([1, 2]), "m": mu.manyof(2, ["a", "b", "c"])})


def test_an_untried_individual_is_worse_than_any():
    assert Individual(SPACE.random(0)).reward == float("-inf")
    assert Individual(SPACE.random(0), (0.5, 0.1)).reward == 0.5


def test_an_individual_travels_through_json():
    individual = Individual(SPACE.random(0), (0.5,), 3)
    assert Individual.from_state(SPACE, json.loads(json.dumps(individual.to_state()))) == individual


def test_an_untried_individual_travels_through_json():
    individual = Individual(SPACE.random(1))
    assert Individual.from_state(SPACE, individual.to_state()) == individual


def test_a_context_begins_at_step_zero():
    assert Context(SPACE, Rng(0)).step == 0
