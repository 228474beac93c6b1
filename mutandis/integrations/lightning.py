"""A search around Lightning: a callback of the Trainer that reports, and ends training when the search says so.

    for child, feedback in mu.sample(program, algorithm, objectives=("val_acc",), scheduler=schedulers.ASHA(1, 27)):
        stopper = mu.integrations.LightningCallback(feedback, "val_acc")
        trainer = Trainer(max_epochs=27, callbacks=[stopper])
        trainer.fit(child, train, valid)
        feedback({"val_acc": trainer.callback_metrics["val_acc"]})

With several devices, start all processes with torchrun, join a process group, and take the children from
`distributed_sample`: rank 0 alone decides.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, Protocol

from mutandis.errors import MissingDependency, SettingError, closest
from mutandis.symbolic.modules.vision import import_torchvision

with contextlib.suppress(MissingDependency):
    import_torchvision()  # Lightning's metrics import it where it is installed, which may need mending first.

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError as error:
    raise MissingDependency("cannot call back from Lightning", at="mu.integrations.LightningCallback",
                            expected="the package lightning",
                            fix="pip install 'mutandis[lightning]'") from error  # fmt: skip


class Reports(Protocol):
    """What the callback needs of a feedback: that of `mu.sample` and of `distributed_sample` have it."""

    def report(self, metrics: Mapping[str, Any], *, step: float) -> None:
        """Records metrics on the way."""

    def should_stop(self) -> bool:
        """Returns whether the trial should end now."""
        ...


class LightningCallback(Callback):
    """Reports metrics at the end of each validation, and stops the Trainer when the search says so.

    All ranks stop as soon as one is told to. The check of Lightning before training is not reported.

    Args:
        feedback: The feedback of the trial.
        metrics: The metric that the LightningModule logs, or a dict of what the search calls it to what the module
            does, such as `{"accuracy": "val_acc"}`. A scheduler hears of metrics that are called like the objectives.
        unit: Whether steps are counted in `epochs` (1 after the first) or in `steps` of the optimizer.

    Raises:
        SettingError: no metric is named, or the unit is another.
    """

    def __init__(self, feedback: Reports, metrics: str | Mapping[str, str], *, unit: str = "epochs") -> None:
        super().__init__()
        named = {metrics: metrics} if isinstance(metrics, str) else dict(metrics)
        if not named:
            raise SettingError("cannot report nothing", at="LightningCallback.metrics", got=metrics,
                               expected="the name of a metric that is logged, or a dict of names",
                               fix='write LightningCallback(feedback, "val_acc")')  # fmt: skip
        if unit not in ("epochs", "steps"):
            raise SettingError("cannot count steps", at="LightningCallback.unit", got=unit,
                               expected=f"'epochs' or 'steps'{closest(str(unit), ['epochs', 'steps'])}",
                               fix='leave it out for epochs')  # fmt: skip
        self.feedback = feedback
        self.metrics = named
        self.unit = unit

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reports, and stops the Trainer if the search says so.

        Raises:
            SettingError: a metric was not logged.
        """
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        logged = trainer.callback_metrics
        for name in self.metrics.values():
            if name not in logged:
                raise SettingError("cannot report a metric", at="LightningCallback.metrics", got=name,
                                   expected=f"one that was logged, of {sorted(logged)}{closest(name, logged)}",
                                   fix=f'write self.log("{name}", ...) in validation_step')  # fmt: skip
        step = trainer.current_epoch + 1 if self.unit == "epochs" else trainer.global_step
        self.feedback.report({name: logged[known] for name, known in self.metrics.items()}, step=step)
        stop = self.feedback.should_stop()
        trainer.should_stop = trainer.should_stop or trainer.strategy.reduce_boolean_decision(stop, all=False)


__all__ = ["LightningCallback", "Reports"]
