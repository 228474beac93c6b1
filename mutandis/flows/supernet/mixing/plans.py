"""What a module of the live program has to do when several sizes of a decision run at once.

Nothing is assumed of a program but what its children show: a module is held against itself in the children of the
other sizes, which were really built, and what differs is mixed or refused.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from mutandis.errors import LoweringError
from mutandis.flows.supernet.assembly import Assembly, Home, Instance, MissingPart
from mutandis.flows.supernet.cuts import Cut
from mutandis.flows.supernet.lowering.dependencies import Dependencies
from mutandis.flows.supernet.mixing.axes import FIXED, KERNEL, MADE, READ, grouped, mask_of, role_of
from mutandis.flows.supernet.mixing.refusals import refusal
from mutandis.flows.supernet.mixing.weighing import Weighing
from mutandis.flows.supernet.store import Loan, Store

_MOST_JOINT = 512
_MOST_PLANS = 256

Candidates = Mapping[int, tuple[int, ...]]
"""The candidates that run, by index of the decision."""


@dataclass(slots=True)
class Plan:
    """What one module does.

    Attributes:
        weighings: How its weights are masked.
        depths: The decisions that say how many of its layers run.
        lengths: How many layers run under each combination of their candidates.
        outputs: The decisions that its output channels depend on.
        made: The number of its output channels under each combination of their candidates.
    """

    weighings: list[Weighing] = field(default_factory=list)
    depths: tuple[int, ...] = ()
    lengths: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()
    made: tuple[int, ...] = ()


class Planner:
    """Finds what each module has to do, and remembers it.

    Args:
        known: Knows which decisions what depends on.
        store: The shared tensors.
        live: Returns the live program.
        meet: Builds a child that has a module as other candidates have it.
        is_strict: Whether what is not mixed channel by channel is refused; else it is as the largest size has it.
    """

    def __init__(self, known: Dependencies, store: Store, live: Callable[[], Assembly],
                 meet: Callable[[Home, Mapping[int, Any]], None], *, is_strict: bool) -> None:  # fmt: skip
        self._known, self._store, self._live, self._meet = known, store, live, meet
        self._is_strict = is_strict
        self._plans: weakref.WeakKeyDictionary[nn.Module, dict[Any, Plan | None]] = weakref.WeakKeyDictionary()

    def plan(self, module: nn.Module, chosen: Candidates) -> Plan | None:
        """Returns what a module does where some candidates run, or None for nothing.

        Args:
            module: A module of the live program, which stands at the largest candidates.
            chosen: The candidates.

        Raises:
            LoweringError: the module cannot mix them.
        """
        home = self._live().home_of(module)
        if home is None:
            return None
        touched = set().union(*(self._known.of.get((home.path, what), ()) for what in ("kind", "layers", "tensors")))
        relevant = {i: chosen[i] for i in home.part.decisions if i in chosen and i in touched}
        if not relevant:
            return None
        plans = self._plans.setdefault(module, {})
        key = tuple(relevant.items())
        if key not in plans:
            if len(plans) >= _MOST_PLANS:
                plans.clear()
            plans[key] = self._made(module, home, relevant)
        return plans[key]

    def _made(self, module: nn.Module, home: Home, chosen: Candidates) -> Plan | None:
        changed: dict[tuple[str, int], set[int]] = {}
        depths: set[int] = set()
        for index in chosen:
            for candidate in range(self._known.point(index).num_candidates):  # One that runs alone is weighed too.
                twin = self._twin(home, {index: candidate})
                if not self._is_alike(index, home, twin):
                    continue
                if self._is_shorter(index, home, module, twin.tree[home.path]):
                    depths.add(index)
                entries = _entries(twin, home.path)
                for name, (_, cut) in self._base(home).items():
                    for axis in _differing(cut, entries[name][1]):
                        changed.setdefault((name, axis), set()).add(index)
        plan = Plan()
        if depths:
            plan.depths = tuple(sorted(depths))
            twins = self._twins(home, plan.depths, chosen)
            plan.lengths = tuple(len(twin.tree[home.path]._modules) for twin in twins)
        self._plan_weights(plan, module, home, changed, chosen)
        return plan if plan.weighings or plan.depths or plan.outputs else None

    def _plan_weights(self, plan: Plan, module: nn.Module, home: Home, changed: Mapping[tuple[str, int], set[int]],
                      chosen: Candidates) -> None:  # fmt: skip
        masked: dict[str, dict[int, set[int]]] = {}
        for (name, axis), decisions in changed.items():
            role = role_of(module, name, axis)
            if role == FIXED and self._is_strict:
                raise self._refusal(min(decisions), home, "layers that treat each channel alone or add them all up")
            if role in (READ, KERNEL):
                masked.setdefault(name, {})[axis] = decisions
            elif role == MADE and name == "weight" and isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)):
                plan.outputs = tuple(sorted(decisions))
                twins = self._twins(home, plan.outputs, chosen)
                plan.made = tuple(_entries(twin, home.path)[name][0].shape[axis] for twin in twins)
        for name, axes in masked.items():
            for group, together in grouped(axes):
                rows = self._rows(home, name, group, together, chosen)
                is_read = [role_of(module, name, axis) for axis in group] == [READ]
                plan.weighings.append(Weighing(name, group, together, rows, is_read=is_read))

    def _rows(self, home: Home, name: str, axes: Sequence[int], decisions: Sequence[int],
              chosen: Candidates) -> torch.Tensor:  # fmt: skip
        loan, large = self._base(home)[name]
        full = self._store.tensor(loan.key).shape
        rows = []
        for twin in self._twins(home, decisions, chosen):
            small = _entries(twin, home.path)[name][1]
            row = torch.ones((), dtype=torch.bool)
            for axis in axes:
                mask = mask_of(small[axis], large[axis], full[axis])
                if mask is None:
                    raise self._refusal(decisions[0], home, "a largest size that has all places of the others")
                row = row[..., None] & mask
            rows.append(row)
        return torch.stack(rows)

    def _twins(self, home: Home, decisions: Sequence[int], chosen: Candidates) -> list[Instance]:
        """Returns the part of a module under every combination of candidates; the last decision runs fastest."""
        combinations = list(itertools.product(*(chosen[i] for i in decisions)))
        if len(combinations) > _MOST_JOINT:
            raise self._refusal(decisions[0], home, f"at most {_MOST_JOINT} sizes of one layer")
        return [self._most_alike(home, dict(zip(decisions, picks, strict=True))) for picks in combinations]

    def _most_alike(self, home: Home, changes: Mapping[int, Any]) -> Instance:
        """Returns the part of a module under some changes; where it has another layer then, one with more changes."""
        twin = self._twin(home, changes)
        others = () if self._is_alike(min(changes), home, twin) else self._live().others(home, changes)
        return next((other for other in others if self._is_alike(min(changes), home, other)), twin)

    def _twin(self, home: Home, changes: Mapping[int, Any]) -> Instance:
        try:
            return self._live().twin(home, changes)
        except MissingPart:
            self._meet(home, changes)
            return self._live().twin(home, changes)

    def _base(self, home: Home) -> dict[str, tuple[Loan, Cut]]:
        return _entries(self._twin(home, {}), home.path)

    def _is_alike(self, index: int, home: Home, twin: Instance) -> bool:
        """Returns whether a module is of one class, and has the same weights, in two children."""
        base = self._twin(home, {})
        own, other = base.tree[home.path], twin.tree.get(home.path)
        if type(own) is type(other) and _entries(base, home.path).keys() == _entries(twin, home.path).keys():
            return True
        if self._is_strict:
            raise self._refusal(index, home, "one class of layer, with the same weights, for all sizes")
        return False

    def _is_shorter(self, index: int, home: Home, module: nn.Module, other: nn.Module) -> bool:
        """Returns whether a sequence has another number of layers in another child, the first ones being the same."""
        names, others = list(module._modules), list(other._modules)
        if names == others:
            return False
        shared = min(len(names), len(others))
        if type(module).forward is nn.Sequential.forward and names[:shared] == others[:shared]:
            return True
        if self._is_strict:
            raise self._refusal(index, home, "a number of layers of an nn.Sequential, the first ones the same for all",
                                "put the layers whose number is searched in an nn.Sequential of their own")  # fmt: skip
        return False

    def _refusal(self, index: int, home: Home, expected: str, fix: str | None = None) -> LoweringError:
        where = f"module {home.path} ({type(self._twin(home, {}).tree[home.path]).__name__})"
        point = self._known.point(index)
        return refusal(point, where, expected) if fix is None else refusal(point, where, expected, fix)


def _entries(instance: Instance, path: str) -> dict[str, tuple[Loan, Cut]]:
    """Returns what a module shares, by name of its tensor."""
    return {loan.name: (loan, cut) for loan, cut in instance.loans if loan.path == path}


def _differing(cut: Cut, other: Cut) -> list[int]:
    """Returns the axes at which two cuts differ."""
    return [axis for axis, (a, b) in enumerate(zip(cut, other, strict=True)) if not _equal(a, b)]


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor) or isinstance(b, torch.Tensor):
        return isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) and torch.equal(a, b)
    return bool(a == b)


__all__ = ["Candidates", "Plan", "Planner"]
