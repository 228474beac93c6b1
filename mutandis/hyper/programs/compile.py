"""Programs as templates: which decisions they hold, and closures that build a child from raw values.

A program is read once. What is read twice (a node that stands at two places) is built once per child; all
else is built by closures that know beforehand what is a leaf.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

from mutandis.hyper.arithmetic import Derived
from mutandis.hyper.points import Point
from mutandis.hyper.programs.discover import Discovery
from mutandis.hyper.programs.encode import encode_child, program_of_text
from mutandis.hyper.values import BoolV, Evolve, HyperValue, ManyOf, OneOf
from mutandis.symbolic.building import add_edits, building_at, construct
from mutandis.symbolic.paths import Key, Path
from mutandis.symbolic.record import (
    LEAVES,
    get_edits,
    is_abstract,
    is_symbolic,
    nested,
    real_class,
    spec_for,
    values_of,
)

Run = Callable[[Sequence[Any], dict[Any, Any]], Any]
"""Builds a part of a child from raw values and the memo of shared nodes."""

_NOTHING = object()
_COPIES = object()


class Template:
    """A compiled program.

    Attributes:
        program: The program.
        open: Indices, among all decisions of the program, of those that children leave undecided.
        points: The points of the others.
    """

    def __init__(self, program: Any, discovery: Discovery, open_points: frozenset[int] = frozenset()) -> None:
        self.program = program
        self.open = open_points
        self._discovery = discovery
        self._kept = [d for d in discovery.decisions if d.index not in open_points]
        slots = {d.index: slot for slot, d in enumerate(self._kept)}
        self.points: tuple[Point, ...] = tuple(d.point(slots) for d in self._kept)
        self._index_of = {i: slots[d.index] for i, d in discovery.by_id.items() if d.index in slots}
        self._run = _Compiler(discovery, slots).run(program, Path())

    def __reduce__(self) -> tuple[Any, ...]:
        return (_revive, (self.program, self.open))

    def build(self, values: Sequence[Any]) -> Any:
        """Returns the child of raw values, which are trusted."""
        return self._run(values, {})

    def encode(self, child: Any, is_active: Callable[[int, Sequence[Any]], bool]) -> list[Any]:
        """Returns the raw values of a child."""
        return encode_child(self.program, self.points, self._index_of, child, is_active)

    def split(self, inner: frozenset[int]) -> Template:
        """Returns the template that leaves some of its points undecided."""
        more = frozenset(self._kept[i].index for i in inner)
        return Template(self.program, self._discovery, self.open | more)


def _revive(program: Any, open_points: frozenset[int]) -> Template:
    return Template(program, Discovery(program), open_points)


def compile_program(program: Any) -> Template:
    """Returns the template of a program.

    Raises:
        SpaceError: it does not describe a space.
    """
    return Template(program, Discovery(program))


class _Compiler:
    """Turns the nodes of a program into closures.

    Args:
        discovery: What is known of the program.
        slots: Where the value of each decided decision stands, by its index.
    """

    def __init__(self, discovery: Discovery, slots: dict[int, int]) -> None:
        self._known = discovery
        self._slots = slots
        self._runs: dict[int, Run] = {}
        self._constant: dict[int, bool] = {}

    def run(self, value: Any, path: Path) -> Run:
        """Returns the closure of a node."""
        if type(value) in LEAVES:
            return lambda values, memo: value
        known = self._runs.get(id(value))
        if known is None:
            known = self._make(value, path)
            if id(value) in self._known.shared and not self.is_constant(value):
                known = _once(known, id(value))
            self._runs[id(value)] = known
        return known

    def is_constant(self, value: Any) -> bool:
        """Returns whether a node is the same object in every child."""
        kind = type(value)
        if kind in LEAVES:
            return True
        if kind is tuple:
            return all(map(self.is_constant, value))
        if kind in (list, dict) or is_symbolic(value) or hasattr(kind, "_fields"):
            return False
        if isinstance(value, (HyperValue, Derived)):
            return False
        return id(value) not in self._known.copied

    def _make(self, value: Any, path: Path) -> Run:
        if isinstance(value, HyperValue):
            decision = self._known.by_id[id(value)]
            slot = self._slots.get(decision.index)
            return self._open(value, path) if slot is None else self._decided(value, slot, path)
        if isinstance(value, Derived):
            return self._derived(value, path)
        if self.is_constant(value):
            return lambda values, memo: value
        if type(value) is list:
            return self._list(value, path)
        if type(value) is dict:
            return self._dict(value, path)
        if isinstance(value, tuple):
            runs = tuple(self.run(item, path / i) for i, item in enumerate(value))
            make: Callable[[list[Any]], Any] = getattr(type(value), "_make", tuple)
            return lambda values, memo: make([run(values, memo) for run in runs])
        return self._object(value, path) if is_symbolic(value) else _module(value)

    def _list(self, value: list[Any], path: Path) -> Run:
        fixed = list(value)
        if all(map(self.is_constant, fixed)):
            return lambda values, memo: fixed[:]
        runs = tuple(self.run(item, path / i) for i, item in enumerate(fixed))
        return lambda values, memo: [run(values, memo) for run in runs]

    def _dict(self, value: dict[Any, Any], path: Path) -> Run:
        fixed = dict(value)
        runs = tuple((k, self.run(v, path / Key(k))) for k, v in fixed.items() if not self.is_constant(v))

        def build(values: Sequence[Any], memo: dict[Any, Any]) -> Any:
            made = fixed.copy()  # Keeps the order of the keys.
            for key, run in runs:
                made[key] = run(values, memo)
            return made

        return build

    def _object(self, value: Any, path: Path) -> Run:
        spec = spec_for(value)
        runs = tuple(
            self._keywords(item, path) if name == spec.var_keyword else self.run(item, path / name)
            for name, item in zip(spec.names, values_of(value), strict=True)
        )
        edits = tuple((w, self.run(item, path + Path.parse(w))) for w, item in get_edits(value).items())
        make = _maker(value, spec)
        place = str(path)

        def build(values: Sequence[Any], memo: dict[Any, Any]) -> Any:
            arguments = [run(values, memo) for run in runs]
            with building_at(place):
                made = make(arguments)
                if edits:
                    add_edits(made, {where: run(values, memo) for where, run in edits})
            return made

        return build

    def _keywords(self, value: Any, path: Path) -> Run:
        if type(value) is not dict:
            return self.run(value, path)
        runs = tuple((key, self.run(item, path / key)) for key, item in value.items())
        return lambda values, memo: {key: run(values, memo) for key, run in runs}

    def _decided(self, value: HyperValue, slot: int, path: Path) -> Run:
        if isinstance(value, (OneOf, BoolV)):
            candidates = value.candidates
            if all(map(self.is_constant, candidates)):
                return lambda values, memo: candidates[values[slot]]
            runs = self._candidates(candidates, path)
            return lambda values, memo: runs[values[slot]](values, memo)
        if isinstance(value, ManyOf):
            runs = self._candidates(value.candidates, path)
            if value.distinct:
                return lambda values, memo: [runs[pick](values, memo) for pick in values[slot]]
            return lambda values, memo: _repeated(runs, values[slot], values, memo)
        if isinstance(value, Evolve):
            return lambda values, memo: program_of_text(values[slot])
        return lambda values, memo: values[slot]

    def _candidates(self, candidates: Sequence[Any], path: Path) -> tuple[Run, ...]:
        below = path / "candidates"
        return tuple(self.run(item, below / i) for i, item in enumerate(candidates))

    def _open(self, value: HyperValue, path: Path) -> Run:
        """Returns the closure of a decision that stays undecided, its candidates built as far as they are."""
        if isinstance(value, (BoolV, Evolve)) or not value._mu_items_():
            return lambda values, memo: value
        runs = self._candidates(value._mu_items_()[0][1], path)

        def build(values: Sequence[Any], memo: dict[Any, Any]) -> Any:
            return value._mu_replace_({"candidates": [run(values, memo) for run in runs]})

        return _once(build, (id(value), "open"))

    def _derived(self, value: Derived, path: Path) -> Run:
        args = self.run(value.args, path / "args")
        kwargs = self.run(value.kwargs, path / "kwargs")
        has_open = any(d.index not in self._slots for d in self._known.decisions)
        place = str(path)

        def build(values: Sequence[Any], memo: dict[Any, Any]) -> Any:
            positional, named = args(values, memo), kwargs(values, memo)
            if has_open and any(is_abstract(v) for v in nested((*positional, *named.values()))):
                return value._mu_replace_({"args": positional, "kwargs": named})
            try:
                return value.function(*positional, **named)
            except Exception as error:
                error.add_note(f"while computing {place or 'the program'} = {value!r}")
                raise

        return build


def _once(run: Run, key: Any) -> Run:
    """Returns a closure that builds a shared node once per child."""

    def build(values: Sequence[Any], memo: dict[Any, Any]) -> Any:
        made = memo.get(key, _NOTHING)
        if made is _NOTHING:
            made = memo[key] = run(values, memo)
        return made

    return build


def _repeated(runs: Sequence[Run], picks: Sequence[int], values: Sequence[Any], memo: dict[Any, Any]) -> list[Any]:
    """Builds picks that may repeat: each time anew, though they share what the rest of the program shares."""
    made = []
    before: dict[int, dict[Any, Any]] = {}
    for pick in picks:
        if pick in before:
            made.append(runs[pick](values, dict(before[pick])))
        else:
            before[pick] = dict(memo)
            made.append(runs[pick](values, memo))
    return made


def _module(value: Any) -> Run:
    """Returns the closure of a plain module among candidates: a copy per child, so that no weights leak."""

    def build(values: Sequence[Any], memo: dict[Any, Any]) -> Any:
        return copy.deepcopy(value, memo.setdefault(_COPIES, {}))

    return build


def _maker(value: Any, spec: Any) -> Callable[[list[Any]], Any]:
    """Returns what builds an object like `value` from argument values in order."""
    own = getattr(real_class(value), "_mu_has_own_spec_", False)
    if own or spec.var_positional is not None or spec.var_keyword is not None:
        return lambda arguments: construct(value, arguments)
    cls: Any = real_class(value)
    parameters = list(spec.signature.parameters.values())
    first = next((i for i, p in enumerate(parameters) if p.kind is p.KEYWORD_ONLY), len(parameters))
    names = tuple(p.name for p in parameters[first:])
    if not names:
        return lambda arguments: cls(*arguments)
    return lambda arguments: cls(*arguments[:first], **dict(zip(names, arguments[first:], strict=True)))


__all__ = ["Template", "compile_program"]
