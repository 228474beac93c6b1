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
from mutandis.flows.supernet.cuts import Axis, Cut
from mutandis.flows.supernet.lowering.dependencies import Dependencies
from mutandis.flows.supernet.mixing.axes import FIXED, KERNEL, MADE, READ, grouped, mask_of, places, role_of
from mutandis.flows.supernet.mixing.behind import Behind, Case
from mutandis.flows.supernet.mixing.branches import Branch, Brancher
from mutandis.flows.supernet.mixing.extents import MOST_JOINT, Extent, Extents, differing, entries, equal, is_size
from mutandis.flows.supernet.mixing.refusals import refusal
from mutandis.flows.supernet.mixing.weighing import Weighing
from mutandis.flows.supernet.store import Store
from mutandis.flows.supernet.tensors.loans import Loan

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
        behind: Axes that are as long as the last layer of a sequence whose depth is mixed.
        branch: The kinds of layer that it is for other sizes.
    """

    weighings: list[Weighing] = field(default_factory=list)
    depths: tuple[int, ...] = ()
    lengths: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()
    made: tuple[int, ...] = ()
    behind: list[Behind] = field(default_factory=list)
    branch: Branch | None = None

    @property
    def decisions(self) -> set[int]:
        """What is mixed here."""
        read = [set(weighing.decisions) for weighing in self.weighings] + [b.decisions for b in self.behind]
        return set(self.depths).union(*read, () if self.branch is None else self.branch.decisions)

    def inside(self) -> list[tuple[nn.Module, Plan]]:
        """Returns what the layers of arms do."""
        arms = () if self.branch is None else self.branch.arms
        layers = [layer for arm in arms for layer in arm.layers if layer.weighings or layer.outputs]
        return [(each.module, Plan(each.weighings, outputs=each.outputs, made=each.made)) for each in layers]


class Planner:
    """Finds what each module has to do, and remembers it.

    Args:
        known: Knows which decisions what depends on.
        store: The shared tensors.
        live: Returns the live program.
        meet: Builds a child that has some values, so that its parts are known.
        build: Builds a module as it is under some changes, to be changed.
        is_strict: Whether what is not mixed channel by channel is refused; else it is as the largest size has it.
    """

    def __init__(self, known: Dependencies, store: Store, live: Callable[[], Assembly],
                 meet: Callable[[Mapping[int, Any]], None],
                 build: Callable[[Home, Mapping[int, Any]], nn.Module], *, is_strict: bool) -> None:  # fmt: skip
        self._known, self._store, self._live, self._meet = known, store, live, meet
        self._is_strict = is_strict
        self._extents = Extents(known, self._twin)
        self._brancher = Brancher(known, store, lambda home, changes: live().twin(home, changes), meet, build)
        self._plans: weakref.WeakKeyDictionary[nn.Module, dict[Any, Plan | None]] = weakref.WeakKeyDictionary()

    def prepare(self, modules: Sequence[nn.Module], chosen: Candidates) -> None:
        """Builds the children that show of what kinds layers are; few, since each shows many layers."""
        homes = [home for module in modules if (home := self._live().home_of(module)) is not None]
        deciding = [(home, self._brancher.deciding(home.path)) for home in homes if self._is_strict]
        self._brancher.prepare([home for home, decisions in deciding if set(decisions) & chosen.keys()])

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
        plan = Plan()
        depth = self._depth_before(home)
        if depth is not None:
            self._plan_behind(plan, module, home, depth, chosen)
        else:
            if self._is_strict:
                plan.branch = self._brancher.branch(home, chosen)
            self._plan_alone(plan, module, home, chosen)
        return plan if plan.decisions or plan.outputs else None

    def _plan_alone(self, plan: Plan, module: nn.Module, home: Home, chosen: Candidates) -> None:
        """Finds what a layer has to do from its part under each candidate of each decision."""
        changed: dict[tuple[str, int], set[int]] = {}
        depths: set[int] = set()
        for index in chosen:
            for candidate in range(self._known.point(index).num_candidates):  # One that runs alone is weighed too.
                twin = self._twin(home, {index: candidate})
                if not self._is_alike({index: candidate}, home, twin):
                    continue
                if self._is_shorter(index, home, module, twin.tree[home.path]):
                    depths.add(index)
                found = entries(twin, home.path)
                for name, (_, cut) in self._base(home).items():
                    for axis in differing(cut, found[name][1]):
                        changed.setdefault((name, axis), set()).add(index)
        if depths:
            plan.depths = tuple(sorted(depths))
            twins = self._twins(home, plan.depths, chosen)
            plan.lengths = tuple(len(twin.tree[home.path]._modules) for twin in twins)

        def cuts(name: str, decisions: Sequence[int]) -> list[Cut]:
            return [entries(twin, home.path)[name][1] for twin in self._twins(home, decisions, chosen)]

        self._plan_weights(plan, module, home, changed, cuts)

    def _depth_before(self, home: Home) -> int | None:
        """Returns the decision for the length of a sequence that the sizes of a layer outside of it depend on."""
        tensors = self._known.of.get((home.path, "tensors"), set())
        found = [i for i in home.part.decisions if i in tensors and self._is_length(i)]
        if len(found) > 1:
            raise self._refusal(found[0], home, "sizes that depend on one depth")
        return found[0] if found else None

    def _is_length(self, index: int) -> bool:
        return is_size(self._known, index) and any(
            what == "layers" and index in decisions and index not in self._brancher.deciding(path)
            for (path, what), decisions in self._known.of.items()
        )

    def _plan_behind(self, plan: Plan, module: nn.Module, home: Home, depth: int, chosen: Candidates) -> None:
        """Finds what a layer behind a sequence has to do, from tables of its sizes."""
        values = dict(zip(home.part.decisions, home.values, strict=True))
        base, changed = self._base(home), dict[tuple[str, int], set[int]]()
        extents = self._extents.of(home, depth)
        for (name, axis), extent in extents.items():
            decisions, axes = extent.at(values[depth])
            if not axes:
                raise self._refusal(depth, home, f"at most {MOST_JOINT} sizes of one layer at each depth")
            if not equal(axes[tuple(values[i] for i in decisions)], base[name][1][axis]):
                raise self._refusal(depth, home, "sizes that follow the depth and the widths of its last layer alone")
            if None in extent.cases or depth not in chosen:
                if used := {i for i in decisions if i in chosen}:
                    changed[name, axis] = used
            elif role_of(module, name, axis) == READ:
                plan.behind.append(self._behind(home, name, axis, depth, extent, chosen))
            elif role_of(module, name, axis) != MADE and self._is_strict:
                raise self._refusal(depth, home, "layers that treat each channel alone or add them all up")

        def cuts(name: str, decisions: Sequence[int]) -> list[Cut]:
            found = []
            for picks in self._combinations(home, decisions, chosen):
                given = {**values, **dict(zip(decisions, picks, strict=True))}
                cut = list(base[name][1])
                for axis in range(len(cut)):
                    if (name, axis) in changed:
                        own, table = extents[name, axis].at(values[depth])
                        cut[axis] = table[tuple(given[i] for i in own)]
                found.append(tuple(cut))
            return found

        self._plan_weights(plan, module, home, changed, cuts)

    def _behind(self, home: Home, name: str, axis: int, depth: int, extent: Extent,
                chosen: Candidates) -> Behind:  # fmt: skip
        runs = {i: chosen.get(i, (v,)) for i, v in zip(home.part.decisions, home.values, strict=True)}
        loan, cut = self._base(home)[name]
        full = self._store.tensor(loan.key).shape[axis]
        found: list[tuple[tuple[int, ...], list[Axis]]] = []
        for candidate in runs[depth]:
            decisions, axes = extent.at(candidate)
            mixed = tuple(i for i in decisions if i in chosen)
            found.append((mixed, [axes[picks] for picks in itertools.product(*(runs[i] for i in decisions))]))
        largest = max((own for _, axes in found for own in axes), key=lambda own: len(places(own, full)))
        cases = []
        for mixed, own_axes in found:
            rows = [mask_of(own, largest, full) for own in own_axes]
            if any(row is None for row in rows):
                raise self._refusal(depth, home, "a largest size that has all places of the others")
            cases.append(Case(mixed, torch.stack([row for row in rows if row is not None])))
        whole = (*cut[:axis], largest, *cut[axis + 1 :])
        is_larger = len(places(largest, full)) > len(places(cut[axis], full))

        def lend() -> torch.Tensor:
            self._store.renew_gathered([] if self._store.is_lasting(loan.key, whole) else [(loan, whole)])
            return self._store.lend(loan.key, whole)

        return Behind(name, axis, depth, cases, lend, is_larger=is_larger)

    def _plan_weights(self, plan: Plan, module: nn.Module, home: Home, changed: Mapping[tuple[str, int], set[int]],
                      cuts: Callable[[str, Sequence[int]], list[Cut]]) -> None:  # fmt: skip
        masked: dict[str, dict[int, set[int]]] = {}
        for (name, axis), decisions in changed.items():
            role = role_of(module, name, axis)
            if role == FIXED and self._is_strict:
                raise self._refusal(min(decisions), home, "layers that treat each channel alone or add them all up")
            if role == KERNEL and self._store.is_transformed(self._base(home)[name][0].key):
                raise self._refusal(min(decisions), home, "kernels that are parts of one another, or of one size",
                                    "pass kernels='crop' to mu.share_weights, or use an algorithm that runs one size "
                                    "at a time, such as OnceForAll(...)")  # fmt: skip
            if role in (READ, KERNEL):
                masked.setdefault(name, {})[axis] = decisions
            elif role == MADE and name == "weight" and isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)):
                plan.outputs = tuple(sorted(decisions))
                full = self._store.tensor(self._base(home)[name][0].key).shape[axis]
                plan.made = tuple(len(places(cut[axis], full)) for cut in cuts(name, plan.outputs))
        for name, axes in masked.items():
            for group, together in grouped(axes):
                rows = self._rows(home, name, group, together, cuts(name, together))
                is_read = [role_of(module, name, axis) for axis in group] == [READ]
                plan.weighings.append(Weighing(name, group, together, rows, is_read=is_read))

    def _rows(self, home: Home, name: str, axes: Sequence[int], decisions: Sequence[int],
              cuts: Sequence[Cut]) -> torch.Tensor:  # fmt: skip
        loan, large = self._base(home)[name]
        full = self._store.tensor(loan.key).shape
        rows = []
        for small in cuts:
            row = torch.ones((), dtype=torch.bool)
            for axis in axes:
                mask = mask_of(small[axis], large[axis], full[axis])
                if mask is None:
                    raise self._refusal(decisions[0], home, "a largest size that has all places of the others")
                row = row[..., None] & mask
            rows.append(row)
        return torch.stack(rows)

    def _combinations(self, home: Home, decisions: Sequence[int], chosen: Candidates) -> list[tuple[int, ...]]:
        found = list(itertools.product(*(chosen[i] for i in decisions)))
        if len(found) > MOST_JOINT:
            raise self._refusal(decisions[0], home, f"at most {MOST_JOINT} sizes of one layer")
        return found

    def _twins(self, home: Home, decisions: Sequence[int], chosen: Candidates) -> list[Instance]:
        """Returns the part of a module under every combination of candidates; the last decision runs fastest."""
        combinations = self._combinations(home, decisions, chosen)
        return [self._most_alike(home, dict(zip(decisions, picks, strict=True))) for picks in combinations]

    def _most_alike(self, home: Home, changes: Mapping[int, Any]) -> Instance:
        """Returns the part of a module under some changes; where it has another layer then, one with more changes."""
        twin = self._twin(home, changes)
        others = () if self._is_alike(changes, home, twin) else self._live().others(home, changes)
        return next((other for other in others if self._is_alike(changes, home, other)), twin)

    def _twin(self, home: Home, changes: Mapping[int, Any]) -> Instance:
        try:
            return self._live().twin(home, changes)
        except MissingPart:
            given = dict(zip(home.part.decisions, home.values, strict=True))
            self._meet({**given, **changes})
            return self._live().twin(home, changes)

    def _base(self, home: Home) -> dict[str, tuple[Loan, Cut]]:
        return entries(self._twin(home, {}), home.path)

    def _is_alike(self, changes: Mapping[int, Any], home: Home, twin: Instance) -> bool:
        """Returns whether a module is of one class, and has the same weights, in two children."""
        base = self._twin(home, {})
        own, other = base.tree[home.path], twin.tree.get(home.path)
        if type(own) is type(other) and entries(base, home.path).keys() == entries(twin, home.path).keys():
            return True
        if self._is_strict and not any(self._brancher.is_inside(home.path, index) for index in changes):
            raise self._refusal(min(changes), home, "one class of layer, with the same weights, for all sizes")
        return False

    def _is_shorter(self, index: int, home: Home, module: nn.Module, other: nn.Module) -> bool:
        """Returns whether a sequence has another number of layers in another child, the first ones being the same."""
        names, others = list(module._modules), list(other._modules)
        if names == others or index in self._brancher.deciding(home.path):
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


__all__ = ["Candidates", "Plan", "Planner"]
