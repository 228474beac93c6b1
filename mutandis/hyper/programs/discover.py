"""Finds the decisions of a program: each once, with all its sites, parents before children."""

from __future__ import annotations

import heapq
import random
import sys
from collections.abc import Callable
from typing import Any

from mutandis.errors import SpaceError
from mutandis.hyper.arithmetic import Derived
from mutandis.hyper.points import CHOICE, CUSTOM, FLOAT, INT, MANY, Point, Rewriter
from mutandis.hyper.programs.encode import program_of_text, template_text
from mutandis.hyper.programs.hidden import refuse_hidden
from mutandis.hyper.programs.labels import label
from mutandis.hyper.values import BoolV, Candidates, Evolve, FloatV, HyperValue, IntV, ManyOf
from mutandis.symbolic.abstract import is_abstract_type
from mutandis.symbolic.paths import Path
from mutandis.symbolic.record import LEAVES, UNSET, is_symbolic
from mutandis.symbolic.traverse import children, edited, walk
from mutandis.symbolic.undecided import Undecided

_MOST_REWRITES = 3
_ROOT = None


class Decision:
    """One decision: the hyper values that stand for it, where they stand, and what makes it active.

    Attributes:
        value: The first hyper value.
        index: Its place among all decisions.
        paths: Where it stands as itself, then where it only enters computed values.
        parents: (decision, candidate) pairs that make it active.
        is_root: Whether it is always active.
    """

    __slots__ = ("_computed", "_direct", "fields", "index", "is_root", "parents", "value")

    def __init__(self, value: HyperValue) -> None:
        self.value = value
        self.index = -1
        self.fields = point_fields(value)
        self._direct: list[str] = []
        self._computed: list[str] = []
        self.parents: list[tuple[Decision, int]] = []
        self.is_root = False

    @property
    def paths(self) -> tuple[str, ...]:
        """All paths, those where it stands as itself first."""
        return (*self._direct, *self._computed)

    def add_site(self, path: Path, site: tuple[Decision, int] | None, computed: bool) -> None:
        """Records a place where the decision stands."""
        known = self._computed if computed else self._direct
        if str(path) not in known:
            known.append(str(path))
        if site is None:
            self.is_root = True
        elif site not in self.parents:
            self.parents.append(site)

    def point(self, slots: dict[int, int]) -> Point:
        """Returns the point of the decision.

        Args:
            slots: The place of each decision in the space, by its index.
        """
        pairs = () if self.is_root else sorted((slots[d.index], c) for d, c in self.parents)
        return Point(
            index=slots[self.index], path=self.paths[0], paths=self.paths, name=self.value.name,
            when=self.value.when, hints=self.value.hints, conditions=tuple(pairs), **self.fields,
        )  # fmt: skip


def point_fields(value: HyperValue) -> dict[str, Any]:
    """Returns what a hyper value says about its point."""
    default = None if value._default is UNSET else value._default
    if isinstance(value, ManyOf):
        return {
            "kind": MANY, "num_candidates": len(value.candidates), "candidates": tuple(map(label, value.candidates)),
            "k_min": value.k_min, "k_max": value.k_max, "distinct": value.distinct, "ordered": value.ordered,
            "default": default,
        }  # fmt: skip
    if isinstance(value, Candidates):
        return {
            "kind": CHOICE, "num_candidates": len(value.candidates), "candidates": tuple(map(label, value.candidates)),
            "is_bool": isinstance(value, BoolV), "default": default,
        }  # fmt: skip
    if isinstance(value, (FloatV, IntV)):
        return {
            "kind": FLOAT if isinstance(value, FloatV) else INT, "low": value.low, "high": value.high,
            "step": value.step, "scale": value.scale, "default": default,
        }  # fmt: skip
    if not isinstance(value, Evolve):
        raise SpaceError("cannot read a hyper value", got=value, expected="one of mutandis's own kinds")
    rewriter = rewriter_of(value)
    return {"kind": CUSTOM, "rewriter": rewriter, "default": None if default is None else template_text(default)}


class _Rewrite:
    """Rewrites programs by the rules of an `evolve`."""

    def __init__(self, seed: str, rules: tuple[Callable[..., Any], ...]) -> None:
        self.seed = seed
        self.rules = rules

    def mutate(self, text: str, rng: random.Random) -> str:
        rule = self.rules[int(rng.random() * len(self.rules))]
        return template_text(rule(program_of_text(text), rng))

    def draw(self, rng: random.Random) -> str:
        text = self.seed
        for _ in range(int(rng.random() * (_MOST_REWRITES + 1))):
            text = self.mutate(text, rng)
        return text


def rewriter_of(value: Evolve) -> Rewriter:
    """Returns how the point of an `evolve` is drawn and changed: the seed, rewritten up to three times."""
    work = _Rewrite(template_text(value.seed_program), value.rules)
    return Rewriter(work.seed, work.draw, work.mutate)


