"""Studies to and from Optuna: what is written is read back, and what does not fit is told of."""

from __future__ import annotations

import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st

import mutandis as mu
from mutandis.errors import SettingError, StorageError

optuna = pytest.importorskip("optuna")
from mutandis.flows.studies.objectives import parse_objectives  # noqa: E402
from mutandis.flows.studies.trial import Trial  # noqa: E402
from mutandis.integrations import Imported, export_to_optuna, import_from_optuna  # noqa: E402

STATES = ["completed", "stopped", "paused", "failed", "skipped", "abandoned"]
optuna.logging.set_verbosity(optuna.logging.WARNING)


def program():
    return {"lr": mu.floatv(1e-4, 1.0, scale="log"), "op": mu.oneof(["pool", {"kernel": mu.oneof([3, 5])}])}


def recorded(space, states, objectives=("accuracy", "-cost")):
    """Returns a study with a trial of each state; every second one goes on from the one before."""
    study = mu.Study(name="mine")
    study.open(space, parse_objectives(objectives))
    for number, state in enumerate(states):
        parent = number - 1 if number % 2 else None
        trial = study.add(space.random(number), parent=parent)
        rated = state in ("completed", "stopped", "paused")
        study.finish(
            Trial(trial.id, trial.dna, state, rewards=(number / 4, 3.0) if rated else None, seconds=number / 8,
                  metrics={"f1": 0.5} if rated else None, curve=((1, {"accuracy": 0.25}),), parent=parent,
                  reason=None if rated else "why", fidelity=2.0 if rated else None)
        )  # fmt: skip
    return study


@given(strategies.spaces_and_dnas(), st.lists(st.sampled_from(STATES), max_size=5))
def test_what_is_exported_is_imported_again(drawn, states):
    study = recorded(drawn[0], states)
    imported = import_from_optuna(export_to_optuna(study), drawn[0])
    assert imported.set_aside == () and imported.study.trials == study.trials
    assert (imported.study.name, imported.study.objectives) == ("mine", study.objectives)
    assert imported.study.best == study.best


def test_it_comes_back_from_a_file(tmp_path):
    space = mu.space(program())
    study, url = recorded(space, STATES), f"sqlite:///{tmp_path}/optuna.db"
    export_to_optuna(study, url, "there")
    imported = import_from_optuna(optuna.load_study(study_name="there", storage=url), space, name="back")
    assert imported.study.trials == study.trials and imported.study.name == "back"


def test_optuna_goes_on_with_what_was_exported():
    made = export_to_optuna(recorded(mu.space(program()), ["completed"] * 3, ("accuracy", "-cost")))
    made.optimize(lambda trial: (trial.suggest_float("['lr']", 1e-4, 1.0, log=True), 1.0), n_trials=2)
    assert [trial.state.name for trial in made.trials] == ["COMPLETE"] * 5
    assert made.user_attrs == {"mutandis:space": mu.space(program()).fingerprint}


def test_running_trials_stay_here_and_parents_move_with_their_numbers():
    space = mu.space(program())
    study = recorded(space, ["completed", "running", "paused", "completed"])
    made = export_to_optuna(study)
    assert [trial.state.name for trial in made.trials] == ["COMPLETE", "PRUNED", "COMPLETE"]
    assert [trial.parent for trial in import_from_optuna(made, space).study.trials] == [None, None, 1]


def test_a_name_that_is_taken_is_refused(tmp_path):
    study, url = recorded(mu.space(program()), ["completed"]), f"sqlite:///{tmp_path}/optuna.db"
    export_to_optuna(study, url)
    with pytest.raises(StorageError) as caught:
        export_to_optuna(study, url)
    assert str(caught.value) == (
        "cannot export a study\n  at:       name\n  got:      'mine' (str)\n"
        "  expected: a name that the storage does not have yet\n"
        "  fix:      pass another name=, or optuna.delete_study(...) before"
    )


@pytest.mark.parametrize("study", [mu.Study(name="new"), "study.db"])
def test_what_was_never_searched_is_refused(study):
    with pytest.raises(SettingError) as caught:
        export_to_optuna(study)
    assert caught.value.expected == "a mu.Study that was searched"


def foreign(trials=12, direction="minimize"):
    """Returns a study of Optuna as people write them, with another range and an extra parameter now and then."""

    def objective(trial):
        loss = trial.suggest_float("lr", 1e-4, 10.0, log=True)
        if trial.suggest_categorical("op", ["pool", "conv"]) == "pool" and trial.number % 3 == 2:
            trial.suggest_int("extra", 1, 3)
        return loss

    study = optuna.create_study(direction=direction, sampler=optuna.samplers.RandomSampler(seed=0), study_name="theirs")
    study.optimize(objective, n_trials=trials)
    return study


