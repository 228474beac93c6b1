"""Trials and studies as rows, facts and JSON."""

from __future__ import annotations

import pytest

import mutandis as mu
from mutandis.cli.records import duration, show_trials, shown_name, study_facts, study_record, trial_record


@pytest.fixture
def study(made):
    return mu.Study(made)


def test_the_record_of_a_trial_names_its_rewards_and_decisions(study):
    trial = study.trials[0]
    record = trial_record(study, trial)
    assert record["rewards"] == {"accuracy": trial.rewards[0], "cost": trial.rewards[1]}
    assert record["decisions"] == trial.dna.literals() and record["dna"] == trial.dna.to_json()
    assert (record["id"], record["state"], record["worker"]) == (0, "completed", trial.worker)


def test_a_trial_without_a_reward_has_none(study):
    record = trial_record(study, study.trials[3])
    assert (record["rewards"], record["reason"], record["state"]) == (None, "too wide", "skipped")


def test_a_curve_is_kept():
    study = mu.Study()
    for _, feedback in mu.sample({"x": mu.boolv()}, mu.algorithms.Random(), trials=1, study=study):
        feedback.report({"loss": 0.5}, step=1)
        feedback(1)
    assert trial_record(study, study.trials[0])["curve"] == [{"step": 1, "metrics": {"loss": 0.5}}]


def test_the_record_of_a_study_has_its_counts_and_the_trials_that_are_asked_for(study):
    record = study_record(study, study.trials[:2])
    assert record["objectives"] == ["accuracy", "-cost"] and record["counts"] == {"completed": 11, "skipped": 1}
    assert [trial["id"] for trial in record["trials"]] == [0, 1] and record["best"] == study.best.id


def test_the_facts_of_a_study(study):
    facts = study_facts(study, "s.db")
    assert list(facts) == ["study", "trials", "objectives", "decisions", "work", "best", "front"]
    assert facts["study"] == "s.db" and facts["trials"] == "12 (11 completed, 1 skipped)"
    assert facts["objectives"] == "accuracy, cost (smaller is better)" and facts["decisions"] == 2
    assert facts["front"] == f"{len(study.front)} trials" and facts["best"] == str(study.best)


def test_the_facts_of_an_empty_study():
    assert study_facts(mu.Study()) == {"study": "in memory", "trials": "none yet"}


def test_a_study_is_called_by_its_place_and_by_its_name_where_it_has_one():
    assert shown_name(mu.Study(), None) == "in memory"
    assert shown_name(mu.Study(), "s.db") == "s.db"
    assert shown_name(mu.Study(name="mine"), "s.db") == "s.db (mine)"


def test_the_password_of_a_server_is_not_shown():
    assert shown_name(mu.Study(), "postgresql://me:secret@host/base") == "postgresql://me@host/base"


def test_a_long_reason_is_cut_in_a_table_and_whole_in_json(capsys):
    loop = mu.sample({"x": mu.intv(0, 3)}, mu.algorithms.Random(), trials=1)
    for _, feedback in loop:
        feedback.skip("too\nwide " + "x" * 100)
    show_trials(loop.study, loop.study.trials)
    assert f"  too wide {'x' * 68}...  " in capsys.readouterr().out.splitlines()[1]
    assert trial_record(loop.study, loop.study.trials[0])["reason"] == "too\nwide " + "x" * 100


def test_a_table_has_only_columns_that_say_something(study, capsys):
    show_trials(study, study.top(2))
    heads, first, second = capsys.readouterr().out.splitlines()
    assert heads.split() == ["trial", "state", "accuracy", "cost", "seconds", "decisions"]
    assert first.split()[0] == str(study.best.id) and second.endswith(str(study.top(2)[1].dna))
    show_trials(study, study.trials)
    assert "reason" in capsys.readouterr().out.splitlines()[0].split()


@pytest.mark.parametrize(("seconds", "text"), [(0.5, "0.5 s"), (59, "59 s"), (90, "1.5 min"), (5400, "1.5 h")])
def test_durations(seconds, text):
    assert duration(seconds) == text
