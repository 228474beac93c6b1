"""How a search begins."""

from __future__ import annotations

import pytest

import mutandis as mu
from mutandis.errors import SettingError, SpaceError
from mutandis.flows.opening import as_space, begin, need_amount


def test_a_search_begins_with_the_space_and_an_engine_over_its_study():
    study = mu.Study()
    space, engine = begin({"x": mu.oneof([1, 2])}, mu.algorithms.Grid(), study=study, objectives="loss", seed=0)
    assert engine.study is study
    assert [str(objective) for objective in study.objectives] == ["loss"]
    assert engine.next_turn().dna == space.dna_at(0)


def test_an_engine_has_been_through_the_trials_of_the_study():
    loop = mu.sample({"x": mu.intv(0, 99)}, mu.algorithms.Random(), trials=5, seed=3)
    for child, feedback in loop:
        feedback(child["x"])
    _, engine = begin({"x": mu.intv(0, 99)}, mu.algorithms.Random(), study=loop.study, objectives="reward", seed=3)
    loop = mu.sample({"x": mu.intv(0, 99)}, mu.algorithms.Random(), trials=6, seed=3)
    for child, feedback in loop:
        feedback(child["x"])
    assert engine.next_turn().dna == loop.study.trials[5].dna


@pytest.mark.parametrize("program", [{"x": 1}, [], mu.nn.Identity()])
def test_a_program_without_decisions_is_refused(program):
    with pytest.raises(SpaceError, match="without decisions"):
        as_space(program)


@pytest.mark.parametrize("value", [0, -1, 2.5, True, "many"])
def test_a_limit_that_is_no_amount_is_refused(value):
    with pytest.raises(SettingError, match="an int above 0, or None for no limit"):
        need_amount("trials", value, int)


def test_no_limit_is_fine():
    need_amount("trials", None, int)
    need_amount("timeout", 0.5, (int, float))
