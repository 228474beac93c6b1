"""Trials as frozen trials of Optuna: what each state becomes, and that all of it comes back."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest

import mutandis as mu
from mutandis.flows import Trial
from mutandis.flows.studies.objectives import parse_objectives

optuna = pytest.importorskip("optuna")
from mutandis.integrations.optuna_params import Parameters  # noqa: E402
from mutandis.integrations.optuna_trials import from_frozen, to_frozen  # noqa: E402

SPACE = mu.space({"lr": mu.floatv(1e-3, 1.0, name="lr"), "op": mu.oneof(["a", {"k": mu.intv(1, 5, name="k")}])})
ACCURACY = parse_objectives(("accuracy", "-cost"))
STATES = {
    "completed": "COMPLETE", "stopped": "PRUNED", "paused": "PRUNED", "failed": "FAIL", "skipped": "FAIL",
    "abandoned": "FAIL", "running": "RUNNING",
}  # fmt: skip


def made(state="completed", **changes):
    rewards = (0.5, 3.0) if state in ("completed", "stopped", "paused") else None
    return Trial(4, SPACE.dna({"lr": 0.25, "['op']": 0}), state, **{"rewards": rewards, **changes})


def frozen(trial):
    return to_frozen(trial, Parameters(SPACE), ACCURACY, id=77)


@pytest.mark.parametrize(("state", "expected"), STATES.items())
def test_every_state_has_one_in_optuna_that_it_takes_as_valid(state, expected):
    trial = frozen(made(state))
    assert trial.state.name == expected
    trial._validate()


@pytest.mark.parametrize("state", ["completed", "stopped", "paused"])
def test_values_stand_as_they_were_measured(state):
    assert frozen(made(state)).values == [0.5, 3.0]


def test_a_stopped_trial_without_rewards_has_no_values():
    assert frozen(made("stopped", rewards=None)).values is None


def test_a_trial_keeps_its_number_and_gets_the_id_of_the_storage():
    assert (frozen(made()).number, frozen(made())._trial_id) == (4, 77)


def test_the_curve_is_that_of_the_first_objective_by_whole_steps():
    curve = (
        (1, {"accuracy": 0.1, "cost": 9.0}),
        (2, {"cost": 8.0}),
        (2.5, {"accuracy": 0.2}),
        (2.75, {"accuracy": 0.3}),
    )
    assert frozen(made(curve=curve)).intermediate_values == {1: 0.1, 2: 0.3}


def test_metrics_and_the_rest_of_the_record_are_user_attributes():
    trial = made(metrics={"accuracy": 0.5, "f1": math.nan}, seconds=2.5, worker="w1", fidelity=9, parent=3)
    assert frozen(trial).user_attrs == {
        "accuracy": 0.5, "f1": "nan", "mutandis:state": "completed", "mutandis:seconds": 2.5, "mutandis:worker": "w1",
        "mutandis:attempt": 1, "mutandis:fidelity": 9, "mutandis:parent": 3,
    }  # fmt: skip


def test_user_attributes_are_json_that_browsers_read():
    trial = made(metrics={"f1": math.nan, "loss": math.inf, "gain": -math.inf})
    assert json.loads(json.dumps(frozen(trial).user_attrs, allow_nan=False))["gain"] == "-inf"


def test_a_trial_lasts_from_its_start_for_its_seconds():
    trial = frozen(made(started=1_700_000_000.0, seconds=90.0))
    assert trial.datetime_start.timestamp() == 1_700_000_000.0
    assert (trial.datetime_complete - trial.datetime_start).total_seconds() == 90.0


def test_a_running_trial_has_no_end():
    assert frozen(made("running")).datetime_complete is None


@pytest.mark.parametrize("state", [state for state in STATES if state != "running"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"metrics": {"f1": 0.5, "loss": math.inf}, "reason": "why", "fidelity": 3, "parent": 1, "attempt": 2},
        {"curve": ((1, {"accuracy": 0.1}), (3, {"accuracy": 0.4})), "seconds": 0.123456, "worker": "host:1"},
        {"started": 1_700_000_000.25},
    ],
    ids=["bare", "metrics", "curve", "started"],
)
def test_a_trial_comes_back(state, changes):
    trial = made(state, **changes)
    back = from_frozen(frozen(trial), Parameters(SPACE), ACCURACY, id=4)
    assert back == trial and back.started == trial.started


def test_a_foreign_trial_needs_nothing_but_its_parameters():
    trial = optuna.trial.create_trial(
        state=optuna.trial.TrialState.PRUNED,
        params={"lr": 0.5, "k": 3, "['op']": "a"},
        distributions={
            "lr": optuna.distributions.FloatDistribution(0.0, 1.0),
            "k": optuna.distributions.IntDistribution(1, 9),
            "['op']": optuna.distributions.CategoricalDistribution(("a", "b")),
        },
        intermediate_values={2: 0.2, 1: 0.1},
        user_attrs={"f1": 3, "note": "good", "flag": True},
    )
    back = from_frozen(trial, Parameters(SPACE), ACCURACY, id=0)
    assert (back.state, back.rewards, back.metrics) == ("stopped", None, {"f1": 3.0})
    assert back.curve == ((1, {"accuracy": 0.1}), (2, {"accuracy": 0.2}))
    assert back.dna.literals() == {"['lr']": 0.5, "['op']": "a"}


def test_a_state_that_was_changed_in_optuna_counts():
    trial = frozen(made("paused"))
    trial.state = optuna.trial.TrialState.COMPLETE
    assert from_frozen(trial, Parameters(SPACE), ACCURACY, id=4).state == "completed"


def test_an_open_ended_program_comes_back():
    space = mu.space({"code": mu.evolve([1], lambda program, rng: [*program, 2])})
    trial = dataclasses.replace(made(), dna=space.random(3))
    back = from_frozen(to_frozen(trial, Parameters(space), ACCURACY, id=4), Parameters(space), ACCURACY, id=4)
    assert back == trial
