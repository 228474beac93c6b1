"""Points: the decisions of a space as plain data, without the program they come from.

A point knows its legal values, how to draw one, and its place in the unit cube. What a value means in the
program is the business of the template.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations, combinations_with_replacement, permutations, product
from typing import Any

from mutandis.errors import DecisionError

CHOICE, MANY, FLOAT, INT, CUSTOM = "choice", "many", "float", "int", "custom"


@dataclass(frozen=True, slots=True)
class Rewriter:
    """How the value of an open-ended point is drawn and changed.

    Attributes:
        seed: The first program, as JSON text.
        draw: Returns a random program from a generator.
        mutate: Returns a changed program from one and a generator.
    """

    seed: str
    draw: Callable[[random.Random], str]
    mutate: Callable[[str, random.Random], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One decision of a space.

    Attributes:
        index: Its place in `space.points`; parents come before children.
        path: Symbolic path of its first site.
        name: The user's name, or None.
        kind: `choice`, `many`, `float`, `int` or `custom`.
        num_candidates: Number of candidates (`choice`, `many`).
        candidates: Labels of the candidates: JSON-able, readable, not the objects.
        k_min: Smallest number of picks (`many`).
        k_max: Largest number of picks (`many`).
        distinct: Whether a candidate is picked at most once (`many`).
        ordered: Whether the order of the picks matters; if not, values are sorted (`many`).
        low: Smallest value (`float`, `int`).
        high: Largest value, inclusive (`float`, `int`).
        step: Distance of the legal values, counted from `low`; None for a continuous float.
        scale: `linear` or `log`.
        default: Raw default value, or None.
        when: `build`, `step` or `sample`.
        hints: Free data of the user.
        conditions: Empty when the point is always active; else it is active if for some pair (point index,
            candidate index) that point is active and its value is, or contains, that candidate.
        paths: All paths of the point, the first included.
        is_bool: Whether the candidates are False and True.
        rewriter: Draws and mutates (`custom`).
    """

    index: int
    path: str
    kind: str
    name: str | None = None
    num_candidates: int = 0
    candidates: tuple[Any, ...] = ()
    k_min: int = 0
    k_max: int = 0
    distinct: bool = True
    ordered: bool = True
    low: float = 0
    high: float = 0
    step: float | None = None
    scale: str = "linear"
    default: Any = None
    when: str = "build"
    hints: Any = field(default=None, compare=False)
    conditions: tuple[tuple[int, int], ...] = ()
    paths: tuple[str, ...] = ()
    is_bool: bool = False
    rewriter: Rewriter | None = field(default=None, compare=False, repr=False)

    @property
    def key(self) -> str:
        """The name if there is one, else the path."""
        return self.path if self.name is None else self.name

    @property
    def is_finite(self) -> bool:
        """Whether the legal values can be listed."""
        return self.kind != CUSTOM and not (self.kind == FLOAT and self.step is None)

    @property
    def num_steps(self) -> int:
        """The number of legal values of an int or a stepped float."""
        if self.kind == INT:
            return int((self.high - self.low) // (self.step or 1)) + 1
        return math.floor((self.high - self.low) / (self.step or math.inf) * (1 + 1e-12) + 1e-9) + 1

    @property
    def size(self) -> int | float:
        """The number of legal values, its children left aside; inf when they cannot be listed."""
        if self.kind == CHOICE:
            return self.num_candidates
        if self.kind == MANY:
            return sum(self.num_picks(k) for k in range(self.k_min, self.k_max + 1))
        return self.num_steps if self.is_finite else math.inf

    def num_picks(self, k: int) -> int:
        """Returns the number of legal picks of exactly `k` candidates."""
        n = self.num_candidates
        if self.distinct:
            return math.perm(n, k) if self.ordered else math.comb(n, k)
        return int(n**k) if self.ordered else math.comb(n + k - 1, k)

    def at(self, position: int) -> float:
        """Returns the legal value number `position` of an int or a stepped float."""
        value = self.low + position * (self.step or 1)
        return int(value) if self.kind == INT else min(float(value), float(self.high))

    def values(self) -> Iterator[Any]:
        """Yields the legal values in their order; picks by number first, then lexicographically."""
        if self.kind == CHOICE:
            yield from range(self.num_candidates)
        elif self.kind == MANY:
            for k in range(self.k_min, self.k_max + 1):
                yield from self._picks(k)
        elif self.is_finite:
            yield from map(self.at, range(self.num_steps))
        else:
            raise DecisionError(
                "cannot list the values of a decision",
                at=self.path,
                got=self.describe(),
                expected="a decision with finitely many values",
                fix="give the range a step=, or draw random values",
            )

    def _picks(self, k: int) -> Iterator[tuple[int, ...]]:
        options = range(self.num_candidates)
        if self.distinct:
            yield from permutations(options, k) if self.ordered else combinations(options, k)
        else:
            yield from product(options, repeat=k) if self.ordered else combinations_with_replacement(options, k)

    def draw(self, rng: random.Random) -> Any:
        """Returns a random legal value: uniform, or uniform in the logarithm where the scale says so.

        Unordered picks with repetition are drawn one by one and sorted, which favours mixed ones.
        """
        if self.kind == CHOICE:
            return int(rng.random() * self.num_candidates)
        if self.kind == MANY:
            return self._draw_picks(rng)
        if self.kind == CUSTOM:
            return self._rewriter().draw(rng)
        return self.from_unit(rng.random())

    def _rewriter(self) -> Rewriter:
        if self.rewriter is None:
            raise DecisionError(
                "cannot rewrite an open-ended decision",
                at=self.path,
                expected="a point that knows the rules of its mu.evolve",
                fix="use the points of mu.space(program)",
            )
        return self.rewriter

    def mutate(self, value: Any, rng: random.Random) -> Any:
        """Returns another legal value of the point; the same only if there is no other.

        Args:
            value: The present raw value.
            rng: The generator.
        """
        if self.kind == CUSTOM:
            return self._rewriter().mutate(value, rng)
        if self.kind == CHOICE:
            if self.num_candidates == 1:
                return value
            other = int(rng.random() * (self.num_candidates - 1))
            return other + (other >= value)
        for _ in range(64):
            other = self.draw(rng)
            if other != value:
                return other
        options = [v for v in self.values() if v != value] if self.is_finite and self.size < 4096 else []
        return options[int(rng.random() * len(options))] if options else value

    def _draw_picks(self, rng: random.Random) -> tuple[int, ...]:
        n = self.num_candidates
        k = self._draw_count(rng)
        if self.distinct:
            pool = list(range(n))
            for i in range(k):  # A Fisher-Yates shuffle that stops after k places.
                j = i + int(rng.random() * (n - i))
                pool[i], pool[j] = pool[j], pool[i]
            picks = pool[:k]
        else:
            picks = [int(rng.random() * n) for _ in range(k)]
        return tuple(picks if self.ordered else sorted(picks))

    def _draw_count(self, rng: random.Random) -> int:
        if self.k_min == self.k_max:
            return self.k_min
        weights = [self.num_picks(k) for k in range(self.k_min, self.k_max + 1)]
        left = rng.randrange(sum(weights))
        for k, weight in enumerate(weights, self.k_min):
            if left < weight:
                return k
            left -= weight
        return self.k_max

    @property
    def num_units(self) -> int:
        """How many coordinates the point has in the unit cube.

        One for a choice or a number. Distinct picks have one sort key per candidate, other picks one
        coordinate per slot; a varying number of picks adds one. An open-ended point has none.
        """
        if self.kind == MANY:
            slots = self.num_candidates if self.distinct else self.k_max
            return slots + (self.k_min != self.k_max)
        return 0 if self.kind == CUSTOM else 1

    def from_unit(self, u: float | Sequence[float]) -> Any:
        """Returns the value at a place of the unit cube.

        Args:
            u: A number in [0, 1], or `num_units` of them.
        """
        if self.kind == MANY:
            return self._picks_from_unit([u] if isinstance(u, (int, float)) else list(u))
        if self.kind == CUSTOM:
            return self._rewriter().seed
        x = float(u) if isinstance(u, (int, float)) else float(u[0])
        x = min(max(x, 0.0), 1.0)
        if self.kind == CHOICE:
            return min(int(x * self.num_candidates), self.num_candidates - 1)
        if self.is_finite:
            return self.at(self._step_from_unit(x))
        if self.scale == "log":
            a, b = math.log(self.low), math.log(self.high)
            return min(max(math.exp(a + x * (b - a)), self.low), self.high)
        return min(max(self.low + x * (self.high - self.low), self.low), self.high)

    def _step_from_unit(self, x: float) -> int:
        n = self.num_steps
        if self.scale != "log":
            return min(int(x * n), n - 1)
        a, b = self._log_edges()
        value = math.exp(a + x * (b - a))
        return min(max(round((value - self.low) / (self.step or 1)), 0), n - 1)

    def _log_edges(self) -> tuple[float, float]:
        """Returns the logarithms of the ends, each legal value owning half a step to either side."""
        half = (self.step or 1) / 2
        below = self.low - half if self.low > half else self.low / 2
        return math.log(below), math.log(self.at(self.num_steps - 1) + half)

    def _picks_from_unit(self, u: list[float]) -> tuple[int, ...]:
        k = self.k_min
        if self.k_min != self.k_max:
            span = self.k_max - self.k_min + 1
            k += min(int(min(max(u[0], 0.0), 1.0) * span), span - 1)
            u = u[1:]
        n = self.num_candidates
        if self.distinct:
            picks = sorted(range(n), key=lambda i: (u[i], i))[:k]
        else:
            picks = [min(int(min(max(x, 0.0), 1.0) * n), n - 1) for x in u[:k]]
        return tuple(picks if self.ordered else sorted(picks))

    def to_unit(self, value: Any) -> tuple[float, ...]:
        """Returns the coordinates of a value: the middle of its cell; `from_unit` gives the value back."""
        if self.kind == CUSTOM:
            return ()
        if self.kind == MANY:
            return self._picks_to_unit(value)
        if self.kind == CHOICE:
            return ((value + 0.5) / self.num_candidates,)
        if self.scale == "log":
            a, b = self._log_edges() if self.is_finite else (math.log(self.low), math.log(self.high))
            return ((math.log(value) - a) / (b - a),)
        if self.is_finite:
            return ((round((value - self.low) / (self.step or 1)) + 0.5) / self.num_steps,)
        return ((value - self.low) / (self.high - self.low),)

    def _picks_to_unit(self, value: tuple[int, ...]) -> tuple[float, ...]:
        n = self.num_candidates
        lead: tuple[float, ...] = ()
        if self.k_min != self.k_max:
            lead = ((len(value) - self.k_min + 0.5) / (self.k_max - self.k_min + 1),)
        if not self.distinct:
            return (*lead, *((i + 0.5) / n for i in value), *(0.5 for _ in range(self.k_max - len(value))))
        chosen = set(value)
        order = [*value, *(i for i in range(n) if i not in chosen)]
        keys = [0.0] * n
        for rank, i in enumerate(order):
            keys[i] = (rank + 0.5) / n
        return (*lead, *keys)

    def check(self, value: Any) -> Any:
        """Returns a raw value in its canonical form.

        Raises:
            DecisionError: the value is not legal here.
        """
        if self.kind == CHOICE:
            if self.is_bool and isinstance(value, bool):
                return int(value)
            if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < self.num_candidates:
                return value
        elif self.kind == MANY:
            if isinstance(value, (list, tuple)) and self._are_picks(value):
                return tuple(value if self.ordered else sorted(value))
        elif self.kind == CUSTOM:
            if isinstance(value, str):
                return value
        elif isinstance(value, (int, float)) and not isinstance(value, bool) and self._is_in_range(value):
            return self._snapped(value)
        raise DecisionError(
            "cannot use decision", at=self.path, got=value, expected=self.expected(), fix=self._fix(value)
        )

    def _are_picks(self, value: Sequence[Any]) -> bool:
        n = self.num_candidates
        if not all(isinstance(i, int) and not isinstance(i, bool) and 0 <= i < n for i in value):
            return False
        if self.distinct and len(set(value)) != len(value):
            return False
        return self.k_min <= len(value) <= self.k_max

    def _is_in_range(self, value: float) -> bool:
        if not self.low <= value <= self.high or (self.kind == INT and value != int(value)):
            return False
        if self.step is None or (self.kind == INT and self.step == 1):
            return True
        steps = (value - self.low) / self.step
        return abs(steps - round(steps)) < 1e-6

    def _snapped(self, value: float) -> float:
        if self.kind == INT:
            return int(value)
        return float(value) if self.step is None else self.at(round((value - self.low) / self.step))

    def expected(self) -> str:
        """Returns in words what a raw value must be."""
        n = self.num_candidates
        if self.kind == CHOICE:
            return f"an int in [0, {n}), the index of a candidate"
        if self.kind == MANY:
            count = str(self.k_min) if self.k_min == self.k_max else f"{self.k_min} to {self.k_max}"
            return f"a list of {count} {'different ' if self.distinct else ''}ints in [0, {n}), indices of candidates"
        if self.kind == CUSTOM:
            return "the JSON text of a program"
        grid = "" if self.step is None or (self.kind == INT and self.step == 1) else f" at {self.low} + i * {self.step}"
        return f"{'an int' if self.kind == INT else 'a number'} in [{self.low}, {self.high}]{grid}"

    def _fix(self, value: Any) -> str:
        if self.kind == CHOICE and any(type(c) is type(value) and c == value for c in self.candidates):
            return "pass the index of the candidate, not the candidate itself"
        if self.kind in (CHOICE, MANY):
            return "pass indices into the candidates: " + ", ".join(
                f"{i}={c}" for i, c in enumerate(self.candidates[:6])
            )
        return "pass a value that the range allows"

    def literal(self, value: Any) -> Any:
        """Returns a raw value as people read it: candidate labels for indices."""
        if self.kind == CHOICE:
            return self.candidates[value]
        if self.kind == MANY:
            return [self.candidates[i] for i in value]
        return value

    def first(self) -> Any:
        """Returns the default, or else the first candidates, or the middle of the range."""
        if self.default is not None:
            return self.default
        if self.kind == CHOICE:
            return 0
        if self.kind == MANY:
            return tuple(range(self.k_min)) if self.distinct else (0,) * self.k_min
        return self.from_unit(0.5)

    def describe(self) -> str:
        """Returns the legal values in a few words."""
        if self.kind == CHOICE:
            return "one of " + _listed(self.candidates)
        if self.kind == MANY:
            count = str(self.k_min) if self.k_min == self.k_max else f"{self.k_min} to {self.k_max}"
            words = "" if self.distinct else " with repetition"
            return f"{count}{words}{' in order' if self.ordered else ''} of " + _listed(self.candidates)
        if self.kind == CUSTOM:
            return "a program, open-ended"
        return (
            f"{self.kind} in [{self.low}, {self.high}]"
            + ("" if self.step is None or (self.kind == INT and self.step == 1) else f" step {self.step}")
            + (" log" if self.scale == "log" else "")
        )

    def as_json(self) -> dict[str, Any]:
        """Returns what makes the point what it is, for fingerprints: everything but hints."""
        return {
            "path": self.path, "name": self.name, "kind": self.kind, "candidates": list(self.candidates),
            "picks": [self.k_min, self.k_max, self.distinct, self.ordered], "scale": self.scale,
            "range": [self.low, self.high, self.step], "default": self.default, "when": self.when,
            "conditions": [list(pair) for pair in self.conditions],
            "seed": None if self.rewriter is None else self.rewriter.seed,
        }  # fmt: skip


def _listed(labels: tuple[Any, ...]) -> str:
    shown = ", ".join(str(label) if isinstance(label, str) else repr(label) for label in labels[:8])
    return f"[{shown}{', ...' if len(labels) > 8 else ''}]"


__all__ = ["CHOICE", "CUSTOM", "FLOAT", "INT", "MANY", "Point", "Rewriter"]
