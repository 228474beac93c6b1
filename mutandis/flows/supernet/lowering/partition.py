"""How a module tree is cut into parts, and by which decisions each part is looked up.

A part is either a *unit*, a module with all that is below it, or a *shell*, one module whose layers are parts of their
own. Each is taken from a really built child that agrees in the decisions of the part. Attributes that depend on more
decisions than can be tabulated are either a plain copy of one decision, or read late: see `late.py`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from mutandis.errors import LoweringError
from mutandis.flows.supernet.lowering.children import Tag
from mutandis.flows.supernet.lowering.dependencies import Dependencies
from mutandis.flows.supernet.lowering.facts import RECORD
from mutandis.hyper import SearchSpace
from mutandis.hyper.points import MANY

LARGEST_TABLE = 512
_LISTS = {"Sequential", "ModuleList", "ParameterList"}


@dataclass(slots=True)
class Part:
    """A module, or a module with all that is below it, in the live program.

    Attributes:
        path: Where it stands.
        decisions: The decisions by which it is looked up.
        is_unit: Whether the modules below belong to it.
        below: All decisions that its own layers hang on, down to the leaves.
        arms: The choices of which it, or a module above it, is an arm.
        layers: The parts below, by path; empty for a unit.
    """

    path: str
    decisions: tuple[int, ...]
    is_unit: bool
    below: tuple[int, ...]
    arms: frozenset[int]
    layers: dict[str, Part] = field(default_factory=dict)


class Partition:
    """The parts of all children of a space.

    Args:
        space: The space.
        dependencies: What its facts depend on.
        roots: Path prefixes of the outermost modules.

    Attributes:
        parts: The outermost parts.
        late: Attributes that are read late, by the path of their module.
        copies: Attributes that are a decision itself: (path, name) to the index of the point.

    Raises:
        LoweringError: the parts of two children cannot share weights sensibly.
    """

    def __init__(self, space: SearchSpace, dependencies: Dependencies, roots: Iterable[str]) -> None:
        self._space = space
        self._known = dependencies
        self._names = self._attribute_names()
        self._layers = self._layers_below()
        self.late: dict[str, set[str]] = defaultdict(set)
        self.copies: dict[tuple[str, str], int] = {}
        self._forced = {_common(path, other) for path, other in dependencies.ties}
        self._own = {path: self._decisions_of(path) for path in sorted(dependencies.paths)}
        self._below: dict[str, frozenset[Tag]] = {}
        self._effects: dict[int, list[str]] = {}
        self._refuse_shifts()
        for path in self._own:
            self._own[path] |= {index for home in self._homes(path) for index, _ in self.tags(home)}
        self.parts = [self._part(root) for root in roots]

    def _attribute_names(self) -> dict[str, list[str]]:
        names: dict[str, list[str]] = defaultdict(list)
        for path, aspect in sorted(self._known.of):
            if aspect[0] == "." and self._known.of[path, aspect]:
                names[path].append(aspect[1:])
        return names

    def _layers_below(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = defaultdict(set)
        for path in self._known.paths:
            for layers, _ in self._known.seen((path, "layers")):
                found[path].update(where for _, where in layers if where is not None)
        return found

    def _decisions_of(self, path: str) -> set[int]:
        known = self._known.of
        made = {*known[path, "kind"], *known[path, "layers"], *known[path, "tensors"]}
        held = self._known.held[path]
        for name in held:
            made |= known[path, f".{name}"]
        names = [name for name in self._names[path] if name not in held and name != RECORD]
        for name in sorted(names, key=lambda n: len(known[path, f".{n}"])):
            needed = known[path, f".{name}"]
            if needed <= made:
                continue
            source = self._source(path, name)
            if source is not None:
                self.copies[path, name] = source
            elif self._size(made | needed) <= LARGEST_TABLE and not (self._layers[path] and self._is_text(path, name)):
                made |= needed
            else:
                self.late[path].add(name)
        return made

    def _is_text(self, path: str, name: str) -> bool:
        """Returns whether an attribute is a text in every child; one that sums up its layers should not bind them."""
        seen = [value for value, _ in self._known.seen((path, f".{name}"))]
        return all(isinstance(value, tuple) and value[:1] == ("str",) for value in seen)

    def _source(self, path: str, name: str) -> int | None:
        """Returns the decision whose value an attribute always is, or None."""
        needed = self._known.of[path, f".{name}"]
        if len(needed) != 1:
            return None
        (index,) = needed
        for digest, values in self._known.seen((path, f".{name}")):
            value = self._known.literal(index, values[index])
            if digest != (type(value).__name__, repr(value)):
                return None
        return index

    def _homes(self, path: str) -> set[str]:
        """Returns the modules whose weights a module uses: itself, and those it is tied to."""
        seen = [tensor for tensors, _ in self._known.seen((path, "tensors")) for tensor in tensors]
        homes = {tensor[-1].rpartition(".")[0] for tensor in seen if tensor[0] == "parameter" and len(tensor) > 2}
        return homes | {path} if seen or path in self._known.owners else homes

    def _size(self, decisions: Iterable[int]) -> float:
        return math.prod(self._space.points[i].size for i in decisions)

    def _part(self, path: str) -> Part:
        own = self._own[path]
        below = self._reach(path, set())
        record = self._known.of[path, f".{RECORD}"]
        if below == own or path in self._forced:
            self._mind_records(path, below, set())
            return Part(path, tuple(sorted(below)), True, tuple(sorted(below)), self._arms(path))
        if record:
            self.late[path].add(RECORD)
        layers = {where: self._part(where) for where in sorted(self._layers[path])}
        return Part(path, tuple(sorted(own)), False, tuple(sorted(below)), self._arms(path), layers)

    def _arms(self, path: str) -> frozenset[int]:
        return frozenset(index for index, _ in self._tags_below(path))

    def side_effects(self, index: int) -> list[str]:
        """Returns what a choice decides beside which of its arms runs; attributes that are texts do not count."""
        if index not in self._effects:
            self._effects[index] = self._side_effects(index)
        return self._effects[index]

    def _side_effects(self, index: int) -> list[str]:
        found = []
        for (path, aspect), decisions in self._known.of.items():
            if index not in decisions or index in self._arms(path) or aspect == f".{RECORD}":
                continue
            if aspect[0] != "." or not self._is_text(path, aspect[1:]):
                found.append(f"{path}{aspect}" if path and aspect[0] == "." else f"{path} {aspect}".strip(" ."))
        return sorted(found)

    def _reach(self, path: str, seen: set[str]) -> set[int]:
        """Returns all decisions at and below a module."""
        if path in seen:
            return set()
        seen.add(path)
        return self._own[path].union(*(self._reach(where, seen) for where in self._layers[path]))

    def _mind_records(self, path: str, decisions: set[int], seen: set[str]) -> None:
        if path in seen:
            return
        seen.add(path)
        if not self._known.of[path, f".{RECORD}"] <= decisions:
            self.late[path].add(RECORD)
        for where in self._layers[path]:
            self._mind_records(where, decisions, seen)

    def _refuse_shifts(self) -> None:
        """Refuses numbers that change how long a list of layers is and what stands at a place of it."""
        known = self._known.of
        for path in sorted(self._known.paths):
            kinds = {kind[1] for kind, _ in self._known.seen((path, "kind"))}
            lengths = {i for i in known[path, "layers"] if self._known.is_number(self._space.points[i])}
            sizes = {len(layers) for layers, _ in self._known.seen((path, "layers"))} - {0}
            if not lengths or not kinds & _LISTS or len(sizes) < 2:  # All layers are there or none is.
                continue
            for below in sorted(p for p in self._known.paths if p.startswith(f"{path}." if path else "") and p != path):
                if not any(tensors for tensors, _ in self._known.seen((below, "tensors"))):
                    continue
                names = ("kind", "tensors", *(f".{name}" for name in self._names[below] if name != RECORD))
                moved = sorted(lengths & set().union(*(known[below, name] for name in names)))
                if moved:
                    point = self._space.points[moved[0]]
                    raise LoweringError(
                        "cannot share weights: a depth decides which layer stands at a place of a list",
                        at=f"{point.key or '(the root)'}, module {below}",
                        got=point.describe(),
                        expected="a list that grows at its end, its first layers the same for every depth",
                        fix="give each stage a list of its own, or search this decision with trials (where=)",
                    )

    def tags(self, path: str) -> tuple[Tag, ...]:
        """Returns the choices among which the weights of a module are not shared.

        Those are the choices among things other than numbers that made the module or one above it, or decide its
        class, its tensors or its settings. Which of several picks have a module at all does not part its weights.
        """
        known, names = self._known, ("tensors", *(f".{name}" for name in self._names[path] if name != RECORD))
        tags = set(self._tags_below(path))
        decisions = {index for index, _ in tags}
        for name in names:
            late = name[1:] in self.late[path]
            tags |= {
                (i, -1) for i in known.of[path, name] if not late and not self._is_number(i) and i not in decisions
            }
        return tuple(sorted(tags))

    def _tags_below(self, path: str) -> frozenset[Tag]:
        if path not in self._below:
            parent = path.rpartition(".")[0]
            above = self._tags_below(parent) if path != parent and parent in self._known.paths else frozenset()
            tags = set(above) | self._known.owners[path]
            decisions = {index for index, _ in tags}
            for name in ("exists", "kind"):
                fresh = self._known.of[path, name]
                parting = {i for i in fresh if not (self._is_number(i) or (name == "exists" and self._is_many(i)))}
                tags |= {(i, -1) for i in parting if i not in decisions}
            self._below[path] = frozenset(tags)
        return self._below[path]

    def _is_many(self, index: int) -> bool:
        return self._space.points[index].kind == MANY

    def _is_number(self, index: int) -> bool:
        return self._known.is_number(self._space.points[index])

    def every_part(self) -> list[Part]:
        """Returns all parts, those above before those below."""
        found: list[Part] = []
        pending = list(reversed(self.parts))
        while pending:
            part = pending.pop()
            found.append(part)
            pending.extend(reversed(part.layers.values()))
        return found


def _common(path: str, other: str) -> str:
    """Returns the path of the innermost module that holds two, by their names."""
    a, b = path.split("."), other.split(".")
    same = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
    return ".".join(a[:same])


def variant_of(tags: Iterable[Tag], values: Any) -> tuple[tuple[int, int, Any], ...]:
    """Returns which of several sets of weights belongs to raw values."""
    return tuple((i, slot, values[i] if slot < 0 or values[i] is None else values[i][slot]) for i, slot in tags)


__all__ = ["Part", "Partition", "variant_of"]