class Discovery:
    """What is known of a program before it is compiled.

    Args:
        program: The program; it is kept alive, so that ids stay its own.

    Attributes:
        decisions: In order, parents before children.
        by_id: The decision of each hyper value, by its id.
        shared: Ids of nodes that stand at several places.
        copied: Ids of plain modules inside candidates.
    """

    def __init__(self, program: Any) -> None:
        self.program = program
        self.by_id: dict[int, Decision] = {}
        self.shared: set[int] = set()
        self.copied: set[int] = set()
        self._names: dict[str, Decision] = {}
        self._alias: dict[int, Decision] = {}
        self._found: list[Decision] = []
        self._seen: set[tuple[int, int, int]] = set()
        self._once: set[int] = set()
        self._checked: set[int] = set()
        self._visit(program, Path(), _ROOT, computed=False)
        self.decisions = _sorted(self._found)

    def _visit(self, value: Any, path: Path, site: tuple[Decision, int] | None, *, computed: bool) -> None:
        if type(value) in LEAVES:
            return
        if isinstance(value, HyperValue):
            self._note(value, path, site, computed=computed)
        if id(value) in self._once:
            self.shared.add(id(value))
        self._once.add(id(value))
        key = (id(value), -1 if site is None else id(site[0]), -1 if site is None else site[1])
        if key in self._seen:
            return
        self._seen.add(key)
        if isinstance(value, Candidates):
            self._visit_candidates(value, path)
        elif isinstance(value, Derived):
            for step, item in children(value):
                self._visit(item, path / step, site, computed=True)
        elif not isinstance(value, Undecided):
            self._visit_below(value, path, site, computed=computed)

    def _visit_candidates(self, value: Candidates, path: Path) -> None:
        decision = self.by_id[id(value)]
        for _, candidates in value._mu_items_():
            for index, item in enumerate(candidates):
                self._visit(item, path / "candidates" / index, (decision, index), computed=False)

    def _visit_below(self, value: Any, path: Path, site: tuple[Decision, int] | None, *, computed: bool) -> None:
        below = children(value)
        for step, item in below:
            self._visit(item, path / step, site, computed=computed)
        for where, item in edited(value):
            self._visit(item, path + where, site, computed=computed)
        if type(value) in (list, tuple, dict) or hasattr(type(value), "_fields"):
            return
        if not is_symbolic(value) and site is not None and _is_plain_module(value):
            self.copied.add(id(value))
        if not is_abstract_type(type(value)) and id(value) not in self._checked:
            self._checked.add(id(value))
            refuse_hidden(value, str(path))

    def _note(self, value: HyperValue, path: Path, site: tuple[Decision, int] | None, *, computed: bool) -> None:
        decision = self.by_id.get(id(value))
        if decision is None:
            decision = self._decision_of(value, path)
            self.by_id[id(value)] = decision
        decision.add_site(path, site, computed)

    def _decision_of(self, value: HyperValue, path: Path) -> Decision:
        if value.name is None:
            decision = self._alias.get(id(value))
        else:
            decision = self._names.get(value.name)
            if decision is not None:
                self._join(decision, value, path)
        if decision is None:
            decision = Decision(value)
            self._found.append(decision)
            if value.name is not None:
                self._names[value.name] = decision
        return decision

    def _join(self, decision: Decision, value: HyperValue, path: Path) -> None:
        """Makes a second value of the same name stand for the same decision, and so what is inside it."""
        first = decision.value
        fields = point_fields(value)
        first_inner, second_inner = _unnamed(first), _unnamed(value)
        fits = type(first) is type(value) and first.when == value.when and len(first_inner) == len(second_inner)
        if not fits or any(fields[k] != v for k, v in decision.fields.items() if k not in ("default", "rewriter")):
            raise SpaceError(
                "cannot use one name for two decisions",
                at=path,
                got=value,
                expected=f"the same as at {decision.paths[0] or '(the root)'}: {first!r}",
                fix="give them different names, or use one object at both places",
            )
        for a, b in zip(first_inner, second_inner, strict=True):
            if id(a) in self.by_id and id(b) not in self.by_id:
                self._alias[id(b)] = self.by_id[id(a)]


def _unnamed(value: HyperValue) -> list[HyperValue]:
    nodes = (node for _, node, _ in walk(value, layers=False))
    return [node for node in nodes if isinstance(node, HyperValue) and node.name is None and node is not value]


def _is_plain_module(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.nn.Module)


def _sorted(found: list[Decision]) -> list[Decision]:
    """Returns the decisions parents first, else in the order in which they were found."""
    order = {id(decision): place for place, decision in enumerate(found)}
    waiting = {id(d): {id(p) for p, _ in d.parents} if not d.is_root else set() for d in found}
    below: dict[int, list[Decision]] = {}
    for decision in found:
        for parent in waiting[id(decision)]:
            below.setdefault(parent, []).append(decision)
    ready = [order[id(d)] for d in found if not waiting[id(d)]]
    heapq.heapify(ready)
    made: list[Decision] = []
    while ready:
        decision = found[heapq.heappop(ready)]
        decision.index = len(made)
        made.append(decision)
        for child in below.get(id(decision), ()):
            waiting[id(child)].discard(id(decision))
            if not waiting[id(child)]:
                heapq.heappush(ready, order[id(child)])
    return made


__all__ = ["Decision", "Discovery"]
