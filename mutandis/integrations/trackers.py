"""Trials in experiment trackers: one run of TensorBoard, MLflow or Weights & Biases for each trial that has ended.

    board = mu.integrations.TensorBoard("runs")
    for child, feedback in mu.sample(program, algorithm, trials=100, callbacks=[board]):
        feedback(child.run())

A study that is over is written likewise: `for trial in study: board(study, trial)`. Nothing stays open between two
calls.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from mutandis.errors import MissingDependency, SettingError
from mutandis.flows import Study, Trial
from mutandis.flows.studies.trial import COMPLETED, FAILED, RUNNING

_LONGEST = 500
"""How many characters of a setting MLflow's stores keep."""

_BATCH = 100
"""How many settings, and how many metrics, go to MLflow at once; it takes 100 and 1000."""


class Callback(Protocol):
    """What is called with each trial that has ended."""

    def __call__(self, study: Study, trial: Trial) -> None:
        """Takes note of a trial.

        Args:
            study: The study, which holds the trial.
            trial: The record, as it is at the end.
        """


@dataclass(frozen=True)
class TensorBoard:
    """Writes each trial as a run of TensorBoard: curves, and its decisions and results under HPARAMS.

    Results are called `final/...`, so that they do not mix with curves. Needs tensorboard: `pip install tensorboard`.

    Args:
        log_dir: The directory; the runs of a study go below, as `study/trial-00012`.
    """

    log_dir: str | Path = "runs"

    def __call__(self, study: Study, trial: Trial) -> None:
        """Writes a trial.

        Raises:
            SettingError: the trial is still running.
            MissingDependency: tensorboard is not installed.
        """
        _need_ended(trial, "TensorBoard")
        try:
            from torch.utils.tensorboard import SummaryWriter
            from torch.utils.tensorboard.summary import hparams
        except ImportError as error:
            raise _missing("TensorBoard", "tensorboard") from error
        results = {f"final/{name}": value for name, value in results_of(study, trial).items()}
        length = max((math.floor(step) for step, _ in trial.curve), default=0)
        with SummaryWriter(str(Path(self.log_dir) / study.name / f"trial-{trial.id:05}")) as writer:
            for name, value, step in _points(trial):
                writer.add_scalar(name, value, step)
            for name, value in results.items():
                writer.add_scalar(name, value, length)
            settings = {**settings_of(trial), "state": trial.state}
            for summary in hparams(settings, results):  # type: ignore[no-untyped-call]
                writer.file_writer.add_summary(summary)  # type: ignore[union-attr]  # A writer that is open has one.


@dataclass(frozen=True)
class MLflow:
    """Writes each trial as a run of MLflow. Needs mlflow or mlflow-skinny: `pip install mlflow-skinny`.

    The run that your own code may have started stays what it is.

    Args:
        experiment: The name of the experiment, made where it is not there yet.
        tracking_uri: Where MLflow keeps it, such as `sqlite:///mlflow.db`; by default as MLflow is set up.
    """

    experiment: str
    tracking_uri: str | None = None

    def __call__(self, study: Study, trial: Trial) -> None:
        """Writes a trial.

        Raises:
            SettingError: the trial is still running.
            MissingDependency: mlflow is not installed.
        """
        _need_ended(trial, "MLflow")
        try:
            from mlflow import MlflowClient
            from mlflow.entities import Metric, Param
        except ImportError as error:
            raise _missing("MLflow", "mlflow-skinny") from error
        client = MlflowClient(tracking_uri=self.tracking_uri)
        found = client.get_experiment_by_name(self.experiment)
        experiment = client.create_experiment(self.experiment) if found is None else found.experiment_id
        start = None if trial.started is None else round(trial.started * 1000)
        run = client.create_run(experiment, start, _tags(study, trial), f"{study.name}-{trial.id}")
        number, begin = run.info.run_id, run.info.start_time
        end = begin + round(trial.seconds * 1000)
        settings = [Param(_key(name), str(value)[:_LONGEST]) for name, value in settings_of(trial).items()]
        points = [Metric(_key(name), value, end, step) for name, value, step in _points(trial)]
        points += [Metric(_key(f"final/{name}"), value, end, 0) for name, value in results_of(study, trial).items()]
        for place in range(0, max(len(settings), len(points)), _BATCH):
            client.log_batch(number, metrics=points[place : place + _BATCH], params=settings[place : place + _BATCH])
        status = {COMPLETED: "FINISHED", FAILED: "FAILED"}.get(trial.state, "KILLED")
        client.set_terminated(number, status, end)


