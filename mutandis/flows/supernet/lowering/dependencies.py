"""Which decisions each fact of a module tree depends on, found by building children and comparing them.

A decision is varied alone, with all others at their smallest and at their largest; every further child that is built is
held against what was found. Where it disagrees, the decision that is to blame is found by walking from one child to the
other, one decision at a time. Spaces of up to `FEW` DNAs are gone through completely.
"""

from __future__ import annotations

import math
import numbers
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from mutandis.errors import LoweringError
from mutandis.flows.supernet.lowering.children import Builder, Child, space_index
from mutandis.flows.supernet.lowering.facts import Facts
from mutandis.hyper import OneOf, Point, Rng, SearchSpace
from mutandis.hyper.points import CHOICE, FLOAT, INT, MANY
from mutandis.symbolic.traverse import walk

FEW = 64
_RANDOM = 12
_PROBES = 7
_MOST = 4096

Fact = tuple[str, str]
"""The path of a module, and `exists`, `kind`, `layers`, `tensors` or the name of an attribute behind a dot.

All but the first are about children in which the module exists.
"""

_ABSENT = "absent"
_UNKNOWN = object()


class Dependencies:
    """What is known about the children of a space.

    Args:
        builder: Builds them.

    Attributes:
        of: The decisions each fact depends on.
        children: The children that were built, without weights, by raw values; `release` forgets them.
        paths: Paths of all modules that some child has.
        held: Names of attributes that hold a module or a tensor, by the path of their module.
        ties: (path, path of another module that an attribute holds).
        owners: For modules that candidates made, the decisions they were candidates of.
    """

    def __init__(self, builder: Builder) -> None:
        self._builder = builder
        self._space = builder.space
        self._numeric = _numeric_candidates(builder.space)
        self.of: dict[Fact, set[int]] = defaultdict(set)
        self.children: dict[tuple[Any, ...], Child] = {}
        self.paths: set[str] = set()
        self._heaviest: dict[int, tuple[int, Any]] = {}
        self.held: dict[str, set[str]] = defaultdict(set)
        self.ties: set[tuple[str, str]] = set()
        self.owners: dict[str, set[tuple[int, int]]] = defaultdict(set)
        self._known: dict[Fact, dict[tuple[Any, ...], tuple[Any, tuple[Any, ...]]]] = defaultdict(dict)
        self._failure: Exception | None = None

    @property
    def space(self) -> SearchSpace:
        """The space."""
        return self._space

    def explore(self, seed: int) -> None:
        """Builds children until every fact is explained.

        Args:
            seed: Seed of the random children.

        Raises:
            Exception: what building raised, if no child can be built.
        """
        slots, sizes = self._builder.roots.slots, list[dict[Fact, set[int]]]()
        for largest in (True, False):
            base = self.extreme(largest)
            for point in self._space.points:
                if point.index in slots:
                    self._vary(point, base)
            sizes.append(self._sizes())
        if sizes[0] != sizes[1]:  # Else no width counts at one depth alone.
            self._vary_below_depths(slots)
        built: list[Child | None] = [self._try(values) for values in self._checks(seed)]
        # What is learned late may set apart children that were taken for alike before.
        surprising: list[Child | None] = built
        while surprising:
            surprising = [child for child in built if child is not None and not self.learn(child)]
            built = list(self.children.values())
        if not self.children and self._failure is not None:
            raise self._failure

    def _checks(self, seed: int) -> Iterator[tuple[Any, ...]]:
        yield from list(self.children)
        yield self.extreme(True)
        if self._space.bare().size <= FEW:
            yield from (dna.values for dna in self._space.bare().enumerate())
        else:
            rng = Rng(seed, "weight sharing")
            yield from (self._space.bare().random(rng).values for _ in range(_RANDOM))

    def extreme(self, largest: bool, context: Sequence[Any] | None = None, *, wiring: bool = False) -> tuple[Any, ...]:
        """Returns the raw values of the child whose numbers are all largest, or smallest.

        Once the decisions were varied, the largest value of one is that with the most weights.

        Args:
            largest: Which of the two.
            context: Raw values whose choices among things other than numbers are kept.
            wiring: Whether numbers that decide which modules there are are kept too.
        """

        def pick(point: Point) -> Any:
            if largest and point.index in self._heaviest:
                return self._heaviest[point.index][1]
            if point.index in self._numeric:
                candidates = self._numeric[point.index]
                best = max(candidates) if largest else min(candidates)
                return candidates.index(best)
            if point.kind in (INT, FLOAT):
                return point.at(point.num_steps - 1) if largest and point.is_finite else (
                    point.high if largest else point.low)  # fmt: skip
            return point.first()

        kept = [None] * len(self._space.points)
        if context is not None:
            fixed = set().union(*(self.of[path, name] for path in self.paths for name in ("exists", "layers")))
            kept = [
                None if self.is_number(point) and not (wiring and point.index in fixed) else context[point.index]
                for point in self._space.points
            ]
        return self._space.repair(kept, pick).values

    def is_number(self, point: Point) -> bool:
        """Returns whether a decision is for a number."""
        return point.index in self._numeric or point.kind in (INT, FLOAT)

    def point(self, index: int) -> Point:
        """Returns a decision of the space."""
        return self._space.points[index]

    def literal(self, index: int, value: Any) -> Any:
        """Returns what a raw value puts into a program, where that is a number, a text or a bool; else None."""
        point = self._space.points[index]
        if index in self._numeric:
            return self._numeric[index][value]
        if point.kind in (INT, FLOAT):
            return value
        label = point.candidates[value] if point.kind == CHOICE and value is not None else None
        return bool(value) if point.is_bool else label if isinstance(label, str) else None

    def _vary(self, point: Point, base: tuple[Any, ...]) -> None:
        context = self.forced(point, base)
        built: list[Child] = []
        for value in _probes(point):
            given = list(context)
            given[point.index] = value
            child = self._try(self._space.repair(given, lambda p: _from(base, p)).values)
            if child is not None:
                if self.is_number(point):
                    self._weigh(point.index, value, child)
                for other in (*built[:1], *built[1:][-1:]):  # The first and the last.
                    self._compare(other, child, point.index)
                built.append(child)

    def _vary_below_depths(self, slots: Collection[int]) -> None:
        """Varies decisions at depths between the extremes, where a width may count that does not count at either."""
        largest = self.extreme(True)
        for depth in self._depths():
            ends = {largest[depth], self.extreme(False)[depth]}
            for value in (v for v in _probes(self.point(depth)) if v not in ends):
                given = self.forced(self.point(depth), largest)
                given[depth] = value
                base = self._space.repair(given, lambda p: _from(largest, p)).values
                child = self._try(base)
                for index in slots:
                    point, other = self.point(index), list(base)
                    if index != depth and self.is_number(point) and base[index] is not None and child is not None:
                        other[index] = self.extreme(False)[index]
                        small = self._try(self._space.repair(other, lambda p: _from(largest, p)).values)
                        if small is not None:
                            self._compare(child, small, index)

    def _depths(self) -> list[int]:
        """Returns the numbers that say how many layers a list has, where that is not all or none."""
        found: set[int] = set()
        for (path, aspect), decisions in self.of.items():
            lengths = {len(child.facts[path].layers) for child in self.children.values() if path in child.facts}
            if aspect == "layers" and len(lengths - {0}) > 1:
                found |= decisions
        return sorted(i for i in found if self.is_number(self.point(i)))

    def _sizes(self) -> dict[Fact, set[int]]:
        return {fact: set(decisions) for fact, decisions in self.of.items() if fact[1] == "tensors"}

    def _weigh(self, index: int, value: Any, child: Child) -> None:
        """Remembers the value of a number with the most weights, the later of equal ones."""
        weight = sum(math.prod(t[2]) for facts in child.facts.values() for t in facts.tensors if len(t) > 4)
        if weight >= self._heaviest.get(index, (0, value))[0]:
            self._heaviest[index] = (weight, value)

    def forced(self, point: Point, base: tuple[Any, ...]) -> list[Any]:
        """Returns raw values like `base` under which a conditional decision is active."""
        given = list(base)
        while not self._space.is_active(point, given):
            parent, candidate = point.conditions[0]
            above = self._space.points[parent]
            given[parent] = candidate if above.kind == CHOICE else _picks_with(above, candidate)
            point = above
        return given

    def _try(self, values: tuple[Any, ...]) -> Child | None:
        try:
            return self.child(values)
        except Exception as error:  # Combinations that no search allows may be impossible to build.
            self._failure = error
            return None

    def child(self, values: tuple[Any, ...]) -> Child:
        """Returns the child of raw values without its weights; built once while it is remembered."""
        known = self.children.get(values)
        if known is None:
            known = self._builder.build(values)
            known.strip()
            self.children[values] = known
        return known

    def release(self) -> None:
        """Forgets the children; what was learned from them stays."""
        self.children.clear()

    def _compare(self, a: Child, b: Child, index: int) -> None:
        for path in a.facts.keys() | b.facts.keys():
            first, second = a.facts.get(path), b.facts.get(path)
            if first is None or second is None:
                self.of[path, "exists"].add(index)
            elif first != second:
                for fact in _facts(path, first, second):
                    if _value(first, fact[1]) != _value(second, fact[1]):
                        self.of[fact].add(index)

    def learn(self, child: Child) -> bool:
        """Holds a child against what is known, and finds what explains it where it differs.

        Returns:
            Whether everything was as expected.
        """
        expected = True
        for path, tags in child.owners.items():
            self.owners[path] |= tags
        for path, facts in child.facts.items():
            self.held[path] |= facts.held
            self.ties.update((path, other) for other in facts.ties)
            _refuse_aliases(path, facts, child.tree[path])
        self.paths |= child.facts.keys()
        for path in self.paths:
            found = child.facts.get(path)
            expected = self._settle((path, "exists"), found is not None, child.values) and expected
            if found is not None:
                for fact in _facts(path, found, found):
                    expected = self._settle(fact, _value(found, fact[1]), child.values) and expected
        return expected

    def _settle(self, fact: Fact, value: Any, values: tuple[Any, ...]) -> bool:
        expected = True
        while True:
            table, key = self._known[fact], self.project(values, self.of[fact])
            if key not in table and len(table) >= _MOST:
                return expected  # Enough is known; a table must not grow with the number of trials.
            known = table.setdefault(key, (value, values))
            if known[0] == value:
                return expected
            expected = False
            self._blame(fact, known[1], values)

    def _blame(self, fact: Fact, before: tuple[Any, ...], after: tuple[Any, ...]) -> None:
        """Adds to a fact the decision that makes it differ between two children; all that differ if it hides."""
        suspects = [i for i, (a, b) in enumerate(zip(before, after)) if a != b and i not in self.of[fact]]
        given, value, changed, guilty = list(before), self._value_at(before, fact), [], suspects
        for index in suspects:
            given[index] = after[index]
            values = self._space.repair(given, lambda p: _from(after, p)).values
            now = self._value_at(values, fact)
            changed.append(index)
            if now is not _UNKNOWN and now != value:
                guilty = changed
                break
            if now is not _UNKNOWN:
                changed = []
        self.of[fact].update(guilty)
        entries = list(self._known[fact].values())
        self._known[fact] = {self.project(values, self.of[fact]): (value, values) for value, values in entries}

    def _value_at(self, values: tuple[Any, ...], fact: Fact) -> Any:
        child = self._try(values)
        if child is None:
            return _UNKNOWN
        facts = child.facts.get(fact[0])
        if fact[1] == "exists":
            return facts is not None
        return _UNKNOWN if facts is None else _value(facts, fact[1])

    def seen(self, fact: Fact) -> list[tuple[Any, tuple[Any, ...]]]:
        """Returns the different values of a fact with the raw values of a child that has each."""
        return list(self._known[fact].values())

    @staticmethod
    def project(values: Sequence[Any], decisions: Any) -> tuple[Any, ...]:
        """Returns the raw values of some decisions, in their order."""
        return tuple(values[i] for i in sorted(decisions))


