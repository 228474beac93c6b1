"""Lightning's Trainer: what a search hears of it, and that it stops."""

from __future__ import annotations

import importlib
import sys
import warnings

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import mutandis as mu
from mutandis.errors import MissingDependency, SettingError

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # What Lightning's own imports deprecate.
        from mutandis.integrations.lightning import LightningCallback
except (MissingDependency, RuntimeError) as error:
    pytest.skip(f"lightning cannot be imported: {error}", allow_module_level=True)

from lightning.pytorch import LightningModule, Trainer

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning advises on the number of workers and the like.


class Line(LightningModule):
    """A model that logs how many validations it has seen."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seen = 0

    def training_step(self, batch):
        return self.layer(batch[0]).pow(2).mean()

    def validation_step(self, batch):
        if not self.trainer.sanity_checking:
            self.seen += 1
        self.log("val_acc", float(self.seen))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


class Heard:
    """A feedback that says stop after some reports."""

    def __init__(self, last=100):
        self.reports, self.last = [], last

    def report(self, metrics, *, step):
        self.reports.append((step, {name: float(value) for name, value in metrics.items()}))

    def should_stop(self):
        return len(self.reports) >= self.last


def loader():
    return DataLoader(TensorDataset(torch.ones(4, 1)), batch_size=2)


def trainer(callback, epochs=4, **options):
    return Trainer(max_epochs=epochs, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
                   enable_progress_bar=False, enable_model_summary=False, callbacks=[callback], **options)  # fmt: skip


def fitted(callback, **options):
    made = trainer(callback, **options)
    made.fit(Line(), loader(), DataLoader(TensorDataset(torch.ones(1, 1))))
    return made


def test_every_validation_is_reported_by_epoch_and_the_check_before_is_not():
    heard = Heard()
    fitted(LightningCallback(heard, "val_acc"), epochs=3, num_sanity_val_steps=1)
    assert heard.reports == [(1, {"val_acc": 1.0}), (2, {"val_acc": 2.0}), (3, {"val_acc": 3.0})]


def test_the_trainer_stops_when_the_search_says_so():
    heard = Heard(last=2)
    made = fitted(LightningCallback(heard, "val_acc"))
    assert len(heard.reports) == 2 and made.should_stop and made.current_epoch == 2


def test_a_trainer_that_stops_for_a_reason_of_its_own_still_stops():
    class Impatient(Line):
        def on_validation_epoch_end(self):
            self.trainer.should_stop = not self.trainer.sanity_checking

    heard = Heard()
    made = trainer(LightningCallback(heard, "val_acc"))
    made.fit(Impatient(), loader(), loader())
    assert len(heard.reports) == 1


def test_metrics_are_called_as_the_search_calls_them_and_steps_may_be_those_of_the_optimizer():
    heard = Heard()
    fitted(LightningCallback(heard, {"accuracy": "val_acc"}, unit="steps"), epochs=2)
    assert heard.reports == [(2, {"accuracy": 1.0}), (4, {"accuracy": 2.0})]


def test_a_validation_outside_of_training_is_not_reported():
    heard = Heard()
    trainer(LightningCallback(heard, "val_acc")).validate(Line(), loader(), verbose=False)
    assert heard.reports == []


def test_a_scheduler_stops_the_trainer_of_a_bad_trial():
    algorithms = mu.algorithms
    loop = mu.sample({"scale": mu.oneof([1, 2, 3, 4])}, algorithms.Random(), trials=4, objectives=("val_acc",),
                     scheduler=algorithms.schedulers.Median(min_trials=1))  # fmt: skip
    for number, (_, feedback) in enumerate(loop):
        model = Line()
        model.seen = -10 * number
        made = trainer(LightningCallback(feedback, "val_acc"), num_sanity_val_steps=0)
        made.fit(model, loader(), DataLoader(TensorDataset(torch.ones(1, 1))))
        feedback({"val_acc": made.callback_metrics["val_acc"]})
    assert [trial.state for trial in loop.study] == ["completed", "stopped", "stopped", "stopped"]


def test_a_metric_that_is_not_logged_is_refused():
    with pytest.raises(SettingError) as caught:
        fitted(LightningCallback(Heard(), "val_ac"))
    assert str(caught.value) == (
        "cannot report a metric\n  at:       LightningCallback.metrics\n  got:      'val_ac' (str)\n"
        "  expected: one that was logged, of ['val_acc']; did you mean 'val_acc'?\n"
        '  fix:      write self.log("val_ac", ...) in validation_step'
    )


@pytest.mark.parametrize(
    ("metrics", "options", "problem"),
    [({}, {}, "cannot report nothing"), ("val_acc", {"unit": "epoch"}, "cannot count steps")],
)
def test_wrong_settings_are_refused(metrics, options, problem):
    with pytest.raises(SettingError, match=problem):
        LightningCallback(Heard(), metrics, **options)


def test_a_missing_lightning_is_named(monkeypatch):
    for name in ("lightning", "lightning.pytorch"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "mutandis.integrations.lightning")
    with pytest.raises(MissingDependency) as caught:
        importlib.import_module("mutandis.integrations.lightning")
    assert str(caught.value) == (
        "cannot call back from Lightning\n  at:       mu.integrations.LightningCallback\n"
        "  expected: the package lightning\n  fix:      pip install 'mutandis[lightning]'"
    )