@dataclass(frozen=True)
class WeightsAndBiases:
    """Writes each trial as a run of Weights & Biases, grouped by study. Needs wandb: `pip install wandb`.

    Args:
        project: The name of the project.
        options: Further arguments of `wandb.init`, such as `{"entity": "team", "mode": "offline"}`.
    """

    project: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, study: Study, trial: Trial) -> None:
        """Writes a trial.

        Raises:
            SettingError: the trial is still running.
            MissingDependency: wandb is not installed.
        """
        _need_ended(trial, "WeightsAndBiases")
        try:
            import wandb
        except ImportError as error:
            raise _missing("WeightsAndBiases", "wandb") from error
        own = {"project": self.project, "group": study.name, "name": f"{study.name}-{trial.id}", "reinit": "create_new"}
        run = wandb.init(config=settings_of(trial), tags=[trial.state], **{**own, **self.options})
        run.define_metric("*", step_metric="step")
        for step, metrics in trial.curve:
            run.log({**metrics, "step": step})
        run.summary.update({**results_of(study, trial), **_tags(study, trial)})
        run.finish(exit_code=int(trial.state == FAILED))


def settings_of(trial: Trial) -> dict[str, bool | int | float | str]:
    """Returns the active decisions by name or path, each as one plain value: picks as `a, b`."""
    found: dict[str, bool | int | float | str] = {}
    for point in trial.dna.active:
        value = point.literal(trial.dna[point.index])
        if isinstance(value, list):
            value = ", ".join(map(str, value))
        found[point.key or "(the root)"] = value if isinstance(value, (bool, int, float, str)) else str(value)
    return found


def results_of(study: Study, trial: Trial) -> dict[str, float]:
    """Returns the rewards, as they were measured, and the other metrics."""
    return {**(trial.metrics or {}), **dict(zip((o.name for o in study.objectives), trial.rewards or (), strict=False))}


def _points(trial: Trial) -> Iterator[tuple[str, float, int]]:
    """Yields (metric, value, step) of the curve; trackers know whole steps only."""
    for step, metrics in trial.curve:
        for name, value in metrics.items():
            yield name, value, math.floor(step)


def _tags(study: Study, trial: Trial) -> dict[str, str]:
    facts = {"study": study.name, "trial": trial.id, "state": trial.state, "seconds": f"{trial.seconds:.6g}",
             "worker": trial.worker, "reason": trial.reason, "parent": trial.parent}  # fmt: skip
    return {f"mutandis.{name}": str(value) for name, value in facts.items() if value is not None}


def _key(name: str) -> str:
    """Returns a name in the letters that MLflow allows: `blocks[2].kernel` is `blocks/2.kernel`."""
    return re.sub(r"[^\w\-. :/]", "", re.sub(r"\[['\"]?", "/", name)).strip("/. ") or "root"


def _need_ended(trial: Trial, name: str) -> None:
    if trial.state == RUNNING:
        raise SettingError("cannot write a trial that is running", at=f"mu.integrations.{name}", got=trial,
                           expected="a trial that has ended", fix="call it behind feedback(...)")  # fmt: skip


def _missing(name: str, package: str) -> MissingDependency:
    return MissingDependency("cannot write trials to a tracker", at=f"mu.integrations.{name}",
                             expected=f"the package {package}", fix=f"pip install {package}")  # fmt: skip


__all__ = ["Callback", "MLflow", "TensorBoard", "WeightsAndBiases", "results_of", "settings_of"]
