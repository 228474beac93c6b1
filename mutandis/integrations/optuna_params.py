"""Decisions as parameters of Optuna that people can read, and back.

| decision                        | parameters; `x` stands for the name of the decision, or else its path           |
|---------------------------------|---------------------------------------------------------------------------------|
| a choice                        | `x`: a categorical one, of the labels of its candidates                         |
| a range                         | `x`: a float or an int, with its step and scale                                 |
| distinct picks without an order | `x[label]` for each candidate: True where it is picked                          |
| other picks                     | `x#0`, `x#1`, ...: the label of each pick in turn; `x#count` where that varies  |
| an open-ended program           | none, since Optuna has no such parameter: its text stands beside the parameters |

Only active decisions have parameters. This is for reading; `mu.algorithms.Optuna` has an encoding of its own, in which
every answer of a sampler is legal. Optuna allows no step on a logarithmic scale, so it is not told of one there.
"""

from __future__ import annotations

import abc
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from mutandis.errors import DecisionError, MissingDependency, closest
from mutandis.hyper import DNA, Point, SearchSpace

_KEY = re.compile(r"\['([^'\\]+)'\]")
"""The path of an entry of a dict that is the program itself."""

_FINEST = 1e-9
"""Below how many steps the spacing of floats must be: Optuna accepts values within 1e-8 of a step."""


def need_optuna() -> Any:
    """Returns the package optuna.

    Raises:
        MissingDependency: it cannot be imported.
    """
    try:
        import optuna
    except ImportError as error:
        raise MissingDependency("cannot speak to Optuna", at="mu.integrations", expected="the package optuna",
                                fix="pip install 'mutandis[optuna]'") from error  # fmt: skip
    return optuna


class Parameters:
    """The parameters of one space.

    Args:
        space: The space.

    Raises:
        MissingDependency: optuna is not installed.
    """

    def __init__(self, space: SearchSpace) -> None:
        made = need_optuna().distributions
        bases = distinct([point.key or "(the root)" for point in space.points])
        self._space = space
        self._codecs = [_codec(point, base, made) for point, base in zip(space.points, bases, strict=True)]
        self._aliases: dict[str, str] = {}
        for codec in self._codecs:
            for base in _bases(codec.point):
                for alias, name in zip(codec.names(base), codec.distributions, strict=True):
                    self._aliases.setdefault(alias, name)
        self._aliases.update({name: name for codec in self._codecs for name in codec.distributions})

    def write(self, dna: DNA) -> tuple[dict[str, Any], dict[str, Any], dict[str, str]]:
        """Returns the parameters of a DNA, their distributions, and the texts of open-ended programs, by name."""
        params: dict[str, Any] = {}
        distributions: dict[str, Any] = {}
        texts: dict[str, str] = {}
        for codec, value in zip(self._codecs, dna.values, strict=True):
            if value is None:
                continue
            written = codec.write(value)
            if codec.point.kind == "custom":
                texts.update(written)
                continue
            params.update(written)
            distributions.update({name: codec.distributions[name] for name in written})
        return params, distributions, texts

    def read(self, params: Mapping[str, Any], texts: Mapping[str, Any]) -> DNA:
        """Returns the DNA of parameters.

        Args:
            params: Parameters by the name of the decision or by its path. Those of decisions that are not active are
                left aside; an active decision without any takes its default.
            texts: The texts of open-ended programs, by the same names.

        Raises:
            DecisionError: a parameter is no decision, a value is not legal, or one is missing and has no default.
        """
        given = {**self._named(params), **self._named(texts)}
        values: list[Any] = [None] * len(self._space.points)
        decisions: dict[str, Any] = {}
        for codec in self._codecs:
            point = codec.point
            if self._space.is_active(point, values):
                values[point.index] = decisions[point.path] = point.check(_read(codec, given))
        return self._space.dna(decisions)

    def _named(self, given: Mapping[str, Any]) -> dict[str, Any]:
        unknown = next((name for name in given if name not in self._aliases), None)
        if unknown is not None:
            raise DecisionError("cannot find the decision of a parameter", at=unknown, got=given[unknown],
                                expected=f"the name or the path of a decision{closest(unknown, self._aliases)}",
                                fix="name the decision so: mu.oneof([...], name=...)")  # fmt: skip
        return {self._aliases[name]: value for name, value in given.items()}


