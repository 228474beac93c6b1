"""From a child program back to its DNA: the template and the child are walked side by side."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

from mutandis.errors import SpaceError
from mutandis.hyper.arithmetic import Derived
from mutandis.hyper.points import CHOICE, Point
from mutandis.hyper.values import Candidates, Evolve, HyperValue, ManyOf
from mutandis.symbolic.compare import equal
from mutandis.symbolic.paths import Path, Step
from mutandis.symbolic.record import LEAVES, get_edits, is_symbolic, real_class
from mutandis.symbolic.serial.documents import from_json, to_json
from mutandis.symbolic.traverse import children
from mutandis.symbolic.undecided import Undecided

_TRIES = 100_000
_RESTARTS = 64


class _Misfit(Exception):
    """The child does not fit here; tells where and why."""

    def __init__(self, path: Path, got: Any, expected: str, clash: tuple[int, Any] | None = None) -> None:
        super().__init__(expected)
        self.path, self.got, self.expected, self.clash = path, got, expected, clash


class Matcher:
    """Matches one child against a template.

    Args:
        points: The points of the space.
        index_of: Index of the point of each hyper value, by id.
        strict: Whether plain modules must be equal in weights too, or only in kind and settings.
    """

    def __init__(self, points: Sequence[Point], index_of: Mapping[int, int], *, strict: bool) -> None:
        self._points = points
        self._index_of = index_of
        self._strict = strict
        self.values: dict[int, Any] = {}
        self.derived: list[tuple[Derived, Any, Path]] = []
        self.banned: dict[int, set[Any]] = {}

    def match(self, template: Any, child: Any, path: Path) -> None:
        """Records the decisions under `template`.

        Raises:
            _Misfit: the child is no child of it.
        """
        kind = type(template)
        if isinstance(template, HyperValue):
            if id(template) in self._index_of:
                self._match_value(template, child, path)
            elif not isinstance(child, Undecided):
                raise _Misfit(path, child, "a value that is still undecided")
            return
        if isinstance(template, Derived):
            self.derived.append((template, child, path))
            return
        if template is child or (kind in LEAVES and type(child) is kind and _plainly_equal(template, child)):
            if template is child and not is_symbolic(template) and kind not in (list, tuple, dict):
                return
            if kind in LEAVES:
                return
        if is_symbolic(template):
            self._match_object(template, child, path)
        elif kind in (list, tuple, dict) or hasattr(kind, "_fields"):
            if type(child) is not kind:
                raise _Misfit(path, child, f"a {kind.__name__}")
            self._match_children(children(template), children(child), path, child)
        elif not self._is_equal_leaf(template, child):
            raise _Misfit(path, child, f"the value of the program, {template!r}")

    def _match_object(self, template: Any, child: Any, path: Path) -> None:
        if not is_symbolic(child) or real_class(child) is not real_class(template):
            raise _Misfit(path, child, f"a {real_class(template).__name__}")
        if getattr(real_class(template), "_mu_has_own_spec_", False) and template.function is not child.function:
            raise _Misfit(path, child, f"a call of {template.function!r}")
        self._match_children(children(template), children(child), path, child)
        edits, made = get_edits(template), get_edits(child)
        if set(edits) != set(made):
            raise _Misfit(path, child, f"edits of the layers {sorted(edits) or 'none'}")
        for where, item in edits.items():
            self.match(item, made[where], path + Path.parse(where))

    def _match_children(
        self, expected: list[tuple[Step, Any]], given: list[tuple[Step, Any]], path: Path, child: Any
    ) -> None:
        if [step for step, _ in expected] != [step for step, _ in given]:
            shown = ", ".join(str(Path((step,))) for step, _ in expected)
            raise _Misfit(path, child, f"{len(expected)} children: {shown}")
        for (step, item), (_, made) in zip(expected, given, strict=True):
            self.match(item, made, path / step)

    def _is_equal_leaf(self, template: Any, child: Any) -> bool:
        if type(template) is not type(child):
            return False
        if not self._strict and hasattr(template, "named_parameters"):
            return repr(template) == repr(child)
        return bool(equal(template, child))

    def _match_value(self, template: HyperValue, child: Any, path: Path) -> None:
        index = self._index_of[id(template)]
        if isinstance(template, ManyOf):
            self._match_picks(template, index, child, path)
        elif isinstance(template, Candidates):
            self._match_choice(template, index, child, path)
        elif isinstance(template, Evolve):
            self._settle(index, template_text(child), path, child)
        else:
            self._settle(index, self._checked(index, child, path), path, child)

    def _checked(self, index: int, child: Any, path: Path) -> Any:
        point = self._points[index]
        try:
            return point.check(child)
        except ValueError:
            raise _Misfit(path, child, point.expected()) from None

    def _settle(self, index: int, value: Any, path: Path, child: Any) -> None:
        known = self.values.setdefault(index, value)
        if known != value:
            raise _Misfit(
                path, child, f"what the same decision is elsewhere: {self._points[index].literal(known)!r}",
                clash=(index, known),
            )  # fmt: skip

    def _match_choice(self, template: Candidates, index: int, child: Any, path: Path) -> None:
        known = self.values.get(index)
        options = range(len(template.candidates)) if known is None else (known,)
        banned = self.banned.get(index, ())
        for candidate in options:
            if candidate not in banned and self._tries(template, candidate, child, path):
                self.values[index] = candidate
                return
        point = self._points[index]
        clash = None if known is None else (index, known)
        raise _Misfit(path, child, point.describe(), clash)

    def _tries(self, template: Candidates, candidate: int, child: Any, path: Path) -> bool:
        before, pending = dict(self.values), len(self.derived)
        try:
            self.match(template.candidates[candidate], child, path)
        except _Misfit:
            self.values = before
            del self.derived[pending:]
            return False
        return True

    def _match_picks(self, template: ManyOf, index: int, child: Any, path: Path) -> None:
        point = self._points[index]
        if type(child) is not list or not template.k_min <= len(child) <= template.k_max:
            raise _Misfit(path, child, point.describe())
        picks: list[int] = []
        for place, item in enumerate(child):
            for candidate in range(len(template.candidates)):
                used = template.distinct and candidate in picks
                if not used and self._tries(template, candidate, item, path / place):
                    picks.append(candidate)
                    break
            else:
                raise _Misfit(path / place, item, point.describe())
        self._settle(index, tuple(picks if template.ordered else sorted(picks)), path, child)

    def solve_derived(self, active: Callable[[int], bool]) -> None:
        """Finds decisions that only show in derived values, and checks all derived values.

        Args:
            active: Whether a point is active under the values found so far.

        Raises:
            _Misfit: no value of a decision gives what the child holds.
        """
        open_points: dict[int, HyperValue] = {}
        for template, child, _ in self.derived:
            self._invert(template, child)
        for template, _, _ in self.derived:
            for hyper in hyper_values(template):
                index = self._index_of.get(id(hyper))
                if index is not None and index not in self.values and active(index):
                    open_points[index] = hyper
        if open_points:
            self._try_all(list(open_points))
        for template, child, path in self.derived:
            self._verify(template, child, path)

    def _invert(self, template: Any, child: Any) -> None:
        """Finds the operand of simple arithmetic: exact for + - * / and negation."""
        if isinstance(template, HyperValue):
            index = self._index_of.get(id(template))
            if index is None or index in self.values or self._points[index].kind not in ("float", "int"):
                return
            point = self._points[index]
            near = round(child) if point.kind == "int" else min(max(child, point.low), point.high)
            if math.isclose(near, child, rel_tol=1e-9, abs_tol=1e-12):
                try:
                    self.values[index] = point.check(near)
                except ValueError:
                    return
            return
        if not isinstance(template, Derived) or isinstance(child, bool) or not isinstance(child, (int, float)):
            return
        for place, solve in _INVERSES.get(template.function, ()):
            others = [a for i, a in enumerate(template.args) if i != place]
            if isinstance(template.args[place], Undecided) and all(type(o) in (int, float) for o in others):
                try:
                    self._invert(template.args[place], solve(child, *others))
                except ZeroDivisionError:
                    return
                return

    def _try_all(self, indices: list[int]) -> None:
        sizes = math.prod(self._points[i].size for i in indices)
        template, child, path = self.derived[0]
        if sizes > _TRIES:
            raise _Misfit(path, child, "a decision that can be found; it only shows in a computed value")
        for values in product(*(self._points[i].values() for i in indices)):
            self.values.update(zip(indices, values, strict=True))
            if all(self._is_result(t, c) for t, c, _ in self.derived):
                return
        raise _Misfit(path, child, f"a value of {template!r}")

    def _is_result(self, template: Derived, child: Any) -> bool:
        try:
            result = self._evaluate(template)
        except _Unknown:
            return True
        if isinstance(result, float) and isinstance(child, (int, float)):
            return math.isclose(result, child, rel_tol=1e-9, abs_tol=1e-12)
        return self._is_equal_leaf(result, child)

    def _verify(self, template: Derived, child: Any, path: Path) -> None:
        if not self._is_result(template, child):
            raise _Misfit(path, child, f"{self._evaluate(template)!r}, computed from the decisions")

    def _evaluate(self, template: Any) -> Any:
        if isinstance(template, Derived):
            args = [self._evaluate(a) for a in template.args]
            return template.function(*args, **{k: self._evaluate(v) for k, v in template.kwargs.items()})
        if isinstance(template, HyperValue):
            return self._evaluate_value(template)
        if is_symbolic(template) or type(template) in (list, tuple, dict):
            raise _Unknown  # A built object is no plain number; only real children can tell what comes of it.
        return template

    def _evaluate_value(self, template: HyperValue) -> Any:
        index = self._index_of.get(id(template))
        value = None if index is None else self.values.get(index)
        if value is None or isinstance(template, Evolve):
            raise _Unknown
        if isinstance(template, ManyOf):
            return [self._evaluate(template.candidates[i]) for i in value]
        return self._evaluate(template.candidates[value]) if isinstance(template, Candidates) else value


class _Unknown(Exception):
    """A derived value cannot be computed here."""


_INVERSES: dict[Any, tuple[tuple[int, Callable[..., Any]], ...]] = {
    operator.add: ((0, operator.sub), (1, operator.sub)),
    operator.sub: ((0, operator.add), (1, lambda result, a: a - result)),
    operator.mul: ((0, operator.truediv), (1, operator.truediv)),
    operator.truediv: ((0, operator.mul), (1, lambda result, a: a / result)),
    operator.neg: ((0, operator.neg),),
    operator.pos: ((0, operator.pos),),
}


def hyper_values(value: Any) -> list[HyperValue]:
    """Returns the hyper values that a derived value is computed from."""
    if isinstance(value, HyperValue):
        return [value]
    if isinstance(value, Derived) or type(value) in (list, tuple, dict):
        return [h for _, item in children(value) for h in hyper_values(item)]
    return []


def template_text(child: Any) -> str:
    """Returns a program as the JSON text that an open-ended decision holds."""
    return to_json(child)


def program_of_text(text: str) -> Any:
    """Returns the program of such a text, built anew."""
    return from_json(text)


def _plainly_equal(a: Any, b: Any) -> bool:
    return a is b or bool(a == b) or (a != a and b != b)


def encode_child(
    program: Any,
    points: Sequence[Point],
    index_of: Mapping[int, int],
    child: Any,
    is_active: Callable[[int, Sequence[Any]], bool],
) -> list[Any]:
    """Returns the raw values of a child, aligned with `points`; None where the child shows none.

    Args:
        program: The template.
        points: The points of the space.
        index_of: Index of the point of each hyper value, by id.
        child: What shall be encoded.
        is_active: Tells whether a point is active under raw values.

    Raises:
        SpaceError: the child does not fit.
    """
    failure: _Misfit | None = None
    for strict in (True, False):
        banned: dict[int, set[Any]] = {}
        for _ in range(_RESTARTS):
            matcher = Matcher(points, index_of, strict=strict)
            matcher.banned = banned
            try:
                matcher.match(program, child, Path())
                matcher.solve_derived(lambda i, m=matcher: is_active(i, _listed(m, points)))  # type: ignore[misc]
                return _listed(matcher, points)
            except _Misfit as misfit:
                failure = misfit
                if misfit.clash is None or points[misfit.clash[0]].kind != CHOICE:
                    break
                banned.setdefault(misfit.clash[0], set()).add(misfit.clash[1])
    if failure is None:
        raise SpaceError("cannot encode a program", got=child)
    raise SpaceError(
        "cannot encode a program",
        at=failure.path,
        got=failure.got,
        expected=failure.expected,
        fix="encode a child of this space; mu.diff(program, child) shows the difference",
    ) from None


def _listed(matcher: Matcher, points: Sequence[Point]) -> list[Any]:
    return [matcher.values.get(i) for i in range(len(points))]


__all__ = ["encode_child", "program_of_text", "template_text"]
