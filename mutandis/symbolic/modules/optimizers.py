"""Changes of optimizers and schedulers in place: settings go into `param_groups`, state stays.

An optimizer is never built again in place: a scheduler has patched its `step`, and its state would be lost.
The new settings are checked by a scratch optimizer that the original `__init__` builds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from mutandis.symbolic.record import holders_of, is_symbolic, remember, spec_for, values_of
from mutandis.symbolic.transactions.report import Findings

_OWN = frozenset({"defaults", "state", "param_groups", "step", "_mu_"})


def is_optimizer(value: Any) -> bool:
    """Returns whether `value` is a live torch optimizer."""
    return isinstance(value, torch.optim.Optimizer)


def is_scheduler(value: Any) -> bool:
    """Returns whether `value` is a learning-rate scheduler."""
    return isinstance(value, torch.optim.lr_scheduler.LRScheduler)


def rebind_optimizer(optimizer: Any, init: Callable[[Any], None], changed: set[str], findings: Findings) -> None:
    """Writes changed arguments into an optimizer; the state of every parameter it still holds stays.

    Args:
        optimizer: The optimizer.
        init: Runs the original `__init__` with the new arguments on another object.
        changed: Names of the changed arguments.
        findings: Collects warnings.
    """
    scratch = object.__new__(type(optimizer))
    init(scratch)
    settings = _settings(optimizer, scratch, changed)
    for index, fresh in enumerate(scratch.param_groups):
        if index == len(optimizer.param_groups):
            optimizer.param_groups.append(fresh)
            continue
        group = optimizer.param_groups[index]
        for name in settings & fresh.keys():
            group[name] = fresh[name]
        if "lr" in settings and "initial_lr" in group:
            group["initial_lr"] = fresh["lr"]
            _tell_schedulers(optimizer, findings)
        if "params" in changed:
            group["params"] = fresh["params"]
    if "params" in changed:
        del optimizer.param_groups[len(scratch.param_groups) :]
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        for parameter in [p for p in optimizer.state if id(p) not in held]:
            del optimizer.state[parameter]
    optimizer.defaults.update({name: scratch.defaults[name] for name in settings & scratch.defaults.keys()})
    for name, value in scratch.__dict__.items():
        if name not in _OWN and not name.startswith("_"):
            optimizer.__dict__[name] = value


def _settings(optimizer: Any, scratch: Any, changed: set[str]) -> set[str]:
    """Returns the settings of groups that a change of arguments concerns.

    An own subclass may compute a setting from an argument of another name; then the defaults tell.
    """
    named = {name for name in changed if name in scratch.defaults}
    if changed - {"params"} == named:
        return named
    return named | {key for key, value in scratch.defaults.items() if optimizer.defaults.get(key) != value}


def rebind_scheduler(scheduler: Any, changed: dict[str, Any]) -> bool:
    """Writes changed arguments into a scheduler; returns whether all of them could be.

    Args:
        scheduler: The scheduler; its counters and its hold on the optimizer stay.
        changed: Argument name to new value; empty when only its optimizer changed.
    """
    if any(name not in scheduler.__dict__ or name == "optimizer" for name in changed):
        return False
    scheduler.__dict__.update(changed)
    return True


def _tell_schedulers(optimizer: Any, findings: Findings) -> None:
    known = [holder for holder in holders_of(optimizer) if is_scheduler(holder)] if is_symbolic(optimizer) else []
    for scheduler in known:
        scheduler.base_lrs = [group.get("initial_lr", group["lr"]) for group in optimizer.param_groups]
    if not known:
        text = "a scheduler drives an optimizer whose lr changed; if it is not symbolic its base_lrs are the old ones"
        if text not in findings.warnings:
            findings.warnings.append(text)


def swap_parameters(optimizers: Iterable[Any], changed: list[tuple[Any, Any]], findings: Findings) -> None:
    """Lets optimizers hold the parameters that a rebuild made anew.

    Args:
        optimizers: Those within reach.
        changed: (old, new) parameters; None where one is new or gone.
        findings: Collects warnings.
    """
    swaps = {id(old): new for old, new in changed if old is not None}
    added = [new for old, new in changed if old is None and isinstance(new, torch.nn.Parameter)]
    reached: set[int] = set()
    for optimizer in optimizers:
        mine = {id(p) for group in optimizer.param_groups for p in group["params"]} & swaps.keys()
        if not mine:
            continue
        reached |= mine
        for group in optimizer.param_groups:
            group["params"] = [p for p in (swaps.get(id(p), p) for p in group["params"]) if p is not None]
        for parameter in [p for p in optimizer.state if id(p) in swaps]:
            del optimizer.state[parameter]
        if added:
            optimizer.param_groups[-1]["params"].extend(added)
        _renew_record(optimizer, swaps, added)
    lost = [old for old, _ in changed if old is not None and id(old) not in reached]
    if lost:
        findings.warnings.append(
            f"{len(lost)} parameters were made anew or are gone; an optimizer outside this tree that holds them "
            "must be given the new ones"
        )


def _renew_record(optimizer: Any, swaps: dict[int, Any], added: list[Any]) -> None:
    if not is_symbolic(optimizer):
        return
    values = list(values_of(optimizer))
    index = spec_for(optimizer).position("params")
    if index is None or not isinstance(values[index], list):
        return
    values[index] = _renewed(values[index], swaps)
    if values[index] and not isinstance(values[index][0], (dict, tuple)):
        values[index] += added
    remember(optimizer, tuple(values))


def _renewed(value: Any, swaps: dict[int, Any]) -> Any:
    if isinstance(value, dict):
        return {key: _renewed(item, swaps) if key == "params" else item for key, item in value.items()}
    if isinstance(value, list):
        return [new for new in (_renewed(item, swaps) for item in value) if new is not None]
    if isinstance(value, tuple):
        return tuple(_renewed(item, swaps) for item in value)
    return swaps.get(id(value), value) if isinstance(value, torch.Tensor) else value
