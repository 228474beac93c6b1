"""Trackers: what stands in TensorBoard's files, in MLflow's store and in the calls of Weights & Biases."""

from __future__ import annotations

import dataclasses
import sys
import types

import pytest

import mutandis as mu
from mutandis.errors import MissingDependency, SettingError
from mutandis.integrations import MLflow, TensorBoard, WeightsAndBiases
from mutandis.integrations.trackers import results_of, settings_of

TRACKERS = {
    "TensorBoard": TensorBoard,
    "MLflow": lambda: MLflow("e"),
    "WeightsAndBiases": lambda: WeightsAndBiases("p"),
}


def program():
    return [
        mu.floatv(1e-3, 1.0, name="lr"),
        mu.oneof(["pool", {"kernel": mu.oneof([3, None], name="kernel")}], name="op"),
        {"use": mu.subset(["a", "b", "c"])},
    ]


@pytest.fixture
def study():
    """A study of four trials: two completed, one that failed, one that is running."""
    loop = mu.sample(
        program(), mu.algorithms.Random(), study=mu.Study(name="mine"), objectives=("acc", "-cost"), seed=1
    )
    for number, (_, feedback) in enumerate(loop):
        if number == 2:
            feedback.fail("out of memory")
            continue
        if number == 3:
            yield loop.study
            feedback.skip()
            break
        feedback.report({"acc": 0.25, "cost": 4.0}, step=1)
        feedback.report({"acc": 0.5}, step=2.5)
        feedback({"acc": 0.75, "cost": 3.0, "f1": 0.125 * number})


def test_settings_are_plain_values_of_active_decisions_by_name_or_path():
    space = mu.space(program())
    loop = mu.sample(space, mu.algorithms.Random(), trials=1)
    next(loop)[1](0.0)
    [trial] = loop.study
    dna = space.dna({"lr": 0.5, "op": 1, "kernel": 1, "[2]['use']": [0, 2]})
    changed = types.SimpleNamespace(dna=dna, state=trial.state)
    assert settings_of(changed) == {"lr": 0.5, "op": "{'kernel': kernel}", "kernel": "None", "[2]['use']": "a, c"}
    changed.dna = space.dna({"lr": 0.5, "op": 0, "[2]['use']": []})
    assert settings_of(changed) == {"lr": 0.5, "op": "pool", "[2]['use']": ""}


def test_results_are_rewards_as_measured_and_the_other_metrics(study):
    assert results_of(study, study.trials[1]) == {"acc": 0.75, "cost": 3.0, "f1": 0.125}
    assert results_of(study, study.trials[2]) == {}


def test_a_reward_without_a_name_is_called_like_the_objective():
    loop = mu.sample({"x": mu.oneof([1])}, mu.algorithms.Random(), trials=1, objectives=("acc",))
    next(loop)[1](0.5)
    assert results_of(loop.study, loop.study.trials[0]) == {"acc": 0.5}


@pytest.mark.parametrize("name", TRACKERS)
def test_a_trial_that_is_running_is_refused(study, name):
    with pytest.raises(SettingError) as caught:
        TRACKERS[name]()(study, study.trials[3])
    assert caught.value.problem == "cannot write a trial that is running"
    assert (caught.value.at, caught.value.fix) == (f"mu.integrations.{name}", "call it behind feedback(...)")


@pytest.mark.parametrize(
    ("name", "module", "package"),
    [
        ("TensorBoard", "torch.utils.tensorboard", "tensorboard"),
        ("MLflow", "mlflow", "mlflow-skinny"),
        ("WeightsAndBiases", "wandb", "wandb"),
    ],
)
def test_a_missing_library_is_named(study, monkeypatch, name, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependency) as caught:
        TRACKERS[name]()(study, study.trials[0])
    assert str(caught.value) == (
        f"cannot write trials to a tracker\n  at:       mu.integrations.{name}\n"
        f"  expected: the package {package}\n  fix:      pip install {package}"
    )


