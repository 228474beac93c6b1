"""Layers that are of another kind for other sizes, such as a shortcut that is a projection where two widths differ.

Every kind becomes an arm, and what comes out is

    sum over k of P(k) y_k,   P(k) = the sum of the products of weights over all combinations of sizes with kind k.

All weight on one size of each decision gives one kind the weight 1. The arm of the kind that the largest sizes have
stands in the live program. Of another kind no child need have the largest sizes (a projection between equal widths), so
that its layers are put together: each axis of a weight, and each attribute, is as in a child of that kind in which the
one decision that it follows has its largest size.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from mutandis.errors import LoweringError
from mutandis.flows.supernet.assembly import Home, Instance, MissingPart, put
from mutandis.flows.supernet.cuts import Axis, Cut
from mutandis.flows.supernet.lowering.dependencies import Dependencies
from mutandis.flows.supernet.lowering.facts import join, state_buffers
from mutandis.flows.supernet.mixing.axes import FIXED, MADE, READ, mask_of, role_of
from mutandis.flows.supernet.mixing.extents import MOST_JOINT, is_size
from mutandis.flows.supernet.mixing.families import Family, Kind, Values
from mutandis.flows.supernet.mixing.refusals import refusal
from mutandis.flows.supernet.mixing.weighing import Weighing
from mutandis.flows.supernet.store import Store
from mutandis.flows.supernet.tensors.loans import Loan

Candidates = Mapping[int, tuple[int, ...]]


@dataclass(slots=True)
class Layer:
    """A layer inside an arm.

    Attributes:
        module: The layer.
        weighings: How its weights are masked.
        outputs: The decision that its output channels follow, if there is one.
        made: The number of its output channels for each candidate.
    """

    module: nn.Module
    weighings: list[Weighing] = field(default_factory=list)
    outputs: tuple[int, ...] = ()
    made: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Arm:
    """A kind that does not stand in the live program.

    Attributes:
        module: Its outermost layer.
        layers: All its layers.
        stand: Gives them the sizes and tensors of the largest candidates.
    """

    module: nn.Module
    layers: tuple[Layer, ...]
    stand: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Branch:
    """The kinds of a layer.

    Attributes:
        decisions: What says which of them it is.
        arms: All but the one in the live program.
        places: Which combinations of candidates have the kind of the live program, and those of each arm; the last
            decision runs fastest.
    """

    decisions: tuple[int, ...]
    arms: tuple[Arm, ...]
    places: tuple[torch.Tensor, ...]


class Brancher:
    """Finds the kinds of layers.

    Args:
        known: Knows which decisions what depends on.
        store: The shared tensors.
        twin: Returns the part of a layer under some changes; raises `MissingPart` if no child had it.
        meet: Builds a child that has some values, so that its parts are known.
        build: Builds the modules below a path of a child of a part under some changes, to be changed.
    """

    def __init__(self, known: Dependencies, store: Store, twin: Callable[[Home, Mapping[int, int]], Instance],
                 meet: Callable[[Mapping[int, int]], None],
                 build: Callable[[Home, Mapping[int, int]], nn.Module]) -> None:  # fmt: skip
        self._known, self._store, self._twin, self._meet, self._build = known, store, twin, meet, build
        self._families: dict[tuple[Any, ...], Family] = {}
        self._modules: dict[tuple[Any, ...], nn.Module] = {}

    def deciding(self, path: str) -> tuple[int, ...]:
        """Returns the numbers that say of what kind a layer is; empty for most layers."""
        known = self._known.of
        found = set(known.get((path, "kind"), ()))
        if self._is_there_or_not(path):
            found |= known.get((path, "layers"), set())
        return tuple(sorted(i for i in found if is_size(self._known, i)))

    def _is_there_or_not(self, path: str) -> bool:
        """Returns whether an `nn.Sequential` is empty or not by decisions that its layers' sizes follow, too."""
        lengths = self._known.of.get((path, "layers"), set())
        return bool(lengths) and any(
            lengths & self._known.of.get((below, "tensors"), set())
            for below in self._known.paths if below.startswith(f"{path}." if path else "") and below != path
        )  # fmt: skip

    def is_inside(self, path: str, index: int) -> bool:
        """Returns whether a decision says of what kind a layer, or one around it, is."""
        while index not in self.deciding(path):
            if not path:
                return False
            path = path.rpartition(".")[0]
        return True

    def prepare(self, homes: Sequence[Home]) -> None:
        """Builds the children that the families of some layers need, each for as many layers as possible."""
        pending = []
        for home in homes:
            if self._key(home) not in self._families:
                missing = [c for c in self._combinations(home) if not self._has(home, c)]
                pending.append((home, self._numbers(home), missing))
        while any(missing for _, _, missing in pending):
            given: dict[int, int] = {}
            for _, decisions, missing in pending:
                fitting = next((values for values in missing if all(
                    given.get(i, v) == v for i, v in zip(decisions, values, strict=True))), None)  # fmt: skip
                if fitting is not None:
                    given.update(zip(decisions, fitting, strict=True))
                    missing.remove(fitting)
            self._meet(given)

    def _has(self, home: Home, values: Values) -> bool:
        try:
            self._twin(home, dict(zip(self._numbers(home), values, strict=True)))
        except MissingPart:
            return False
        return True

    def _key(self, home: Home) -> tuple[Any, ...]:
        numbers = set(self._numbers(home))
        return (home.path, *(v for i, v in zip(home.part.decisions, home.values, strict=True) if i not in numbers))

    def _numbers(self, home: Home) -> tuple[int, ...]:
        return tuple(i for i in home.part.decisions if is_size(self._known, i))

    def _combinations(self, home: Home) -> list[Values]:
        rows = [range(self._known.point(i).num_candidates) for i in self._numbers(home)]
        total = 1
        for row in rows:
            total *= len(row)
        if total > MOST_JOINT or not home.part.is_unit:
            raise self._refusal(home, f"a layer of several kinds whose sizes follow from few decisions (at most "
                                f"{MOST_JOINT} combinations), none of which is about its inside alone")  # fmt: skip
        return list(itertools.product(*rows))

    def _refusal(self, home: Home, expected: str) -> LoweringError:
        point = self._known.point(self.deciding(home.path)[0])
        return refusal(point, f"module {home.path}", expected)

    def family(self, home: Home) -> Family:
        """Returns a layer as every combination of sizes has it."""
        key = self._key(home)
        if key not in self._families:
            self.prepare([home])
            numbers = self._numbers(home)
            members = {values: self._twin(home, dict(zip(numbers, values, strict=True)))
                       for values in self._combinations(home)}  # fmt: skip
            self._families[key] = Family(home, numbers, members, self._known.literal)
        return self._families[key]

    def branch(self, home: Home, chosen: Candidates) -> Branch | None:
        """Returns the kinds of a layer among some candidates, or None if there is one.

        Args:
            home: The layer, at the largest candidates.
            chosen: The candidates, by index of the decision.
        """
        decisions = tuple(i for i in self.deciding(home.path) if i in chosen)
        if not decisions:
            return None
        family = self.family(home)
        base = tuple(dict(zip(home.part.decisions, home.values, strict=True))[i] for i in family.decisions)
        kinds: dict[Kind, list[int]] = {family.kinds[base]: []}
        for number, picks in enumerate(itertools.product(*(chosen[i] for i in decisions))):
            given = {**dict(zip(family.decisions, base, strict=True)), **dict(zip(decisions, picks, strict=True))}
            kinds.setdefault(family.kinds[tuple(given[i] for i in family.decisions)], []).append(number)
        if len(kinds) == 1:
            return None
        arms = [self._arm(home, family, kind, base, chosen) for kind in list(kinds)[1:]]
        return Branch(decisions, tuple(arms), tuple(torch.tensor(numbers) for numbers in kinds.values()))

    def _arm(self, home: Home, family: Family, kind: Kind, base: Values, chosen: Candidates) -> Arm:
        module = self._module(home, family, kind)
        inside = {join(home.path, name) if name else home.path: layer for name, layer in module.named_modules()}
        layers = {path: Layer(layer) for path, layer in inside.items()}
        loans: list[tuple[Loan, Cut]] = []
        if family.loans(kind) and any(own not in row for own, row in zip(base, zip(*family.alike(kind)))):
            raise self._refusal(home, "a child with this kind of layer at the largest size of each decision")
        for place, loan in family.loans(kind).items():
            slots = [family.follows(kind, place, axis) for axis in range(len(loan.shape))]
            if -1 in slots:
                raise self._refusal(home, "layers of this kind whose axes each follow one decision")
            cut = tuple(self._at(family, kind, place, axis, slot, base) for axis, slot in enumerate(slots))
            loans.append((loan, cut))
            for axis, slot in enumerate(slots):
                if slot is not None and family.decisions[slot] in chosen:
                    rows = self._rows(home, family, kind, place, axis, slot, chosen, cut[axis])
                    self._weigh(home, layers[loan.path], loan.name, axis, family.decisions[slot], rows)
        attributes = list(family.attributes(kind, base))
        return Arm(module, tuple(layers.values()), lambda: self._stand(inside, loans, attributes))

    def _weigh(self, home: Home, layer: Layer, name: str, axis: int, index: int, rows: torch.Tensor) -> None:
        """Notes what an axis of a weight has to do with a decision."""
        role = role_of(layer.module, name, axis)
        if role == FIXED:
            raise self._refusal(home, "layers that treat each channel alone or add them all up")
        if role != MADE:
            layer.weighings.append(Weighing(name, (axis,), (index,), rows, is_read=role == READ))
        elif name == "weight" and isinstance(layer.module, (nn.Linear, nn.modules.conv._ConvNd)):
            layer.outputs, layer.made = (index,), tuple(rows.sum(1).tolist())

    def _module(self, home: Home, family: Family, kind: Kind) -> nn.Module:
        key = (*self._key(home), kind)
        if key not in self._modules:
            values = family.alike(kind)[0]
            self._modules[key] = self._build(home, dict(zip(family.decisions, values, strict=True)))
        return self._modules[key]

    def _at(self, family: Family, kind: Kind, place: tuple[str, str], axis: int, slot: int | None,
            base: Values) -> Axis:  # fmt: skip
        """Returns an axis where the decision that it follows is as in `base`."""
        fitting = [values for values in family.alike(kind) if slot is None or values[slot] == base[slot]]
        return family.cut(fitting[0], place)[axis]

    def _rows(self, home: Home, family: Family, kind: Kind, place: tuple[str, str], axis: int, slot: int,
              chosen: Candidates, large: Axis) -> torch.Tensor:  # fmt: skip
        """Returns which places each candidate has; all for one that never meets this kind."""
        full = self._store.tensor(family.loans(kind)[place].key).shape[axis]
        rows = []
        for candidate in chosen[family.decisions[slot]]:
            small = next((family.cut(v, place)[axis] for v in family.alike(kind) if v[slot] == candidate), large)
            mask = mask_of(small, large, full)
            if mask is None:
                raise self._refusal(home, "a largest size that has all places of the others")
            rows.append(mask)
        return torch.stack(rows)

    def _stand(self, layers: Mapping[str, nn.Module], loans: Sequence[tuple[Loan, Cut]],
               attributes: Sequence[tuple[str, str, Any]]) -> None:  # fmt: skip
        """Gives the layers of an arm their sizes and tensors."""
        for path, name, value in attributes:
            layers[path].__dict__[name] = value
        self._store.renew_gathered([entry for entry in loans if not self._store.is_lasting(entry[0].key, entry[1])])
        for (loan, _), tensor in zip(loans, self._store.lend_all(loans), strict=True):
            put(layers[loan.path], loan, tensor)
        like = self._store.like()
        for layer in layers.values():
            for name, buffer in layer._buffers.items():
                if buffer is not None and name not in state_buffers(layer):
                    layer._buffers[name] = buffer.to(like) if buffer.is_floating_point() else buffer.to(like.device)


__all__ = ["Arm", "Branch", "Brancher", "Layer"]
