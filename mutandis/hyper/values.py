"""Hyper values: the places of a program where something shall be found."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from mutandis.errors import SettingError, SpaceError, closest
from mutandis.hyper.arithmetic import Arithmetic
from mutandis.hyper.scope import decided
from mutandis.symbolic.compare import equal
from mutandis.symbolic.record import UNSET, is_abstract, nested
from mutandis.symbolic.serial import names
from mutandis.symbolic.undecided import Undecided

WHEN = ("build", "step", "sample")
SCALES = ("linear", "log")
_SIMPLE = (int, float, str, bool, type(None), bytes, complex)


C = TypeVar("C", bound="Candidates")


class HyperValue(Arithmetic):
    """A decision: one object is one decision, wherever it stands.

    Attributes:
        name: The user's name; values of one name are one decision.
        hints: Free data for algorithms and filters.
        when: When it may change: `build`, `step` or `sample`.
    """

    __slots__ = ("__weakref__", "_default", "hints", "name", "when")

    _word = "hyper"

    def _setup(self, name: str | None, hints: Any, when: str) -> None:
        if name is not None and (not isinstance(name, str) or not name):
            raise SettingError(
                "cannot name a decision", at=f"{self._word}.name", got=name, expected="a text", fix="pass name='width'"
            )
        _one_of(when, WHEN, f"{self._word}.when")
        self.name = name
        self.hints = hints
        self.when = when
        self._default: Any = UNSET

    def _common(self) -> dict[str, Any]:
        settings = {} if self.name is None else {"name": self.name}
        if self.hints is not None:
            settings["hints"] = self.hints
        if self._default is not UNSET:
            settings["default"] = self.default
        return settings if self.when == "build" else {**settings, "when": self.when}

    @property
    def default(self) -> Any:
        """The default value, or None."""
        return None if self._default is UNSET else self._default

    def _main(self) -> dict[str, Any]:
        return {}

    def _mu_settings_(self) -> dict[str, Any]:
        return {**self._main(), **self._common()}

    def _mu_replace_(self, items: Mapping[str, Any]) -> HyperValue:
        return copy.copy(self)  # Another object, so another decision.

    def __repr__(self) -> str:
        try:
            main, common = self._main(), self._common()
        except AttributeError:  # Its constructor has refused its arguments, or is still at work.
            return f"<{self._word} without settings>"
        first = [repr(value) for value in main.values()][: self._num_positional]
        rest = [f"{key}={value!r}" for key, value in list(main.items())[self._num_positional :]]
        return f"{self._word}({', '.join([*first, *rest, *(f'{k}={v!r}' for k, v in common.items())])})"

    _num_positional = 1


class Candidates(HyperValue):
    """A hyper value that picks among candidates."""

    __slots__ = ("_candidates",)

    def _fill(self, candidates: Iterable[Any]) -> None:
        self._candidates = _listed(candidates, self._word)

    @property
    def candidates(self) -> tuple[Any, ...]:
        """The candidates."""
        return tuple(self._candidates)

    def _mu_items_(self) -> tuple[tuple[str, Any], ...]:
        return (("candidates", self._candidates),)

    def _find(self, value: Any) -> int:
        for index, candidate in enumerate(self._candidates):
            if same(candidate, value):
                return index
        raise SpaceError(
            "cannot use a default",
            at=f"{self._word}.default",
            got=value,
            expected=f"one of the candidates: {_shown(self._candidates)}",
            fix="pass one of the candidates, the same object or an equal one",
        )


class OneOf(Candidates):
    """One of several candidates; made by `oneof`."""

    __slots__ = ()

    _word = "oneof"

    def __init__(self, candidates: Iterable[Any], *, name: str | None = None, hints: Any = None,
                 default: Any = UNSET, when: str = "build") -> None:  # fmt: skip
        self._setup(name, hints, when)
        self._fill(candidates)
        self._default = default if default is UNSET else self._find(default)

    @property
    def default(self) -> Any:
        """The default candidate, or None."""
        return None if self._default is UNSET else self._candidates[self._default]

    def _main(self) -> dict[str, Any]:
        return {"candidates": self._candidates}

    def _mu_replace_(self, items: Mapping[str, Any]) -> OneOf:
        made = OneOf(items.get("candidates", self._candidates), name=self.name, hints=self.hints, when=self.when)
        return _with_default(made, self)


class BoolV(Candidates):
    """False or True; made by `boolv`."""

    __slots__ = ()

    _word = "boolv"
    _num_positional = 0

    def __init__(self, *, name: str | None = None, hints: Any = None, default: Any = UNSET,
                 when: str = "build") -> None:  # fmt: skip
        self._setup(name, hints, when)
        self._fill((False, True))
        self._default = default if default is UNSET else self._find(default)

    @property
    def default(self) -> Any:
        """The default, or None."""
        return None if self._default is UNSET else bool(self._default)

    def _mu_items_(self) -> tuple[tuple[str, Any], ...]:
        return ()


class ManyOf(Candidates):
    """Several of the candidates, as a list; made by `manyof`."""

    __slots__ = ("distinct", "k_max", "k_min", "ordered")

    _word = "manyof"
    _num_positional = 2

    def __init__(self, k: int, candidates: Iterable[Any], distinct: bool = True, ordered: bool = True, *,
                 name: str | None = None, hints: Any = None, default: Any = UNSET,
                 when: str = "build") -> None:  # fmt: skip
        self._setup(name, hints, when)
        self._fill(candidates)
        self._limit(k, k, distinct, ordered)
        self._default = default if default is UNSET else self._find_all(default)

    def _limit(self, k_min: Any, k_max: Any, distinct: bool, ordered: bool) -> None:
        n = len(self._candidates)
        for value in (k_min, k_max):
            if not isinstance(value, int) or isinstance(value, bool) or value < 0 or (distinct and value > n):
                raise SpaceError(
                    "cannot pick so many candidates",
                    at=f"{self._word}.{'k' if self._word == 'manyof' else 'min, max'}",
                    got=value,
                    expected=f"an int in [0, {n}], the number of candidates" if distinct else "an int >= 0",
                    fix=_fix_of_picks(self._word, value),
                )
        if k_min > k_max:
            raise SpaceError(
                "cannot pick a subset",
                at=f"{self._word}.min",
                got=k_min,
                expected=f"at most max={k_max}",
                fix="swap min and max",
            )
        self.k_min, self.k_max = k_min, k_max
        self.distinct, self.ordered = bool(distinct), bool(ordered)

    def _find_all(self, values: Any) -> tuple[int, ...]:
        found: list[int] = []
        if isinstance(values, Sequence) and not isinstance(values, str) and self.k_min <= len(values) <= self.k_max:
            for value in values:
                fits = [i for i, c in enumerate(self._candidates) if same(c, value)]
                free = [i for i in fits if not self.distinct or i not in found]
                found.append(free[0] if free else self._find(value) if not fits else -1)
            if -1 not in found:
                return tuple(found if self.ordered else sorted(found))
        count = str(self.k_min) if self.k_min == self.k_max else f"{self.k_min} to {self.k_max}"
        raise SpaceError(
            "cannot use a default",
            at=f"{self._word}.default",
            got=values,
            expected=f"a list of {count} {'different ' if self.distinct else ''}candidates",
            fix="pass a list of candidates",
        )

    @property
    def default(self) -> Any:
        """The default candidates as a list, or None."""
        return None if self._default is UNSET else [self._candidates[i] for i in self._default]

    def _main(self) -> dict[str, Any]:
        main: dict[str, Any] = {"k": self.k_min, "candidates": self._candidates}
        if not self.distinct:
            main["distinct"] = False
        return main if self.ordered else {**main, "ordered": False}

    def _mu_replace_(self, items: Mapping[str, Any]) -> ManyOf:
        made = ManyOf(self.k_min, items.get("candidates", self._candidates), self.distinct, self.ordered,
                      name=self.name, hints=self.hints, when=self.when)  # fmt: skip
        return _with_default(made, self)


class Permutate(ManyOf):
    """All candidates in some order; made by `permutate`."""

    __slots__ = ()

    _word = "permutate"
    _num_positional = 1

    def __init__(self, candidates: Iterable[Any], *, name: str | None = None, hints: Any = None,
                 default: Any = UNSET, when: str = "build") -> None:  # fmt: skip
        self._setup(name, hints, when)
        self._fill(candidates)
        self._limit(len(self._candidates), len(self._candidates), True, True)
        self._default = default if default is UNSET else self._find_all(default)

    def _main(self) -> dict[str, Any]:
        return {"candidates": self._candidates}

    def _mu_replace_(self, items: Mapping[str, Any]) -> Permutate:
        made = Permutate(items.get("candidates", self._candidates), name=self.name, hints=self.hints, when=self.when)
        return _with_default(made, self)


class Subset(ManyOf):
    """Any number of the candidates within limits, in their order; made by `subset`."""

    __slots__ = ()

    _word = "subset"
    _num_positional = 1

    def __init__(self, candidates: Iterable[Any], *, min: int = 0, max: int | None = None, name: str | None = None,
                 hints: Any = None, default: Any = UNSET, when: str = "build") -> None:  # fmt: skip
        self._setup(name, hints, when)
        self._fill(candidates)
        self._limit(min, len(self._candidates) if max is None else max, True, False)
        self._default = default if default is UNSET else self._find_all(default)

    def _main(self) -> dict[str, Any]:
        return {"candidates": self._candidates, "min": self.k_min, "max": self.k_max}

    def _mu_replace_(self, items: Mapping[str, Any]) -> Subset:
        made = Subset(items.get("candidates", self._candidates), min=self.k_min, max=self.k_max, name=self.name,
                      hints=self.hints, when=self.when)  # fmt: skip
        return _with_default(made, self)


class FloatV(HyperValue):
    """A float in a closed range; made by `floatv`."""

    __slots__ = ("high", "low", "scale", "step")

    _word = "floatv"
    _num_positional = 2

    def __init__(self, low: float, high: float, *, scale: str = "linear", step: float | None = None,
                 name: str | None = None, hints: Any = None, default: Any = UNSET,
                 when: str = "build") -> None:  # fmt: skip
        self._setup(name, hints, when)
        _check_range(self._word, low, high, scale, step, (int, float))
        self.low, self.high, self.scale = float(low), float(high), scale
        self.step = None if step is None else float(step)
        self._default = default if default is UNSET else _in_range(self, default, (int, float))

    def _main(self) -> dict[str, Any]:
        return _range_settings(self, None)


class IntV(HyperValue):
    """An int in a closed range; made by `intv`."""

    __slots__ = ("high", "low", "scale", "step")

    _word = "intv"
    _num_positional = 2

    def __init__(self, low: int, high: int, *, step: int = 1, scale: str = "linear", name: str | None = None,
                 hints: Any = None, default: Any = UNSET, when: str = "build") -> None:  # fmt: skip
        self._setup(name, hints, when)
        _check_range(self._word, low, high, scale, step, (int,))
        self.low, self.high, self.step, self.scale = int(low), int(high), int(step), scale
        self._default = default if default is UNSET else _in_range(self, default, (int,))

    def _main(self) -> dict[str, Any]:
        return _range_settings(self, 1)


class Evolve(HyperValue):
    """A program that is rewritten by rules; made by `evolve`."""

    __slots__ = ("rules", "seed_program")

    _word = "evolve"
    _num_positional = 2

    def __init__(self, seed_program: Any, rules: Any, *, name: str | None = None, hints: Any = None,
                 default: Any = UNSET, when: str = "build") -> None:  # fmt: skip
        self._setup(name, hints, when)
        listed = (rules,) if callable(rules) else tuple(rules) if isinstance(rules, Iterable) else ()
        if not listed or not all(callable(rule) for rule in listed):
            raise SpaceError(
                "cannot evolve a program",
                at="evolve.rules",
                got=rules,
                expected="one or more functions rule(program, rng) that return a program",
                fix="pass a function or a list of functions",
            )
        if is_abstract(seed_program) or any(is_abstract(value) for value in nested((seed_program,))):
            raise SpaceError(
                "cannot evolve a program",
                at="evolve.seed_program",
                got=seed_program,
                expected="a program without hyper values",
                fix="decide them, or let a rule change those places",
            )
        self.seed_program = seed_program
        self.rules = listed
        self._default = default

    def _main(self) -> dict[str, Any]:
        return {"seed_program": self.seed_program, "rules": self.rules}

    def _mu_items_(self) -> tuple[tuple[str, Any], ...]:
        return (("seed_program", self.seed_program),)

    def _mu_replace_(self, items: Mapping[str, Any]) -> Evolve:
        return Evolve(items.get("seed_program", self.seed_program), self.rules, name=self.name, hints=self.hints,
                      default=self._default, when=self.when)  # fmt: skip


def same(a: Any, b: Any) -> bool:
    """Returns whether two values are the same or equal as programs; True is not 1."""
    if a is b:
        return True
    if type(a) is not type(b) or isinstance(a, Undecided):
        return False
    if isinstance(a, _SIMPLE):
        return bool(a == b)
    return bool(equal(a, b))


def _fix_of_picks(word: str, value: Any) -> str:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        return "pass a whole number of picks"
    return "lower it, add candidates, or pass distinct=False" if word == "manyof" else "lower it, or add candidates"


def _with_default(made: C, old: Candidates) -> C:
    if old._default is not UNSET and len(made._candidates) == len(old._candidates):
        made._default = old._default
    return made


def _one_of(value: Any, allowed: tuple[str, ...], at: str) -> None:
    if value not in allowed:
        raise SettingError(
            "cannot use a setting",
            at=at,
            got=value,
            expected=f"one of {', '.join(map(repr, allowed))}{closest(str(value), allowed)}",
            fix=f"pass {at.rpartition('.')[2]}={allowed[0]!r}",
        )


def _shown(values: Sequence[Any]) -> str:
    return ", ".join(repr(value) for value in values[:8]) + (", ..." if len(values) > 8 else "")


def _listed(candidates: Any, word: str) -> list[Any]:
    fits = isinstance(candidates, Iterable) and not isinstance(candidates, (str, bytes, dict, Undecided))
    listed = list(candidates) if fits else []
    if not listed:
        raise SpaceError(
            "cannot choose among nothing" if fits else "cannot choose among this",
            at=f"{word}.candidates",
            got=candidates,
            expected="a list of at least one candidate",
            fix=f"write {word}([a, b])" if word != "manyof" else "write manyof(k, [a, b])",
        )
    return listed


def _check_range(word: str, low: Any, high: Any, scale: Any, step: Any, kinds: tuple[Any, ...]) -> None:
    kind = "an int" if float not in kinds else "a finite number"
    for name, value in (("low", low), ("high", high), ("step", step)):
        if value is None and name == "step":
            continue
        if not isinstance(value, kinds) or isinstance(value, bool) or not math.isfinite(value):
            raise SpaceError("cannot make a range", at=f"{word}.{name}", got=value, expected=kind,
                             fix=f"write {word}({'1, 8' if float not in kinds else '0.0, 1.0'})")  # fmt: skip
    if low >= high:
        raise SpaceError("cannot make a range", at=f"{word}.low", got=low, expected=f"less than high={high}",
                         fix="swap low and high; a single value needs no decision")  # fmt: skip
    _one_of(scale, SCALES, f"{word}.scale")
    if scale == "log" and low <= 0:
        raise SpaceError("cannot make a log range", at=f"{word}.low", got=low, expected="a number above 0",
                         fix="raise low above 0, or use scale='linear'")  # fmt: skip
    if step is not None and step <= 0:
        raise SpaceError("cannot make a range", at=f"{word}.step", got=step, expected="a number above 0",
                         fix="pass a positive step" + ("" if float not in kinds else " or leave it out"))  # fmt: skip


def _in_range(value: Any, default: Any, kinds: tuple[type, ...]) -> Any:
    step = value.step
    fits = isinstance(default, kinds) and not isinstance(default, bool) and value.low <= default <= value.high
    if fits and step is not None:
        steps = (default - value.low) / step
        fits = abs(steps - round(steps)) < 1e-6
    if not fits:
        grid = "" if step in (None, 1) else f" at {value.low} + i * {step}"
        raise SpaceError("cannot use a default", at=f"{value._word}.default", got=default,
                         expected=f"a value in [{value.low}, {value.high}]{grid}",
                         fix="move the default into the range")  # fmt: skip
    return default if float not in kinds else float(default)


def _range_settings(value: Any, plain_step: Any) -> dict[str, Any]:
    main = {"low": value.low, "high": value.high}
    if value.scale != "linear":
        main["scale"] = value.scale
    return main if value.step == plain_step else {**main, "step": value.step}


def oneof(candidates: Iterable[Any], *, name: str | None = None, hints: Any = None, default: Any = UNSET,
          when: str = "build") -> Any:  # fmt: skip
    """Returns a decision for one of the candidates.

    Args:
        candidates: Any objects; they may hold hyper values, which are then active only with their candidate.
        name: Decisions of one name are one decision.
        hints: Free data for algorithms and filters.
        default: A candidate; the value of the decision for trials older than it.
        when: `build` (fixed in a child), `step` (may change at every optimizer step) or `sample` (drawn per
            training example).

    Raises:
        SpaceError: there are no candidates, or the default is none of them.
        SettingError: `when` is unknown.
    """
    return decided(OneOf(candidates, name=name, hints=hints, default=default, when=when))


def manyof(k: int, candidates: Iterable[Any], distinct: bool = True, ordered: bool = True, *, name: str | None = None,
           hints: Any = None, default: Any = UNSET, when: str = "build") -> Any:  # fmt: skip
    """Returns a decision for a list of `k` candidates.

    Args:
        k: How many.
        candidates: As for `oneof`. A candidate that is picked twice is built twice from the same decisions.
        distinct: Whether a candidate can be picked only once.
        ordered: Whether the order matters; if not, the list follows the order of the candidates.
        name: As for `oneof`.
        hints: As for `oneof`.
        default: A list of candidates.
        when: As for `oneof`.

    Raises:
        SpaceError: there are too few candidates, or the default does not fit.
    """
    return decided(ManyOf(k, candidates, distinct, ordered, name=name, hints=hints, default=default, when=when))


def permutate(candidates: Iterable[Any], *, name: str | None = None, hints: Any = None, default: Any = UNSET,
              when: str = "build") -> Any:  # fmt: skip
    """Returns a decision for the order of the candidates: a list of all of them."""
    return decided(Permutate(candidates, name=name, hints=hints, default=default, when=when))


def subset(candidates: Iterable[Any], *, min: int = 0, max: int | None = None, name: str | None = None,
           hints: Any = None, default: Any = UNSET, when: str = "build") -> Any:  # fmt: skip
    """Returns a decision for a list of `min` to `max` different candidates, in their order."""
    return decided(Subset(candidates, min=min, max=max, name=name, hints=hints, default=default, when=when))


def floatv(low: float, high: float, *, scale: str = "linear", step: float | None = None, name: str | None = None,
           hints: Any = None, default: Any = UNSET, when: str = "build") -> Any:  # fmt: skip
    """Returns a decision for a float in [low, high]; `step` makes it a grid from `low`."""
    return decided(FloatV(low, high, scale=scale, step=step, name=name, hints=hints, default=default, when=when))


def intv(low: int, high: int, *, step: int = 1, scale: str = "linear", name: str | None = None, hints: Any = None,
         default: Any = UNSET, when: str = "build") -> Any:  # fmt: skip
    """Returns a decision for an int in [low, high], both ends included."""
    return decided(IntV(low, high, step=step, scale=scale, name=name, hints=hints, default=default, when=when))


def boolv(*, name: str | None = None, hints: Any = None, default: Any = UNSET, when: str = "build") -> Any:
    """Returns a decision for False or True."""
    return decided(BoolV(name=name, hints=hints, default=default, when=when))


def evolve(seed_program: Any, rules: Callable[..., Any] | Iterable[Callable[..., Any]], *, name: str | None = None,
           hints: Any = None, default: Any = UNSET, when: str = "build") -> Any:  # fmt: skip
    """Returns an open-ended decision: the program itself is rewritten.

    Args:
        seed_program: Where to begin: a symbolic object, list or dict without hyper values that writes to JSON.
        rules: Functions `rule(program, rng)` that return a changed program; they get a copy.
        name: As for `oneof`.
        hints: As for `oneof`.
        default: A program; the seed when left out.
        when: As for `oneof`.
    """
    return decided(Evolve(seed_program, rules, name=name, hints=hints, default=default, when=when))


for _cls in (OneOf, ManyOf, Permutate, Subset, FloatV, IntV, BoolV, Evolve):
    names.register(_cls)

__all__ = [
    "BoolV", "Candidates", "Evolve", "FloatV", "HyperValue", "IntV", "ManyOf", "OneOf", "Permutate", "Subset",
    "boolv", "evolve", "floatv", "intv", "manyof", "oneof", "permutate", "same", "subset",
]  # fmt: skip
