"""Optimizers and schedulers take changes in place."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import mutandis as mu


@mu.symbolize
class Net(nn.Module):
    def __init__(self, width=4, p=0.1):
        super().__init__()
        self.a = nn.Linear(3, width)
        self.b = nn.Linear(width, 2)
        self.drop = nn.Dropout(p)

    def forward(self, x):
        return self.b(self.drop(self.a(x)))


@mu.symbolize
class Trainer:
    def __init__(self, model, optimizer, epochs=1):
        self.model, self.optimizer, self.epochs = model, optimizer, epochs


def trained(make=mu.optim.Adam, **settings):
    net = Net()
    optimizer = make(net.parameters(), **settings)
    step(net, optimizer)
    return Trainer(net, optimizer)


def step(net, optimizer):
    optimizer.zero_grad()
    net(torch.ones(5, 3)).sum().backward()
    optimizer.step()


def test_a_new_rate_is_written_into_the_groups_and_the_state_stays():
    trainer = trained(lr=0.1)
    optimizer = trainer.optimizer
    state = {id(p): s["exp_avg"] for p, s in optimizer.state.items()}
    trainer.rebind({"optimizer.lr": 0.01, "optimizer.betas": (0.5, 0.9)})
    assert trainer.optimizer is optimizer
    assert optimizer.param_groups[0]["lr"] == 0.01 and optimizer.defaults["betas"] == (0.5, 0.9)
    assert {id(p): s["exp_avg"] for p, s in optimizer.state.items()} == state
    assert len(state) == 4
    optimizer.rebind(weight_decay=0.3)
    assert optimizer.param_groups[0]["weight_decay"] == 0.3
    step(trainer.model, optimizer)


def test_a_setting_of_one_group_is_kept():
    net = Net()
    optimizer = mu.optim.SGD([{"params": net.a.parameters(), "lr": 1.0}, {"params": net.b.parameters()}], lr=0.1)
    optimizer.rebind(lr=0.2)
    assert [group["lr"] for group in optimizer.param_groups] == [1.0, 0.2]


def test_a_wrong_setting_is_refused_by_the_class_itself_and_nothing_changes():
    trainer = trained(lr=0.1)
    with pytest.raises(ValueError, match="Invalid learning rate") as caught:
        trainer.rebind({"optimizer.lr": -1.0}, epochs=3)
    assert caught.value.__notes__ == ["while building optimizer (Adam)"]
    assert trainer.optimizer.param_groups[0]["lr"] == 0.1 and mu.arguments(trainer.optimizer)["lr"] == 0.1


def test_resized_parameters_are_swapped_in_the_optimizers_of_the_tree():
    trainer = trained(mu.optim.SGD, lr=0.1, momentum=0.9)
    report = mu.rebind(trainer, {"model.width": 6}, report=True)
    held = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in trainer.model.parameters()}
    assert [id(p) for p in trainer.optimizer.state] == [id(trainer.model.b.bias)]
    assert report.warnings == ()
    step(trainer.model, trainer.optimizer)
    trainer.rebind({"optimizer.lr": 0.5})
    assert {id(p) for group in trainer.optimizer.param_groups for p in group["params"]} == held


def test_optimizers_out_of_reach_are_reported():
    net = Net()
    report = mu.rebind(net, width=8, report=True)
    assert len(report.warnings) == 1 and report.warnings[0].startswith("3 parameters were made anew or are gone")


def test_an_exception_after_the_optimizer_changed_puts_it_back():
    @mu.symbolize
    class Strict(Trainer):
        def __init__(self, model, optimizer):
            super().__init__(model, optimizer)
            if optimizer.param_groups[0]["lr"] > 1 or model.a.out_features > 4:
                raise ArithmeticError("too fast")

    net = Net()
    optimizer = mu.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    step(net, optimizer)
    trainer = Strict(net, optimizer)
    held = [id(p) for p in optimizer.param_groups[0]["params"]]
    with pytest.raises(ArithmeticError):
        trainer.rebind({"model.width": 9, "optimizer.lr": 2.0})
    assert optimizer.param_groups[0]["lr"] == 0.1 and len(optimizer.state) == 4
    assert [id(p) for p in optimizer.param_groups[0]["params"]] == held == [id(p) for p in net.parameters()]


def test_a_scheduler_follows_and_is_not_started_again():
    net = Net()
    optimizer = mu.optim.SGD(net.parameters(), lr=0.1)
    scheduler = mu.optim.lr_scheduler.StepLR(optimizer, 2)
    for _ in range(3):
        step(net, optimizer)
        scheduler.step()
    optimizer.rebind(lr=0.4)
    assert scheduler.last_epoch == 3 and scheduler.base_lrs == [0.4]
    assert optimizer.param_groups[0]["initial_lr"] == 0.4
    scheduler.rebind(gamma=0.5)
    assert scheduler.gamma == 0.5 and scheduler.last_epoch == 3


def test_a_plain_scheduler_is_warned_about():
    net = Net()
    optimizer = mu.optim.SGD(net.parameters(), lr=0.1)
    torch.optim.lr_scheduler.StepLR(optimizer, 2)
    report = mu.rebind(optimizer, lr=0.2, report=True)
    assert report.in_place == ("",) and "base_lrs" in report.warnings[0]