def _refuse_aliases(path: str, facts: Facts, module: nn.Module) -> None:
    for name in facts.aliases[:1]:
        at, value = f"{path}.{name}" if path else name, module.__dict__[name]
        inside = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else [value]
        if any(isinstance(item, torch.optim.Optimizer) for item in inside):
            raise LoweringError(
                "cannot share the weights of a module that makes an optimizer of them when it is built",
                at=at,
                expected="modules that hold weights, and an object around them that trains them",
                fix="make it in a method, or in a class around the module, which takes that as an argument",
            )
        raise LoweringError(
            "cannot share a weight that a plain attribute holds beside the registered one",
            at=at,
            expected="parameters that are read where they are registered",
            fix="make the attribute a property, or read self.weight in forward",
        )


def _facts(path: str, a: Facts, b: Facts) -> list[Fact]:
    names = a.attributes.keys() | b.attributes.keys()
    return [(path, "kind"), (path, "layers"), (path, "tensors"), *((path, f".{name}") for name in names)]


def _value(facts: Facts, aspect: str) -> Any:
    return facts.attributes.get(aspect[1:], _ABSENT) if aspect[0] == "." else getattr(facts, aspect)


def _from(base: Sequence[Any], point: Point) -> Any:
    value = base[point.index]
    return point.first() if value is None else value