def _bases(point: Point) -> list[str]:
    """Returns what a point may be called beside its key: its paths, and the key where it stands in a dict."""
    paths = [point.path, *point.paths]
    return paths + [found[1] for path in paths if (found := _KEY.fullmatch(path))]


class _Codec(abc.ABC):
    """How the value of one point is written as parameters.

    Attributes:
        point: The point.
        distributions: What each parameter that the point may have is drawn from, by name.
    """

    def __init__(self, point: Point, base: str, made: Any) -> None:
        self.point = point
        self.labels = readable(point.candidates)
        self.distributions = dict(zip(self.names(base), self.kinds(made), strict=True))
        self._names = list(self.distributions)

    @abc.abstractmethod
    def names(self, base: str) -> list[str]:
        """Returns the names of all parameters that the point may have, if it is called `base`."""

    @abc.abstractmethod
    def kinds(self, made: Any) -> list[Any]:
        """Returns the distributions of these, from the module `optuna.distributions`."""

    @abc.abstractmethod
    def write(self, value: Any) -> dict[str, Any]:
        """Returns the parameters of a raw value."""

    @abc.abstractmethod
    def read(self, given: Mapping[str, Any]) -> Any:
        """Returns a raw value that is still to be checked; a KeyError says that it is missing."""

    def index(self, label: Any) -> int:
        """Returns the index of the candidate of a label; 1 and 1.0 are the same, 1 and True are not.

        Raises:
            DecisionError: there is none.
        """
        for index, known in enumerate(self.labels):
            if known == label and isinstance(known, bool) == isinstance(label, bool):
                return index
        shown = ", ".join(map(repr, self.labels[:6])) + (", ..." if len(self.labels) > 6 else "")
        raise DecisionError("cannot use a label", at=self.point.path, got=label,
                            expected=f"one of {shown}{closest(str(label), self.labels)}",
                            fix="write the label of a candidate, as print(space.describe()) does")  # fmt: skip


class _Choice(_Codec):
    def names(self, base: str) -> list[str]:
        return [base]

    def kinds(self, made: Any) -> list[Any]:
        return [made.CategoricalDistribution(self.labels)]

    def write(self, value: Any) -> dict[str, Any]:
        return {self._names[0]: self.labels[value]}

    def read(self, given: Mapping[str, Any]) -> Any:
        return self.index(given[self._names[0]])


class _Range(_Codec):
    def names(self, base: str) -> list[str]:
        return [base]

    def kinds(self, made: Any) -> list[Any]:
        point, is_log = self.point, self.point.scale == "log"
        if point.kind == "int":
            step = 1 if is_log else int(point.step or 1)
            return [made.IntDistribution(int(point.low), int(point.at(point.num_steps - 1)), log=is_log, step=step)]
        if point.step is None:
            return [made.FloatDistribution(float(point.low), float(point.high), log=is_log)]
        high = self._decimal(point.num_steps - 1)
        step_or_none = None if is_log or not self._has_room() else float(point.step)
        return [made.FloatDistribution(float(point.low), high, log=is_log, step=step_or_none)]

    def _has_room(self) -> bool:
        """Returns whether floats are dense enough for Optuna to see that a value is a whole number of steps."""
        largest = max(abs(self.point.low), abs(self.point.high))
        return math.ulp(float(largest)) < _FINEST * (self.point.step or 1)

    def _decimal(self, position: int) -> float:
        """Returns a value of a float with steps as Optuna counts it: in decimals, where 0.1 + 0.2 is 0.3."""
        return float(Decimal(str(float(self.point.low))) + position * Decimal(str(self.point.step)))

    def write(self, value: Any) -> dict[str, Any]:
        point = self.point
        if point.kind == "float" and point.step is not None:
            value = self._decimal(round((value - point.low) / point.step))
        return {self._names[0]: value}

    def read(self, given: Mapping[str, Any]) -> Any:
        value = given[self._names[0]]
        if not isinstance(value, (int, float)) or self.point.kind == "int" or self.point.step is None:
            return value
        return min(max(value, self.point.low), self._last()) if self._is_near(value) else value

    def _last(self) -> float:
        return self.point.at(self.point.num_steps - 1)

    def _is_near(self, value: float) -> bool:
        """Returns whether a value may be an end of the range that was rounded in decimals."""
        slack = 1e-8 * (self.point.step or 1)
        return self.point.low - slack <= value <= self._last() + slack


