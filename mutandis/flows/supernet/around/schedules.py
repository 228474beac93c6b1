"""Schedules of learning rates that a program makes when it is built: one clock for all children.

A schedule is kept like the optimizer that it drives. Where a switch changes what it was made from (a learning rate that
is a decision, its own settings, its class), the one that this child has made is stepped on until its clock shows the
same time, and the kept one takes over its state: rates are those of a run that had these settings all along. That
takes a step per tick of the clock, unless the class is one of those of torch whose rates follow from the time. What
drives rates by what it was told, as `ReduceLROnPlateau` does, keeps what it knows, and rates change by their ratio.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import torch
from torch.optim import lr_scheduler

from mutandis.errors import LoweringError
from mutandis.flows.supernet.around.digests import digest
from mutandis.flows.supernet.around.held import Held

_FEW = 64  # Steps that are rather taken than left out.
_JUMPING = (lr_scheduler.LambdaLR, lr_scheduler.OneCycleLR, lr_scheduler.CyclicLR)
"""Schedules whose rates at some time hang on nothing but that."""
_CLOSED = (lr_scheduler.StepLR, lr_scheduler.MultiStepLR, lr_scheduler.ConstantLR, lr_scheduler.LinearLR,
           lr_scheduler.ExponentialLR, lr_scheduler.PolynomialLR, lr_scheduler.CosineAnnealingLR)  # fmt: skip
"""Schedules that have a formula for them."""

_DRIVEN = ("lr", "initial_lr", "max_lr", "min_lr", "swa_lr", "momentum", "base_momentum", "max_momentum", "betas")

Place = tuple[Any, ...]


class Kept(NamedTuple):
    """A schedule that is kept.

    Attributes:
        schedule: The schedule.
        birth: What the one of the last child looked like when it was made, and what it moves in each group.
        start: What its clock showed then.
    """

    schedule: Any
    birth: tuple[Any, list[dict[str, Any]]]
    start: int


class Schedules:
    """The schedules of a program with shared weights."""

    def __init__(self) -> None:
        self._kept: dict[Place, Kept] = {}
        self._active: dict[str, Place] = {}
        self._saved: dict[tuple[str, ...], dict[str, Any]] = {}

    def keep(self, held: Held, optimizer: torch.optim.Optimizer) -> Any:
        """Returns the schedule that stands in the place of one that a child has made.

        Args:
            held: What the child has made.
            optimizer: The optimizer that stands in the place of the one it drives.

        Raises:
            LoweringError: its clock cannot be set.
        """
        made = held.value
        if any(made is kept.schedule for kept in self._kept.values()):
            return made  # It stands there already.
        place = (held.at, type(made), id(optimizer))
        birth = (born(made), [_moved(group) for group in made.optimizer.param_groups])
        time, known = self.time(held.at), self._kept.get(place)
        is_alike = known is not None and self._active.get(held.at) == place and known.birth == birth
        kept = self._kept[place] = Kept(made, birth, clock(made)) if known is None else known._replace(birth=birth)
        if known is None and held.at not in self._active:
            self._load(kept, held.at, optimizer)
        elif isinstance(made, lr_scheduler.ReduceLROnPlateau):
            if known is not None and not is_alike:
                _follow(known, made, optimizer)
        elif not is_alike:
            before = [dict(group) for group in made.optimizer.param_groups]
            _advance(made, time, held.at)
            _hand_over(made.optimizer, before, optimizer)
            _copy(made, kept.schedule)
        _drive(kept.schedule, optimizer)
        self._active[held.at] = place
        return kept.schedule

    def time(self, at: str) -> int:
        """Returns how often the schedule at a place was stepped."""
        known = self._kept.get(self._active.get(at, ()))
        return 0 if known is None else clock(known.schedule) - known.start

    def state(self) -> list[dict[str, Any]]:
        """Returns the state of the schedules that stand there, as `load` takes it."""
        shown = [(at, self._kept[place].schedule) for at, place in self._active.items()]
        return [
            {"at": at, "kind": type(schedule).__qualname__, "optimizer": type(schedule.optimizer).__qualname__,
             "state": schedule.state_dict()} for at, schedule in shown
        ]  # fmt: skip

    def load(self, state: list[dict[str, Any]]) -> None:
        """Goes on from a state: schedules take it up when a child makes them."""
        self._saved = {(item["at"], item["kind"], item["optimizer"]): item["state"] for item in state}

    def _load(self, kept: Kept, at: str, optimizer: Any) -> None:
        state = self._saved.pop((at, type(kept.schedule).__qualname__, type(optimizer).__qualname__), None)
        if state is not None:
            kept.schedule.load_state_dict(state)


def inner(schedule: Any) -> list[Any]:
    """Returns the schedules that a schedule is made of."""
    return list(getattr(schedule, "_schedulers", ()))


def clock(schedule: Any) -> int:
    """Returns what the clock of a schedule shows."""
    return int(schedule.last_epoch) if hasattr(schedule, "last_epoch") else clock(inner(schedule)[0])


def born(schedule: Any) -> Any:
    """Returns what a schedule that was just made looks like."""
    own = {n: digest(v) for n, v in schedule.__dict__.items() if n not in ("optimizer", "_schedulers")}
    return type(schedule), own, [born(part) for part in inner(schedule)]


def _moved(group: dict[str, Any]) -> dict[str, Any]:
    """Returns what schedules move in a group of parameters, and by what they do so."""
    return {name: float(group[name]) if name == "lr" else digest(group[name]) for name in _DRIVEN if name in group}


def _advance(schedule: Any, time: int, at: str) -> None:
    """Steps a new schedule on until its clock shows some time more."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        if time > _FEW and type(schedule) in _JUMPING:
            schedule.last_epoch += time - 1
            schedule._step_count += time - 1
            schedule.step()
            return
        if time > _FEW and type(schedule) in _CLOSED:
            schedule.last_epoch += time
            schedule._step_count += time
            schedule._last_lr = schedule._get_closed_form_lr()
            for group, rate in zip(schedule.optimizer.param_groups, schedule._last_lr, strict=True):
                _assign(group, "lr", rate)
            return
        for _ in range(time):
            try:
                schedule.step()
            except TypeError as error:
                raise _untimed(schedule, at) from error