def events(directory):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulator.EventAccumulator(str(directory))
    found.Reload()
    return found


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_has_a_run_with_curves_results_and_decisions(study, tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    board = TensorBoard(tmp_path)
    for trial in study.trials[:3]:
        board(study, trial)
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["trial-00000", "trial-00001", "trial-00002"]
    found = events(tmp_path / "mine" / "trial-00001")
    assert [(event.step, event.value) for event in found.Scalars("acc")] == [(1, 0.25), (2, 0.5)]
    assert [(event.step, event.value) for event in found.Scalars("final/acc")] == [(2, 0.75)]
    data = found.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert b"completed" in data and b"lr" in data and b"op" in data
    assert b"failed" in events(tmp_path / "mine" / "trial-00002").summary_metadata[
        "_hparams_/session_start_info"].plugin_data.content  # fmt: skip


@pytest.fixture
def mlflow(tmp_path, monkeypatch):
    found = pytest.importorskip("mlflow", reason="mlflow is not installed")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    return found, f"sqlite:///{tmp_path}/mlflow.db"


@pytest.mark.filterwarnings("ignore")  # MLflow's migrations of an empty store warn of their own.
def test_mlflow_has_a_run_for_each_trial(study, mlflow):
    module, uri = mlflow
    track = MLflow("search", uri)
    for trial in study.trials[:3]:
        track(study, trial)
    client = module.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("search")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert {name: run.info.status for name, run in runs.items()} == {
        "mine-0": "FINISHED", "mine-1": "FINISHED", "mine-2": "FAILED",
    }  # fmt: skip
    run, trial = runs["mine-1"], study.trials[1]
    assert float(run.data.params["lr"]) == trial.dna["lr"] and set(run.data.params) >= {"lr", "op", "2/use"}
    assert run.data.metrics == {"acc": 0.5, "cost": 4.0, "final/acc": 0.75, "final/cost": 3.0, "final/f1": 0.125}
    history = client.get_metric_history(run.info.run_id, "acc")
    assert [(point.step, point.value) for point in history] == [(1, 0.25), (2, 0.5)]
    assert runs["mine-2"].data.tags["mutandis.reason"] == "out of memory"
    assert run.info.start_time == round(trial.started * 1000) and module.active_run() is None
    long = dataclasses.replace(trial, curve=tuple((step, {"acc": 0.5}) for step in range(250)))
    MLflow("long", uri)(study, long)
    [run] = client.search_runs([client.get_experiment_by_name("long").experiment_id])
    assert len(client.get_metric_history(run.info.run_id, "acc")) == 250


class FakeRun:
    """Records what a run of wandb is told, in the words of its interface."""

    def __init__(self, options):
        self.options, self.logged, self.summary, self.defined, self.code = options, [], {}, [], None

    def define_metric(self, name, *, step_metric=None):
        self.defined.append((name, step_metric))

    def log(self, data):
        assert self.code is None, "a finished run takes no more"
        self.logged.append(data)

    def finish(self, exit_code=None):
        self.code = exit_code


@pytest.fixture
def runs(monkeypatch):
    made = []

    def init(*, project, group, name, config, tags, reinit, mode=None):
        assert all(isinstance(value, (bool, int, float, str)) for value in config.values())
        made.append(FakeRun({"project": project, "group": group, "name": name, "config": config, "tags": tags,
                             "reinit": reinit, "mode": mode}))  # fmt: skip
        return made[-1]

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))
    return made


def test_weights_and_biases_has_a_run_for_each_trial(study, runs):
    track = WeightsAndBiases("nas", {"mode": "offline"})
    for trial in study.trials[:3]:
        track(study, trial)
    run = runs[1]
    assert {name: run.options[name] for name in ("project", "group", "name", "tags", "reinit", "mode")} == {
        "project": "nas", "group": "mine", "name": "mine-1", "tags": ["completed"], "reinit": "create_new",
        "mode": "offline",
    }  # fmt: skip
    assert run.options["config"] == settings_of(study.trials[1])
    assert run.defined == [("*", "step")]
    assert run.logged == [{"acc": 0.25, "cost": 4.0, "step": 1}, {"acc": 0.5, "step": 2.5}]
    assert run.summary["acc"] == 0.75 and run.summary["mutandis.state"] == "completed"
    assert [run.code for run in runs] == [0, 0, 1]


@pytest.mark.filterwarnings("ignore")
def test_weights_and_biases_writes_offline(study, tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    WeightsAndBiases("nas", {"dir": str(tmp_path)})(study, study.trials[0])
    assert list(tmp_path.rglob("*.wandb"))