class _Members(_Codec):
    """Distinct picks without an order: each candidate is in or out."""

    def names(self, base: str) -> list[str]:
        return [f"{base}[{label}]" for label in distinct(map(str, self.labels))]

    def kinds(self, made: Any) -> list[Any]:
        return [made.CategoricalDistribution((False, True)) for _ in self.labels]

    def write(self, value: Any) -> dict[str, Any]:
        return {name: index in value for index, name in enumerate(self._names)}

    def read(self, given: Mapping[str, Any]) -> Any:
        answers = [given[name] for name in self._names]
        for name, answer in zip(self._names, answers, strict=True):
            if not isinstance(answer, bool):
                raise DecisionError("cannot use a parameter", at=name, got=answer, expected="True or False",
                                    fix="say of each candidate whether it is picked")  # fmt: skip
        return [index for index, answer in enumerate(answers) if answer]


class _Slots(_Codec):
    """Picks one after another."""

    def names(self, base: str) -> list[str]:
        count = [] if self.point.k_min == self.point.k_max else [f"{base}#count"]
        return count + [f"{base}#{slot}" for slot in range(self.point.k_max)]

    def kinds(self, made: Any) -> list[Any]:
        low, high = self.point.k_min, self.point.k_max
        count = [] if low == high else [made.IntDistribution(low, high)]
        return count + [made.CategoricalDistribution(self.labels) for _ in range(high)]

    def write(self, value: Any) -> dict[str, Any]:
        count = [] if self.point.k_min == self.point.k_max else [len(value)]
        return dict(zip(self._names, count + [self.labels[index] for index in value], strict=False))

    def read(self, given: Mapping[str, Any]) -> Any:
        low, high = self.point.k_min, self.point.k_max
        if low == high:
            return [self.index(given[name]) for name in self._names]
        count = given[self._names[0]]
        if type(count) is not int or not low <= count <= high:
            raise DecisionError("cannot use a number of picks", at=self._names[0], got=count,
                                expected=f"an int in [{low}, {high}]", fix="count the picks")  # fmt: skip
        return [self.index(given[name]) for name in self._names[1 : count + 1]]


class _Text(_Codec):
    """An open-ended program, which has a text and no distribution."""

    def names(self, base: str) -> list[str]:
        return [base]

    def kinds(self, made: Any) -> list[Any]:
        return [None]

    def write(self, value: Any) -> dict[str, Any]:
        return {self._names[0]: value}

    def read(self, given: Mapping[str, Any]) -> Any:
        return given[self._names[0]]


def _codec(point: Point, base: str, made: Any) -> _Codec:
    if point.kind == "many":
        return (_Members if point.distinct and not point.ordered else _Slots)(point, base, made)
    kinds: dict[str, type[_Codec]] = {"choice": _Choice, "float": _Range, "int": _Range, "custom": _Text}
    return kinds[point.kind](point, base, made)


def _read(codec: _Codec, given: Mapping[str, Any]) -> Any:
    try:
        return codec.read(given)
    except KeyError as error:
        point = codec.point
        if point.default is not None:
            return point.default
        raise DecisionError("cannot leave out a decision", at=point.path, got=sorted(given),
                            expected=f"a parameter called {error.args[0]!r}",
                            fix="give the decision a default=, which trials without it take") from None  # fmt: skip


def readable(labels: Sequence[Any]) -> tuple[Any, ...]:
    """Returns labels as categories that Optuna can tell apart: as they are, or else all as different texts."""
    plain = all(label is None or isinstance(label, (bool, int, float, str)) for label in labels)
    if plain and len(set(labels)) == len(labels):  # As keys, 1 and True are one.
        return tuple(labels)
    return tuple(distinct(map(str, labels)))


def distinct(texts: Iterable[str]) -> list[str]:
    """Returns texts that all differ: a number goes behind those that would come twice."""
    made: dict[str, None] = {}
    for text in texts:
        found, count = text, 1
        while found in made:
            count += 1
            found = f"{text} ({count})"
        made[found] = None
    return list(made)


__all__ = ["Parameters", "distinct", "need_optuna", "readable"]