FLAT = {"lr": mu.floatv(1e-4, 1.0, scale="log"), "op": mu.oneof(["pool", "conv"])}


def test_a_foreign_study_is_imported_and_misfits_are_set_aside_with_a_reason():
    theirs = foreign()
    fits = [trial for trial in theirs.trials if trial.params["lr"] <= 1.0 and "extra" not in trial.params]
    imported = import_from_optuna(theirs, FLAT)
    assert [trial.dna["lr" if "lr" in trial.dna else "['lr']"] for trial in imported.study] == [
        trial.params["lr"] for trial in fits
    ]
    assert [trial.rewards[0] for trial in imported.study] == [trial.value for trial in fits]
    assert {number for number, _ in imported.set_aside} == {t.number for t in theirs.trials} - {t.number for t in fits}
    assert str(imported.study.objectives[0]) == "-reward"


def test_the_reasons_tell_what_does_not_fit():
    theirs = optuna.create_study()
    kind = optuna.distributions
    for params, distributions in [
        ({"lr": 5.0, "op": "pool"}, {"lr": kind.FloatDistribution(0, 9), "op": kind.CategoricalDistribution(["pool"])}),
        ({"lr": 0.5, "oq": 1}, {"lr": kind.FloatDistribution(0, 9), "oq": kind.IntDistribution(0, 9)}),
        ({"lr": 0.5}, {"lr": kind.FloatDistribution(0, 9)}),
    ]:
        theirs.add_trial(optuna.trial.create_trial(value=1.0, params=params, distributions=distributions))
    theirs.ask()
    theirs.enqueue_trial({"lr": 0.5})
    imported = import_from_optuna(theirs, FLAT)
    assert str(imported) == (
        "imported 0 of 5 trials\n"
        "  trial 0: cannot use decision: ['lr']: got 5.0, expected a number in [0.0001, 1.0]\n"
        "  trial 1: cannot find the decision of a parameter: oq: got 1, expected the name or the path of a decision\n"
        "  trial 2: cannot leave out a decision: ['op']: got [\"['lr']\"], expected a parameter called \"['op']\"\n"
        "  trial 3: it is running\n"
        "  trial 4: it is waiting"
    )


def test_a_report_shows_five_reasons_and_counts_the_others():
    shown = str(Imported(mu.Study(), tuple((number, "why") for number in range(7)))).splitlines()
    assert shown[0] == "imported 0 of 7 trials" and shown[-1] == "  and 2 more" and len(shown) == 7


def test_what_a_predicate_refuses_is_set_aside():
    space = mu.space({"x": mu.oneof([1, 2])}).require(lambda child: child["x"] == 1)
    theirs = export_to_optuna(recorded(mu.space({"x": mu.oneof([1, 2])}), ["completed"] * 6))
    imported = import_from_optuna(theirs, space)
    assert {trial.dna.values for trial in imported.study} == {(0,)} and imported.set_aside


def test_parents_keep_to_the_trials_that_came_over():
    wide, narrow = ({"x": mu.floatv(0.0, high)} for high in (9.0, 1.0))
    space = mu.space(wide)
    study = mu.Study()
    study.open(space, parse_objectives(("accuracy",)))
    for number, (x, parent) in enumerate([(5.0, None), (0.1, 0), (0.2, None), (0.3, 2)]):
        study.add(space.dna({"['x']": x}), parent=parent)
        study.finish(Trial(number, space.dna({"['x']": x}), "completed", (1.0,), parent=parent))
    imported = import_from_optuna(export_to_optuna(study), narrow)
    assert [trial.parent for trial in imported.study] == [None, None, 1]
    assert [trial.id for trial in imported.study] == [0, 1, 2]


def test_a_search_goes_on_from_an_imported_study():
    theirs = foreign(6, "maximize")
    imported = import_from_optuna(theirs, FLAT, objectives="accuracy")
    before = len(imported.study)
    algorithm = mu.algorithms.HillClimb()
    loop = mu.sample(FLAT, algorithm, study=imported.study, objectives=("accuracy",), trials=before + 3)
    for child, feedback in loop:
        feedback(child["lr"])
    assert len(imported.study) == before + 3


@pytest.mark.parametrize("objectives", ["loss", ("-loss", "-cost")])
def test_objectives_that_do_not_go_with_the_directions_are_refused(objectives):
    with pytest.raises(SettingError) as caught:
        import_from_optuna(foreign(1), FLAT, objectives=objectives)
    assert caught.value.expected == "1 of them, smaller is better"


def test_several_values_without_names_are_numbered():
    theirs = optuna.create_study(directions=["maximize", "minimize"])
    objectives = import_from_optuna(theirs, FLAT).study.objectives
    assert [str(objective) for objective in objectives] == ["reward_0", "-reward_1"]