def _probes(point: Point) -> list[Any]:
    """Returns values of a decision that are worth a look: all, or the ends and some between."""
    if point.kind == MANY:
        return list(point.values()) if point.size <= FEW else _rotations(point)
    if point.kind == CHOICE or (point.is_finite and point.size <= _PROBES):
        return list(point.values())
    if point.kind in (INT, FLOAT):
        inside = [point.from_unit(k / (_PROBES - 1)) for k in range(_PROBES)]
        return list(dict.fromkeys(inside))
    return [point.first()]


def _rotations(point: Point) -> list[tuple[int, ...]]:
    """Returns picks in which every candidate stands at every place, if their order is free."""
    n, rng = point.num_candidates, Rng(0, point.path)
    counts = {point.k_min, point.k_max} - {0}
    picks = [tuple((first + i) % n for i in range(k)) for k in sorted(counts) for first in range(n)]
    found = [p if point.ordered else tuple(sorted(p)) for p in picks] + [point.draw(rng) for _ in range(_PROBES)]
    return list(dict.fromkeys(found))


def _picks_with(point: Point, candidate: int) -> tuple[int, ...]:
    others = [i for i in range(point.num_candidates) if i != candidate]
    count = max(1, point.k_min)
    picks = (candidate, *others)[:count] if point.distinct else (candidate,) * count
    return picks if point.ordered else tuple(sorted(picks))


def _numeric_candidates(space: SearchSpace) -> dict[int, tuple[Any, ...]]:
    """Returns the candidates of the choices among numbers, by the index of their points."""
    index_of = space_index(space)
    values = [value for _, value, _ in walk(space.program, layers=False) if isinstance(value, OneOf)]
    return {
        index_of[id(value)]: value.candidates
        for value in values
        if id(value) in index_of and all(map(is_number, value.candidates))
    }


def is_number(value: Any) -> bool:
    """Returns whether a candidate is an int or a float, and no bool."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


__all__ = ["FEW", "Dependencies", "Fact", "is_number"]
