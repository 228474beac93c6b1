"""Studies: the best, the front, the tables."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

import mutandis as mu
from mutandis.algorithms import Grid, Random
from mutandis.errors import MissingDependency, SettingError
from mutandis.flows.studies.objectives import parse_objectives


def study_of(rewards, **options):
    """Returns a study of trials that were answered with `rewards`, in order; None skips."""
    loop = mu.sample({"x": mu.intv(1, 99)}, Grid(), trials=len(rewards), **options)
    for reward, (_, feedback) in zip(rewards, loop):
        feedback.skip("no") if reward is None else feedback(reward)
    return loop.study


def ids(trials):
    return [trial.id for trial in trials]


def test_a_new_study_is_empty():
    study = mu.Study()
    assert (len(study), study.trials, study.best, study.front, study.top()) == (0, (), None, (), ())
    assert (study.rows(), study.counts()) == ([], {})
    assert bool(study)


def test_the_best_is_the_largest_and_the_first_of_equals():
    assert study_of([1, 3, 2, 3]).best.id == 1


def test_the_best_is_the_smallest_where_the_objective_has_a_minus():
    study = study_of([{"loss": 3}, {"loss": 1}, {"loss": 2}], objectives="-loss")
    assert study.best.id == 1
    assert study.best.reward == 1.0


def test_trials_without_a_reward_are_never_best():
    assert study_of([None, float("nan"), float("inf"), -5]).best.id == 3


def test_a_study_of_failures_has_no_best():
    assert study_of([None, float("nan")]).best is None


def test_the_front_holds_what_nothing_else_beats():
    points = [(0.5, 10), (0.9, 50), (0.4, 20), (0.9, 60), (0.6, 30), (0.5, 10)]
    study = study_of_two(points)
    assert ids(study.front) == [0, 1, 4, 5]
    assert study.best.id == 1


def study_of_two(points):
    loop = mu.sample({"x": mu.intv(1, 99)}, Random(), trials=len(points), objectives=("accuracy", "-latency"))
    for (accuracy, latency), (_, feedback) in zip(points, loop):
        feedback({"accuracy": accuracy, "latency": latency})
    return loop.study


def test_rewards_are_recorded_as_they_were_measured():
    study = study_of_two([(0.5, 10)])
    assert study.trials[0].rewards == (0.5, 10.0)
    assert study.signed(study.trials[0]) == (0.5, -10.0)


def test_the_front_of_one_objective_holds_the_best():
    assert ids(study_of([1, 3, 2, None]).front) == [1]


def test_the_top_are_the_best_first():
    assert ids(study_of([1, 4, None, 2, 3]).top(3)) == [1, 4, 3]


def test_the_top_names_every_dna_once():
    study = mu.Study()
    for reward, (_, feedback) in zip([1, 2, 3, 4, 5, 6], mu.sample(mu.boolv(), Random(), trials=6, study=study)):
        feedback(reward)
    top = study.top(6)
    assert len({trial.dna for trial in top}) == len(top) == 2
    assert top[0] is study.best


def test_a_stopped_trial_counts_wherever_it_has_a_reward():
    loop = mu.sample(mu.boolv(), Random(), trials=1, stop=lambda trial: True)
    for _, feedback in loop:
        feedback.should_stop()
        feedback(1)
    study = loop.study
    assert study.best is study.front[0] is study.top()[0] is study.trials[0]


# Fidelities.


def study_of_lengths(*trials, objectives="reward"):
    """Returns a study of trials that end in a state, with a fidelity and rewards."""
    study, space = mu.Study(), mu.space(mu.intv(1, 99))
    study.open(space, parse_objectives(objectives))
    for number, (state, fidelity, *rewards) in enumerate(trials):
        record = study.add(space.dna({"": number + 1}))
        study.finish(replace(record, state=state, fidelity=fidelity, rewards=tuple(map(float, rewards))))
    return study


def test_the_best_is_looked_for_at_the_largest_fidelity_alone():
    study = study_of_lengths(
        ("paused", 1, 9), ("paused", 3, 5), ("completed", 9, 2), ("stopped", 3, 8), ("completed", 9, 3)
    )
    assert study.best.id == 4


def test_the_top_lists_the_largest_fidelity_first():
    study = study_of_lengths(
        ("paused", 1, 9), ("paused", 3, 5), ("completed", 9, 2), ("stopped", 3, 8), ("completed", 9, 3)
    )
    assert ids(study.top(9)) == [4, 2, 3, 1, 0]


def test_who_trained_as_long_as_it_liked_trained_longest():
    study = study_of_lengths(("completed", None, 1), ("stopped", 50, 9), ("stopped", None, 7), ("completed", None, 2))
    assert study.best.id == 3
    assert ids(study.top(9)) == [3, 0, 1, 2]


def test_the_front_holds_the_largest_fidelity_alone():
    study = study_of_lengths(
        ("paused", 1, 9, 9),
        ("completed", 3, 1, 2),
        ("completed", 3, 2, 1),
        ("completed", 3, 1, 1),
        objectives=("a", "b"),
    )
    assert ids(study.front) == [1, 2]


def test_rows_have_fidelity_and_parent_where_there_are_any():
    study = study_of_lengths(("paused", 1, 9), ("completed", None, 5))
    study.finish(replace(study.add(study.trials[0].dna, parent=0), state="completed", rewards=(1.0,), fidelity=3))
    assert [(row.get("fidelity"), row.get("parent")) for row in study.rows()] == [(1, None), (None, None), (3, 0)]


def test_states_are_counted():
    assert study_of([1, None, float("nan"), 2]).counts() == {"completed": 2, "skipped": 1, "failed": 1}


def test_a_study_is_a_sequence_of_trials():
    study = study_of([1, 2])
    assert len(study) == 2
    assert list(study) == list(study.trials)
    assert ids(study.trials) == [0, 1]


def test_a_study_prints_its_name_and_length():
    assert repr(mu.Study("mine")) == "Study('mine', 0 trials)"


def test_rows_are_flat_and_readable():
    loop = mu.sample({"op": mu.oneof(["conv", "pool"]), "x": mu.intv(1, 9)}, Grid(), trials=1)
    for _, feedback in loop:
        feedback(3, metrics={"loss": 0.5})
    (row,) = loop.study.rows()
    assert row.pop("seconds") >= 0
    assert row == {"id": 0, "state": "completed", "reward": 3.0, "loss": 0.5, "['op']": "conv", "['x']": 1}


def test_rows_of_trials_without_a_reward_leave_it_out():
    assert "reward" not in study_of([None]).rows()[0]


def test_a_data_frame_needs_pandas(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingDependency) as error:
        study_of([1]).to_frame()
    assert str(error.value) == (
        "cannot make a data frame\n"
        "  at:       Study.to_frame\n"
        "  expected: pandas\n"
        "  fix:      pip install 'mutandis[frame]', or use study.rows()"
    )


def test_a_data_frame_is_made_of_the_rows(monkeypatch):
    class Pandas:
        DataFrame = staticmethod(lambda rows: ("frame", rows))

    monkeypatch.setitem(sys.modules, "pandas", Pandas)
    study = study_of([1])
    assert study.to_frame() == ("frame", study.rows())


def test_a_name_that_is_no_text_is_refused():
    with pytest.raises(SettingError) as error:
        mu.Study(3)
    assert str(error.value) == (
        "cannot name a study\n"
        "  at:       name\n"
        "  got:      3 (int)\n"
        "  expected: a text\n"
        '  fix:      write mu.Study("my search")'
    )