def _untimed(schedule: Any, at: str) -> LoweringError:
    return LoweringError(
        "cannot set the clock of a schedule whose settings are decisions",
        at=at,
        got=type(schedule).__name__,
        expected="a schedule whose step() takes no arguments",
        fix="keep what it is made from the same for all children, or let the class of the program define on_rebind",
    )


def _hand_over(made: torch.optim.Optimizer, before: list[dict[str, Any]], kept: torch.optim.Optimizer) -> None:
    """Gives the optimizer that is kept the settings that the schedule of another one has arrived at."""
    for group, old, new in zip(kept.param_groups, before, made.param_groups, strict=True):
        for name, value in new.items():
            if name == "lr" or (name != "params" and value != old.get(name)):
                _assign(group, name, value)


def _assign(group: dict[str, Any], name: str, value: Any) -> None:
    if isinstance(group.get(name), torch.Tensor):
        group[name].fill_(value)
    else:
        group[name] = value


def _copy(made: Any, kept: Any) -> None:
    """Lets a schedule take over the state and the settings of another one of its class."""
    if made is kept:
        return
    parts = inner(kept)
    kept.__dict__.update({n: v for n, v in made.__dict__.items() if n not in ("optimizer", "_schedulers")})
    if [type(part) for part in parts] == [type(part) for part in inner(made)]:
        for new, part in zip(inner(made), parts, strict=True):
            _copy(new, part)
    else:
        kept._schedulers = inner(made)


def _drive(schedule: Any, optimizer: torch.optim.Optimizer) -> None:
    schedule.optimizer = optimizer
    for part in inner(schedule):
        _drive(part, optimizer)


def _follow(known: Kept, made: Any, optimizer: torch.optim.Optimizer) -> None:
    """Lets a schedule that was told things take the settings that changed, and the rates change by their ratio."""
    kept, (_, names, _), (_, before, _) = known.schedule, born(made), known.birth[0]
    rates = [
        max(float(group["lr"]) * (float(now) / old if old else 1.0), low)
        for group, now, old, low in zip(
            made.optimizer.param_groups, kept._last_lr, [float(group["lr"]) for group in known.birth[1]], made.min_lrs
        )
    ]
    for name in names:
        if before.get(name) != names[name]:
            setattr(kept, name, getattr(made, name))
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        _assign(group, "lr", rate)
    kept._last_lr = rates


__all__ = ["Schedules", "born", "clock", "inner"]
