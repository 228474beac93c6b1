"""A layer that is of another kind for other sizes, as every combination of some sizes has it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from mutandis.flows.supernet.assembly import Home, Instance
from mutandis.flows.supernet.cuts import Axis, Cut
from mutandis.flows.supernet.lowering.facts import own_attributes
from mutandis.flows.supernet.mixing.extents import equal
from mutandis.flows.supernet.tensors.loans import Loan

Values = tuple[int, ...]
"""Candidates of the decisions of a family, in their order."""
Kind = tuple[Any, ...]
"""The classes, layers and names of tensors of a module and all below it."""

_PLAIN = (bool, int, float, str, tuple, type(None))


class Family:
    """A layer as every combination of some sizes has it.

    Args:
        home: Where it stands.
        decisions: The decisions.
        members: Its part under each combination of their candidates.
        literal: Returns the number that a candidate stands for.
    """

    def __init__(self, home: Home, decisions: Sequence[int], members: Mapping[Values, Instance],
                 literal: Callable[[int, int], Any]) -> None:  # fmt: skip
        self.path, self.decisions, self._literal = home.path, tuple(decisions), literal
        self.kinds = {values: kind_of(member, home.path) for values, member in members.items()}
        self._loans = {values: dict(_inside(member, home.path)) for values, member in members.items()}
        self._attributes = {values: dict(_attributes(member, home.path)) for values, member in members.items()}

    def alike(self, kind: Kind) -> list[Values]:
        """Returns the combinations with a kind."""
        return [values for values, other in self.kinds.items() if other == kind]

    def loans(self, kind: Kind) -> dict[tuple[str, str], Loan]:
        """Returns what a kind shares, by path and name."""
        return {place: loan for place, (loan, _) in self._loans[self.alike(kind)[0]].items()}

    def cut(self, values: Values, place: tuple[str, str]) -> Cut:
        """Returns which part of a shared tensor a member has."""
        return self._loans[values][place][1]

    def follows(self, kind: Kind, place: tuple[str, str], axis: int) -> int | None:
        """Returns the place of the decision that an axis grows with, None for no decision, or -1 if it is not one."""
        found = [(values, self.cut(values, place)[axis]) for values in self.alike(kind)]
        if all(equal(cut, found[0][1]) for _, cut in found):
            return None
        full = max(_length(cut) for _, cut in found)
        for slot, index in enumerate(self.decisions):
            steps = sorted((self._literal(index, values[slot]), full if cut is None else _length(cut), values[slot])
                           for values, cut in found)  # fmt: skip
            grows = all(a[1] <= b[1] for a, b in itertools.pairwise(steps))
            if grows and _is_function({(step[2], step[1]) for step in steps}):
                return slot
        return -1

    def attributes(self, kind: Kind, base: Values) -> Iterator[tuple[str, str, Any]]:
        """Yields path, name and value of the attributes that follow one decision, where that is as in `base`."""
        alike = self.alike(kind)
        for place, first in self._attributes[alike[0]].items():
            found = [(values, self._attributes[values].get(place)) for values in alike]
            if all(value == first for _, value in found):
                continue
            for slot in range(len(self.decisions)):
                table = {(values[slot], repr(value)): value for values, value in found}
                if _is_function(set(table)):
                    yield from ((*place, value) for (own, _), value in table.items() if own == base[slot])
                    break


def _is_function(pairs: set[tuple[int, Any]]) -> bool:
    return len({own for own, _ in pairs}) == len(pairs)


def _length(cut: Axis) -> int:
    if cut is None:
        return 2**62  # All of it.
    return len(cut) if isinstance(cut, torch.Tensor) else cut[1]


def _below(paths: Mapping[str, Any], path: str) -> list[str]:
    prefix = f"{path}." if path else ""
    return [other for other in paths if other == path or other.startswith(prefix)]


def kind_of(member: Instance, path: str) -> Kind:
    """Returns what a layer and all below it are, but for sizes."""
    names: dict[str, list[str]] = {}
    for loan, _ in member.loans:
        names.setdefault(loan.path, []).append(loan.name)
    return tuple(
        (where, type(member.tree[where]), tuple(member.tree[where]._modules), tuple(sorted(names.get(where, ()))))
        for where in _below(member.tree, path)
    )


def _inside(member: Instance, path: str) -> Iterator[tuple[tuple[str, str], tuple[Loan, Cut]]]:
    inside = set(_below(member.tree, path))
    for loan, cut in member.loans:
        if loan.path in inside:
            yield (loan.path, loan.name), (loan, cut)


def _attributes(member: Instance, path: str) -> Iterator[tuple[tuple[str, str], Any]]:
    for where in _below(member.tree, path):
        for name, value in own_attributes(member.tree[where]):
            if isinstance(value, _PLAIN):
                yield (where, name), value


__all__ = ["Family", "Kind", "Values", "kind_of"]
